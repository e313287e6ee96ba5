//! Whatever is on the disk, reading a block ends in a block that is right or in a named damage.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unanimous_wal::block::{self, HEADER_LEN};

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // Hardly any bytes have the right checksum by chance: with it, what stands behind the checksum is reached too.
    let mut signed = bytes.to_vec();
    if signed.len() >= HEADER_LEN {
        signed.splice(0..5, *b"UWAL\x01");
        let sum = crc32(&[&signed[..HEADER_LEN - 4], &signed[HEADER_LEN..]]);
        signed[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&sum.to_le_bytes());
        check(&signed);
    }
});

fn check(bytes: &[u8]) {
    let Ok(block) = block::decode(bytes) else { return };
    let frames = block.frames().count();
    assert_eq!(u32::try_from(frames), Ok(block.header.count), "it holds as many records as its header says");
    let (again, checksum) = block::encode(&block.header, &bytes[HEADER_LEN..]);
    assert_eq!((again.as_slice(), checksum), (bytes, block.checksum), "there is one way to write a block");
}

fn crc32(parts: &[&[u8]]) -> u32 {
    let bits = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
    let bytes = parts.iter().copied().flatten();
    !bytes.fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), bits))
}
