//! Retention: finished transactions stay in the log for as long as the configuration says; then
//! their blocks go. What is unfinished is written again at the tail first, so that one transaction in
//! doubt for a month does not keep a month of log.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;
use unanimous_wal::Poisoned;

use super::Shared;
use super::running::Message;
use crate::participant::Participants;

/// The longest time from the record that a transaction is found by to its last one; where it would be longer, it is
/// carried before it ends. So records older than the retention by that much are of nobody who is still told of.
pub(crate) fn apart_max(retention: Duration) -> Duration {
    retention.min(Duration::from_secs(10))
}

/// Looks after the log until it fails.
pub(crate) async fn run<P: Participants>(shared: &Shared<P>) {
    // A twentieth of the retention is precise enough, and a pass costs next to nothing.
    let pace = (shared.journal.retention() / 20).clamp(Duration::from_millis(200), Duration::from_mins(1));
    loop {
        sleep(pace).await;
        if let Err(error) = pass(shared).await {
            tracing::error!(%error, "the log could not be shortened");
            return;
        }
    }
}

async fn pass<P: Participants>(shared: &Shared<P>) -> Result<(), Poisoned> {
    // What ended just within the retention began before it.
    let oldest_kept = shared.journal.kept_since().minus(apart_max(shared.journal.retention()));
    let Some(below) = shared.journal.position(oldest_kept) else { return Ok(()) };
    if below <= shared.journal.wal().low() {
        return Ok(());
    }
    for inbox in shared.registry.before(below) {
        let (done, is_done) = oneshot::channel();
        if inbox.send(Message::Carry(done)).await.is_ok() {
            // It may just have ended, and its last record is behind `below`; or the log failed.
            let _ = is_done.await;
        }
    }
    // What cannot be carried keeps its records.
    let below = shared.registry.oldest().map_or(below, |oldest| below.min(oldest));
    shared.journal.retire(below).await?;
    shared.registry.forget_keys(shared.journal.has_forgotten());
    tracing::debug!(%below, "older blocks of the log were dropped");
    Ok(())
}
