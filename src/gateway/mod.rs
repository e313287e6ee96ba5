//! The front of the node: which route a request takes, and what becomes of it.
//!
//! ```text
//!  request ─► path in normal form ─► route table ─┬─► forward      one service, streamed
//!                                                 ├─► merge        several services, one JSON object
//!                                                 ├─► transaction  a plan; the coordinator's to carry out
//!                                                 └─► redirect, respond    no service
//! ```
//!
//! It is *not* where transactions are run: it says which calls one becomes ([`TransactionRoute::plan`])
//! and knows nothing of votes and decisions. What is known of the services
//! ([`Pools`]) outlives any one gateway; it keeps no other state.

mod backend;
mod caller;
mod cause;
mod edge;
mod explain;
mod forward;
mod forwarded;
pub mod guard;
mod headers;
mod host;
mod index;
mod inside;
mod json;
mod keeping;
mod key;
mod merge;
mod options;
mod pace;
mod path;
mod pattern;
mod pointer;
mod pools;
mod problem;
mod query;
mod redirect;
mod rewrite;
mod route;
mod seldom;
mod shares;
mod split;
mod table;
mod template;
mod transaction;
mod tries;
mod tunnel;
mod upload;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use http::Method;
use http::request::Parts;

pub use backend::Answered;
pub use caller::{Caller, REQUEST_ID, Trust};
pub use explain::{Call, Explained, Lost};
pub use headers::headers_for_work;
pub use host::{HostError, HostPattern};
pub use json::{Members, member};
pub use keeping::{Polled, keeping, looking_on};
pub use merge::{
    Filter, Label, MergeRoute, OnConflict, Part, Piece, Question, Reference, Renames, Shape, StatusRule,
    is_never_passed,
};
pub use options::GatewayOptions;
pub use path::{BadPath, CleanPath};
pub use pattern::{Params, Pattern, PatternError, is_name};
pub use pointer::{Pointer, PointerError};
pub use pools::{InstanceReading, Pools, Reading, Standing};
pub use problem::{Problem, what_may_be_asked};
pub use redirect::{Place, PlaceError, RedirectRoute, RespondRoute};
pub use rewrite::{HeaderEdit, QueryEdit, Rewrite, SentHost};
pub use route::{Action, ForwardRoute, Matcher, Route};
pub use seldom::Seldom;
pub use shares::{Share, Shares};
pub use split::{Split, SplitError};
pub use table::{Ambiguous, RouteTable};
pub use template::{Target, Template, TemplateError};
pub use transaction::{BranchRoute, PlanError, PlannedCall, TransactionRoute};
pub use tunnel::{Exit, Tunnel};
pub use value::{Value, ValueError};

use crate::budget::{BufferError, Halves};
use crate::discovery::Discovery;
use backend::Backends;

/// Routes, and the way to the services behind them.
pub struct Gateway {
    routes: RouteTable,
    options: GatewayOptions,
    /// The bytes of bodies that may be held.
    bodies: Halves,
    backends: Backends,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Routed<'a> {
    /// Give it to [`Gateway::forward`].
    Forward(Matched<'a, ForwardRoute>),
    /// Give it to [`Gateway::merge`].
    Merge(Matched<'a, MergeRoute>),
    /// Begin a transaction with what [`TransactionRoute::plan`] makes of it.
    Transaction(Matched<'a, TransactionRoute>),
    /// The answer is that of the route; no service is asked.
    Redirect(Matched<'a, RedirectRoute>),
    /// The same.
    Respond(Matched<'a, RespondRoute>),
    /// No route takes it.
    NotFound,
    /// Routes take it, but with another method.
    MethodNotAllowed(Vec<Method>),
    /// It is an OPTIONS that no route wants for itself; 204, with these in `Allow`.
    Options(Vec<Method>),
    /// It could be read in two ways; 400.
    BadRequest(Problem),
}

/// A request's route, with what it bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Matched<'a, R> {
    /// The id of the route.
    pub id: &'a str,
    /// What the route does.
    pub route: &'a R,
    /// What the path bound.
    pub params: Params,
    /// The path that was matched: the only form in which it may be used from here on.
    pub path: CleanPath,
}

impl Gateway {
    /// A gateway for these routes. `bodies` limits the bytes of bodies that it holds, and `waiting` the
    /// clients that wait for each service; `pools` has what is known of the services, and outlives it.
    #[must_use]
    pub fn new(
        routes: RouteTable,
        options: GatewayOptions,
        bodies: Halves,
        discovery: Arc<dyn Discovery>,
        pools: Arc<Pools>,
        answered: Answered,
        waiting: Shares,
    ) -> Self {
        let services: BTreeSet<&str> = routes.iter().flat_map(Route::services).collect();
        let backends = Backends::new(discovery, pools, answered, waiting, services.into_iter());
        Self { routes, options, bodies, backends }
    }

    /// Which route a request takes. Looks at nothing but its head.
    #[must_use]
    pub fn route(&self, request: &Parts) -> Routed<'_> {
        self.routes.route(request)
    }

    /// The bytes that a body for all of `services` may have now.
    #[must_use]
    pub fn left_for(&self, services: &BTreeSet<&str>) -> usize {
        self.bodies.of_all(services.iter().copied()).left()
    }

    /// Reads the body of a request that goes to `services`, once for each: it counts in the share of a service for as long
    /// as the bytes for that one are kept.
    pub async fn read_for<'a, S, E>(
        &self,
        services: &BTreeSet<&'a str>,
        body: S,
        bytes_max: usize,
    ) -> Result<BTreeMap<&'a str, Bytes>, BufferError<E>>
    where
        S: Stream<Item = Result<Bytes, E>>,
    {
        let budget = self.bodies.of_all(services.iter().copied());
        let bodies = budget.read_apart(body, bytes_max).await?;
        Ok(services.iter().copied().zip(bodies).collect())
    }

    /// The routes in order of precedence.
    #[must_use]
    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("routes", &self.routes).finish_non_exhaustive()
    }
}
