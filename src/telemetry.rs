//! What the node writes about itself, on stderr: the lines an engineer reads at 3 a.m.
//!
//! `RUST_LOG` chooses how much (default `info`), `UNANIMOUS_LOG_FORMAT=json` makes each line an object.

use tracing_subscriber::EnvFilter;

/// Begins to write log lines to stderr. Does nothing where somebody already does.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let wants_json = std::env::var("UNANIMOUS_LOG_FORMAT").is_ok_and(|format| format == "json");
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
    // An error here means that a test has already begun.
    let _ = if wants_json { lines.json().try_init() } else { lines.with_ansi(colour).try_init() };
}
