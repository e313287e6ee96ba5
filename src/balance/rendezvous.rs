//! Consistent hashing by weighted rendezvous: every instance draws a score for the key, and the highest has it.
//!
//! Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998), with the weights of
//! Schindelhauer and Schomaker, "Weighted Distributed Hash Tables" (2005). An instance that goes gives up its
//! own keys and no other moves; a second choice, for when the first is not usable, comes with it. It needs no
//! table, and so no memory, nor work when instances change; a choice costs some 20 ns an instance.

use sha2::{Digest as _, Sha256};

/// A number for a text, the same in every process and version: gateways side by side choose alike.
#[must_use]
pub fn hash(text: &[u8]) -> u64 {
    let digest = Sha256::digest(text);
    let first = digest.first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first)
}

/// How much the instance `identity` with this weight wants the key.
pub(super) fn score(key: u64, identity: u64, weight: f64) -> f64 {
    // Within (0, 1), so that the logarithm is negative and finite.
    let drawn = (f64::from((mix(key ^ identity.rotate_left(32)) >> 32) as u32) + 0.5) / 4_294_967_296.0;
    -weight / drawn.ln()
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_same_in_every_version() {
        // The first eight bytes of `printf ada | sha256sum`.
        assert_eq!(hash(b"ada"), 0xfdee_430d_40bd_57de);
    }

    #[test]
    fn a_score_is_finite_and_grows_with_the_weight() {
        for key in 0..1000 {
            let (light, heavy) = (score(key, 7, 1.0), score(key, 7, 2.0));
            assert!(light.is_finite() && light > 0.0 && heavy > light, "{key}: {light}, {heavy}");
        }
    }
}
