//! Whatever bytes a record has, they are read as a record that can be written and printed again, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unanimous::journal::codec;

fuzz_target!(|bytes: &[u8]| {
    let Ok(entry) = codec::decode(bytes) else { return };
    let again = codec::encode(&entry).expect("what was read can be written");
    assert_eq!(codec::decode(&again).as_ref(), Ok(&entry), "what was written is read as the same");
    // Integers may come in longer forms than they are written in, never in shorter ones.
    assert!(again.len() <= bytes.len(), "writing never makes a record longer than it was read");
});
