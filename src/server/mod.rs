//! server
pub mod options;
