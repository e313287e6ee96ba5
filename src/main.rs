//! The program. Everything it does is in the library; only this file ends the process.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    unanimous::cli::main()
}
