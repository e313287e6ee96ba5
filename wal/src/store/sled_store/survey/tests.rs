//! The survey over files that sled wrote, and over some that are made here as sled would write them.

use std::convert::Infallible;

use super::*;
use crate::pack::{Packer, Tail};
use crate::{Lsn, Options, Wal, open};

fn start(directory: &Path) -> Wal {
    let log = open(directory, Options::default()).unwrap();
    log.read_all(|_, _| Ok::<(), Infallible>(())).unwrap().start().unwrap()
}

#[tokio::test]
async fn a_sound_log_is_found_whole_and_a_flipped_bit_is_not_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store/db");
    let mut witness = Witness::new(1);
    // Over several segments and starts, with long records, and with old ones retired.
    for round in 1..=4_usize {
        let wal = start(directory.path());
        for n in 1..=60_usize {
            wal.append(vec![7; n * 1000 * (1 + n / 59 * round)], ()).await.unwrap();
        }
        let middle = wal.high().unwrap().get() - 50;
        wal.retire(Lsn::new(middle).unwrap()).await.unwrap();
        (witness.low, witness.high) = (wal.low(), wal.high());
        wal.close().await.unwrap();
        assert!(finds_everything(&data, &witness).unwrap(), "round {round}");
    }
    assert!(std::fs::metadata(&data).unwrap().len() > 8 * 1024 * 1024, "more than one segment");
    let more = Witness { high: witness.high.map(Lsn::next), ..witness };
    assert!(!finds_everything(&data, &more).unwrap(), "a record that is not there is not found");

    let sound = std::fs::read(&data).unwrap();
    for place in [sound.len() / 2, sound.iter().rposition(|byte| *byte == 7).unwrap()] {
        let mut bytes = sound.clone();
        bytes[place] ^= 1;
        std::fs::write(&data, bytes).unwrap();
        assert!(!finds_everything(&data, &witness).unwrap(), "byte {place}");
    }
}

#[tokio::test]
async fn of_a_long_record_every_part_must_be_found() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store/db");
    let wal = start(directory.path());
    wal.append(vec![1; 100], ()).await.unwrap();
    wal.append([vec![2; 60_000], vec![3; 60_000], vec![4; 60_000]].concat(), ()).await.unwrap();
    let witness = Witness { high: wal.high(), ..Witness::new(1) };
    wal.close().await.unwrap();
    assert!(finds_everything(&data, &witness).unwrap());
    let sound = std::fs::read(&data).unwrap();
    for part in [2, 3, 4] {
        let mut bytes = sound.clone();
        let at = bytes.windows(1000).position(|bytes| bytes == [part; 1000]).unwrap();
        bytes[at + 500] ^= 1;
        std::fs::write(&data, bytes).unwrap();
        assert!(!finds_everything(&data, &witness).unwrap(), "part {part}");
    }
}

fn lsn(n: u64) -> Lsn {
    Lsn::new(n).unwrap()
}

/// A block with this record.
fn block(record: u64) -> Vec<u8> {
    let mut packer = Packer::new(Tail { next: lsn(record), checksum: 0 }, 1);
    packer.push(b"a record");
    packer.finish().0.remove(0).bytes
}

/// A message as sled writes it.
fn message_of(kind: u8, segment: u8, body: &[u8]) -> Vec<u8> {
    let mut header = vec![kind, 255];
    header.extend_from_slice(&(body.len() as u64).to_le_bytes());
    header.extend_from_slice(&[segment, 7]);
    let sum = !crc32fast::hash(&[body, &header].concat());
    [&sum.to_le_bytes()[..], &header, body].concat()
}

/// The header of a segment, by the bytes before it and those that are stable.
fn header_of(place: i64, stable: i64) -> Vec<u8> {
    let number = |place: i64| (place.cast_unsigned() ^ (u64::MAX >> 1)).to_le_bytes();
    let fields = [number(place), number(stable)].concat();
    [&(!crc32fast::hash(&fields)).to_le_bytes()[..], &fields].concat()
}

/// A segment with these blocks, a message each, and with a cap.
fn segment_of(number: u8, stable: i64, records: &[u64]) -> Vec<u8> {
    let size = i64::try_from(SEGMENT_SIZE).unwrap();
    let mut bytes = header_of(i64::from(number) * size, stable * size);
    for record in records {
        bytes.extend(message_of(1, number, &block(*record)));
    }
    bytes.extend(message_of(CAP, number, b""));
    bytes.resize(SEGMENT_SIZE, 0);
    bytes
}

/// The place of the first message of a segment that is none.
fn end_of(segment: &[u8]) -> usize {
    segment.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

/// Whether records 1 to `high` are found in these segments, beside snapshots of these places.
fn finds(segments: &[Vec<u8>], snapshots: &[usize], high: u64) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("db");
    fs::write(&data, segments.concat()).unwrap();
    for place in snapshots {
        fs::write(directory.path().join(format!("snap.{place:016X}")), b"").unwrap();
    }
    finds_everything(&data, &Witness { high: Lsn::new(high), ..Witness::new(1) }).unwrap()
}

#[test]
fn numbers_are_read_as_sled_writes_them() {
    let cases: [(&[u8], u64); 9] = [
        (&[0], 0),
        (&[240], 240),
        (&[241, 5], 245),
        (&[248, 255], 2287),
        (&[249, 0, 0], 2288),
        (&[249, 1, 2], 2546),
        (&[250, 1, 2, 3], 0x03_02_01),
        (&[251, 0, 0, 0, 1], 0x01_00_00_00),
        (&[255, 1, 2, 3, 4, 5, 6, 7, 8], 0x08_07_06_05_04_03_02_01),
    ];
    for (bytes, number) in cases {
        let followed = [bytes, &[99]].concat();
        let mut rest = &followed[..];
        assert_eq!((variable(&mut rest), rest), (Some(number), &[99][..]), "{bytes:?}");
        let mut short = &bytes[..bytes.len() - 1];
        assert_eq!(variable(&mut short), None, "{bytes:?}");
    }
}

#[test]
fn a_segment_says_which_it_is_and_what_was_stable() {
    let size = i64::try_from(SEGMENT_SIZE).unwrap();
    assert_eq!(header(&header_of(3 * size, 2 * size + 77)), Some((3, 2)));
    assert_eq!(header(&header_of(0, -1)), Some((0, 0)), "nothing is stable yet");
    let mut torn = header_of(3 * size, 2 * size);
    torn[9] ^= 1;
    assert_eq!(header(&torn), None);
}

#[test]
fn a_message_is_one_of_its_segment_and_of_a_known_kind_and_whole() {
    for kind in [1, KIND_MAX] {
        let bytes = message_of(kind, 5, b"a body");
        let followed = [&bytes[..], b"more"].concat();
        assert_eq!(message(&followed, 5), Some((kind, &b"a body"[..], bytes.len())));
        assert_eq!(message(&bytes, 6), None, "it is of another segment");
        for bit in 0..bytes.len() * 8 {
            let mut torn = bytes.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(message(&torn, 5), None, "bit {bit}");
        }
    }
    for kind in [NOTHING, KIND_MAX + 1] {
        assert_eq!(message(&message_of(kind, 5, b"a body"), 5), None);
    }
}

#[test]
fn no_message_is_looked_for_where_sled_begins_none() {
    // Two messages, of which the second one reaches to 20 bytes before the end.
    let mut bytes = header_of(0, -1);
    bytes.extend(message_of(1, 0, &vec![0; SEGMENT_SIZE / 2]));
    let empty = bytes.len() + message_of(1, 0, &block(1)).len();
    bytes.extend(message_of(1, 0, &[block(1), vec![0; SEGMENT_SIZE - 20 - empty]].concat()));
    bytes.resize(SEGMENT_SIZE, 9);
    let found = survey(&bytes, 0);
    assert_eq!((found.is_torn, found.spans.len(), found.beyond.len()), (false, 1, 0));
}

#[test]
fn every_record_that_was_acknowledged_must_be_in_some_segment() {
    let segments = [segment_of(0, -1, &[1, 2]), segment_of(1, 0, &[3, 4])];
    assert!(finds(&segments, &[], 4) && finds(&segments, &[], 0));
    assert!(!finds(&segments, &[], 5), "the last one is missing");
    assert!(!finds(&[segment_of(0, -1, &[1, 3])], &[], 3), "one is missing before it");
    assert!(finds(&[segment_of(0, -1, &[2, 1, 2])], &[], 2), "whatever the order");
}

/// From the greatest place that is called stable on.
#[test]
fn a_segment_may_be_missing_only_before_the_place_from_which_sled_looks_for_the_end() {
    let without = |stable| [segment_of(0, -1, &[1, 2]), segment_of(2, stable, &[3])];
    assert!(!finds(&without(0), &[], 3) && !finds(&without(1), &[], 3));
    assert!(finds(&without(2), &[], 3));
    assert!(!finds(&without(0), &[SEGMENT_SIZE + 5], 3));
    assert!(finds(&without(0), &[SEGMENT_SIZE + 5, 2 * SEGMENT_SIZE + 5, 9], 3), "the latest counts");
}

#[test]
fn only_the_last_segment_may_end_early_and_nothing_newer_may_be_behind_that() {
    let torn = |number, record, behind| {
        let mut segment = segment_of(number, 0, &[record]);
        let at = end_of(&segment);
        // In place of the cap, which is empty.
        let cap = message_of(CAP, number, b"").len();
        segment[at - cap..at].fill(0);
        let behind: Vec<u8> = block(behind);
        segment[at + 500..at + 500 + behind.len()].copy_from_slice(&behind);
        segment
    };
    assert!(finds(&[torn(0, 1, 1)], &[], 1), "what is behind it is older");
    assert!(!finds(&[torn(0, 1, 2)], &[], 1), "what is behind it is newer");
    assert!(finds(&[torn(0, 1, u64::MAX - 1)], &[], 1), "nobody came to that: somebody sent it");
    assert!(finds(&[segment_of(0, -1, &[1]), torn(1, 2, 1)], &[], 2));
    assert!(!finds(&[torn(0, 1, 1), segment_of(1, 0, &[2])], &[], 2), "it is not the last one");
}

#[test]
fn any_block_is_something_and_anything_else_is_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("db");
    for (segment, is_something) in [(segment_of(0, -1, &[1]), true), (segment_of(0, -1, &[]), false)] {
        fs::write(&data, segment).unwrap();
        assert_eq!(finds_anything(&data).unwrap(), is_something);
    }
    assert!(finds_anything(directory.path()).is_err(), "it cannot be read");
}

#[test]
fn a_file_is_read_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, b"0123456789").unwrap();
    let file = File::open(path).unwrap();
    for (at, read) in [(0, 10), (4, 6), (10, 0)] {
        assert_eq!(read_up_to(&file, &mut [0; 30], at).unwrap(), read);
    }
    let mut bytes = [0; 3];
    assert_eq!((read_up_to(&file, &mut bytes, 4).unwrap(), &bytes), (3, b"456"));
}
