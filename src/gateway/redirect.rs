//! Answers that need no service: a redirect, and one that the configuration has in full.
//!
//! A redirect goes where the configuration says. What the client sends can fill segments of the path and values
//! of the query, never the host: `{host}` is the one it asked for, which the configuration lets a route use only
//! where the route takes no others than those it names. So none of them can be made to lead astray.

use std::fmt;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::LOCATION;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::path::{BadPath, push_hex};
use super::pattern::Params;
use super::problem::Problem;
use super::template::{Template, TemplateError};
use super::{Matched, host};

/// A redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectRoute {
    /// Where to.
    pub to: Place,
    /// 301, 302, 303, 307 or 308. Default: 308, which keeps the method and may be remembered.
    pub status: StatusCode,
    /// Whether the query of the request goes along, where the place has none of its own. Default: `true`.
    pub keeps_query: bool,
}

/// An answer that is always the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RespondRoute {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields, the type of the body among them.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Where a redirect leads: `https://{host}/new/{id}`, or a path on the same host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    text: String,
    origin: Option<Origin>,
    path: Template,
}

/// Why a place of the configuration cannot be led to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Neither a path nor a URL.
    #[error(
        "a redirect leads to a path from the root, as in \"/new/{{id}}\", or to a URL that begins with http:// or https://"
    )]
    Form,
    /// Something stands for the host that the client could choose.
    #[error(
        "`{0}` is not a host to lead to; write a name, with a port if need be, or `{{host}}` for the one that was asked for"
    )]
    Authority(String),
    /// The path cannot be asked for.
    #[error("{0}")]
    Path(#[from] TemplateError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: &'static str,
    host: Lead,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Lead {
    /// To this host.
    Name(String),
    /// To the host that was asked for, with what follows it: a colon and a port, or nothing.
    Asked(String),
}

impl Place {
    /// Reads a place from the configuration.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        let absolute = ["https://", "http://"]
            .into_iter()
            .find_map(|scheme| text.strip_prefix(scheme).map(|rest| (scheme, rest)));
        let (origin, path) = match absolute {
            None if text.starts_with('/') => (None, text.to_owned()),
            None => return Err(PlaceError::Form),
            Some((scheme, rest)) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
                let slash = if path.starts_with('/') { "" } else { "/" };
                (Some(Origin { scheme, host: Lead::parse(authority)? }), format!("{slash}{path}"))
            }
        };
        Ok(Self { text: text.to_owned(), origin, path: Template::parse(&path)? })
    }

    /// The names that have to be bound.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.path.params()
    }

    /// Whether it leads to the host that was asked for, by its name.
    #[must_use]
    pub fn names_asked_host(&self) -> bool {
        self.origin.as_ref().is_some_and(|origin| matches!(origin.host, Lead::Asked(_)))
    }

    fn fill(&self, params: &Params, host: Option<&str>, query: Option<&str>) -> Result<String, BadPath> {
        let target = self.path.fill(params)?.with_query(query);
        let Some(Origin { scheme, host: lead }) = &self.origin else { return Ok(target) };
        Ok(match lead {
            Lead::Name(name) => format!("{scheme}{name}{target}"),
            // A route that uses it names its hosts, so that a request without one has not come this far.
            Lead::Asked(port) => format!("{scheme}{}{port}{target}", host.unwrap_or_default()),
        })
    }
}

/// As the configuration has it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Lead {
    fn parse(authority: &str) -> Result<Self, PlaceError> {
        let bad = || PlaceError::Authority(authority.to_owned());
        let asked = authority.strip_prefix("{host}");
        // With a name in its place, what is left has to be what it would be with any other.
        let sample = asked.map_or_else(|| authority.to_owned(), |port| format!("h{port}"));
        let is_host = |known: &Authority| !known.as_str().contains(['@', '%']) && !known.host().is_empty();
        let parsed: Authority = sample.parse().ok().filter(is_host).ok_or_else(bad)?;
        let port = sample.strip_prefix(parsed.host()).unwrap_or_default();
        if !port.is_empty() && parsed.port_u16().is_none_or(|port| port == 0) {
            return Err(bad());
        }
        match asked {
            Some(port) if parsed.host() == "h" => Ok(Self::Asked(port.to_owned())),
            Some(_) => Err(bad()),
            None => Ok(Self::Name(authority.to_owned())),
        }
    }
}

impl RedirectRoute {
    /// Where a request is led; `host` is the one it asked for, and `query` its query.
    pub fn location(
        &self,
        params: &Params,
        host: Option<&str>,
        query: Option<&str>,
    ) -> Result<String, BadPath> {
        let location = self.to.fill(params, host, query.filter(|_| self.keeps_query))?;
        // A query may come with letters that a header field has no place for.
        let mut ascii = String::with_capacity(location.len());
        for byte in location.bytes() {
            if byte.is_ascii() { ascii.push(char::from(byte)) } else { push_hex(&mut ascii, byte) }
        }
        Ok(ascii)
    }
}

impl Matched<'_, RedirectRoute> {
    /// The redirect, or 400 `bad_path` where the request's parameters make no path.
    #[must_use]
    pub fn answer(&self, request: &Parts) -> Response {
        let host = match host::asked(request) {
            Ok(host) => host,
            Err(problem) => return problem.into_response(),
        };
        let location = match self.route.location(&self.params, host.as_deref(), request.uri.query()) {
            Ok(location) => location,
            Err(reason) => return Problem::from(reason).into_response(),
        };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.route.status;
        // All of it came as the text of a header or of a request line, which holds no end of a line.
        response.headers_mut().extend(HeaderValue::from_str(&location).ok().map(|to| (LOCATION, to)));
        response
    }
}

impl Matched<'_, RespondRoute> {
    /// The answer.
    #[must_use]
    pub fn answer(&self) -> Response {
        let mut response = Response::new(Body::from(self.route.body.clone()));
        *response.status_mut() = self.route.status;
        *response.headers_mut() = self.route.headers.clone();
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::path::CleanPath;
    use crate::gateway::pattern::Pattern;

    fn location(to: &str, path: &str, query: Option<&str>) -> Result<String, BadPath> {
        let path = CleanPath::parse(path).unwrap();
        let params = Pattern::parse("/{*rest}").unwrap().matches(&path).unwrap();
        let to = Place::parse(to).unwrap();
        let route = RedirectRoute { to, status: StatusCode::PERMANENT_REDIRECT, keeps_query: true };
        route.location(&params, Some("api.example.com"), query)
    }

    #[test]
    fn a_redirect_keeps_path_and_query() {
        let location = |to| location(to, "/a%2Fb/c", Some("x=1")).unwrap();
        assert_eq!(location("/new/{rest}"), "/new/a%2Fb/c?x=1");
        assert_eq!(location("https://{host}/{rest}"), "https://api.example.com/a%2Fb/c?x=1");
        assert_eq!(location("https://{host}:8443/{rest}"), "https://api.example.com:8443/a%2Fb/c?x=1");
        assert_eq!(location("http://other.example"), "http://other.example/?x=1");
        assert_eq!(location("http://[::1]:80?from={rest}"), "http://[::1]:80/?from=a%2Fb%2Fc");
    }

    #[test]
    fn a_query_that_is_no_ascii_is_encoded() {
        assert_eq!(location("/x", "/", Some("a=\u{e9}")).as_deref(), Ok("/x?a=%C3%A9"));
    }

    #[test]
    fn nothing_that_a_client_sends_leads_to_another_host() {
        assert_eq!(location("/{rest}", "/evil.example", None).as_deref(), Ok("/evil.example"));
        assert_eq!(location("/{rest}", "/@evil.example/x", None).as_deref(), Ok("/@evil.example/x"));
        assert_eq!(location("/{rest}/", "/", None), Err(BadPath::EmptySegment));
        assert_eq!(location("/..{rest}", "/", None), Err(BadPath::DotSegment));
        assert_eq!(location("/a?to={rest}", "/b&to=c", None).as_deref(), Ok("/a?to=b%26to%3Dc"));
    }

    #[test]
    fn a_place_that_a_client_could_choose_is_refused() {
        let hosts = [
            "{rest}",
            "{host}.evil",
            "{host}evil",
            "a.{rest}",
            "{host}:{rest}",
            "u@h",
            "{host}@evil",
            "{host}:",
            "h:0",
            "",
        ];
        for host in hosts {
            let refused = Place::parse(&format!("https://{host}/x"));
            assert_eq!(refused, Err(PlaceError::Authority(host.to_owned())));
        }
        for text in ["{rest}", "x", "", "ftp://h/", "javascript:x", "\\\\h"] {
            assert_eq!(Place::parse(text), Err(PlaceError::Form), "{text}");
        }
        for text in ["//evil.example/", "https://h//x", "/a\r\nb", "/a#b"] {
            assert!(matches!(Place::parse(text), Err(PlaceError::Path(_))), "{text}");
        }
    }
}
