//! Why something was not begun, or not done.

use super::LOGGED_MAX;
use super::registry::Claim;
use crate::journal::ReadError;
use crate::plan::TransactionId;
use crate::txn::Branch;

/// Why nothing was begun.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The node is going down.
    #[error("this node is shutting down and begins nothing new; try again, another node may answer")]
    Draining,
    /// Too many transactions are open.
    #[error(
        "{0} transactions are open, which is the most this node takes (node.open_transactions_max); try again"
    )]
    Overloaded(usize),
    /// Too many of them need one service: the others are not to wait for it.
    #[error(
        "{1} open transactions need the service {0}, more than one service may keep open (half of \
         node.open_transactions_max may wait for it, three quarters may need it): it is slow, does not answer, or an \
         operator has to look; try again"
    )]
    ServiceOverloaded(String, usize),
    /// What was begun needs what is left of the disk.
    #[error(
        "the disk of this node's log is nearly full, so that nothing new is begun (log.room_min); try again later"
    )]
    DiskNearlyFull,
    /// More comes for a service than it can do.
    #[error(
        "twice as many calls as may be in flight (services.*.transaction.calls_max) wait for the service {0} already: it is \
         slower than they come; try again"
    )]
    Crowded(String),
    /// The key was used for another request.
    #[error("this Idempotency-Key was used for a different request; use a new key for a new request")]
    KeyReused(TransactionId),
    /// The key's transaction is just leaving memory.
    #[error("the transaction of this Idempotency-Key is being finished; try again")]
    KeyBusy(TransactionId),
    /// What the log knew of the key's transaction is damaged, and an operator has settled it.
    #[error(
        "what became of the transaction of this Idempotency-Key was lost, and an operator has settled it: ask there, \
         and use a new key for a new request"
    )]
    KeySettled(TransactionId),
    /// What has to be logged of the request is too large.
    #[error(
        "what has to be logged of the request, the paths of its calls and the bodies that commit and abort carry again, has \
         {0} bytes, and {LOGGED_MAX} is the most"
    )]
    TooLarge(usize),
    /// The plan names no or too many branches.
    #[error(transparent)]
    Plan(#[from] crate::txn::branch::NoSuchBranch),
    /// The log could not be read for the key's first answer.
    #[error("the log could not be read: {0}")]
    Read(#[from] ReadError),
}

/// Why an operator's wish was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// No open transaction has this id.
    #[error("no open transaction has this id; it may have ended")]
    NotOpen,
    /// The wish does not fit the transaction.
    #[error("branch {0} is not parked; only a parked branch can be resolved")]
    NotParked(Branch),
    /// Nobody can tell what its branches are owed.
    #[error(
        "its records are damaged, so that nothing can be sent for it; look at each branch and resolve it"
    )]
    Damaged,
    /// The node is going down.
    #[error("the node is going down")]
    Stopping,
}

impl From<Claim> for Refused {
    fn from(claim: Claim) -> Self {
        match claim {
            Claim::Draining => Self::Draining,
            Claim::Full(count) => Self::Overloaded(count),
            Claim::FullOf(service, count) => Self::ServiceOverloaded(service, count),
            // Another request with this key came in between: it is the first one.
            Claim::Taken(first) => Self::KeyBusy(first),
        }
    }
}
