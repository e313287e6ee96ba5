//! The name of a transaction: a UUID of version 7 (RFC 9562) that says which node it belongs to.
//!
//! ```text
//!  48 bits  milliseconds since the epoch
//!   4       version 7
//!  12       how many ids this node made before in this millisecond
//!   2       variant
//!  14       random
//!  32       the node that coordinates the transaction
//!  16       checksum of all the above
//! ```
//!
//! The node is in it because `never_seen` means "abort is safe": the wrong node, or a node that lost
//! its directory, must never give that answer. The checksum tells an id of another node from a
//! UUID that somebody made up.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;

/// Ids a node can make in one millisecond.
const A_MILLISECOND: u16 = 1 << 12;

/// The name of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransactionId(u128);

/// Whose id it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The node that was asked made it, or could have.
    Here,
    /// Another node made it, or this node before it lost its directory.
    OtherNode,
    /// No node of ours made it.
    Nobody,
}

/// Makes the ids of one node: never the same twice, growing.
#[derive(Debug)]
pub struct Issuer {
    node: u32,
    /// The millisecond of the last id and how many it had before.
    last: Mutex<(Timestamp, u16)>,
}

impl Issuer {
    /// An issuer for this node. Two nodes must not share a number.
    #[must_use]
    pub fn new(node: u32) -> Self {
        Self { node, last: Mutex::new((Timestamp(0), 0)) }
    }

    /// A new id. `now` should not go back; where it does, ids go on from the latest time seen.
    pub fn issue(&self, now: Timestamp, random: u16) -> TransactionId {
        let mut last = self.last.lock().expect("no code panics while it holds this lock");
        *last = match *last {
            (time, _) if now > time => (now, 0),
            (time, made) if made + 1 < A_MILLISECOND => (time, made + 1),
            (time, _) => (Timestamp(time.0 + 1), 0),
        };
        TransactionId::assemble(last.0, last.1, random, self.node)
    }

    /// Whose id this is.
    #[must_use]
    pub fn origin(&self, id: TransactionId) -> Origin {
        match id.node() {
            Some(node) if node == self.node => Origin::Here,
            Some(_) => Origin::OtherNode,
            None => Origin::Nobody,
        }
    }
}

impl TransactionId {
    /// The id of records that belong to no transaction.
    pub const NONE: Self = Self(0);

    fn assemble(time: Timestamp, count: u16, random: u16, node: u32) -> Self {
        let head = u128::from(time.0 & 0xffff_ffff_ffff) << 80;
        let version = 0x7_u128 << 76 | u128::from(count & 0xfff) << 64;
        let variant = 0b10_u128 << 62 | u128::from(random & 0x3fff) << 48;
        let unsigned = head | version | variant | u128::from(node) << 16;
        Self(unsigned | u128::from(checksum(unsigned)))
    }

    /// The node in it, where its checksum holds.
    #[must_use]
    pub fn node(self) -> Option<u32> {
        let unsigned = self.0 & !0xffff;
        let is_ours = self.0 & 0xffff == u128::from(checksum(unsigned));
        is_ours.then(|| u32::try_from(self.0 >> 16 & 0xffff_ffff).unwrap_or_default())
    }

    /// When it was made.
    #[must_use]
    pub fn time(self) -> Timestamp {
        Timestamp(u64::try_from(self.0 >> 80).unwrap_or_default())
    }

    /// The span of the request that began the transaction. It follows from the id, so that a call made after a crash, of which
    /// only the log knows, names the same.
    #[must_use]
    pub fn span(self) -> u64 {
        let half = |number: u128| u64::try_from(number & u128::from(u64::MAX)).unwrap_or_default();
        (half(self.0) ^ half(self.0 >> 64)).max(1)
    }

    /// The id as a plain number.
    #[must_use]
    pub fn as_u128(self) -> u128 {
        self.0
    }
}

impl From<Uuid> for TransactionId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid.as_u128())
    }
}

impl FromStr for TransactionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self::from)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 16 bits of FNV-1a: enough that a made-up UUID passes once in 65,536, and it guards nothing.
fn checksum(value: u128) -> u16 {
    let hash = value
        .to_be_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    u16::try_from((hash >> 16 ^ hash) & 0xffff).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_version_7_and_holds_its_time() {
        let id = Issuer::new(7).issue(Timestamp(1_700_000_000_123), 99);
        let uuid = Uuid::try_parse(&id.to_string()).unwrap();
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id.time(), Timestamp(1_700_000_000_123));
    }

    #[test]
    fn ids_grow_and_never_repeat_even_in_one_millisecond_or_when_time_goes_back() {
        let issuer = Issuer::new(1);
        let times = (0..10_000).map(|i| Timestamp(if i < 9_000 { 5_000 } else { 4_000 }));
        let ids: Vec<_> = times.map(|now| issuer.issue(now, 0)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn an_id_tells_its_own_node_from_another_and_from_a_made_up_uuid() {
        let (here, there) = (Issuer::new(1), Issuer::new(2));
        let id = here.issue(Timestamp(1_700_000_000_000), 4);
        assert_eq!(here.origin(id), Origin::Here);
        assert_eq!(there.origin(id), Origin::OtherNode);
        let made_up = "018f3d5e-7b1c-7000-8000-0123456789ab".parse().unwrap();
        assert_eq!(here.origin(made_up), Origin::Nobody);
    }
}
