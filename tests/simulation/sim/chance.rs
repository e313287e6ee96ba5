//! Chance, from one seed, and how hostile one run is.
//!
//! Every seed has its own mixture of faults, some of them absent: where everything fails all the time nothing gets far
//! enough to fail in an interesting way (Groce et al., "Swarm Testing", ISSTA 2012).

use std::ops::Range;

/// The only source of chance of a run.
pub struct Chance(fastrand::Rng);

/// How often each thing goes wrong, in a thousand.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// A call does not arrive.
    pub call_lost: u64,
    /// A call arrives, and its answer does not.
    pub answer_lost: u64,
    /// The connection breaks after the call has arrived.
    pub broken: u64,
    /// No byte of a call leaves the node.
    pub never_sent: u64,
    /// A call arrives a second time, much later perhaps.
    pub duplicated: u64,
    /// A participant answers 5xx, before or after it did what was asked.
    pub server_error: u64,
    /// A participant answers 425.
    pub ask_again: u64,
    /// A participant crashes and forgets what it did not have to remember.
    pub participant_crash: u64,
    /// A participant says no.
    pub no: u64,
    /// A participant changes nothing and says so.
    pub read_only: u64,
    /// A participant that promised goes against the decision.
    pub contradiction: u64,
    /// A client does not hear the answer.
    pub client_deaf: u64,
    /// An operator does something to a transaction.
    pub operator: u64,
    /// The longest time a call or an answer is under way, in milliseconds.
    pub delay_ms_max: u64,
}

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// True so many times in a thousand.
    pub fn hits(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.0.u64(..1000) < per_mille
    }

    pub fn within(&mut self, range: Range<u64>) -> u64 {
        self.0.u64(range)
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.usize(..choices.len())]
    }

    /// A rate of at most `max` in a thousand; in half of the runs none at all.
    fn rate(&mut self, max: u64) -> u64 {
        if self.0.bool() { 0 } else { self.0.u64(1..=max) }
    }
}

impl Faults {
    pub fn any(chance: &mut Chance) -> Self {
        Self {
            call_lost: chance.rate(150),
            answer_lost: chance.rate(150),
            broken: chance.rate(100),
            never_sent: chance.rate(100),
            duplicated: chance.rate(200),
            server_error: chance.rate(100),
            ask_again: chance.rate(100),
            participant_crash: chance.rate(60),
            no: chance.rate(120),
            read_only: chance.rate(200),
            contradiction: chance.rate(60),
            client_deaf: chance.rate(300),
            operator: chance.rate(500),
            delay_ms_max: chance.one_of(&[2, 20, 200, 1_500]),
        }
    }

    /// Nothing goes wrong any more. What a branch has to say does not change with that.
    pub fn heal(&mut self) {
        let (no, read_only) = (self.no, self.read_only);
        *self = Self { no, read_only, operator: 1000, delay_ms_max: 20, ..Self::default() };
    }
}
