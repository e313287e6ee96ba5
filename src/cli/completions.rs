//! `unanimous completions`: completions for a shell.

use std::io::{self, Write};

use clap_complete::{Shell, generate};

/// Print completions for a shell, to be sourced by it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell.
    pub shell: Shell,
}

/// Prints them to `out`.
pub fn run(args: &Args, command: &mut clap::Command, out: &mut dyn Write) -> io::Result<()> {
    let mut script = Vec::new();
    generate(args.shell, command, "unanimous", &mut script);
    out.write_all(&script)
}
