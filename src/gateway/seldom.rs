//! Lines of the log that one client, or one backend that is down, could otherwise write without end.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A line of one kind is written at most once in this time.
const EVERY: Duration = Duration::from_secs(1);

/// When a line of each kind was last written. Kinds are fixed words, so that there are few of them.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<BTreeMap<&'static str, Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    left_out: u64,
}

impl Seldom {
    /// Whether a line of this kind may be written now: how many have been left out since the last one, or `None`.
    pub fn may_say(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut of_each = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(said) = of_each.get_mut(kind) else {
            of_each.insert(kind, Said { at: now, left_out: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(said.at) < EVERY {
            said.left_out += 1;
            return None;
        }
        said.at = now;
        Some(std::mem::take(&mut said.left_out))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests need some moment to begin with")]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_said_once_a_second_with_how_many_were_left_out() {
        let (seldom, now) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.may_say("reset", now), Some(0));
        assert!((0..9).all(|_| seldom.may_say("reset", now + EVERY / 2).is_none()));
        assert_eq!(seldom.may_say("late", now), Some(0));
        assert_eq!(seldom.may_say("reset", now + EVERY), Some(9));
        assert_eq!(seldom.may_say("reset", now + 2 * EVERY), Some(0));
    }
}
