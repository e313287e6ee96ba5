//! Runs the committer: on a thread of its own with a watchdog beside it, or as a task under a paused clock.

use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::committer::{Committer, Ended, Next};
use crate::poisoned::Poisoned;
use crate::shared::Shared;
use crate::store::sled_store::panic_message;

/// How many looks the watchdog takes at least in the time after which it gives up.
const LOOKS: u32 = 10;

/// A process that oversleeps by this was stopped meanwhile, or its machine was.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts the threads of the log. A call to the disk that takes longer than `limit` counts as failed.
pub(crate) fn on_threads(mut committer: Committer, limit: Duration) -> io::Result<()> {
    committer.mirror_on_a_thread()?;
    let shared = committer.shared().clone();
    thread::Builder::new().name("wal-watchdog".to_owned()).spawn(move || watch(&shared, limit))?;
    // If this fails, the committer is dropped and ends what the watchdog looks at.
    thread::Builder::new().name("wal-commit".to_owned()).spawn(move || run(committer))?;
    Ok(())
}

/// The same as a task, for simulations. There is no watchdog: a simulated disk that hangs would stop the clock too.
pub(crate) async fn in_task(mut committer: Committer) {
    loop {
        match committer.next(Instant::now()) {
            Next::Work => {
                if let ControlFlow::Break(ended) = committer.work() {
                    return end(committer, ended);
                }
            }
            Next::Wait(len, until) => {
                let shared = committer.shared().clone();
                let more = shared.queue.more_than(len);
                match until {
                    Some(until) => drop(timeout_at(until, more).await),
                    None => more.await,
                }
            }
        }
    }
}

fn run(mut committer: Committer) {
    let shared = committer.shared().clone();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    // A panic in here is a bug. Whoever waits must hear of it rather than wait for ever.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        loop {
            match committer.next(Instant::now()) {
                Next::Work => {
                    if let ControlFlow::Break(ended) = committer.work() {
                        return ended;
                    }
                }
                Next::Wait(len, until) => park(&committer, &waker, len, until),
            }
        }
    }));
    match ended {
        Ok(ended) => end(committer, ended),
        Err(panic) => shared.fail(&Poisoned::panicked(panic_message(&*panic))),
    }
}

fn end(committer: Committer, ended: Ended) {
    // The store is let go first, so that whoever hears of the end can open the directory again.
    drop(committer);
    if let Ended::Closed(done) = ended {
        // Whoever asked may have gone.
        let _ = done.send(Ok(()));
    }
}

fn park(committer: &Committer, waker: &Waker, len: usize, until: Option<Instant>) {
    let queue = &committer.shared().queue;
    if queue.poll_more_than(len, &mut Context::from_waker(waker)) == Poll::Ready(()) {
        return;
    }
    // Woken too early is fine: the committer looks at the queue and the clock again.
    match until {
        Some(until) => thread::park_timeout(until.saturating_duration_since(Instant::now())),
        None => thread::park(),
    }
}

fn watch(shared: &Shared, limit: Duration) {
    let mut awake = Awake { since: Instant::now() };
    while !shared.queue.has_ended() {
        let longest = shared.calls.longest().map(|longest| awake.of(longest));
        if longest.is_some_and(|longest| longest >= limit) {
            return shared.fail(&Poisoned::hung(limit));
        }
        awake.sleep(until_next_look(longest, limit));
    }
}

/// At the end of the limit at the latest, and sooner: a sleep that is longer than a pause would hide it.
fn until_next_look(longest: Option<Duration>, limit: Duration) -> Duration {
    let left = limit.saturating_sub(longest.unwrap_or_default());
    left.min(limit / LOOKS).max(Duration::from_millis(1))
}

/// Since when this process has not stood still: while it is stopped, or its machine is, no call can come back, and the disk is
/// not to blame.
struct Awake {
    since: Instant,
}

impl Awake {
    fn sleep(&mut self, wait: Duration) {
        let began = Instant::now();
        thread::sleep(wait);
        self.slept(began.elapsed(), wait);
    }

    /// Whoever sleeps so much longer than he meant to was not let go on.
    fn slept(&mut self, took: Duration, wait: Duration) {
        if took.saturating_sub(wait) > PAUSE {
            self.since = Instant::now();
        }
    }

    /// As much of this last while as it was awake.
    fn of(&self, longest: Duration) -> Duration {
        longest.min(self.since.elapsed())
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_looks_often_enough_to_notice_a_pause_and_at_the_end_of_the_limit() {
        let (ms, limit) = (Duration::from_millis, Duration::from_secs(10));
        for (longest, wait) in [
            (None, ms(1000)),
            (Some(ms(0)), ms(1000)),
            (Some(ms(9000)), ms(1000)),
            (Some(ms(9700)), ms(300)),
            (Some(limit), ms(1)),
        ] {
            assert_eq!(until_next_look(longest, limit), wait, "{longest:?}");
        }
    }

    #[test]
    fn while_the_process_stands_still_no_call_is_late() {
        let long_ago = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
        let mut awake = Awake { since: long_ago };
        let (call, wait) = (Duration::from_secs(8), Duration::from_millis(500));
        awake.slept(wait + PAUSE, wait);
        assert_eq!(awake.of(call), call, "a busy machine is none that stands still");
        awake.slept(Duration::from_secs(8), wait);
        assert!(awake.of(call) < PAUSE, "it counts from then on");
    }
}
