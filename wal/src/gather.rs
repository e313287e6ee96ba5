//! How long a commit waits for company. Pure: time comes in as an argument.
//!
//! One sync costs the same for one record and for a hundred. While a sync runs, others queue up and share the next
//! one; that alone makes small groups when records come slower than syncs. So when the last commit was
//! shared, the next one holds on while more keep coming, as `commit_delay` and `commit_siblings` of `PostgreSQL`
//! do, and gives up as soon as they stop coming. Whoever is alone never waits at all.

use std::time::Duration;

use tokio::time::Instant;

use crate::request::Glance;

/// How long the wait is worth while if the last commit had two sharers. It grows with the square of those beyond the
/// first: a few that met by chance hardly wait, many that are sure to meet again get to the limit soon.
const TWO_SHARERS: Duration = Duration::from_micros(100);

/// No record waits longer than this for company.
const WAIT_MAX: Duration = Duration::from_millis(2);

/// Nobody waits for these: they go with the next commit that somebody waits for, or after this.
const LAZY_WAIT_MAX: Duration = Duration::from_millis(10);

/// Nobody came for so many times the usual distance between two: nobody is coming.
const QUIET_DISTANCES: u32 = 4;

/// Shorter looks would cost more than they gain: a thread is not woken more exactly than this.
const LOOK_MIN: Duration = Duration::from_micros(60);

/// While fewer wait than lately did, a pause this short does not mean that nobody is coming.
const LOOK_WHILE_FEW: Duration = Duration::from_millis(1);

/// The memory of the gatherer.
#[derive(Debug)]
pub(crate) struct Gather {
    /// How many waited for the last commit.
    sharers: usize,
    /// How many waited for the fullest of the last commits.
    peak: usize,
    /// The usual time between two that wait, smoothed.
    distance: Duration,
    look: Option<Look>,
}

/// The last look at a queue that was filling.
#[derive(Debug, Clone, Copy)]
struct Look {
    waited: usize,
    /// Fewer waited than lately did.
    is_while_few: bool,
    next_at: Instant,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Commit what there is.
    Commit,
    /// Look again at this time, or as soon as there are more than so many.
    Until(Instant, usize),
    /// There is nothing to do before something comes.
    Idle,
}

impl Gather {
    pub(crate) const fn new() -> Self {
        Self { sharers: 0, peak: 0, distance: LOOK_MIN, look: None }
    }

    /// Whether to commit what stands in the queue.
    pub(crate) fn decide(&mut self, queue: Glance, now: Instant) -> Decision {
        if queue.is_urgent {
            return Decision::Commit;
        }
        let Some(since) = queue.since else { return Decision::Idle };
        if queue.waited == 0 {
            // The first that is waited for ends the wait.
            let deadline = since + LAZY_WAIT_MAX;
            return if now >= deadline { Decision::Commit } else { Decision::Until(deadline, queue.len) };
        }
        let others = u32::try_from(self.sharers.saturating_sub(1)).unwrap_or(u32::MAX);
        let deadline = since + TWO_SHARERS.saturating_mul(others.saturating_mul(others)).min(WAIT_MAX);
        if now >= deadline {
            return Decision::Commit;
        }
        match self.look {
            // As many as lately came are there: a short look whether these are all.
            Some(look) if look.is_while_few && queue.waited >= self.peak => {
                self.look_again(queue, now, deadline)
            }
            Some(look) if now < look.next_at => self.until(look, queue, deadline),
            Some(look) if queue.waited == look.waited => Decision::Commit,
            Some(_) | None => self.look_again(queue, now, deadline),
        }
    }

    fn look_again(&mut self, queue: Glance, now: Instant, deadline: Instant) -> Decision {
        let is_while_few = queue.waited < self.peak;
        let shortest = if is_while_few { LOOK_WHILE_FEW } else { LOOK_MIN };
        let next_at = now + (self.distance * QUIET_DISTANCES).max(shortest);
        let look = Look { waited: queue.waited, is_while_few, next_at };
        self.look = Some(look);
        self.until(look, queue, deadline)
    }

    fn until(&self, look: Look, queue: Glance, deadline: Instant) -> Decision {
        let missing = self.peak.saturating_sub(queue.waited);
        let len = if look.is_while_few { queue.len + missing.saturating_sub(1) } else { usize::MAX };
        Decision::Until(look.next_at.min(deadline), len)
    }

    /// A commit that `waited` records waited for has come back; they had come within `span`.
    pub(crate) fn committed(&mut self, waited: usize, span: Duration) {
        self.look = None;
        if waited == 0 {
            return;
        }
        self.sharers = waited;
        self.peak = waited.max(self.peak - self.peak.div_ceil(8));
        if let Some(gaps) =
            u32::try_from(waited).ok().and_then(|waited| waited.checked_sub(1)).filter(|gaps| *gaps > 0)
        {
            self.distance = (self.distance * 3 + span / gaps) / 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(waited: usize, since: Instant) -> Glance {
        Glance { len: waited, waited, is_urgent: false, since: Some(since) }
    }

    #[test]
    fn whoever_is_alone_never_waits() {
        let now = Instant::now();
        let mut gather = Gather::new();
        for _ in 0..3 {
            assert_eq!(gather.decide(waiting(1, now), now), Decision::Commit);
            gather.committed(1, Duration::ZERO);
        }
    }

    #[test]
    fn an_empty_queue_is_no_reason_to_commit() {
        let now = Instant::now();
        let nothing = Glance { len: 0, waited: 0, is_urgent: false, since: None };
        assert_eq!(Gather::new().decide(nothing, now), Decision::Idle);
    }

    #[test]
    fn a_shared_commit_makes_the_next_one_wait_but_not_for_long() {
        let start = Instant::now();
        let mut gather = Gather::new();
        gather.committed(64, WAIT_MAX);
        let mut now = start;
        let mut waited = 1;
        while let Decision::Until(until, _) = gather.decide(waiting(waited, start), now) {
            assert!(until > now, "the wait must get on");
            now = until;
            waited += 1;
        }
        assert!(now > start && now <= start + WAIT_MAX);
    }

    #[test]
    fn the_wait_ends_when_nobody_else_comes() {
        let start = Instant::now();
        let mut gather = Gather::new();
        gather.committed(64, Duration::from_micros(300));
        let Decision::Until(until, _) = gather.decide(waiting(64, start), start) else {
            panic!("no wait at all")
        };
        assert!(until > start && until < start + Duration::from_micros(300));
        assert_eq!(gather.decide(waiting(64, start), until), Decision::Commit);
    }

    #[test]
    fn a_look_is_as_far_off_as_four_usual_distances_and_another_follows_while_more_come() {
        let start = Instant::now();
        let after = |micros| start + Duration::from_micros(micros);
        let mut gather = Gather::new();
        // A quarter of what is new: (3 * 60 + 1000 / 10) / 4 = 70.
        gather.committed(11, Duration::from_millis(1));
        assert_eq!(gather.decide(waiting(11, start), start), Decision::Until(after(280), usize::MAX));
        // Nothing changes before that time, whoever asks and whoever came.
        assert_eq!(gather.decide(waiting(11, start), after(100)), Decision::Until(after(280), usize::MAX));
        assert_eq!(gather.decide(waiting(12, start), after(280)), Decision::Until(after(560), usize::MAX));
        assert_eq!(gather.decide(waiting(12, start), after(560)), Decision::Commit);
    }

    #[test]
    fn the_wait_goes_on_while_fewer_are_there_than_lately_were() {
        let start = Instant::now();
        let mut gather = Gather::new();
        for _ in 0..20 {
            gather.committed(8, Duration::ZERO);
        }
        let few = gather.decide(waiting(3, start), start);
        assert_eq!(few, Decision::Until(start + LOOK_WHILE_FEW, 7), "and the eighth ends it");
        let now = start + Duration::from_micros(20);
        assert_eq!(gather.decide(waiting(8, start), now), Decision::Until(now + LOOK_MIN, usize::MAX));
        assert_eq!(gather.decide(waiting(8, start), now + LOOK_MIN), Decision::Commit);
    }

    #[test]
    fn lazy_records_wait_for_company_but_not_for_ever() {
        let start = Instant::now();
        let mut gather = Gather::new();
        let lazy = Glance { len: 3, waited: 0, is_urgent: false, since: Some(start) };
        assert_eq!(gather.decide(lazy, start), Decision::Until(start + LAZY_WAIT_MAX, 3));
        assert_eq!(gather.decide(lazy, start + LAZY_WAIT_MAX), Decision::Commit);
        let joined = Glance { waited: 1, ..lazy };
        assert_eq!(gather.decide(joined, start), Decision::Commit);
    }
}
