//! Whether an answer is believed. All are, but for one that says that suddenly nothing is left.
//!
//! A registry that has just lost its memory, or a name server that forgot a zone, says so too. Such an answer counts only
//! if another, a while later, says the same.

use std::time::Duration;

use tokio::time::Instant;

use super::Instance;

/// What was heard so far.
#[derive(Debug, Default)]
pub(super) struct Belief {
    /// When the first of the answers came that had nothing.
    emptied: Option<Instant>,
}

/// What to do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It says what is known.
    Same,
    /// It is what is known from now on.
    Take,
    /// Keep what is known, and ask again then.
    Doubt(Instant),
}

impl Belief {
    /// What to do with the answer `found`, heard at `now`, where `known` is the last that was believed.
    pub(super) fn judge(
        &mut self,
        known: &[Instance],
        found: &[Instance],
        now: Instant,
        keep: Duration,
    ) -> Verdict {
        if !found.is_empty() || known.is_empty() {
            self.emptied = None;
            return if known == found { Verdict::Same } else { Verdict::Take };
        }
        match self.emptied {
            Some(emptied) if now >= emptied + keep => {
                self.emptied = None;
                Verdict::Take
            }
            Some(emptied) => Verdict::Doubt(emptied + keep),
            None => {
                self.emptied = Some(now);
                Verdict::Doubt(now + keep)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Endpoint;

    const KEEP: Duration = Duration::from_secs(30);

    fn one() -> Vec<Instance> {
        vec![Instance::new(Endpoint::new("http://10.0.0.1:80"))]
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_instances_counts_when_it_is_repeated_after_a_while() {
        let (mut belief, start) = (Belief::default(), Instant::now());
        let mut judge = |seconds| {
            let now = start + Duration::from_secs(seconds);
            belief.judge(&one(), &[], now, KEEP)
        };
        let until = start + KEEP;
        assert_eq!(
            [judge(0), judge(5), judge(29), judge(30), judge(31)],
            [
                Verdict::Doubt(until),
                Verdict::Doubt(until),
                Verdict::Doubt(until),
                Verdict::Take,
                Verdict::Doubt(start + Duration::from_secs(61))
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_in_between_ends_the_doubt() {
        let (mut belief, now) = (Belief::default(), Instant::now());
        assert_eq!(belief.judge(&one(), &[], now, KEEP), Verdict::Doubt(now + KEEP));
        assert_eq!(belief.judge(&one(), &one(), now + KEEP, KEEP), Verdict::Same);
        assert_eq!(belief.judge(&one(), &[], now + KEEP, KEEP), Verdict::Doubt(now + KEEP * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn without_patience_a_second_answer_is_still_asked_for() {
        let (mut belief, now) = (Belief::default(), Instant::now());
        assert_eq!(belief.judge(&one(), &[], now, Duration::ZERO), Verdict::Doubt(now));
        assert_eq!(belief.judge(&one(), &[], now, Duration::ZERO), Verdict::Take);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_was_known_nothing_is_believed_at_once() {
        let (mut belief, now) = (Belief::default(), Instant::now());
        assert_eq!(belief.judge(&[], &[], now, KEEP), Verdict::Same);
        assert_eq!(belief.judge(&[], &one(), now, KEEP), Verdict::Take);
    }
}
