//! What can be asked of the committer, and what it takes in one go.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::lsn::Lsn;
use crate::poisoned::Poisoned;

/// The answer to one append.
pub(crate) type Answer = oneshot::Sender<Result<Lsn, Poisoned>>;

/// The answer to anything else.
pub(crate) type Done = oneshot::Sender<Result<(), Poisoned>>;

/// A record on its way.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) payload: Vec<u8>,
    pub(crate) answer: Answer,
    /// Whether somebody is held up until it is durable.
    pub(crate) is_waited_for: bool,
    /// How much room it takes in the queue.
    pub(crate) places: u32,
}

/// What the committer is asked to do, in order.
#[derive(Debug)]
pub(crate) enum Request {
    Append(Append),
    Retire { below: Lsn, done: Done },
    Close { done: Done },
}

/// Taken by the committer in one go.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// To be written in one commit.
    pub(crate) payloads: Vec<Vec<u8>>,
    /// How many of them are waited for.
    pub(crate) waited: usize,
    /// From when the first of those came to when the last one did.
    pub(crate) span: Duration,
    /// What to do after that commit.
    pub(crate) then: Option<Request>,
}

/// What the committer decides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Glance {
    pub(crate) len: usize,
    pub(crate) waited: usize,
    /// Something that is not an append stands in the queue, or there will be no more.
    pub(crate) is_urgent: bool,
    /// When the oldest of those that are waited for came, or else the oldest of all.
    pub(crate) since: Option<Instant>,
}
