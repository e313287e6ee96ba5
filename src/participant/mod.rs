//! Those who take part: how a call is put on the wire and what their answers mean.
//!
//! The trait takes only [`Durable`] calls. A call that was not handed to the log first cannot be
//! written down in this program, let alone sent:
//!
//! ```compile_fail
//! # use unanimous::participant::{Call, Participants};
//! async fn too_early(participants: impl Participants, call: Call) {
//!     let permit = participants.permit(call.service(), call.operation).await;
//!     participants.deliver(call, permit).await; // expected `Durable<Call>`, found `Call`
//! }
//! ```
//!
//! It is not a retry loop: one `deliver` is one attempt. Who asks again, and when, is the
//! coordinator's affair.
//!
//! | file | holds |
//! |---|---|
//! | [`answer`] | the table of contract section 5, as one pure function |
//! | [`wire`] | the headers and bodies of a call |
//! | [`http`] | the production implementation, over reqwest |
//! | [`services`] | what is known of each service: endpoints, calls in flight, whether it answers |
//! | [`options`] | what the configuration says of a service |

pub mod answer;
pub mod http;
pub mod options;
pub mod services;
pub mod wire;

use std::sync::Arc;

use ::http::HeaderMap;
use bytes::Bytes;
use tokio::sync::watch;
use unanimous_wal::Durable;

use crate::discovery::Endpoint;
use crate::plan::{Plan, TransactionId};
use crate::txn::{Branch, Operation};

pub use crate::plan::Reply;
pub use answer::{Answer, Outcome};

/// One call to one branch.
#[derive(Debug, Clone)]
pub struct Call {
    /// The transaction.
    pub transaction: TransactionId,
    /// Who takes part in it.
    pub plan: Arc<Plan>,
    /// Which branch is called.
    pub branch: Branch,
    /// What it is asked to do.
    pub operation: Operation,
    /// The how manieth time it is asked, from 1.
    pub attempt: u32,
    /// The business request, for a work call.
    pub work: Option<Work>,
    /// The endpoint that was asked to do the work, which is asked first.
    pub endpoint: Option<Endpoint>,
}

/// What a work call carries. It is not in the log: a work call is never sent again after a crash.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// The client's end-to-end headers.
    pub headers: HeaderMap,
    /// The part of the request that this branch gets.
    pub body: Bytes,
}

impl Call {
    /// The same call, once more.
    #[must_use]
    pub fn again(self) -> Self {
        Self { attempt: self.attempt.saturating_add(1), ..self }
    }

    /// The service that is called.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.plan.branch(self.branch).service
    }
}

/// The way to the participants.
pub trait Participants: Clone + Send + Sync + 'static {
    /// A place among the calls that may be in flight to a service.
    type Permit: Send;

    /// Waits for a place. Apart from [`Self::deliver`], so that a call which is no longer wanted can
    /// be given up while nothing of it was sent.
    fn permit(&self, service: &str, operation: Operation) -> impl Future<Output = Self::Permit> + Send;

    /// Whether so many calls wait for a place at this service that nothing new should be begun with it.
    fn is_crowded(&self, service: &str) -> bool;

    /// Makes one attempt at `call`; says what the answer means, and which endpoint may have received the call.
    fn deliver(
        &self,
        call: Durable<Call>,
        permit: Self::Permit,
    ) -> impl Future<Output = (Answer, Option<Endpoint>)> + Send;

    /// A counter that moves whenever this service answers again after it did not.
    fn recoveries(&self, service: &str) -> watch::Receiver<u64>;

    /// How long to wait between two tries at this service.
    fn retry(&self, service: &str) -> options::Retry;
}
