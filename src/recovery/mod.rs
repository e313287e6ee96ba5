//! What a start does with what the log held: one table, and the going on.
//!
//! There is no second protocol here. A decided transaction runs what its state owes, an undecided one
//! gets [`crate::txn::Event::Restarted`] and is aborted; both then live like any other. New traffic
//! is served meanwhile. The limit on calls in flight to a service bounds recovery too.
//!
//! | file | holds |
//! |---|---|
//! | [`table`] | the decisions, as data (`docs/RECOVERY.md` shows the same table) |

pub mod table;

use std::time::Duration;

use tokio::time::{Instant, sleep};
use unanimous_wal::Durable;

use self::table::{Finding, Replayed, Verdict, verdict};
use crate::coordinator::Coordinator;
use crate::journal::replay::{Found, Logged};
use crate::participant::Participants;

/// Between two lines about how far recovery is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Goes on with everything that the log left unfinished. Returns at once; the transactions run.
pub fn resume<P: Participants>(coordinator: &Coordinator<P>, found: Found) {
    let Found { unfinished, finished, records, strays, .. } = found;
    let count = |wanted: Verdict| unfinished.iter().filter(|logged| verdict_of(logged) == wanted).count();
    let (to_abort, to_tell, to_park) = (count(Verdict::Abort), count(Verdict::Tell), count(Verdict::Park));
    tracing::info!(
        records,
        finished,
        strays,
        to_abort,
        to_tell,
        to_park,
        "the log was read: {} transactions are unfinished",
        unfinished.len()
    );
    for logged in unfinished {
        match verdict_of(&logged) {
            // The three differ only in what the transaction's own state owes.
            Verdict::Abort | Verdict::Tell | Verdict::Park => coordinator.resume(logged),
            Verdict::Nothing => unreachable!("it is unfinished"),
            Verdict::RefuseNewer | Verdict::RefuseDamage => unreachable!("such a log was not opened"),
        }
    }
}

/// Says now and then how far recovery is, until it is done.
pub async fn report<P: Participants>(coordinator: &Coordinator<P>) {
    let started = Instant::now();
    let (found, _) = coordinator.recovering();
    if found == 0 {
        return;
    }
    loop {
        match coordinator.recovering() {
            (_, 0) => break,
            (_, remaining) => {
                if started.elapsed() > PROGRESS_EVERY {
                    tracing::info!("recovery: {} of {found} transactions are finished", found - remaining);
                }
            }
        }
        let pause =
            if started.elapsed() > PROGRESS_EVERY { PROGRESS_EVERY } else { Duration::from_millis(100) };
        sleep(pause).await;
    }
    tracing::info!(took = ?started.elapsed(), "recovery: all {found} transactions are finished");
}

/// What the table says of one transaction that a log which could be read left unfinished.
#[must_use]
pub fn verdict_of(logged: &Durable<Logged>) -> Verdict {
    let logged = logged.get();
    let replayed = match (&logged.fault, logged.txn.decision()) {
        (Some(_), _) => Replayed::Illegal,
        (None, Some(_)) => Replayed::Decided,
        (None, None) => Replayed::Undecided,
    };
    verdict(Finding { replayed, ..Finding::READABLE })
}
