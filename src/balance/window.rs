//! What happened within the last so many seconds, in ten parts: the oldest part is forgotten as a whole.

use std::time::{Duration, Instant};

const PARTS: u32 = 10;

/// Counts over a time that moves along. How long that is, is said with each question, so that another configuration holds
/// at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    /// When the newest part began, and the parts, the newest first.
    begun: Option<Instant>,
    parts: [Counts; PARTS as usize],
}

/// How many there were, and how many of them count as the special kind: failures, or retries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) all: u32,
    pub(super) special: u32,
}

impl Window {
    /// One more.
    pub(super) fn add(&mut self, now: Instant, length: Duration, is_special: bool) {
        self.move_to(now, length);
        if let Some(newest) = self.parts.first_mut() {
            newest.all = newest.all.saturating_add(1);
            newest.special = newest.special.saturating_add(is_special.into());
        }
    }

    /// What is within the window.
    pub(super) fn counts(&mut self, now: Instant, length: Duration) -> Counts {
        self.move_to(now, length);
        let add = |sum: Counts, part: &Counts| Counts {
            all: sum.all.saturating_add(part.all),
            special: sum.special.saturating_add(part.special),
        };
        self.parts.iter().fold(Counts::default(), add)
    }

    fn move_to(&mut self, now: Instant, length: Duration) {
        let Some(begun) = self.begun else {
            self.begun = Some(now);
            return;
        };
        // A part that is no time at all would never be over.
        let part = (length / PARTS).max(Duration::from_nanos(1));
        let parts = now.saturating_duration_since(begun).as_nanos() / part.as_nanos();
        let parts = u32::try_from(parts).unwrap_or(u32::MAX);
        if parts >= PARTS {
            *self = Self { begun: Some(now), ..Self::default() };
        } else if parts > 0 {
            self.parts.rotate_right(parts as usize);
            self.parts.iter_mut().take(parts as usize).for_each(|part| *part = Counts::default());
            self.begun = Some(begun + part * parts);
        }
    }
}

impl Counts {
    /// Whether at least `percent` of at least `min` were of the special kind.
    pub(super) fn reach(self, percent: u8, min: u32) -> bool {
        let (all, special) = (u64::from(self.all), u64::from(self.special));
        self.all >= min.max(1) && special * 100 >= all * u64::from(percent)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests need some moment to begin with")]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten_part_by_part() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut window = Window::default();
        for at in 0..10 {
            window.add(start + at * second, 10 * second, at % 2 == 0);
        }
        let mut counts = |at: u32| window.counts(start + at * second, 10 * second);
        assert_eq!(counts(9), Counts { all: 10, special: 5 });
        assert_eq!(counts(12), Counts { all: 7, special: 3 });
        assert_eq!(counts(18), Counts { all: 1, special: 0 });
        assert_eq!(counts(100), Counts::default());
    }

    #[test]
    fn a_share_counts_only_from_enough_on() {
        let counts = |all, special| Counts { all, special };
        assert!(!counts(9, 9).reach(50, 10));
        assert!(counts(10, 5).reach(50, 10));
        assert!(!counts(10, 4).reach(50, 10));
        assert!(!counts(0, 0).reach(0, 0), "of nothing there is no share");
    }
}
