//! Open files: clients may use up no more than a part of them, because calls to participants and the log need some too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Of as many open files one is a client's connection. Another may be the connection to the backend that it asks for, and the
/// rest is for those who are turned away, calls to participants, the log and operators.
const FILES_PER_CONNECTION: usize = 4;

/// Raises the limit as far as the system lets us; the most connections of clients, at most `wanted`, that leave enough for
/// everything else.
pub(super) fn connections_max(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    // No limit at all.
    let Some(files) = limit.current else { return wanted };
    let possible = usize::try_from(files).unwrap_or(usize::MAX) / FILES_PER_CONNECTION;
    if possible < wanted {
        tracing::warn!(
            "the system allows {files} open files: {possible} connections of clients are taken, not {wanted} \
             (node.connections_max); allow {} (ulimit -n, LimitNOFILE)",
            wanted.saturating_mul(FILES_PER_CONNECTION)
        );
    }
    wanted.min(possible).max(1)
}
