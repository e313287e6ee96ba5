//! The life of one transaction, as a pure state machine.
//!
//! It knows nothing of time, chance, disk or network: what happens comes in as an [`Event`], what
//! must be remembered comes out as a [`Transition`], and what must be done as [`Effect`]s. It is not
//! a scheduler: *how* a call is made and repeated is the coordinator's affair.
//!
//! ```text
//!           work ok everywhere      all yes               all confirmed
//!  Working ───────────────────► Preparing ──► Committing ─────────────► Committed
//!     │  (no branch has prepare: ─────────────►)│
//!     │ no / unreachable / late / restarted     │            all confirmed
//!     └──────────────┬──────────────────────────┘ (never) ┌─────────────► Aborted
//!                    └──────────► Aborting ───────────────┘
//! ```
//!
//! The rule behind every file here: **effects are a function of state**. [`Txn::owed`] says what a
//! state owes the world. A live step runs what the new state owes and the old one did not; a
//! restart runs all that the replayed state owes. Recovery is therefore not a second protocol.
//!
//! Reading order: [`branch`], [`event`], [`transition`], [`machine`], `propose`, `apply`, `bridge`.

mod apply;
pub mod branch;
mod bridge;
pub mod event;
pub mod machine;
mod propose;
pub mod transition;

pub use branch::{BRANCHES_MAX, Branch, Branches};
pub use event::{Event, Loss, Vote};
pub use machine::{Effect, Operation, STATES, Shape, State, Step, Telling, Txn, Violation};
pub use transition::{Decision, Illegal, Reason, Transition, Votes};
