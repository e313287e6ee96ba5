//! `unanimous demo`: the whole story on one machine.
pub mod bank;
