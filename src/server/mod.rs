//! The node's two doors: the public listener for clients and participants, and the admin listener
//! for operators and probes.
//!
//! ```text
//!  clients ──► listen ──► public ──► gateway   (forward, merge)
//!                            └─────► transact ──► coordinator ──► reply
//!  operators ► listen ──► admin  ──► coordinator, journal, metrics
//! ```
//!
//! It decides nothing about transactions: it turns requests into calls of the layers above it, and
//! their results into HTTP, in one place ([`reply`]).
//!
//! | file | holds |
//! |---|---|
//! | [`node`] | a whole node: opens the log, binds, recovers, serves, drains |
//! | `in_force` | where services are looked for by the configuration in force, and the node's own entry in Consul |
//! | `doors` | how the two doors are opened |
//! | `files` | how many connections the open files allow |
//! | [`listen`] | connections: limits, timeouts, an orderly end |
//! | [`seats`] | who may be connected, and who has to leave when it is full |
//! | `framing` | what a request says of its length that others would read in another way |
//! | `unread` | answers that their client leaves unread, in HTTP/2 |
//! | [`linger`] | the rest of a body that nobody wants |
//! | [`public`] | what clients and participants may ask |
//! | `exchange` | one request and its answer, for the metrics and the access log |
//! | [`transact`] | one request of a transaction route, from body to answer |
//! | [`key`] | the `Idempotency-Key` header |
//! | [`reload`] | another configuration for a node that runs |
//! | [`reply`] | results as HTTP |
//! | [`admin`] | what operators may ask |
//! | `browsers` | web pages, which are kept out there |
//! | [`log_lines`] | the log as a stream of JSON lines |
//! | [`metrics`] | what `/metrics` shows |

pub mod admin;
mod browsers;
mod doors;
mod exchange;
mod files;
mod framing;
mod in_force;
pub mod key;
pub mod linger;
pub mod listen;
pub mod log_lines;
pub mod metrics;
pub mod node;
pub mod options;
pub mod public;
pub mod reload;
pub mod reply;
pub mod seats;
pub mod transact;
mod unread;
