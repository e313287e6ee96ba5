//! How slowly a client may send a body that is streamed: it has a time in any case, and each byte earns some of that back, as with
//! `RequestReadTimeout body=20,MinRate=500` of Apache (`mod_reqtimeout`).
//!
//! Only time counts in which the client is waited for. A backend that does not take what has come costs it nothing.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The least that a client has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    grace: Duration,
    /// Bytes a second; never 0.
    rate_min: u32,
}

/// What is left of the patience with one client.
#[derive(Debug)]
pub(super) struct Patience {
    pace: Pace,
    left: Duration,
    /// Since when it is waited for.
    since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// A client took longer than it may.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the body comes too slowly")]
pub(super) struct TooSlow;

impl Pace {
    /// `grace` to begin with, and `rate_min` bytes a second; `None` where that is 0, for then a client may take as long as it likes.
    pub(super) fn new(grace: Duration, rate_min: usize) -> Option<Self> {
        let rate_min = u32::try_from(rate_min).unwrap_or(u32::MAX);
        (rate_min > 0).then_some(Self { grace, rate_min })
    }

    pub(super) fn patience(self) -> Patience {
        Patience { pace: self, left: self.grace, since: None, alarm: None }
    }
}

impl Patience {
    /// The client is waited for; ready once it has been for too long.
    pub(super) fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<TooSlow> {
        let end = *self.since.get_or_insert_with(Instant::now) + self.left;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if alarm.deadline() != end {
            alarm.as_mut().reset(end);
        }
        alarm.as_mut().poll(context).map(|()| TooSlow)
    }

    /// So many bytes have come.
    pub(super) fn came(&mut self, bytes: usize) {
        let waited = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        let earned = Duration::from_secs(bytes as u64) / self.pace.rate_min;
        self.left = (self.left.saturating_sub(waited) + earned).min(self.pace.grace);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{advance, timeout};

    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    /// How long it lasts while this many bytes come every second.
    async fn lasts(bytes: usize) -> Option<u64> {
        let mut patience = Pace::new(GRACE, 500).unwrap().patience();
        for second in 0..1_000 {
            let over = poll_fn(|context| patience.poll_over(context));
            if timeout(Duration::from_secs(1), over).await.is_ok() {
                return Some(second);
            }
            patience.came(bytes);
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_as_fast_as_the_rate_may_go_on_for_ever_and_who_is_slower_may_not() {
        assert_eq!(lasts(0).await, Some(29), "one who sends nothing has the grace");
        assert_eq!(lasts(1).await, Some(30), "a byte a second hardly prolongs it");
        assert_eq!(lasts(250).await, Some(58));
        assert_eq!(lasts(500).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_quickly_before_earns_no_more_than_the_grace() {
        let mut patience = Pace::new(GRACE, 500).unwrap().patience();
        patience.came(1 << 30);
        let begun = Instant::now();
        poll_fn(|context| patience.poll_over(context)).await;
        assert_eq!(begun.elapsed(), GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_for_the_client_does_not_count() {
        let mut patience = Pace::new(GRACE, 500).unwrap().patience();
        for _ in 0..100 {
            assert!(timeout(GRACE / 2, poll_fn(|context| patience.poll_over(context))).await.is_err());
            patience.came(500 * 15);
            advance(GRACE * 10).await;
        }
    }

    #[test]
    fn without_a_rate_there_is_no_pace() {
        assert_eq!(Pace::new(GRACE, 0), None);
    }
}
