//! Blocks against the bytes they should be, and against bytes that they should not be.

use proptest::prelude::*;

use super::*;
use crate::pack::{Packer, Tail};

const START: Tail = Tail { next: Lsn::FIRST, checksum: 0 };

fn packed(payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut packer = Packer::new(START, 1);
    for payload in payloads {
        packer.push(payload);
    }
    packer.finish().0.into_iter().map(|block| block.bytes).collect()
}

/// Changes a block and gives it the checksum that fits, as a newer or a broken program might write it.
fn forged(mut block: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut block);
    let sum = checksum(&block[..36], &block[40..]).to_le_bytes();
    block[36..40].copy_from_slice(&sum);
    block
}

fn kind_of(bytes: &[u8]) -> DamageKind {
    decode(bytes).unwrap_err().kind().clone()
}

#[test]
fn the_bytes_of_a_block_are_fixed() {
    let key = BlockKey::of(Lsn::new(258).unwrap());
    let mut frames = Vec::new();
    frame::encode(Kind::Whole, b"hi", &mut frames);
    let (bytes, sum) = encode(&Header { key, count: 1, epoch: 3, previous: 0x0403_0201 }, &frames);
    let head = [b'U', b'W', b'A', b'L', 1, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 12, 0, 0, 0, 3];
    assert_eq!(bytes[..25], head);
    assert_eq!(bytes[25..36], [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!((sum, &bytes[36..40]), (0x95ef_c1d8, &sum.to_le_bytes()[..]));
    assert_eq!(bytes[40..], frames);
}

#[test]
fn a_block_is_filled_to_its_last_byte_and_no_further() {
    let head = frame::HEADER_LEN;
    let room = BLOCK_MAX - HEADER_LEN;
    let lens = |payloads: &[usize]| -> Vec<usize> {
        let payloads: Vec<_> = payloads.iter().map(|len| vec![7; *len]).collect();
        packed(&payloads).iter().map(Vec::len).collect()
    };
    assert_eq!(lens(&[100, 200, room - 300 - 3 * head]), [BLOCK_MAX]);
    let over = room - 300 - 3 * head + 1;
    assert_eq!(lens(&[100, 200, over]), [HEADER_LEN + 300 + 2 * head, HEADER_LEN + head + over]);
    // A record that fills a block is whole; one byte more makes two parts of it.
    assert_eq!(lens(&[room - head]), [BLOCK_MAX]);
    assert_eq!(lens(&[room - head + 1]), [BLOCK_MAX, HEADER_LEN + head + 1]);
    let kind = |payload| decode(&packed(&[payload])[0]).unwrap().frames().next().unwrap().1.kind;
    assert_eq!(kind(vec![7; BODY_MAX]), Kind::Whole);
    assert_eq!(kind(vec![7; BODY_MAX + 1]), Kind::First);
}

#[test]
fn a_part_of_a_record_stands_alone_and_where_its_number_puts_it() {
    let frames = |kinds: &[Kind]| {
        let mut frames = Vec::new();
        for kind in kinds {
            frame::encode(*kind, b"hi", &mut frames);
        }
        frames
    };
    let fits = |part, kinds: &[Kind]| {
        let key = BlockKey { first: Lsn::FIRST, part };
        let count = u32::try_from(kinds.len()).unwrap();
        let (bytes, _) = encode(&Header { key, count, epoch: 1, previous: 0 }, &frames(kinds));
        decode(&bytes).is_ok()
    };
    for kinds in [&[Kind::Whole][..], &[Kind::Whole, Kind::Whole], &[Kind::First]] {
        assert_eq!([0, 1].map(|part| fits(part, kinds)), [true, false], "{kinds:?}");
    }
    for kinds in [&[Kind::Middle], &[Kind::Last]] {
        assert_eq!([0, 1, 2].map(|part| fits(part, kinds)), [false, true, true], "{kinds:?}");
    }
    for kind in [Kind::First, Kind::Middle, Kind::Last] {
        for kinds in [[kind, Kind::Whole], [Kind::Whole, kind], [kind, kind]] {
            assert_eq!([0, 1].map(|part| fits(part, &kinds)), [false, false], "{kinds:?}");
        }
    }
}

#[test]
fn keys_sort_as_their_bytes_do() {
    let key = |first, part| BlockKey { first: Lsn::new(first).unwrap(), part };
    let keys = [key(1, 0), key(1, 1), key(1, 256), key(2, 0), key(256, 0), key(65_536, 3)];
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1] && pair[0].to_bytes() < pair[1].to_bytes()));
    assert!(keys.iter().all(|key| BlockKey::from_bytes(&key.to_bytes()) == Some(*key)));
    for strange in [&b"probe"[..], &[0; 10], &[1; 11]] {
        assert_eq!(BlockKey::from_bytes(strange), None);
    }
}

#[test]
fn a_newer_block_is_told_from_a_damaged_one() {
    let block = packed(&[b"hi".to_vec()]).remove(0);
    let mut damaged = block.clone();
    damaged[4] = 2;
    assert_eq!(kind_of(&damaged), DamageKind::BlockChecksum);
    assert_eq!(kind_of(&forged(block, |b| b[4] = 2)), DamageKind::NewerVersion { found: 2, known: 1 });
}

#[test]
fn values_that_make_no_sense_are_refused_though_their_checksum_is_right() {
    let block = packed(&[b"hi".to_vec(), b"ho".to_vec()]).remove(0);
    let kind = |change: fn(&mut Vec<u8>)| kind_of(&forged(block.clone(), change));
    let malformed = |change| matches!(kind(change), DamageKind::Malformed(_));
    assert!(malformed(|b| b[5] = 1), "a field that is zero");
    assert!(malformed(|b| b[8] = 0), "number 0");
    assert!(malformed(|b| b[8..16].fill(255)), "its second record has no number");
    assert!(malformed(|b| b[20] = 1), "another length");
    assert!(malformed(|b| b[6] = 1), "whole records in a later part");
    assert_eq!(kind(|b| b[16] = 1), DamageKind::TooLong);
    assert_eq!(kind(|b| b[16] = 3), DamageKind::Truncated);
    assert_eq!(kind(|b| b[16..20].fill(255)), DamageKind::Truncated);
    assert_eq!(kind_of(&vec![0; BLOCK_MAX + 1]), DamageKind::TooLong);
}

proptest! {
    #[test]
    fn what_was_packed_is_read_in_order(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30_000), 0..12)
    ) {
        let mut read = Vec::new();
        for bytes in packed(&payloads) {
            prop_assert!(bytes.len() <= BLOCK_MAX);
            let block = decode(&bytes).unwrap();
            read.extend(block.frames().map(|(lsn, frame)| (lsn.get(), frame.payload.to_vec())));
        }
        let expected: Vec<_> = (1..).zip(payloads).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn a_long_record_is_packed_into_parts_of_one_number(len in BODY_MAX + 1..4 * BODY_MAX) {
        let payload: Vec<u8> = (0..len).map(|n| u8::try_from(n % 253).unwrap()).collect();
        let mut joined = Vec::new();
        for (part, bytes) in packed(std::slice::from_ref(&payload)).iter().enumerate() {
            let block = decode(bytes).unwrap();
            prop_assert_eq!((block.header.key.first, usize::from(block.header.key.part)), (Lsn::FIRST, part));
            joined.extend(block.frames().flat_map(|(_, frame)| frame.payload.to_vec()));
        }
        prop_assert_eq!(joined, payload);
    }

    #[test]
    fn a_changed_byte_is_always_seen(payload: Vec<u8>, at: prop::sample::Index, flip in 1_u8..) {
        let mut bytes = packed(&[payload]).remove(0);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn a_cut_block_is_always_seen(payload: Vec<u8>, at: prop::sample::Index) {
        let bytes = packed(&[payload]).remove(0);
        prop_assert!(decode(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = decode(&bytes);
    }

    #[test]
    fn arbitrary_frames_under_a_right_checksum_never_panic(bytes in prop::collection::vec(any::<u8>(), 40..400)) {
        let forged = forged(bytes, |b| b[..6].copy_from_slice(b"UWAL\x01\0"));
        let _ = decode(&forged).map(|block| block.frames().count());
    }
}
