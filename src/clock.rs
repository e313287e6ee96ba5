//! The time of day, asked for in one place so that everything else can be given a time instead.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This time and `span` more; the end of time where that overflows.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// This time less `span`; the epoch where that would be before it.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// How long after `earlier` this is; nothing where it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339, UTC, milliseconds: `2026-11-23T10:15:00.250Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(millis) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

/// The time of day as finely as this machine has it, for spans. It may go back.
#[expect(clippy::disallowed_methods, reason = "this is the one file that asks the system")]
#[must_use]
pub fn time_of_day() -> SystemTime {
    SystemTime::now()
}

/// Where the time of day comes from.
pub trait Clock: Send + Sync + 'static {
    /// The time of day now.
    fn now(&self) -> Timestamp;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one file that asks the system")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(millis(since))
    }
}

/// A clock that never goes back, whatever is done to the one below it.
///
/// Where the clock below is set back, or was behind when the node started, this one goes on from
/// the latest time it has shown, at the speed of the monotonic clock. Records in the log are
/// therefore in the order of their times, and a transaction can be found by the time in its id.
pub struct Monotone {
    below: Arc<dyn Clock>,
    latest: Mutex<(Timestamp, Instant)>,
}

impl Monotone {
    /// A clock over `below` that shows no time before `since`.
    pub fn new(below: Arc<dyn Clock>, since: Timestamp) -> Self {
        Self { below, latest: Mutex::new((since, Instant::now())) }
    }
}

impl Clock for Monotone {
    fn now(&self) -> Timestamp {
        let mut latest = self.latest.lock().expect("no code panics while it holds this lock");
        let (time, at) = *latest;
        let now = self.below.now().max(time.plus(at.elapsed()));
        if now > time {
            *latest = (now, Instant::now());
        }
        now
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Set(Mutex<u64>);

    impl Clock for Set {
        fn now(&self) -> Timestamp {
            Timestamp(*self.0.lock().unwrap())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_goes_on_from_the_latest_time() {
        let below = Arc::new(Set(Mutex::new(5_000)));
        let clock = Monotone::new(below.clone(), Timestamp(1_000));
        assert_eq!(clock.now(), Timestamp(5_000));
        *below.0.lock().unwrap() = 2_000;
        tokio::time::advance(Duration::from_millis(300)).await;
        assert_eq!(clock.now(), Timestamp(5_300));
        *below.0.lock().unwrap() = 9_000;
        assert_eq!(clock.now(), Timestamp(9_000));
    }

    #[test]
    fn a_timestamp_prints_as_rfc_3339_with_milliseconds() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(1_732_350_000_250).to_string(), "2024-11-23T08:20:00.250Z");
    }
}
