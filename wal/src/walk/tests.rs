//! Blocks that do not follow on one another, each forged so that everything else about it is right.

use std::convert::Infallible;

use super::*;
use crate::PAYLOAD_MAX;
use crate::block::{BODY_MAX, Header, encode};

/// Feeds a walker with blocks that follow on one another but for what a test makes of them.
struct Feed {
    walker: Walker,
    previous: u32,
    bytes: u64,
}

impl Feed {
    fn new(epoch_max: u64) -> Self {
        Self { walker: Walker::new(Some(Lsn::FIRST), epoch_max), previous: 0, bytes: 0 }
    }

    fn put(&mut self, first: u64, part: u16, epoch: u64, kind: Kind, payload: &[u8]) -> Option<DamageKind> {
        let key = BlockKey { first: Lsn::new(first).unwrap(), part };
        let mut frames = Vec::new();
        crate::frame::encode(kind, payload, &mut frames);
        let (bytes, checksum) = encode(&Header { key, count: 1, epoch, previous: self.previous }, &frames);
        match self.walker.step(key, &bytes, &mut |_, _| Ok::<_, Infallible>(())) {
            Ok(()) => (self.previous, self.bytes) = (checksum, self.bytes + bytes.len() as u64),
            Err(Stop::Damage(damage)) => return Some(damage.kind().clone()),
            Err(Stop::Visit(_, cause)) => match cause {},
        }
        None
    }
}

#[test]
fn the_epoch_never_falls_and_is_never_above_the_last_start() {
    let mut feed = Feed::new(3);
    assert_eq!(feed.put(1, 0, 2, Kind::Whole, b"a"), None);
    assert_eq!(feed.put(2, 0, 2, Kind::Whole, b"b"), None);
    assert_eq!(feed.put(3, 0, 1, Kind::Whole, b"c"), Some(DamageKind::Epoch { expected: 2, found: 1 }));
    assert_eq!(feed.put(3, 0, 4, Kind::Whole, b"c"), Some(DamageKind::Epoch { expected: 3, found: 4 }));
    assert_eq!(feed.put(3, 0, 3, Kind::Whole, b"c"), None);
}

#[test]
fn records_blocks_and_bytes_are_counted_and_what_is_not_whole_is_not() {
    let mut feed = Feed::new(1);
    feed.put(1, 0, 1, Kind::Whole, b"a");
    feed.put(2, 0, 1, Kind::First, b"bb");
    feed.put(2, 1, 1, Kind::Middle, b"b");
    feed.put(2, 2, 1, Kind::Last, b"b");
    feed.put(3, 0, 1, Kind::Whole, b"c");
    let counts = feed.walker.end().counts;
    assert_eq!((counts.records, counts.blocks, counts.bytes), (3, 5, feed.bytes));

    let mut feed = Feed::new(1);
    feed.put(1, 0, 1, Kind::Whole, b"a");
    let whole = feed.bytes;
    feed.put(2, 0, 1, Kind::First, b"bb");
    let end = feed.walker.end();
    assert_eq!((end.counts.records, end.counts.blocks, end.counts.bytes), (1, 1, whole));
    assert_eq!(end.torn, Lsn::new(2));
}

#[test]
fn parts_that_are_longer_together_than_any_record_are_no_record() {
    for (over, damage) in [(0, None), (1, Some(DamageKind::TooLong))] {
        let mut feed = Feed::new(1);
        let piece = vec![7; BODY_MAX];
        let pieces = PAYLOAD_MAX / BODY_MAX;
        for part in 0..pieces {
            let kind = if part == 0 { Kind::First } else { Kind::Middle };
            assert_eq!(feed.put(1, u16::try_from(part).unwrap(), 1, kind, &piece), None);
        }
        let part = u16::try_from(pieces).unwrap();
        let rest = vec![7; PAYLOAD_MAX - pieces * BODY_MAX + over];
        assert_eq!(feed.put(1, part, 1, Kind::Middle, &rest), None);
        assert_eq!(feed.put(1, part + 1, 1, Kind::Last, b""), damage);
    }
}
