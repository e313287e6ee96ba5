//! What is known of one service: the snapshot that requests read, and how its source does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Instance;
use super::admit::{Found, Refused};
use super::belief::{Belief, Verdict};
use super::trouble::Trouble;
use crate::clock::{Clock as _, SystemClock, Timestamp};

/// One service. Its task writes, everybody reads.
#[derive(Debug)]
pub(super) struct State {
    service: String,
    kind: &'static str,
    instances: ArcSwap<Arc<[Instance]>>,
    progress: Mutex<Progress>,
    /// Moves whenever the instances change, and when the first answer comes.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Whether the last answer came; `None`: none was due yet.
    is_up: Option<bool>,
    last_success: Option<Timestamp>,
    failures: u64,
    trouble: Option<Trouble>,
    refused: BTreeMap<Refused, usize>,
    belief: Belief,
    /// Whether there is something to go by: an answer, or what an earlier source of the service knew.
    is_known: bool,
}

/// How the source of one service does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The service.
    pub service: String,
    /// What kind of source it has: `dns`, `srv`, `file` or `consul`.
    pub source: &'static str,
    /// Whether the last answer that was due has come.
    pub is_up: bool,
    /// When the last answer came.
    pub last_success: Option<Timestamp>,
    /// How often none came.
    pub failures: u64,
    /// The instances that are known.
    pub instances: usize,
    /// Why none came, where that is so.
    pub trouble: Option<Trouble>,
}

impl State {
    pub(super) fn new(service: &str, kind: &'static str, instances: Arc<[Instance]>) -> Self {
        let progress = Progress { is_known: !instances.is_empty(), ..Progress::default() };
        Self {
            service: service.to_owned(),
            kind,
            instances: ArcSwap::from_pointee(instances),
            progress: Mutex::new(progress),
            changes: watch::Sender::new(0),
        }
    }

    pub(super) fn instances(&self) -> Arc<[Instance]> {
        Arc::clone(&self.instances.load())
    }

    /// An answer came. Gives the time to ask again, where it is not believed yet.
    pub(super) fn hears(&self, found: Found, keep: Duration) -> Option<Instant> {
        let mut progress = self.progress();
        self.is_well(&mut progress);
        self.warn_of_refused(&mut progress, found.refused);
        let known = self.instances();
        let is_first = !std::mem::replace(&mut progress.is_known, true);
        let verdict = progress.belief.judge(&known, &found.instances, Instant::now(), keep);
        let (service, source, before, now) =
            (self.service.as_str(), self.kind, known.len(), found.instances.len());
        let ask_again = match verdict {
            Verdict::Same => None,
            Verdict::Take => {
                tracing::info!(service, source, before, now, "the instances of a service have changed");
                self.instances.store(Arc::new(found.instances.into()));
                None
            }
            Verdict::Doubt(until) => {
                tracing::warn!(
                    service,
                    source,
                    before,
                    "a source says that a service has no instance left; the known ones are kept until it says so again"
                );
                Some(until)
            }
        };
        if is_first && now == 0 {
            tracing::warn!(service, source, "a service has no instance: calls to it are answered with 502");
        }
        drop(progress);
        if is_first || verdict == Verdict::Take {
            self.changes.send_modify(|count| *count += 1);
        }
        ask_again
    }

    /// No answer came.
    pub(super) fn fails(&self, trouble: Trouble) {
        let mut progress = self.progress();
        progress.failures += 1;
        if progress.is_up.replace(false) != Some(false) {
            let (service, source, known) = (self.service.as_str(), self.kind, self.instances().len());
            tracing::warn!(
                service,
                source,
                known,
                "a source does not answer, what is known is kept: {trouble}"
            );
        }
        progress.trouble = Some(trouble);
    }

    /// Whether there is something to go by.
    pub(super) fn is_known(&self) -> bool {
        self.progress().is_known
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn status(&self) -> Status {
        let progress = self.progress();
        Status {
            service: self.service.clone(),
            source: self.kind,
            is_up: progress.is_up == Some(true),
            last_success: progress.last_success,
            failures: progress.failures,
            instances: self.instances().len(),
            trouble: progress.trouble.clone(),
        }
    }

    fn is_well(&self, progress: &mut Progress) {
        progress.last_success = Some(SystemClock.now());
        progress.trouble = None;
        if progress.is_up.replace(true) == Some(false) {
            tracing::info!(service = self.service, source = self.kind, "a source answers again");
        }
    }

    /// Says once what was not let in, and again only when that is something else.
    fn warn_of_refused(&self, progress: &mut Progress, refused: BTreeMap<Refused, usize>) {
        if progress.refused == refused {
            return;
        }
        for (reason, count) in &refused {
            let (service, source) = (self.service.as_str(), self.kind);
            tracing::warn!(
                service,
                source,
                count,
                "entries of an answer are left out, because they {reason}"
            );
        }
        progress.refused = refused;
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("nothing panics while it holds this")
    }
}
