//! A token bucket: where a service changes all the time, its blocking query returns at once, and the loop must not become a
//! busy one. In quiet times it never waits, so that a change is known at once.
//!
//! The documentation asks for it: <https://developer.hashicorp.com/consul/api-docs/features/blocking>.

use tokio::time::Instant;

use super::Rate;

/// Counts down what may be asked at once.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// When it would be full again.
    full: Option<Instant>,
}

impl Bucket {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, full: None }
    }

    /// Takes a token; gives the time at which it may be used.
    pub(super) fn take(&mut self, now: Instant) -> Instant {
        let full = self.full.filter(|full| *full > now).unwrap_or(now) + self.rate.refill;
        self.full = Some(full);
        let room = self.rate.refill.saturating_mul(self.rate.burst.max(1));
        full.checked_sub(room).filter(|at| *at > now).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn waits(rate: Rate, at: &[u64]) -> Vec<Duration> {
        let (start, mut bucket) = (Instant::now(), Bucket::new(rate));
        let wait = |seconds: &u64| {
            let now = start + Duration::from_secs(*seconds);
            bucket.take(now) - now
        };
        at.iter().map(wait).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn two_go_at_once_and_then_one_every_fifteen_seconds() {
        let seconds: Vec<_> = waits(Rate::default(), &[0, 0, 0, 15]).iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [0, 0, 15, 15]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_seldom_never_waits() {
        assert!(waits(Rate::default(), &[0, 55, 56, 110, 112, 165]).iter().all(Duration::is_zero));
    }
}
