//! One payload, or one part of a long one, with what proves that it is whole.
//!
//! ```text
//! offset  bytes
//!      0  4  length of the payload (u32, little endian)
//!      4  1  format version
//!      5  1  kind: 1 whole record, 2 first part, 3 middle part, 4 last part
//!      6  4  CRC-32 over the bytes before it and the payload (u32, little endian)
//!     10  .  payload
//! ```

use crate::damage::DamageKind;

/// Bytes of a frame before its payload.
pub const HEADER_LEN: usize = 10;

/// The version that this program writes, and the newest it reads.
pub const VERSION: u8 = 1;

/// Which part of a record a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All of it.
    Whole = 1,
    /// The beginning of a record that did not fit into one block.
    First = 2,
    /// A part that is neither the first nor the last.
    Middle = 3,
    /// The end.
    Last = 4,
}

/// A frame whose checksum was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which part of a record the payload is.
    pub kind: Kind,
    /// The opaque bytes.
    pub payload: &'a [u8],
}

/// Appends a frame to `out`.
///
/// # Panics
/// If the payload does not fit into the length field, which no caller within
/// [`BLOCK_MAX`](crate::block::BLOCK_MAX) can reach.
pub fn encode(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("a frame is at most as long as a block");
    let [a, b, c, d] = length.to_le_bytes();
    let head = [a, b, c, d, VERSION, kind as u8];
    out.extend_from_slice(&head);
    out.extend_from_slice(&checksum(&head, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Takes the first frame off `bytes` and gives what follows it. Never panics, never allocates.
pub fn decode(bytes: &[u8]) -> Result<(Frame<'_>, &[u8]), DamageKind> {
    let (head, rest) = bytes.split_first_chunk::<6>().ok_or(DamageKind::Truncated)?;
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or(DamageKind::Truncated)?;
    let [a, b, c, d, version, kind] = *head;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(|_| DamageKind::TooLong)?;
    let (payload, rest) = rest.split_at_checked(length).ok_or(DamageKind::Truncated)?;
    // The checksum stands before the version: a flipped bit must not pass for a newer program.
    if checksum(head, payload) != u32::from_le_bytes(*sum) {
        return Err(DamageKind::FrameChecksum);
    }
    if version != VERSION {
        return Err(DamageKind::NewerVersion { found: version, known: VERSION });
    }
    let kind = match kind {
        1 => Kind::Whole,
        2 => Kind::First,
        3 => Kind::Middle,
        4 => Kind::Last,
        _ => return Err(DamageKind::Malformed("a record is of an unknown kind")),
    };
    Ok((Frame { kind, payload }, rest))
}

/// The length that a frame claims for itself, head included. Believe it only where something else says the same.
pub(crate) fn claimed_len(bytes: &[u8]) -> Option<usize> {
    let payload = usize::try_from(u32::from_le_bytes(*bytes.first_chunk::<4>()?)).ok()?;
    payload.checked_add(HEADER_LEN)
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(head);
    sum.update(payload);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(Kind::Whole, payload, &mut out);
        out
    }

    #[test]
    fn the_bytes_of_a_frame_are_fixed() {
        assert_eq!(encoded(b"hi"), [2, 0, 0, 0, 1, 1, 0x15, 0xed, 0x33, 0x07, b'h', b'i']);
    }

    #[test]
    fn a_frame_of_a_newer_version_says_so_only_if_its_checksum_is_right() {
        let mut bytes = encoded(b"hi");
        bytes[4] = 9;
        assert_eq!(decode(&bytes), Err(DamageKind::FrameChecksum));
        let sum = checksum(&[2, 0, 0, 0, 9, 1], b"hi").to_le_bytes();
        bytes[6..10].copy_from_slice(&sum);
        assert_eq!(decode(&bytes), Err(DamageKind::NewerVersion { found: 9, known: VERSION }));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(payload: Vec<u8>, after: Vec<u8>) {
            let mut bytes = encoded(&payload);
            bytes.extend_from_slice(&after);
            let (frame, rest) = decode(&bytes).unwrap();
            prop_assert_eq!((frame.kind, frame.payload, rest), (Kind::Whole, &payload[..], &after[..]));
        }

        #[test]
        fn a_changed_byte_is_never_read_as_the_same_frame(payload: Vec<u8>, at: prop::sample::Index, flip in 1_u8..) {
            let mut bytes = encoded(&payload);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
