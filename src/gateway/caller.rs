//! For whom a call is made: who asks, through whom, and under which name it is found again in logs.
//!
//! Everybody can write `X-Forwarded-For`. What it and its kind say counts only where the connection comes from a proxy that the
//! configuration trusts; otherwise all of it is removed, and what is passed on is what the socket says. Through whom a request came is
//! read from `X-Forwarded-For`, and from `Forwarded` where that is not there.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use http::header::{HOST, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use ipnet::IpNet;

use super::forwarded::{element, hops};
use super::problem::Problem;
use crate::trace::{Context, Spans, Trace};

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The name of a request in logs, on both sides of the gateway.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields of which there may be several.
const MANY: [HeaderName; 2] = [TRACESTATE, VIA];

/// Longer ones are replaced: every one of them stands in many lines.
const REQUEST_ID_MAX: usize = 128;

/// Whom the gateway believes, and what it calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// Proxies whose word on their clients counts.
    pub proxies: Vec<IpNet>,
    /// The name of this process in the `Via` of requests, by which it knows those that it has sent itself.
    pub pseudonym: String,
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The client, as far as proxies that are trusted have said.
    pub address: IpAddr,
    /// The name of the request in logs: that of the client, where it gave one that is fit, or one made here.
    pub request_id: HeaderValue,
    /// The trace of the client, or one that begins here because spans are exported.
    pub context: Context,
    /// Drawn at random.
    number: u128,
    /// Fields that say to a backend for whom it works. Each call has a `traceparent` of its own besides.
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Trust {
    /// Trust in `proxies`, under a name that no other process has.
    #[must_use]
    pub fn new(proxies: Vec<IpNet>) -> Self {
        Self { proxies, pseudonym: format!("unanimous-{:08x}", fastrand::u32(..)) }
    }

    fn covers(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|net| net.contains(&address))
    }

    /// Who asks; the spans of the request go to `spans`. 508 `loop_detected` where this gateway itself has sent it.
    pub fn caller(&self, request: &Parts, peer: SocketAddr, spans: &Spans) -> Result<Caller, Problem> {
        if self.is_loop(&request.headers) {
            let detail = "this gateway has sent the request itself: one of its routes leads back to it";
            return Err(Problem::new(StatusCode::LOOP_DETECTED, "loop_detected", detail));
        }
        let peer = peer.ip().to_canonical();
        let said = Said::of(&request.headers, self.covers(peer));
        let number = fastrand::u128(1..);
        let (request_id, trace) = (request_id(&request.headers).cloned(), traceparent(&request.headers));
        let caller = Caller {
            address: self.client(said.hops.as_deref(), peer),
            request_id: request_id.unwrap_or_else(|| value(format!("{number:032x}"))),
            context: spans.of_request(trace, number),
            number,
            fields: Vec::new(),
        };
        Ok(caller.with_fields(self, request, peer, &said, trace.is_some()))
    }

    /// The last address that nobody vouches for: from there on everything may be invented (MDN, "X-Forwarded-For").
    fn client(&self, hops: Option<&str>, peer: IpAddr) -> IpAddr {
        let mut client = peer;
        for hop in hops.unwrap_or_default().rsplit(',').map(str::trim) {
            if !self.covers(client) {
                break;
            }
            let Some(address) = address(hop) else { break };
            client = address;
        }
        client
    }

    fn is_loop(&self, headers: &HeaderMap) -> bool {
        let hops = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
        let mut names = hops.flat_map(|hops| hops.split(',')).filter_map(|hop| hop.split_whitespace().nth(1));
        names.any(|name| name == self.pseudonym)
    }
}

impl Caller {
    /// Says to a backend for whom the call is made, in place of all that `headers` say of that.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        headers.remove(TRACESTATE);
        for (name, value) in &self.fields {
            if MANY.contains(name) {
                headers.append(name, value.clone());
            } else {
                headers.insert(name, value.clone());
            }
        }
    }

    /// The trace of the request, or one that begins here and bears the name that was made for the request.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.context.trace().unwrap_or_else(|| Trace::begin(self.number))
    }

    fn with_fields(
        mut self,
        trust: &Trust,
        request: &Parts,
        peer: IpAddr,
        said: &Said<'_>,
        is_traced: bool,
    ) -> Self {
        // In HTTP/2 the host is a part of the target.
        let target =
            || request.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        let host = request.headers.get(HOST).cloned().or_else(target);
        let own = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let port = own.rsplit_once(':').map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok());
        let port = || port.map_or(HeaderValue::from_static("80"), |port| value(port.to_owned()));
        let via = format!("{} {}", protocol(request.version), trust.pseudonym);
        let fields = &mut self.fields;
        fields.extend([
            (FORWARDED_FOR, joined(said.hops.as_deref(), peer.to_string())),
            (FORWARDED, joined(said.forwarded.as_deref(), element(peer, own))),
            (FORWARDED_PROTO, said.proto.cloned().unwrap_or(HeaderValue::from_static("http"))),
            (FORWARDED_PORT, said.port.cloned().unwrap_or_else(port)),
            (REAL_IP, value(self.address.to_string())),
            (REQUEST_ID, self.request_id.clone()),
            (VIA, value(via)),
        ]);
        fields.extend(said.host.or(host.as_ref()).map(|host| (FORWARDED_HOST, host.clone())));
        fields.extend(said.prefix.map(|prefix| (FORWARDED_PREFIX, prefix.clone())));
        // What belongs to a trace that could not be read belongs to nothing (W3C trace context, 3.3).
        let state = request.headers.get_all(TRACESTATE).iter().filter(|_| is_traced);
        fields.extend(state.map(|state| (TRACESTATE, state.clone())));
        self
    }
}

/// What a proxy that is trusted says of its client; of any other, nothing.
#[derive(Default)]
struct Said<'a> {
    hops: Option<String>,
    forwarded: Option<String>,
    proto: Option<&'a HeaderValue>,
    host: Option<&'a HeaderValue>,
    port: Option<&'a HeaderValue>,
    prefix: Option<&'a HeaderValue>,
}

impl<'a> Said<'a> {
    fn of(headers: &'a HeaderMap, is_trusted: bool) -> Self {
        if !is_trusted {
            return Self::default();
        }
        // One field of several lines says the same as one line (RFC 9110, 5.3); readers of these often see one only.
        let all = |name: &HeaderName| {
            let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
            let lines: Vec<_> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
            (!lines.is_empty()).then(|| lines.join(", "))
        };
        let forwarded = all(&FORWARDED);
        Self {
            hops: all(&FORWARDED_FOR).or_else(|| forwarded.as_deref().map(hops)),
            forwarded,
            proto: headers.get(FORWARDED_PROTO).filter(|proto| *proto == "http" || *proto == "https"),
            host: headers.get(FORWARDED_HOST),
            port: headers.get(FORWARDED_PORT).filter(|port| is_port(port)),
            prefix: headers.get(FORWARDED_PREFIX),
        }
    }
}

fn is_port(text: &HeaderValue) -> bool {
    let digits = text.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.is_some_and(|digits| digits.parse::<NonZeroU16>().is_ok())
}

/// An entry of `X-Forwarded-For`: an address, by some proxies with a port.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim_matches('"');
    let bare = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let found = hop.parse().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip())).or_else(bare);
    found.map(|address: IpAddr| address.to_canonical())
}

fn joined(before: Option<&str>, last: String) -> HeaderValue {
    value(match before {
        Some(before) => format!("{before}, {last}"),
        None => last,
    })
}

fn traceparent(headers: &HeaderMap) -> Option<(Trace, u64)> {
    let mut fields = headers.get_all(TRACEPARENT).iter();
    let first = fields.next()?.to_str().ok()?;
    // Two of them are as good as none.
    if fields.next().is_some() { None } else { Trace::parse(first) }
}

/// The client's own name for its request, where it may stand in a line of a log.
fn request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let id = headers.get(REQUEST_ID)?;
    let is_fit = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    let bytes = id.as_bytes();
    (!bytes.is_empty() && bytes.len() <= REQUEST_ID_MAX && bytes.iter().all(is_fit)).then_some(id)
}

/// The protocol in which a request came, as `Via` calls it (RFC 9110, 7.6.3).
fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2.0",
        _ => "1.1",
    }
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("addresses, ids and fields that were read are visible text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(proxies: &[&str]) -> Trust {
        let proxies = proxies.iter().map(|net| net.parse().unwrap()).collect();
        Trust { proxies, pseudonym: "unanimous-1".to_owned() }
    }

    fn asks(trust: &Trust, peer: &str, fields: &[(&str, &str)]) -> Result<(Caller, HeaderMap), Problem> {
        let mut request = http::Request::builder().uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let caller = trust.caller(&parts, peer.parse().unwrap(), &Spans::default())?;
        let mut headers = HeaderMap::new();
        caller.add_to(&mut headers);
        Ok((caller, headers))
    }

    #[test]
    fn of_a_client_that_nobody_trusts_only_the_socket_speaks() {
        let fields = [
            ("host", "api.example.com:8443"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/x"),
            ("forwarded", "for=1.2.3.4"),
        ];
        let (caller, headers) = asks(&trust(&["10.0.0.0/8"]), "[::ffff:192.0.2.7]:9", &fields).unwrap();
        assert_eq!(caller.address.to_string(), "192.0.2.7");
        for (name, value) in [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-real-ip", "192.0.2.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "api.example.com:8443"),
            ("x-forwarded-port", "8443"),
            ("forwarded", "for=192.0.2.7;host=\"api.example.com:8443\";proto=http"),
            ("via", "1.1 unanimous-1"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        assert!(!headers.contains_key("x-forwarded-prefix"));
    }

    #[test]
    fn a_proxy_that_is_trusted_speaks_for_its_client_in_one_field() {
        let fields = [
            ("host", "inner"),
            ("x-forwarded-for", "6.6.6.6, 203.0.113.9"),
            ("x-forwarded-for", "10.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "api.example.com"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-prefix", "/shop"),
            ("forwarded", "for=203.0.113.9"),
        ];
        let (caller, headers) = asks(&trust(&["10.0.0.0/8"]), "10.0.0.1:9", &fields).unwrap();
        assert_eq!(caller.address.to_string(), "203.0.113.9", "what stands left of it may be invented");
        assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
        for (name, value) in [
            ("x-forwarded-for", "6.6.6.6, 203.0.113.9, 10.1.1.1, 10.0.0.1"),
            ("x-real-ip", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "api.example.com"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-prefix", "/shop"),
            ("forwarded", "for=203.0.113.9, for=10.0.0.1;host=\"inner\";proto=http"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        let trust = trust(&["10.0.0.0/8", "fd00::/8"]);
        for (hops, client) in [
            ("1.1.1.1, garbage", "10.0.0.1"),
            ("1.1.1.1, 10.0.0.2:443", "1.1.1.1"),
            ("[2001:db8::1]:443, fd00::1", "2001:db8::1"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("", "10.0.0.1"),
        ] {
            let (caller, _) = asks(&trust, "10.0.0.1:9", &[("x-forwarded-for", hops)]).unwrap();
            assert_eq!(caller.address.to_string(), client, "{hops}");
        }
    }

    #[test]
    fn a_request_that_comes_back_is_a_loop() {
        let trust = trust(&[]);
        let problem = asks(&trust, "1.1.1.1:9", &[("via", "1.0 fred, 1.1 unanimous-1")]).unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.code), (508, "loop_detected"));
        assert!(asks(&trust, "1.1.1.1:9", &[("via", "1.1 unanimous-2 (unanimous-1)")]).is_ok());
    }

    #[test]
    fn the_clients_name_for_its_request_is_kept_where_it_is_fit_for_a_log() {
        let id = |given: &str| {
            let (caller, headers) = asks(&trust(&[]), "1.1.1.1:9", &[("x-request-id", given)]).unwrap();
            assert_eq!(headers["x-request-id"], caller.request_id);
            caller.request_id.to_str().unwrap().to_owned()
        };
        assert_eq!(id("order-7:a/b"), "order-7:a/b");
        for unfit in ["", "a b", "a\tb", &"x".repeat(129), "a\"b"] {
            assert_eq!(id(unfit).len(), 32, "{unfit}");
        }
    }

    #[test]
    fn a_trace_goes_on_and_of_a_broken_one_nothing_is_passed_on() {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trust = trust(&[]);
        let (caller, headers) =
            asks(&trust, "1.1.1.1:9", &[("traceparent", PARENT), ("tracestate", "a=1")]).unwrap();
        assert_eq!(caller.context.trace(), Trace::parse(PARENT).map(|(trace, _)| trace));
        assert_eq!(headers["tracestate"], "a=1");
        for broken in [&[("traceparent", "x")][..], &[("traceparent", PARENT), ("traceparent", PARENT)]] {
            let fields = [broken, &[("tracestate", "a=1")]].concat();
            let (caller, headers) = asks(&trust, "1.1.1.1:9", &fields).unwrap();
            assert!(caller.context.trace().is_none() && !headers.contains_key("tracestate"), "{headers:?}");
            let begun = caller.trace().parent(1).to_string();
            assert_eq!(caller.request_id.to_str().unwrap(), &begun[3..35], "one name for the request");
        }
    }
}
