//! coordinator
pub mod options;
