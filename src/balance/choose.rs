//! Which of several instances is asked. All that may be asked come in; what may not has been left out before.

use super::policy::Choice;
use super::rendezvous::score;

/// An instance that may be asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Its share beside the others, greater than 0.
    pub weight: f64,
    /// What names it, as a number; the same for as long as it has its address.
    pub identity: u64,
    /// How long it has waited for its turn. Kept by the caller from one choice to the next; 0 at first.
    pub turn: i64,
}

/// A weight of 1, in turns. Weights of less, as in a slow start, are whole numbers so.
const TURN: f64 = 1000.0;

/// The place of the one to ask; `None` where there is none. `cost` is asked of at most two of them, `key` is
/// what a hash goes by, and `draw` gives numbers from 0 to 1.
///
/// A hash without a key (a request without that header) goes to the less busy of two.
pub fn choose(
    choice: &Choice,
    candidates: &mut [Candidate],
    key: Option<u64>,
    cost: impl Fn(usize) -> f64,
    draw: impl FnMut() -> f64,
) -> Option<usize> {
    match (choice, key) {
        (Choice::RoundRobin, _) => in_turn(candidates),
        (Choice::Hash(_), Some(key)) => wanted_most(candidates, key),
        (Choice::LeastRequest | Choice::Latency, _) | (Choice::Hash(_), None) => {
            cheaper_of_two(candidates, cost, draw)
        }
    }
}

/// The smooth weighted round robin of nginx (`ngx_http_upstream_round_robin.c`, commit 52327e0): each waits by its weight, and
/// whoever has waited longest has the turn and goes back by the weights of all.
fn in_turn(candidates: &mut [Candidate]) -> Option<usize> {
    let mut all = 0;
    for candidate in candidates.iter_mut() {
        let weight = turns(candidate.weight);
        candidate.turn += weight;
        all += weight;
    }
    // Of two that waited alike, the one that stands first.
    let (place, longest) = candidates.iter_mut().enumerate().rev().max_by_key(|(_, one)| one.turn)?;
    longest.turn -= all;
    Some(place)
}

#[expect(clippy::cast_possible_truncation, reason = "a weight is at most 65,535, and so far below 2^53")]
fn turns(weight: f64) -> i64 {
    ((weight * TURN) as i64).max(1)
}

/// The power of two choices (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001): chance
/// names two by their weights, and the cheaper has it, or where they cost alike the first.
fn cheaper_of_two(
    candidates: &[Candidate],
    cost: impl Fn(usize) -> f64,
    mut draw: impl FnMut() -> f64,
) -> Option<usize> {
    let first = drawn(candidates, None, draw())?;
    let second = drawn(candidates, Some(first), draw());
    Some(second.filter(|second| cost(*second) < cost(first)).unwrap_or(first))
}

/// One by weight, but not the one at `without`.
fn drawn(candidates: &[Candidate], without: Option<usize>, chance: f64) -> Option<usize> {
    let open = || candidates.iter().enumerate().filter(|(place, _)| Some(*place) != without);
    let mut left = chance * open().map(|(_, candidate)| candidate.weight).sum::<f64>();
    for (place, candidate) in open() {
        left -= candidate.weight;
        if left < 0.0 {
            return Some(place);
        }
    }
    // What is rounded may leave a rest at the end.
    open().next_back().map(|(place, _)| place)
}

fn wanted_most(candidates: &[Candidate], key: u64) -> Option<usize> {
    let scores = candidates.iter().map(|candidate| score(key, candidate.identity, candidate.weight));
    scores.enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::HashOn;
    use crate::balance::hash;

    const BY_HASH: Choice = Choice::Hash(HashOn::Header(String::new()));

    fn candidates(weights: &[f64]) -> Vec<Candidate> {
        let identity = |place: usize| hash(format!("http://10.0.0.{place}").as_bytes());
        let one = |(place, weight): (usize, &f64)| Candidate {
            weight: *weight,
            identity: identity(place),
            turn: 0,
        };
        weights.iter().enumerate().map(one).collect()
    }

    /// Numbers from 0 to 1, the same for the same seed (Knuth's MMIX generator).
    fn draws(mut seed: u64) -> impl FnMut() -> f64 {
        move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from((seed >> 32) as u32) / 4_294_967_296.0
        }
    }

    /// How often each of them has it in so many choices.
    fn shares(choice: &Choice, weights: &[f64], times: u32, cost: impl Fn(usize) -> f64) -> Vec<f64> {
        let (mut all, mut draw) = (candidates(weights), draws(1));
        let mut counts = vec![0.0; weights.len()];
        for key in 0..times {
            let key = Some(hash(&key.to_be_bytes()));
            counts[choose(choice, &mut all, key, &cost, &mut draw).unwrap()] += 1.0 / f64::from(times);
        }
        counts
    }

    #[test]
    fn in_turn_the_heavy_one_has_no_run_of_turns() {
        let mut all = candidates(&[5.0, 1.0, 1.0]);
        let order: Vec<_> = (0..7).filter_map(|_| in_turn(&mut all)).collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(all.iter().map(|one| one.turn).sum::<i64>(), 0);
    }

    #[test]
    fn weights_are_honoured() {
        for choice in [Choice::RoundRobin, Choice::LeastRequest, BY_HASH] {
            let shares = shares(&choice, &[1.0, 3.0, 6.0], 20_000, |_| 1.0);
            let near = |(share, expected): (&f64, f64)| (share - expected).abs() < 0.02;
            // Two of three are drawn, and the first has it where they cost alike.
            assert!(shares.iter().zip([0.1, 0.3, 0.6]).all(near), "{choice:?}: {shares:?}");
        }
    }

    #[test]
    fn of_two_the_cheaper_is_asked() {
        for choice in [Choice::LeastRequest, Choice::Latency] {
            let shares = shares(&choice, &[1.0; 3], 3_000, |place| [1.0, 9.0, 2.0][place]);
            assert!(shares[1] < f64::EPSILON, "{shares:?}");
            assert!(shares[0] > shares[2], "{shares:?}");
        }
    }

    #[test]
    fn a_hash_without_a_key_goes_to_the_less_busy_one() {
        let mut all = candidates(&[1.0, 1.0]);
        let chosen = choose(&BY_HASH, &mut all, None, |place| [2.0, 1.0][place], || 0.0);
        assert_eq!(chosen, Some(1));
    }

    #[test]
    fn of_none_there_is_no_choice() {
        for choice in [Choice::RoundRobin, Choice::LeastRequest, Choice::Latency, BY_HASH] {
            assert_eq!(choose(&choice, &mut [], Some(1), |_| 1.0, || 0.5), None);
        }
    }

    proptest! {
        #[test]
        fn one_that_goes_gives_up_its_own_keys_and_no_other_moves(
            weights in prop::collection::vec(1u16..100, 2..20),
            gone in any::<prop::sample::Index>(),
            keys in prop::collection::vec(any::<u64>(), 50),
        ) {
            let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
            let before = candidates(&weights);
            let gone = gone.index(before.len());
            let mut after = before.clone();
            after.remove(gone);
            for key in keys {
                let had = wanted_most(&before, key).unwrap();
                let has = wanted_most(&after, key).unwrap();
                if had != gone {
                    prop_assert_eq!(before[had].identity, after[has].identity);
                }
            }
        }

        #[test]
        fn every_round_gives_each_what_its_weight_says(weights in prop::collection::vec(1u16..20, 1..8)) {
            let all: u16 = weights.iter().sum();
            let mut candidates = candidates(&weights.iter().copied().map(f64::from).collect::<Vec<_>>());
            let mut had = vec![0; weights.len()];
            for _ in 0..all {
                had[in_turn(&mut candidates).unwrap()] += 1;
            }
            prop_assert_eq!(had, weights);
        }

        #[test]
        fn whatever_chance_says_one_of_them_is_chosen(
            weights in prop::collection::vec(0.1f64..100.0, 1..9), seed: u64, key: Option<u64>,
        ) {
            for choice in [Choice::RoundRobin, Choice::LeastRequest, Choice::Latency, BY_HASH] {
                let mut all = candidates(&weights);
                let chosen = choose(&choice, &mut all, key, |place| [3.0, 1.0, 2.0][place % 3], draws(seed));
                prop_assert!(chosen.is_some_and(|place| place < weights.len()));
            }
        }
    }
}
