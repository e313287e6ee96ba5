//! The host that a request asks for, and the hosts that a route takes.
//!
//! Hosts are compared in lower case, without port and without the dot at the end: `API.Example.com.:8000`
//! asks for `api.example.com`. A host that could not be the name or address of anything is refused, so that
//! nothing behind this file has to fear what it holds.

use std::fmt;
use std::net::Ipv6Addr;

use http::header::HOST;
use http::request::Parts;
use http::{StatusCode, uri};

use super::problem::Problem;

/// No name of the DNS is longer than 253 bytes. A route is looked for under each parent of the name, so that a
/// longer one would also cost more than it is worth.
const HOST_BYTES_MAX: usize = 255;

/// The hosts that one entry of a route's `host` stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// This one.
    Exact(String),
    /// `*.example.com`: every host that has one or more labels before this name, so not the name itself.
    Below(String),
}

/// How specific a host is, the greater first: a name beats a long wildcard beats a short one beats none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Any,
    /// With so many labels after the `*`.
    Below(usize),
    Exact,
}

/// Why a host of the configuration cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No name and no address.
    #[error("`{0}` is not a host; write a name like \"api.example.com\", without scheme and port")]
    NoHost(String),
    /// A name that is sent in another form.
    #[error("`{0}` has letters that no request can have; write its ASCII form, which begins with \"xn--\"")]
    NotAscii(String),
    /// A `*` that is not the whole first label.
    #[error(
        "`{0}`: a `*` stands for whole labels at the left, as in \"*.example.com\", and for nothing else"
    )]
    Star(String),
    /// Only a `*`.
    #[error("`*` alone is any host; leave `host` out")]
    AnyHost,
}

impl HostPattern {
    /// Reads a host of the configuration.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let given = text.to_ascii_lowercase();
        let host = given.strip_suffix('.').unwrap_or(&given);
        if host == "*" {
            return Err(HostError::AnyHost);
        }
        let (name, is_below) = host.strip_prefix("*.").map_or((host, false), |name| (name, true));
        match () {
            () if name.contains('*') => Err(HostError::Star(given)),
            () if !name.is_ascii() => Err(HostError::NotAscii(given)),
            () if is_below && is_name(name) => Ok(Self::Below(name.to_owned())),
            () if !is_below && is_host(name) => Ok(Self::Exact(name.to_owned())),
            () => Err(HostError::NoHost(given)),
        }
    }

    /// Whether a request that asks for `host` is meant.
    #[must_use]
    pub fn takes(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Below(name) => parents(host).any(|parent| parent == name),
        }
    }

    pub(super) fn rank(&self) -> Rank {
        match self {
            Self::Exact(_) => Rank::Exact,
            Self::Below(name) => Rank::Below(name.split('.').count()),
        }
    }
}

/// As the configuration would write it.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

/// The host that a request asks for; `None` where it names none. That of an absolute URI counts before `Host`.
pub(super) fn asked(request: &Parts) -> Result<Option<String>, Problem> {
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "bad_host", detail);
    let mut fields = request.headers.get_all(HOST).iter();
    let field = fields.next().map(|value| value.to_str().map_err(|_| bad("the Host field is not text")));
    if fields.next().is_some() {
        return Err(bad("the request has more than one Host field"));
    }
    let field = field.transpose()?;
    let authority = request.uri.authority().map(uri::Authority::as_str);
    if let (Some(one), Some(two)) = (authority, field)
        && !one.eq_ignore_ascii_case(two)
    {
        return Err(bad("the request names one host in its target and another in its Host field"));
    }
    let host = authority.or(field).map(|host| without_port(host).to_ascii_lowercase());
    match host {
        Some(host) if host.is_empty() => Ok(None),
        Some(host) if host.len() > HOST_BYTES_MAX => Err(bad("the host is longer than any name can be")),
        Some(host) if !is_host(&host) => Err(bad("the host is neither a name nor an address")),
        host => Ok(host),
    }
}

/// What follows each dot of a host but the first letter: `b.c` and `c` of `a.b.c`.
pub(super) fn parents(host: &str) -> impl Iterator<Item = &str> {
    let dots = host.match_indices('.').filter(|(at, _)| *at > 0);
    dots.filter_map(|(at, dot)| host.get(at + dot.len()..))
}

fn without_port(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        // RFC 3986, 3.2.3: digits, or none; what is no number of a port is left, and refused with it.
        Some((name, port)) if is_port(port) => name,
        Some(_) | None => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

fn is_port(port: &str) -> bool {
    port.is_empty() || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

fn is_host(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    address.map_or_else(|| is_name(host), |address| address.parse::<Ipv6Addr>().is_ok())
}

/// A name, or an address with dots. `_` is in no name of a host, and yet in use.
fn is_name(name: &str) -> bool {
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_');
    name.split('.').all(|label| !label.is_empty() && label.bytes().all(is_letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(pattern: &str, host: &str) -> bool {
        HostPattern::parse(pattern).unwrap().takes(host)
    }

    fn host_of(target: &str, field: Option<&str>) -> Result<Option<String>, String> {
        let request = http::Request::builder().uri(target);
        let request = field.into_iter().fold(request, |request, field| request.header(HOST, field));
        asked(&request.body(()).unwrap().into_parts().0).map_err(|problem| problem.detail)
    }

    #[test]
    fn a_wildcard_takes_whole_labels_and_at_least_one() {
        assert!(takes("*.example.com", "a.example.com") && takes("*.example.com", "a.b.example.com"));
        assert!(!takes("*.example.com", "example.com") && !takes("*.example.com", ".example.com"));
        assert!(!takes("*.example.com", "aexample.com") && !takes("*.example.com", "example.com.evil"));
        assert!(takes("Example.COM.", "example.com") && !takes("example.com", "a.example.com"));
    }

    #[test]
    fn a_name_ranks_above_every_wildcard_and_a_longer_one_above_a_shorter() {
        let rank = |text| HostPattern::parse(text).unwrap().rank();
        assert!(rank("com") > rank("*.a.b.com") && rank("*.b.com") > rank("*.com"));
        assert!(rank("*.com") > Rank::Any);
        assert_eq!(rank("*.a.com"), rank("*.b.com"));
    }

    #[test]
    fn a_host_that_nothing_can_have_is_refused() {
        for text in ["", ".", "a..b", "http://a", "a:80", "a/b", "[::g]", "a b", "*.[::1]"] {
            assert!(matches!(HostPattern::parse(text), Err(HostError::NoHost(_))), "{text}");
        }
        for text in ["a.*", "*a.b", "*.*.b", "a.*.b"] {
            assert!(matches!(HostPattern::parse(text), Err(HostError::Star(_))), "{text}");
        }
        assert_eq!(HostPattern::parse("*"), Err(HostError::AnyHost));
        assert!(matches!(HostPattern::parse("m\u{fc}nchen.de"), Err(HostError::NotAscii(_))));
        assert_eq!(HostPattern::parse("[::1]").unwrap().to_string(), "[::1]");
    }

    #[test]
    fn the_host_of_a_request_has_no_port_no_last_dot_and_no_case() {
        assert_eq!(host_of("/", Some("API.Example.com.:80")), Ok(Some("api.example.com".to_owned())));
        assert_eq!(host_of("/", Some("[::1]:80")), Ok(Some("[::1]".to_owned())));
        assert_eq!(host_of("/", Some("a:")), Ok(Some("a".to_owned())));
        for port in ["x", "65536", "+80", "-1"] {
            assert!(host_of("/", Some(&format!("a:{port}"))).is_err(), "{port}");
        }
        assert_eq!(host_of("http://A.b/", None), Ok(Some("a.b".to_owned())));
        assert_eq!(host_of("/", Some("")), Ok(None));
        assert_eq!(host_of("/", None), Ok(None));
    }

    #[test]
    fn the_host_of_a_request_is_refused_where_it_could_be_read_in_two_ways() {
        for field in ["a/b", "a@b", "a,b", "a b", "*.b", "..", "[::1", &"a".repeat(256)] {
            assert!(host_of("/", Some(field)).is_err(), "{field}");
        }
        assert!(host_of("http://a/", Some("b")).is_err());
        assert!(host_of("http://u@a/", None).is_err());
    }
}
