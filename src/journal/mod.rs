//! journal
pub mod options;
