//! Why a call failed, in a few words that have no address in them: for the log.

use std::error::Error;
use std::io;

use hyper_util::client::legacy;

/// What is said of errors of the system.
const OF_IO: [(io::ErrorKind, &str); 6] = [
    (io::ErrorKind::ConnectionRefused, "connection refused"),
    (io::ErrorKind::ConnectionReset, "connection reset"),
    (io::ErrorKind::BrokenPipe, "connection reset"),
    (io::ErrorKind::HostUnreachable, "no way to it"),
    (io::ErrorKind::NetworkUnreachable, "no way to it"),
    (io::ErrorKind::TimedOut, "no connection in time"),
];

/// Why there is no answer.
pub(super) fn of_call(error: &legacy::Error) -> &'static str {
    let otherwise = if error.is_connect() { "no connection" } else { "the connection broke" };
    cause(error, "closed before an answer").unwrap_or(otherwise)
}

/// Why an answer broke off.
pub(super) fn of_answer(error: &axum::Error) -> &'static str {
    cause(error, "closed before its end").unwrap_or("the connection broke")
}

/// The innermost cause that is known; `closed` is what is said of a connection that was closed too early.
fn cause(error: &(dyn Error + 'static), closed: &'static str) -> Option<&'static str> {
    let causes = std::iter::successors(Some(error), |cause| (*cause).source());
    causes.filter_map(|cause| one(cause, closed)).last()
}

fn one(cause: &(dyn Error + 'static), closed: &'static str) -> Option<&'static str> {
    if cause.is::<tower::timeout::error::Elapsed>() {
        return Some("no connection in time");
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return of_io(error.kind(), closed);
    }
    let error = cause.downcast_ref::<hyper::Error>()?;
    if error.is_parse_too_large() {
        Some("its head is over a limit")
    } else if error.is_parse() {
        Some("not HTTP")
    } else if error.is_incomplete_message() || error.is_closed() {
        Some(closed)
    } else {
        None
    }
}

fn of_io(kind: io::ErrorKind, closed: &'static str) -> Option<&'static str> {
    if kind == io::ErrorKind::UnexpectedEof {
        return Some(closed);
    }
    OF_IO.iter().find_map(|(known, said)| (*known == kind).then_some(*said))
}
