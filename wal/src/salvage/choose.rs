//! Which of the blocks that were seen are the log.
//!
//! Old copies of the same block, blocks that were retired, and the end of an earlier start that a later one cut off and wrote
//! over lie in the files beside the log. The log's own numbers decide, and nothing else:
//!
//! - below the low-water mark of the witness nothing counts;
//! - a later start reads the log to its end and goes on there, so that nothing of an earlier one counts from where it wrote on;
//! - two blocks that are whole, claim the same place or are neighbours, and do not fit together, are a contradiction. A
//!   block that nothing is linked to gives way to one that a neighbour's checksum names, within one start; in every
//!   other case neither counts. It is told in any case.

use std::collections::{BTreeSet, HashSet};

use super::scan::Sighting;
use crate::block::{BlockKey, Checksum};
use crate::lsn::Lsn;
use crate::witness::Witness;

/// The blocks of the log, in order, and what was left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) blocks: Vec<Sighting>,
    /// Whole blocks that a later start wrote over.
    pub(super) superseded: Vec<Sighting>,
    /// Whole blocks that do not fit to another one, each with one that it does not fit to.
    pub(super) contradictions: Vec<(Sighting, Sighting)>,
}

/// A block and whether a neighbour vouches for it.
#[derive(Clone, Copy)]
struct Candidate {
    seen: Sighting,
    is_linked: bool,
}

/// Starts that may be missing from what counts them: it can be from an older copy.
const EPOCHS_UNCOUNTED: u64 = 1 << 32;

/// Records that nobody writes before the witness is synced again.
const RECORDS_UNWITNESSED: u64 = 1 << 24;

/// What the log can have come to, as far as that is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    epoch: u64,
    last: Option<Lsn>,
}

impl Reach {
    /// That of a log of which something counts the starts.
    pub(super) const fn of_starts(starts: u64) -> Self {
        Self { epoch: starts.saturating_add(EPOCHS_UNCOUNTED), last: None }
    }

    /// That of a log which is where its last start left it, and has the witness of that start.
    pub(super) fn of_witness(witness: &Witness) -> Self {
        let last = witness.high.unwrap_or(Lsn::FIRST).plus(RECORDS_UNWITNESSED);
        Self { epoch: witness.epoch, last: Some(last) }
    }

    fn holds(self, seen: &Sighting) -> bool {
        seen.epoch <= self.epoch && self.last.is_none_or(|last| seen.key.first <= last)
    }
}

/// Takes out the blocks that the log cannot have come to: somebody sent them, to be in a record.
pub(super) fn without_impossible(seen: &mut Vec<Sighting>, reach: Option<Reach>) -> Vec<Sighting> {
    let Some(reach) = reach else { return Vec::new() };
    // What counts the starts is of another log.
    if reach.last.is_none() && !seen.iter().any(|seen| reach.holds(seen)) {
        return Vec::new();
    }
    let (possible, impossible) = std::mem::take(seen).into_iter().partition(|seen| reach.holds(seen));
    *seen = possible;
    impossible
}

/// Chooses among what was seen; `low` is what the witness says, where it can be read.
pub(super) fn choose(mut seen: Vec<Sighting>, low: Option<Lsn>) -> Choice {
    let low = BlockKey::of(low.unwrap_or(Lsn::FIRST));
    seen.retain(|seen| seen.key >= low);
    // The later start first, so that it is met before what it wrote over.
    seen.sort_by_key(|seen| (seen.key, std::cmp::Reverse(seen.epoch), seen.checksum, seen.place));
    seen.dedup_by_key(|seen| (seen.key, seen.next, seen.epoch, seen.previous, seen.checksum));
    let mut choice = Choice::default();
    let candidates = without_strangers(with_links(&seen), &mut choice);
    let candidates = without_superseded(&candidates, &mut choice);
    for (one, other) in misfits(&candidates).into_iter().chain(out_of_turn(&candidates)) {
        let same_start = one.seen.epoch == other.seen.epoch;
        let gives_way = |one: &Candidate, other: &Candidate| same_start && !one.is_linked && other.is_linked;
        if !gives_way(&other, &one) {
            choice.contradictions.push((one.seen, other.seen));
        }
        if !gives_way(&one, &other) {
            choice.contradictions.push((other.seen, one.seen));
        }
    }
    let out: BTreeSet<_> = choice.contradictions.iter().map(|(out, _)| out.place).collect();
    let kept = candidates.into_iter().filter(|candidate| !out.contains(&candidate.seen.place));
    choice.blocks = kept.map(|candidate| candidate.seen).collect();
    choice
}

fn with_links(seen: &[Sighting]) -> Vec<Candidate> {
    let ends: HashSet<(BlockKey, Checksum)> = seen.iter().map(|seen| (seen.next, seen.checksum)).collect();
    let begins: HashSet<(BlockKey, Checksum)> = seen.iter().map(|seen| (seen.key, seen.previous)).collect();
    let is_linked = |seen: &Sighting| {
        // Nothing comes before the first record of all.
        let is_first = seen.key == BlockKey::of(Lsn::FIRST) && seen.previous == 0;
        is_first || ends.contains(&(seen.key, seen.previous)) || begins.contains(&(seen.next, seen.checksum))
    };
    seen.iter().map(|seen| Candidate { seen: *seen, is_linked: is_linked(seen) }).collect()
}

/// A block that nothing is linked to and that claims a later start than linked blocks behind it.
fn without_strangers(candidates: Vec<Candidate>, choice: &mut Choice) -> Vec<Candidate> {
    let mut earliest: Option<Sighting> = None;
    let mut kept = Vec::with_capacity(candidates.len());
    for candidate in candidates.into_iter().rev() {
        match earliest {
            Some(behind) if !candidate.is_linked && candidate.seen.epoch > behind.epoch => {
                choice.contradictions.push((candidate.seen, behind));
                continue;
            }
            Some(behind) if behind.epoch <= candidate.seen.epoch => {}
            Some(_) | None if candidate.is_linked => earliest = Some(candidate.seen),
            Some(_) | None => {}
        }
        kept.push(candidate);
    }
    kept.reverse();
    kept
}

/// What an earlier start wrote and a later one wrote over.
fn without_superseded(candidates: &[Candidate], choice: &mut Choice) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::new();
    let mut latest = 0;
    for candidate in candidates {
        let epoch = candidate.seen.epoch;
        if epoch < latest {
            choice.superseded.push(candidate.seen);
            continue;
        }
        if candidate.is_linked {
            latest = epoch;
            // The end of an earlier start that reaches into it, or ends just before it and is not what it goes on from.
            while let Some(last) =
                kept.pop_if(|last| last.seen.epoch < epoch && !fits(&last.seen, &candidate.seen))
            {
                choice.superseded.push(last.seen);
            }
        }
        kept.push(*candidate);
    }
    kept
}

/// Whether nothing speaks against both being in the same log, the one before the other.
fn fits(before: &Sighting, after: &Sighting) -> bool {
    before.next < after.key || (before.next == after.key && before.checksum == after.previous)
}

/// Pairs that cannot both be in the log.
fn misfits(candidates: &[Candidate]) -> Vec<(Candidate, Candidate)> {
    let mut pairs = Vec::new();
    let mut rest = candidates;
    while let Some((one, behind)) = rest.split_first() {
        rest = behind;
        let near = behind.iter().take_while(|other| other.seen.key <= one.seen.next);
        pairs.extend(near.filter(|other| !fits(&one.seen, &other.seen)).map(|other| (*one, *other)));
    }
    pairs
}

/// Pairs of a block of a later start and one of an earlier start behind it: nothing is linked to either, so that nobody knows which of them is
/// of this log.
fn out_of_turn(candidates: &[Candidate]) -> Vec<(Candidate, Candidate)> {
    let mut latest: Option<Candidate> = None;
    let mut pairs = Vec::new();
    for candidate in candidates {
        match latest {
            Some(before) if before.seen.epoch > candidate.seen.epoch => pairs.push((before, *candidate)),
            Some(_) | None => latest = Some(*candidate),
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::salvage::scan::Place;

    /// A block of the records `first..next` from the given start. Checksums tell blocks apart.
    fn block(first: u64, next: u64, epoch: u64, previous: Checksum, checksum: Checksum) -> Sighting {
        let key = |n| BlockKey::of(Lsn::new(n).unwrap());
        let place = Place { file: 0, offset: checksum.into(), len: 100 };
        Sighting { key: key(first), next: key(next), epoch, previous, checksum, place }
    }

    /// Five blocks of one start, one record in each, that follow each other.
    fn five() -> Vec<Sighting> {
        (1..=5_u32).map(|n| block(n.into(), u64::from(n) + 1, 1, n - 1, n)).collect()
    }

    fn chosen(seen: &[Sighting], low: u64) -> Choice {
        let mut mixed = seen.to_vec();
        mixed.reverse();
        let choice = choose(mixed, Lsn::new(low));
        assert_eq!(choice, choose(seen.to_vec(), Lsn::new(low)), "the order in the files does not count");
        choice
    }

    fn checksums(blocks: &[Sighting]) -> Vec<Checksum> {
        blocks.iter().map(|block| block.checksum).collect()
    }

    #[test]
    fn copies_count_once_and_what_was_retired_not_at_all() {
        let mut seen = five();
        seen.extend(
            five().into_iter().map(|seen| Sighting { place: Place { file: 1, ..seen.place }, ..seen }),
        );
        let choice = chosen(&seen, 3);
        assert_eq!(checksums(&choice.blocks), [3, 4, 5]);
        assert_eq!((choice.superseded.len(), choice.contradictions.len()), (0, 0));
    }

    #[test]
    fn a_later_start_counts_from_where_it_wrote_on() {
        // The first start wrote 1 to 5, of which the second found 1 to 3 and wrote over the others.
        let mut seen = five();
        seen.extend([block(4, 6, 2, 3, 40), block(6, 7, 2, 40, 60)]);
        let choice = chosen(&seen, 1);
        assert_eq!(checksums(&choice.blocks), [1, 2, 3, 40, 60]);
        assert_eq!(checksums(&choice.superseded), [4, 5]);
        // Also where its first block is lost, so that what was written over seems to go on to the next one.
        seen.retain(|seen| seen.checksum != 40);
        seen.push(block(7, 8, 2, 60, 70));
        let choice = chosen(&seen, 1);
        assert_eq!(checksums(&choice.blocks), [1, 2, 3, 4, 60, 70]);
        assert_eq!(checksums(&choice.superseded), [5]);
    }

    #[test]
    fn a_block_that_fits_nowhere_gives_way_and_is_told() {
        for missing in [true, false] {
            let mut seen = five();
            seen.retain(|seen| missing || seen.checksum != 3);
            // From another log: whole, at the place of a block of this one, and linked to nothing.
            seen.push(block(3, 4, 1, 77, 30));
            let choice = chosen(&seen, 1);
            let expected: &[Checksum] = if missing { &[1, 2, 3, 4, 5] } else { &[1, 2, 4, 5] };
            assert_eq!(checksums(&choice.blocks), expected);
            assert!(choice.contradictions.iter().all(|(out, _)| out.checksum == 30));
            assert!(!choice.contradictions.is_empty());
        }
    }

    #[test]
    fn a_block_that_fits_nowhere_and_claims_a_later_start_does_not_write_over_the_log() {
        let mut seen = five();
        seen.push(block(2, 4, 9, 77, 30));
        let choice = chosen(&seen, 1);
        assert_eq!(checksums(&choice.blocks), [1, 2, 3, 4, 5]);
        assert_eq!(checksums(&choice.contradictions.iter().map(|(out, _)| *out).collect::<Vec<_>>()), [30]);
    }

    #[test]
    fn what_claims_more_starts_than_anybody_makes_does_not_write_over_the_log() {
        let mut seen = five();
        // They name each other, as nothing does that fits nowhere.
        seen.extend([block(1, 2, u64::MAX, 0, 70), block(2, 3, u64::MAX, 70, 71)]);
        let without = |seen: &[Sighting], reach| {
            let mut seen = seen.to_vec();
            let impossible = without_impossible(&mut seen, reach);
            (checksums(&chosen(&seen, 1).blocks), impossible.len())
        };
        assert_eq!(without(&seen, Some(Reach::of_starts(1))), (vec![1, 2, 3, 4, 5], 2));
        assert_eq!(without(&seen, None).1, 0, "nobody knows how many there were");
        assert_eq!(without(&seen[5..], Some(Reach::of_starts(1))).1, 0, "what counts them is of another log");
    }

    #[test]
    fn what_is_far_behind_all_that_was_acknowledged_is_not_of_the_log() {
        let witness = Witness { high: Lsn::new(5), epoch: 1, ..Witness::new(7) };
        let reach = Reach::of_witness(&witness);
        let possible = [block(6, 7, 1, 5, 6), block(5 + RECORDS_UNWITNESSED, 1 << 40, 1, 77, 70)];
        let impossible = [block(6 + RECORDS_UNWITNESSED, 1 << 40, 1, 77, 71), block(6, 7, 2, 5, 72)];
        let mut seen = [&possible[..], &impossible].concat();
        assert_eq!(without_impossible(&mut seen, Some(reach)), impossible);
        assert_eq!(seen, possible);
        assert_eq!(
            without_impossible(&mut impossible.to_vec(), Some(reach)),
            impossible,
            "also where nothing else is left"
        );
    }

    #[test]
    fn what_claims_as_many_starts_as_may_be_missing_counts() {
        let most = 1 + EPOCHS_UNCOUNTED;
        let mut seen = vec![block(1, 2, 1, 0, 1), block(2, 3, most, 1, 2), block(3, 4, most + 1, 2, 3)];
        let left_out = without_impossible(&mut seen, Some(Reach::of_starts(1)));
        assert_eq!((checksums(&seen), left_out.len()), (vec![1, 2], 1));
    }

    #[test]
    fn of_two_that_have_an_equal_right_neither_counts() {
        let mut seen = five();
        // The same place in the same start, each of them linked to a neighbour.
        seen.push(block(5, 6, 1, 4, 50));
        let choice = chosen(&seen, 1);
        assert_eq!(checksums(&choice.blocks), [1, 2, 3, 4]);
        let mut out: Vec<_> = choice.contradictions.iter().map(|(out, _)| out.checksum).collect();
        out.sort_unstable();
        assert_eq!(out, [5, 50]);
    }

    #[test]
    fn the_first_block_of_all_needs_nothing_before_it() {
        // What follows it is lost, and a block of another log claims its place.
        let seen = [block(1, 2, 1, 0, 5), block(1, 2, 1, 77, 3), block(3, 4, 1, 8, 9)];
        let choice = chosen(&seen, 1);
        assert_eq!(checksums(&choice.blocks), [5, 9]);
        assert!(choice.contradictions.iter().all(|(out, _)| out.checksum == 3));
    }

    #[test]
    fn a_block_whose_neighbours_are_lost_counts() {
        let mut seen = five();
        seen.push(block(6, 7, 1, 5, 6));
        seen.retain(|seen| ![2, 4].contains(&seen.checksum));
        let choice = chosen(&seen, 1);
        assert_eq!((checksums(&choice.blocks), choice.contradictions), (vec![1, 3, 5, 6], vec![]));
        // Nor does one of an earlier start speak against those that follow each other.
        let mut seen: Vec<_> = seen.into_iter().map(|seen| Sighting { epoch: 5, ..seen }).collect();
        seen.push(block(9, 10, 1, 77, 90));
        let choice = chosen(&seen, 1);
        assert_eq!((checksums(&choice.blocks), choice.contradictions), (vec![1, 3, 5, 6], vec![]));
    }

    #[test]
    fn of_two_starts_in_the_wrong_order_that_nothing_is_linked_to_neither_counts() {
        let mut seen = five();
        // The second start may have written over the end of the first one, or be of another log.
        seen.extend([block(8, 9, 2, 70, 8), block(11, 12, 1, 77, 11), block(13, 14, 1, 78, 13)]);
        let choice = chosen(&seen, 1);
        assert_eq!(checksums(&choice.blocks), [1, 2, 3, 4, 5]);
        let out: BTreeSet<_> = choice.contradictions.iter().map(|(out, _)| out.checksum).collect();
        assert_eq!(out, BTreeSet::from([8, 11, 13]));
    }

    #[test]
    fn a_stranger_is_held_against_the_earliest_start_behind_it() {
        // The second start went on where the first one had ended, and the stranger claims to be of it.
        let mut seen = vec![block(1, 2, 1, 0, 1), block(2, 3, 1, 1, 2), block(3, 4, 1, 2, 3)];
        seen.extend([block(4, 5, 2, 3, 4), block(5, 6, 2, 4, 5), block(2, 3, 2, 77, 30)]);
        let choice = chosen(&seen, 1);
        assert_eq!(checksums(&choice.blocks), [1, 2, 3, 4, 5]);
        assert_eq!(choice.contradictions[0].0.checksum, 30);
        // Also where that one was written over from there on.
        let mut seen = five();
        seen.retain(|seen| ![2, 3].contains(&seen.checksum));
        seen.extend([block(4, 6, 2, 3, 40), block(6, 7, 2, 40, 60), block(2, 3, 2, 77, 30)]);
        let choice = chosen(&seen, 1);
        assert_eq!(checksums(&choice.blocks), [1, 40, 60]);
        assert_eq!(choice.contradictions[0].0.checksum, 30);
    }
}
