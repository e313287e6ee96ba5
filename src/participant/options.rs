//! What the configuration says of one service that takes part in transactions.

use std::time::Duration;

use crate::clients::Speaks;

/// How a service keeps the participant protocol (contract section 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionOptions {
    /// What the service speaks.
    pub speaks: Speaks,
    /// Path of the prepare call; `None`: the answer to the work call is the vote.
    pub prepare: Option<String>,
    /// Path of the commit call.
    pub commit: String,
    /// Path of the abort call.
    pub abort: String,
    /// What prepare, commit and abort carry.
    pub body: CallBody,
    /// The longest one call may take, from connecting to the last byte of the answer.
    /// Default: [`TransactionOptions::TIMEOUT`].
    pub timeout: Duration,
    /// The wait between two tries of a call that may be repeated.
    pub retry: Retry,
    /// How many calls to this service may be in flight at once.
    /// Default: [`TransactionOptions::CALLS_MAX`].
    pub calls_max: usize,
}

/// What prepare, commit and abort carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallBody {
    /// `{"transaction":"<id>","branch":0,"operation":"commit"}`.
    #[default]
    Envelope,
    /// The body of the work call again.
    Request,
}

/// Exponential backoff with a cap: `initial`, twice that, .. up to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The wait after the first failure.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// Whether a wait is drawn at random from its upper half, so that many do not come at once.
    pub jitter: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self { initial: Duration::from_millis(50), max: Duration::from_secs(30), jitter: true }
    }
}

impl TransactionOptions {
    /// The longest one call may take, where the configuration does not say.
    pub const TIMEOUT: Duration = Duration::from_secs(2);
    /// The calls in flight to one service, where the configuration does not say: enough to keep a
    /// service busy, few enough that one that hangs holds no more than this.
    pub const CALLS_MAX: usize = 256;
}
