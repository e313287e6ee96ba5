//! From the head of a request to what becomes of it. Here, and nowhere else, a path and a host are put into the
//! form in which they are matched, and sent.

use http::request::Parts;
use http::{Method, StatusCode};

use super::path::{BadPath, CleanPath};
use super::pattern::Params;
use super::problem::Problem;
use super::route::{Action, Asked, Route};
use super::table::RouteTable;
use super::{Matched, Routed, host};

impl RouteTable {
    /// Which route a request takes. Looks at nothing but its head.
    ///
    /// `OPTIONS *` asks about the server as a whole (RFC 9110, 9.3.7): it gets the methods of all routes of its
    /// host, and never goes to a service.
    #[must_use]
    pub fn route(&self, request: &Parts) -> Routed<'_> {
        let host = match host::asked(request) {
            Ok(host) => host,
            Err(problem) => return Routed::BadRequest(problem),
        };
        if request.method == Method::OPTIONS && request.uri.path() == "*" {
            let mut methods = self.methods_anywhere(host.as_deref());
            methods.retain(|method| *method != Method::OPTIONS);
            methods.push(Method::OPTIONS);
            return Routed::Options(methods);
        }
        let path = match CleanPath::parse(request.uri.path()) {
            Ok(path) => path,
            Err(reason) => return Routed::BadRequest(reason.into()),
        };
        let (method, headers, query) = (&request.method, &request.headers, request.uri.query());
        let asked = Asked { method, host: host.as_deref(), path: &path, query, headers };
        self.lookup(&asked)
    }
}

impl<'a> Routed<'a> {
    pub(super) fn found(found: &'a Route, params: Params, path: CleanPath) -> Self {
        let id = found.id.as_str();
        match &found.action {
            Action::Forward(route) => Self::Forward(Matched { id, route, params, path }),
            Action::Merge(route) => Self::Merge(Matched { id, route, params, path }),
            Action::Transaction(route) => Self::Transaction(Matched { id, route, params, path }),
            Action::Redirect(route) => Self::Redirect(Matched { id, route, params, path }),
            Action::Respond(route) => Self::Respond(Matched { id, route, params, path }),
        }
    }
}

impl From<BadPath> for Problem {
    fn from(reason: BadPath) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_path", reason.to_string())
    }
}
