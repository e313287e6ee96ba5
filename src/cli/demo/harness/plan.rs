//! All that is left to chance, drawn from the seed.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::super::bank::Posting;
use super::Options;

/// The banks, in the order of the branches.
pub(super) const BANKS: [&str; 3] = ["north", "south", "east"];
/// How many accounts each bank has.
pub(super) const ACCOUNTS: usize = 20;
/// What is on each of them at first.
pub(super) const BALANCE: i64 = 1_000;

/// Who is killed and who is cut off when. Who pays whom is drawn as the transfers come: [`Transfer::draw`].
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) gateway_kills: Vec<Kill>,
    pub(super) bank_kills: Vec<BankKill>,
    pub(super) cuts: Vec<Cut>,
}

/// Money from one bank to the two others. The amounts add up to nothing.
#[derive(Debug, Clone)]
pub(super) struct Transfer {
    /// Its `Idempotency-Key`, without quotes.
    pub(super) key: String,
    /// One for each of [`BANKS`].
    pub(super) postings: [Posting; BANKS.len()],
    /// Whether the client asks once more when it has had its answer.
    pub(super) asked_again: bool,
}

/// A kill of the gateway.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kill {
    pub(super) when: When,
    /// How long it stays down.
    pub(super) down: Duration,
    /// A second kill so long after the new start, ready or not.
    pub(super) again: Option<Duration>,
}

/// A kill of a bank.
#[derive(Debug, Clone, Copy)]
pub(super) struct BankKill {
    pub(super) when: When,
    /// Which of [`BANKS`].
    pub(super) bank: usize,
    /// How long it stays down.
    pub(super) down: Duration,
}

/// A partition: a bank is cut off from the gateway.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) when: When,
    /// Which of [`BANKS`].
    pub(super) bank: usize,
    /// How long it is.
    pub(super) lasts: Duration,
}

/// An instant that falls into the traffic, however fast that is: so long after another part of what is left of the run
/// for each fault that is left.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    /// Less than 0.8: what is in flight at a kill is settled before the next one is waited for.
    part: f64,
    pub(super) delay: Duration,
}

impl Plan {
    pub(super) fn new(options: &Options) -> Self {
        let rng = &mut Rng::with_seed(options.seed);
        Self {
            gateway_kills: gateway_kills(rng, options),
            bank_kills: bank_kills(rng, options),
            cuts: cuts(rng, options),
        }
    }
}

impl Transfer {
    /// The transfer of this number, always the same for a seed.
    pub(super) fn draw(seed: u64, number: usize) -> Self {
        // Neighbours are far apart: the factor is that of SplitMix64.
        let place = u64::try_from(number).unwrap_or(u64::MAX).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let rng = &mut Rng::with_seed(seed ^ place);
        // One in twenty wants more than any account has, and has to be refused.
        let most = if rng.u8(..20) == 0 { 1_000_000 } else { 60 };
        let (first, second) = (rng.i64(1..=most), rng.i64(1..=most));
        let mut amounts = [-(first + second), first, second];
        rng.shuffle(&mut amounts);
        let postings = amounts.map(|amount| Posting { account: rng.usize(..ACCOUNTS), amount });
        let key = format!("transfer-{number}-{:08x}", rng.u32(..));
        Self { key, postings, asked_again: rng.u8(..8) == 0 }
    }

    /// The JSON a client sends: a posting for each bank, under its name.
    pub(super) fn body(&self) -> Value {
        BANKS.iter().zip(&self.postings).map(|(bank, posting)| ((*bank).to_owned(), json!(posting))).collect()
    }
}

/// So many kills in all, some of them two in a row.
fn gateway_kills(rng: &mut Rng, options: &Options) -> Vec<Kill> {
    let mut seconds = Vec::new();
    let mut left = options.kills;
    while left > 0 {
        let second = (left > 1 && rng.u8(..5) == 0).then(|| millis(rng, 150));
        left -= if second.is_some() { 2 } else { 1 };
        seconds.push(second);
    }
    let kill = |again| Kill { when: When::draw(rng), down: millis(rng, 50), again };
    seconds.into_iter().map(kill).collect()
}

fn bank_kills(rng: &mut Rng, options: &Options) -> Vec<BankKill> {
    let kill = |_| BankKill { when: When::draw(rng), bank: rng.usize(..BANKS.len()), down: millis(rng, 200) };
    (0..options.bank_kills).map(kill).collect()
}

fn cuts(rng: &mut Rng, options: &Options) -> Vec<Cut> {
    let shortest = Duration::from_millis(200);
    let cut = |_| Cut {
        when: When::draw(rng),
        bank: rng.usize(..BANKS.len()),
        lasts: shortest + millis(rng, 2_300),
    };
    (0..options.cuts).map(cut).collect()
}

impl When {
    fn draw(rng: &mut Rng) -> Self {
        Self { part: rng.f64() * 0.8, delay: millis(rng, 8) }
    }

    /// How far the run must have come, when it is at `now` of `end` and so many faults are left. In any unit.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a number of transfers or milliseconds is one, and nobody needs it exactly"
    )]
    pub(super) fn after(self, now: usize, end: usize, left: usize) -> usize {
        let share = end.saturating_sub(now) as f64 / left.max(1) as f64;
        now + (share * self.part) as usize
    }
}

fn millis(rng: &mut Rng, most: u64) -> Duration {
    Duration::from_micros(rng.u64(..=most * 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> Plan {
        let quiet = Options::new("unanimous".into(), "data".into(), seed);
        Plan::new(&Options { kills: 31, bank_kills: 9, cuts: 4, ..quiet })
    }

    #[test]
    fn the_same_seed_draws_the_same_plan() {
        assert_eq!(format!("{:?}", plan(7)), format!("{:?}", plan(7)));
        assert_ne!(format!("{:?}", plan(7)), format!("{:?}", plan(8)));
        assert_eq!(Transfer::draw(7, 3).key, Transfer::draw(7, 3).key);
        assert_ne!(Transfer::draw(7, 3).key, Transfer::draw(8, 3).key);
    }

    #[test]
    fn no_transfer_makes_money() {
        for number in 0..500 {
            let transfer = Transfer::draw(7, number);
            assert_eq!(transfer.postings.iter().map(|posting| posting.amount).sum::<i64>(), 0);
        }
    }

    #[test]
    fn all_kills_are_planned() {
        let plan = plan(7);
        let kills: usize = plan.gateway_kills.iter().map(|kill| 1 + usize::from(kill.again.is_some())).sum();
        assert_eq!((kills, plan.bank_kills.len(), plan.cuts.len()), (31, 9, 4));
    }

    #[test]
    fn a_kill_takes_its_part_of_what_is_left_and_never_waits_for_the_last_transfer() {
        let when = |part| When { part, delay: Duration::ZERO };
        assert_eq!(when(0.5).after(100, 200, 5), 110);
        assert_eq!(when(0.0).after(100, 200, 5), 100);
        assert_eq!(when(0.999).after(199, 200, 1), 199);
    }
}
