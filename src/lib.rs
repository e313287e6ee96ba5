//! The gateway node: an API gateway whose multi-backend writes happen at every backend or at none.
//!
//! It is a two-phase-commit coordinator (Gray, "Notes on Data Base Operating Systems", 1978) behind
//! an HTTP front. It is *not* a saga engine: nothing here undoes what a backend has finished.
//!
//! ```text
//!  request ─► gateway ─► coordinator ─► txn (pure) ─► journal ─► wal (disk)
//!                             ▲                          │
//!                             └──── answers ◄── participants ◄── Durable<Call>
//! ```
//!
//! Layers, lowest first; a module may use only what stands above it (`tests/tidy.rs` holds this):
//! - [`txn`], [`plan`], [`clock`], [`discovery`], [`budget`], [`watched`],
//!   [`trace`], and the crate `unanimous-wal`
//! - [`balance`], [`journal`], [`participant`]
//! - [`coordinator`]
//! - [`recovery`], [`gateway`]
//! - [`server`]
//! - [`config`], [`telemetry`]
//! - [`cli`]
#![forbid(unsafe_code)]

pub mod balance;
pub mod budget;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod config;
pub mod coordinator;
pub mod crash;
pub mod discovery;
pub mod gateway;
pub mod journal;
pub mod participant;
pub mod plan;
pub mod recovery;
pub mod server;
pub mod telemetry;
pub mod trace;
pub mod txn;
pub mod watched;
