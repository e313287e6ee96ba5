//! The header fields of parts that the client gets: only those that the configuration lists for the part.

use http::header::{LINK, SET_COOKIE, VARY, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName};

use super::parts::Part;
use crate::gateway::headers;

/// Fields that say one thing each: of several parts, all are kept. Of any other field that of the part declared last is.
const ADDED: [HeaderName; 4] = [SET_COOKIE, VARY, LINK, WWW_AUTHENTICATE];

/// What `part` passes on of the fields of its answer. A field that the answer's `Connection` names is of that connection.
pub(super) fn passed(part: &Part, answer: &HeaderMap) -> HeaderMap {
    if part.fields.is_empty() {
        return HeaderMap::new();
    }
    let mut answer = answer.clone();
    headers::strip_hop_by_hop(&mut answer);
    let mut passed = HeaderMap::new();
    for name in &part.fields {
        for value in answer.get_all(name) {
            passed.append(name.clone(), value.clone());
        }
    }
    passed
}

/// Adds the fields of the next part in declared order.
pub(super) fn add(fields: &mut HeaderMap, next: &HeaderMap) {
    for name in next.keys() {
        if !ADDED.contains(name) {
            fields.remove(name);
        }
        for value in next.get_all(name) {
            fields.append(name.clone(), value.clone());
        }
    }
}

/// Whether no part may pass a field on, whatever the configuration says: what describes the body, the connection or
/// the message as a whole is said by who writes it, and some fields only the gateway may set.
pub fn is_never_passed(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("content-")
        || matches!(name, "date" | "via")
        || headers::is_hop_by_hop(name)
        || headers::is_ours(name)
}
