//! The loop that every source runs in.

use std::time::Duration;

use tokio::time::{sleep, sleep_until};

use super::admit::Found;
use super::source::Pace;
use super::state::State;
use super::trouble::Trouble;

/// A place where answers come from. What it has learned must survive that a wait is given up.
pub(super) trait Feed: Send {
    /// Waits until there may be something new, and reads it. The first time, and after a failure, it does not wait.
    fn next(&mut self) -> impl Future<Output = Result<Found, Trouble>> + Send;

    /// Reads what is there now.
    fn now(&mut self) -> impl Future<Output = Result<Found, Trouble>> + Send;
}

/// Follows a source for as long as it is polled. No failure ends it.
pub(super) async fn follow(mut feed: impl Feed, state: &State, keep: Duration, retry: Pace) {
    let mut random = fastrand::Rng::new();
    let (mut failed, mut ask_again) = (0_u32, None);
    loop {
        let answer = match ask_again {
            None => feed.next().await,
            Some(at) => tokio::select! {
                answer = feed.next() => answer,
                () = sleep_until(at) => feed.now().await,
            },
        };
        match answer {
            Ok(found) => {
                failed = 0;
                ask_again = state.hears(found, keep);
            }
            Err(trouble) => {
                state.fails(trouble);
                failed = failed.saturating_add(1);
                sleep(retry.wait(failed, &mut random)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;
    use crate::discovery::admit::Candidate;

    /// Gives what it is told to, and the time at which each was asked for.
    struct Script(VecDeque<Result<Found, Trouble>>, Vec<Duration>, Instant);

    impl Feed for &mut Script {
        async fn next(&mut self) -> Result<Found, Trouble> {
            self.now().await
        }

        async fn now(&mut self) -> Result<Found, Trouble> {
            self.1.push(self.2.elapsed());
            match self.0.pop_front() {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
    }

    fn found(count: u8) -> Found {
        (1..=count).map(|n| Ok(Candidate::at([10, 0, 0, n].into(), 80))).collect()
    }

    async fn after(script: &mut Script, state: &State) {
        let following = follow(script, state, Duration::from_secs(30), Pace::default());
        assert!(tokio::time::timeout(Duration::from_mins(10), following).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_survives_every_failure_and_the_next_answer_counts() {
        let failures = vec![Err(Trouble::Unreachable); 5];
        let answers: VecDeque<_> = [Ok(found(2))].into_iter().chain(failures).collect();
        let (mut script, state) =
            (Script(answers, vec![], Instant::now()), State::new("s", "dns", Arc::default()));
        after(&mut script, &state).await;
        assert_eq!((state.instances().len(), state.status().failures, state.status().is_up), (2, 5, false));
        let gaps: Vec<_> = script.1.windows(2).skip(1).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        assert_eq!(gaps.len(), 5);
        let within = |(n, gap): (usize, &Duration)| (1_000..=1_001 << (n + 1)).contains(&gap.as_millis());
        assert!(gaps.iter().enumerate().all(within), "{gaps:?}");
        script.0.push_back(Ok(found(3)));
        after(&mut script, &state).await;
        assert_eq!((state.instances().len(), state.status().is_up), (3, true));
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_answer_is_asked_for_again_before_it_counts() {
        let answers = [Ok(found(2)), Ok(found(0)), Ok(found(0))];
        let (mut script, state) =
            (Script(answers.into(), vec![], Instant::now()), State::new("s", "dns", Arc::default()));
        let mut changes = state.changes();
        after(&mut script, &state).await;
        assert_eq!(*changes.borrow_and_update(), 1, "the second, too soon after the first, was not believed");
        assert_eq!(state.instances().len(), 2);
        script.0.push_back(Ok(found(0)));
        after(&mut script, &state).await;
        assert_eq!(state.instances().len(), 0);
    }
}
