//! What is wrong with bytes that were read, in words that say what to do.

use std::fmt;

use crate::Lsn;

/// The log cannot be read as it was written.
///
/// Never skipped and never repaired silently: what cannot be read may be the commit that was already sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    at: Option<Lsn>,
    kind: DamageKind,
}

/// What kind of damage it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamageKind {
    /// A block or frame is shorter than it says.
    #[error("it ends too early")]
    Truncated,
    /// A block is followed by bytes that belong to nothing, or is longer than any block may be.
    #[error("it is longer than it should be")]
    TooLong,
    /// The first bytes are not those of a block.
    #[error("it does not begin like a block of a log")]
    Magic,
    /// The checksum over a block is not that of its bytes.
    #[error("the checksum of the block is wrong")]
    BlockChecksum,
    /// The checksum over a frame is not that of its bytes.
    #[error("the checksum of the record is wrong")]
    FrameChecksum,
    /// The checksums are right, but the values make no sense together.
    #[error("{0}")]
    Malformed(&'static str),
    /// The block is stored under a key that is not its own.
    #[error("it is stored in the place of another block")]
    Misplaced,
    /// Records are missing before this one.
    #[error("record {expected} should come here, but record {found} does")]
    Gap {
        /// The number that should follow.
        expected: Lsn,
        /// The number that was found.
        found: Lsn,
    },
    /// The block does not carry the checksum of the block before it: one was replaced or lost.
    #[error("it does not follow the block before it")]
    Chain,
    /// The block claims an earlier or later start of the node than it can be from.
    #[error("it is from start {found} of the node where start {expected} was expected")]
    Epoch {
        /// The epoch it could be from at the latest or the earliest.
        expected: u64,
        /// The epoch it carries.
        found: u64,
    },
    /// A record in several parts does not have all of them.
    #[error("parts of the record are missing")]
    Incomplete,
    /// The witness saw records acknowledged which the store does not hold.
    #[error("records up to {acknowledged} were acknowledged, but the store ends at {}", Number(*.found))]
    Missing {
        /// The highest number that the witness saw acknowledged.
        acknowledged: Lsn,
        /// The highest number that the store holds.
        found: Option<Lsn>,
    },
    /// Both copies hold the block whole, and they differ.
    #[error(
        "the store and the mirror ring both hold it whole and they differ (checksum {store:08x} in the store, \
         {ring:08x} in the ring): one of them is from another time or another log"
    )]
    Contradiction {
        /// The checksum of the block in the store.
        store: u32,
        /// The checksum of the block in the ring.
        ring: u32,
    },
    /// The mirror ring is not that of this log.
    #[error("the file `ring`, which mirrors the last blocks, {0}")]
    Ring(&'static str),
    /// Neither copy of the witness can be read.
    #[error("the file `witness`, which says what was acknowledged, cannot be read")]
    Witness,
    /// The marker of the directory cannot be read.
    #[error("the file `INIT`, which marks the directory, {0}")]
    Marker(&'static str),
    /// The engine below could not open or walk its files.
    #[error("the store cannot be read: {0}")]
    Store(String),
    /// No damage, but nothing this program may touch: the checksums are right and the format is unknown.
    #[error("it was written by a newer version (format {found}, this program knows {known})")]
    NewerVersion {
        /// The version in the bytes.
        found: u8,
        /// The newest version that this program reads.
        known: u8,
    },
}

/// What is said of a ring that lies beside the store of another log.
pub(crate) const FOREIGN_RING: &str = "belongs to another log than the directory";

/// What to do about a log that cannot be read to its end.
pub const SALVAGE: &str = "`unanimous salvage --data-dir DIR --to NEWDIR` makes a new log of every whole record, and leaves DIR as it is";

struct Number(Option<Lsn>);

impl Damage {
    pub(crate) const fn new(at: Option<Lsn>, kind: DamageKind) -> Self {
        Self { at, kind }
    }

    pub(crate) const fn at(lsn: Lsn, kind: DamageKind) -> Self {
        Self::new(Some(lsn), kind)
    }

    /// The first record that cannot be read, where that is known.
    #[must_use]
    pub const fn lsn(&self) -> Option<Lsn> {
        self.at
    }

    /// What is wrong there.
    #[must_use]
    pub const fn kind(&self) -> &DamageKind {
        &self.kind
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        if self.is_newer_version() {
            "start it with the program that wrote it, or a later one"
        } else if self.kind == DamageKind::Ring(FOREIGN_RING) {
            "if store and witness are this log's, move the file `ring` out of the directory: a start makes a new one"
        } else {
            SALVAGE
        }
    }

    /// Whether nothing is broken and only a newer program can read this.
    #[must_use]
    pub const fn is_newer_version(&self) -> bool {
        matches!(self.kind, DamageKind::NewerVersion { .. })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(lsn) => write!(f, "the log cannot be read at record {lsn}: {}", self.kind),
            None => write!(f, "the log cannot be read: {}", self.kind),
        }
    }
}

impl std::error::Error for Damage {}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(lsn) => write!(f, "record {lsn}"),
            None => f.write_str("nothing"),
        }
    }
}
