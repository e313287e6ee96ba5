//! What is found in a file, wherever it lies, and what is said of a disk that refuses to read it.

use super::*;
use crate::pack::{Packer, Tail};

/// What a disk says of a sector that it cannot give back.
const EIO: i32 = 5;

/// What a file system says that finds its own structures damaged.
const EUCLEAN: i32 = 117;

fn search(directory: &Path, ring: Option<&Path>) -> Result<Seen, OpenError> {
    super::search(directory, ring, &mut Refusals::default())
}

fn blocks(count: u64, len: usize) -> Vec<Vec<u8>> {
    let mut tail = Tail { next: Lsn::FIRST, checksum: 0 };
    let mut blocks = Vec::new();
    for _ in 0..count {
        let mut packer = Packer::new(tail, 1);
        packer.push(&vec![7; len]);
        let (made, next) = packer.finish();
        tail = next;
        blocks.extend(made.into_iter().map(|block| block.bytes));
    }
    blocks
}

fn search_in(bytes: &[u8], bad: &std::ops::Range<u64>) -> Seen {
    search_before(u64::MAX, bytes, bad)
}

fn search_before(end: u64, bytes: &[u8], bad: &std::ops::Range<u64>) -> Seen {
    let mut seen = Seen::default();
    let read = |into: &mut [u8], at: u64| {
        let end = at + into.len() as u64;
        if at < bad.end && bad.start < end {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let rest = bytes.get(usize::try_from(at).unwrap()..).unwrap_or_default();
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    };
    assert!(search_file(0, &read, end, &mut seen).is_ok());
    seen
}

#[test]
fn blocks_are_found_wherever_they_lie_and_each_once() {
    let mut bytes = vec![0; STEP - 30_000];
    let blocks = blocks(10, 60_000);
    for (number, block) in blocks.iter().enumerate() {
        bytes.extend_from_slice(block);
        bytes.resize(bytes.len() + number * 7, b'U');
    }
    let seen = search_in(&bytes, &(0..0));
    assert_eq!(
        seen.blocks.iter().map(|seen| seen.key.first.get()).collect::<Vec<_>>(),
        (1..=10).collect::<Vec<_>>()
    );
    assert_eq!(seen.remains, []);
    bytes[STEP + 5_000] ^= 1;
    let seen = search_in(&bytes, &(0..0));
    assert_eq!(
        (seen.blocks.len(), seen.remains[0].claim.and_then(Claim::records)),
        (9, Some((Lsn::FIRST, Lsn::FIRST)))
    );
}

#[test]
fn a_directory_that_is_not_there_is_empty_and_one_that_cannot_be_listed_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (file, absent) = (directory.path().join("file"), directory.path().join("absent"));
    fs::write(&file, blocks(1, 10).concat()).unwrap();
    assert_eq!(search(&absent, Some(&absent)).map_or(9, |seen| seen.blocks.len()), 0);
    assert_eq!(search(&absent, Some(&file)).map_or(9, |seen| seen.blocks.len()), 1);
    let mut refusals = Refusals::default();
    assert!(super::search(&file, Some(&file), &mut refusals).is_ok_and(|seen| seen.blocks.len() == 1));
    assert_eq!(refusals.0.into_keys().collect::<Vec<_>>(), [file]);
}

#[test]
fn a_block_of_a_newer_program_is_none_of_ours_and_no_remains() {
    let mut block = blocks(1, 10).concat();
    block[4] += 1;
    let sum = crc32fast::hash(&[&block[..36], &block[40..]].concat());
    block[36..40].copy_from_slice(&sum.to_le_bytes());
    let mut seen = Seen::default();
    search_window(0, &block, 0, 0..block.len(), &mut seen);
    let newer: Vec<_> = seen.newer.iter().map(|(place, _)| *place).collect();
    assert_eq!(newer, [Place { file: 0, offset: 0, len: block.len() }]);
    assert!(seen.blocks.is_empty() && seen.remains.is_empty());
}

#[test]
fn a_block_that_is_another_one_by_now_is_not_given() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let blocks = blocks(2, 10);
    fs::write(&path, &blocks[0]).unwrap();
    let seen = search(directory.path(), None).map_err(|error| error.to_string()).unwrap();
    let first = |seen: &Seen| seen.block(&seen.blocks[0], |block| block.header.key.first).ok();
    assert_eq!(first(&seen), Some(Lsn::FIRST));
    fs::write(&path, &blocks[1]).unwrap();
    assert_eq!(first(&seen), None);
}

#[test]
fn a_read_that_is_interrupted_is_tried_again_and_a_right_that_is_missing_ends_the_search() {
    let bytes = blocks(1, 10).concat();
    let attempts = std::cell::Cell::new(0);
    let read = |into: &mut [u8], at: u64| {
        attempts.set(attempts.get() + 1);
        if attempts.get() % 3 > 0 {
            return Err(ErrorKind::Interrupted.into());
        }
        let rest = bytes.get(usize::try_from(at).unwrap()..).unwrap_or_default();
        into[..rest.len()].copy_from_slice(rest);
        Ok(rest.len())
    };
    let mut seen = Seen::default();
    assert!(search_file(0, &read, u64::MAX, &mut seen).is_ok());
    assert_eq!((seen.blocks.len(), seen.refused), (1, vec![]));
    let refuse = |_: &mut [u8], _| Err(ErrorKind::PermissionDenied.into());
    assert!(search_file(0, &refuse, u64::MAX, &mut Seen::default()).is_err());
}

#[test]
fn whole_sectors_are_given_up_also_where_a_disk_gives_little_at_a_time() {
    let bytes = vec![1; 20_000];
    let read = |into: &mut [u8], at: u64| {
        let (at, end) = (usize::try_from(at).unwrap(), usize::try_from(at).unwrap() + into.len());
        if at < 12_288 && end > 8_192 {
            return Err(io::Error::from_raw_os_error(EUCLEAN));
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let len = rest.len().min(into.len()).min(1_000);
        into[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    };
    let (mut window, mut refused) = (vec![9; 30_000], Vec::new());
    assert_eq!(fill(0, &read, &mut window, 0, &mut refused).unwrap(), 20_000);
    assert_eq!(refused, [Place { file: 0, offset: 8_192, len: 4_096 }]);
    let expected = [vec![1; 8_192], vec![0; 4_096], vec![1; 7_712]].concat();
    assert!(window[..20_000] == expected, "zeros stand for what was refused");
}

#[test]
fn what_was_refused_is_told_once_and_neighbours_as_one() {
    let place = |(file, offset, len)| Place { file, offset, len };
    let told = |places: [(usize, u64, usize); 2]| {
        let mut refused = Vec::new();
        for at in places {
            note_refused(&mut refused, place(at));
        }
        refused
    };
    assert_eq!(told([(0, 4096, 4096), (0, 8192, 4096)]), [place((0, 4096, 8192))]);
    assert_eq!(told([(0, 4096, 8192), (0, 8192, 4096)]), [place((0, 4096, 8192))], "seen again");
    let apart = [(0, 4096, 4096), (0, 12_288, 4096)];
    let elsewhere = [(0, 4096, 4096), (1, 4096, 4096)];
    let behind_elsewhere = [(0, 4096, 4096), (1, 8192, 4096)];
    for two in [apart, elsewhere, behind_elsewhere] {
        assert_eq!(told(two), two.map(place));
    }
}

#[test]
fn what_the_disk_refuses_is_named_and_the_rest_is_read() {
    let blocks = blocks(40, 1_000);
    let bytes = blocks.concat();
    let seen = search_in(&bytes, &(8_192..16_384));
    assert_eq!(seen.refused, [Place { file: 0, offset: 8_192, len: 8_192 }]);
    let lost = 40 - seen.blocks.len();
    assert!((8..=10).contains(&lost), "{lost}");
}

#[test]
fn what_the_disk_refuses_behind_the_end_of_a_ring_was_told_before() {
    let bytes = vec![0; 40_960];
    for (end, told) in [(16_384, 8_192), (12_288, 4_096), (8_192, 0), (4_096, 0)] {
        let refused = search_before(end, &bytes, &(8_192..16_384)).refused;
        assert_eq!(refused.iter().map(|place| place.len).sum::<usize>(), told, "{end}");
    }
}
