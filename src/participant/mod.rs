//! participant
pub mod options;
