//! Records as bytes: the only file that names bincode.
//!
//! ```text
//!  1 byte   format version, now 1
//!  ..       bincode 2.0.1, standard configuration (little endian, variable-length integers)
//! ```
//!
//! bincode is no longer maintained (RUSTSEC-2025-0141), which is why it is behind two functions and
//! a version byte: see `docs/decisions/`.

use super::record::Entry;

/// The format that this program writes, and the newest it reads.
pub const FORMAT: u8 = 1;

/// The most bytes one record may have; the log itself takes no more either.
pub const ENTRY_MAX: usize = 4 * 1024 * 1024;

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A later version of this program wrote it.
    #[error(
        "it was written by a newer version (format {0}, this program knows {FORMAT}); start it with the program that wrote \
         it, or a later one"
    )]
    Newer(u8),
    /// It is not a record in any format this program knows.
    #[error("it is not a record: {0}")]
    Malformed(String),
    /// It is too large to be logged.
    #[error("it is too large to be logged: {0}")]
    TooLarge(String),
}

/// The bytes of `entry`.
pub fn encode(entry: &Entry) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::with_capacity(128);
    bytes.push(FORMAT);
    bincode::serde::encode_into_std_write(entry, &mut bytes, config())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if bytes.len() > ENTRY_MAX {
        return Err(CodecError::TooLarge(format!("{} bytes, and {ENTRY_MAX} is the most", bytes.len())));
    }
    Ok(bytes)
}

/// The record in `bytes`, all of which it must take.
pub fn decode(bytes: &[u8]) -> Result<Entry, CodecError> {
    let malformed = |what: &str| CodecError::Malformed(what.to_owned());
    let (version, rest) = bytes.split_first().ok_or_else(|| malformed("there are no bytes"))?;
    match *version {
        FORMAT => {}
        0 => return Err(malformed("its format is 0")),
        newer => return Err(CodecError::Newer(newer)),
    }
    let (entry, read) =
        bincode::serde::decode_from_slice(rest, config()).map_err(|error| malformed(&error.to_string()))?;
    if read != rest.len() {
        return Err(malformed("bytes are left over at its end"));
    }
    Ok(entry)
}

/// What it is asked to make of bytes is bounded: twice over, because it counts more for a number than the number takes.
fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<{ 2 * ENTRY_MAX }>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::journal::record::Record;
    use crate::plan::{Body, Plan, Trace, TransactionId};

    fn entry(len: usize) -> Entry {
        let body = Body { content_type: None, bytes: vec![7; len].into() };
        let (route, trace) = ("transfer".to_owned(), Trace::begin(1));
        let plan =
            Plan { route, deadline: Timestamp(0), branches: vec![], bodies: vec![body], key: None, trace };
        let (time, transaction) = (Timestamp(1), TransactionId::NONE);
        Entry { time, transaction, record: Record::Begun(plan.into()) }
    }

    #[test]
    fn a_record_has_four_mebibytes_at_most_and_one_that_has_them_can_be_read() {
        let around = encode(&entry(4 * 1024 * 1024 - 1000)).unwrap().len() - (4 * 1024 * 1024 - 1000);
        let most = entry(4 * 1024 * 1024 - around);
        let bytes = encode(&most).unwrap();
        assert_eq!(bytes.len(), 4 * 1024 * 1024);
        assert!(decode(&bytes).is_ok_and(|read| read == most));
        let more = encode(&entry(4 * 1024 * 1024 - around + 1)).unwrap_err();
        assert!(more.to_string().contains("4194305 bytes, and 4194304 is the most"), "{more}");
    }

    #[test]
    fn a_newer_format_is_told_from_none_at_all() {
        let mut bytes = encode(&entry(1)).unwrap();
        let mut with = |format| {
            bytes[0] = format;
            decode(&bytes).map(|_| ())
        };
        assert_eq!(with(FORMAT), Ok(()));
        assert_eq!([2, 255].map(&mut with), [2, 255].map(|format| Err(CodecError::Newer(format))));
        assert_eq!(with(0), Err(CodecError::Malformed("its format is 0".to_owned())));
        assert_eq!(decode(&[]), Err(CodecError::Malformed("there are no bytes".to_owned())));
    }
}
