//! Which header fields cross the gateway, and what it adds.
//!
//! Fields of one connection stay on that connection (RFC 9110, section 7.6.1), those that `Connection`
//! names with them. Clients may not speak in the gateway's name: what only it may say is removed from
//! their requests. All removing comes first and adding ([`super::caller`]) last, so that a `Connection` field can never
//! name one of ours away (CVE-2024-45410).

use std::borrow::Cow;

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, RANGE, TE, TRAILER,
    TRANSFER_ENCODING, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clients::Speaks;

/// The name this gateway gives itself in the `Via` of answers.
const PSEUDONYM: &str = "1.1 unanimous";

pub(super) const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Fields that say how a message is read, to whom it goes or who sent it: too late after the body (RFC 9110, 6.5.1). Whoever
/// took one of them over from the trailers could be told another length, another host or another user.
const NEVER_A_TRAILER: [&str; 20] = [
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "expires",
    "host",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "retry-after",
    "set-cookie",
    "trailer",
    "vary",
    "www-authenticate",
];

/// The fields of a client's request that go with the work calls of a transaction: end to end, without
/// what describes a body (each call has its own) and without the client's idempotency key.
///
/// Without `Accept-Encoding` and `Range` too: the answers are put together into one, whole and plain.
#[must_use]
pub fn headers_for_work(client: &HeaderMap) -> HeaderMap {
    let mut headers = from_client(client.clone());
    for name in [CONTENT_LENGTH, CONTENT_TYPE, ACCEPT_ENCODING, RANGE, TRAILER] {
        headers.remove(name);
    }
    headers.remove("idempotency-key");
    headers
}

/// A client's fields without those of its connection and without those only the gateway may set.
pub(super) fn from_client(mut headers: HeaderMap) -> HeaderMap {
    strip_hop_by_hop(&mut headers);
    // `Expect` is answered by our own server; `Host` is that of the backend.
    headers.remove(EXPECT);
    headers.remove(HOST);
    // No client needs it, and CGI would make the proxy for its own calls of it (CVE-2016-5385).
    headers.remove("proxy");
    remove_where(&mut headers, |name| is_ours(name) || is_alias_of_framing(name));
    join_cookies(&mut headers);
    // HTTP/2 lets a length be said twice, alike; in HTTP/1.1 some servers refuse that.
    if let Some(length) = headers.get(CONTENT_LENGTH).cloned() {
        headers.insert(CONTENT_LENGTH, length);
    }
    headers
}

/// HTTP/2 may send each cookie in a field of its own; in HTTP/1.1 there is one field (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1 {
        let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
        headers.insert(COOKIE, joined.expect("what was joined were values"));
    }
}

/// The fields of a request for a part of a merged answer: no body, no conditions, nothing partial.
pub(super) fn for_part(client: &HeaderMap) -> HeaderMap {
    let mut headers = headers_for_work(client);
    remove_where(&mut headers, |name| name.starts_with("if-") || name.starts_with("content-"));
    headers
}

/// What says to a backend that trailers can be had, where the client has said so: the only thing in `TE` that is for all the
/// way. In HTTP/2 there is no `Connection` to say that `TE` is not.
pub(super) fn te(client: &HeaderMap, speaks: Speaks) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let takes = client.get_all(TE).iter().filter_map(|value| value.to_str().ok());
    if takes.flat_map(|list| list.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers")) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if speaks == Speaks::Http1 {
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
    }
    headers
}

/// Takes out of trailers what does not belong there.
pub(super) fn trailers(trailers: &mut HeaderMap) {
    remove_where(trailers, |name| {
        is_hop_by_hop(name)
            || is_ours(name)
            || is_alias_of_framing(name)
            || name.starts_with("if-")
            || NEVER_A_TRAILER.contains(&name)
    });
}

/// Leaves one word on where a backend's answer ends, the one that it was read by (RFC 9112, 6.3): chunks go before a length,
/// and a length that is said twice is said once (RFC 9110, 8.6). `None`: it is coded in a way that is not undone here.
pub(super) fn one_framing(headers: &mut HeaderMap) -> Option<()> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            headers.remove(CONTENT_LENGTH);
        }
        (Some(_), _) => return None,
    }
    let length = headers.get(CONTENT_LENGTH).cloned();
    if let Some(length) = length {
        // All in the list are the same, or it would not have been read.
        let one = length.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_bytes(one).ok()?);
    }
    Some(())
}

/// Makes the fields of a backend's answer fit for the client.
pub(super) fn from_backend(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    remove_where(headers, is_our_word);
    add_via(headers);
}

pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    remove_where(headers, |name| HOP_BY_HOP.contains(&name) || named.iter().any(|listed| listed == name));
}

/// Whether a field is for one connection, whatever `Connection` says.
pub(super) fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

/// Whether only the gateway may say it to a client: that an error is its own, that an answer is whole, how a transaction is named.
fn is_our_word(name: &str) -> bool {
    let name = as_cgi_reads(name);
    name.starts_with("x-gateway-") || name.starts_with("transaction-")
}

/// Whether only the gateway may set a field, in any spelling that a server could take for it.
pub(super) fn is_ours(name: &str) -> bool {
    let name = as_cgi_reads(name);
    name == "forwarded"
        || name == "x-real-ip"
        || name == "x-request-id"
        || name == "traceparent"
        || name == "tracestate"
        || name.starts_with("x-forwarded-")
        || is_our_word(&name)
}

/// Whether some servers would read this as a field of one connection, or as a length: `Transfer_Encoding`.
fn is_alias_of_framing(name: &str) -> bool {
    let read = as_cgi_reads(name);
    read != name && (is_hop_by_hop(&read) || read == "content-length")
}

/// A name as CGI, WSGI and PHP see it: all that is no letter and no digit is the same to them, `X_Real_IP` to most and
/// `X.Real.IP` to some (lighttpd's `http_cgi_encode_varname`).
fn as_cgi_reads(name: &str) -> Cow<'_, str> {
    let is_odd = |letter: char| !letter.is_ascii_alphanumeric() && letter != '-';
    if name.contains(is_odd) { Cow::Owned(name.replace(is_odd, "-")) } else { Cow::Borrowed(name) }
}

fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn add_via(headers: &mut HeaderMap) {
    headers.append(VIA, HeaderValue::from_static(PSEUDONYM));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn fields_of_one_connection_stay_on_it() {
        let client = headers(&[
            ("connection", "close, X-Session"),
            ("x-session", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic eA=="),
            ("accept", "text/plain"),
        ]);
        assert_eq!(from_client(client), headers(&[("accept", "text/plain")]));
    }

    #[test]
    fn a_client_cannot_speak_in_the_gateways_name() {
        let client = headers(&[
            ("transaction-id", "x"),
            ("transaction_vote", "read-only"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x_forwarded_host", "evil"),
            ("transfer_encoding", "chunked"),
            ("content_length", "9"),
            ("x.real.ip", "1.2.3.4"),
            ("x~forwarded'for", "1.2.3.4"),
            ("transfer.encoding", "chunked"),
            ("proxy", "http://evil"),
            ("x-real-ip", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("host", "api.example.com"),
            ("authorization", "Bearer x"),
        ]);
        assert_eq!(from_client(client), headers(&[("authorization", "Bearer x")]));
    }

    #[test]
    fn trailers_keep_what_is_said_at_the_end_and_lose_what_had_to_be_said_before() {
        let mut end = headers(&[
            ("grpc-status", "0"),
            ("digest", "x"),
            ("content-length", "9"),
            ("transfer-encoding", "chunked"),
            ("host", "x"),
            ("authorization", "x"),
            ("x-forwarded-for", "6.6.6.6"),
            ("transaction_vote", "x"),
            ("x-gateway-error", "late"),
            ("if-match", "x"),
        ]);
        trailers(&mut end);
        assert_eq!(end, headers(&[("grpc-status", "0"), ("digest", "x")]));
    }

    #[test]
    fn cookies_that_came_in_pieces_leave_in_one_field() {
        let client = headers(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3; d=4")]);
        assert_eq!(from_client(client), headers(&[("cookie", "a=1; b=2; c=3; d=4")]));
    }

    #[test]
    fn where_an_answer_ends_is_said_once() {
        for (fields, left) in [
            (&[("content-length", "3")][..], Some(&[("content-length", "3")][..])),
            (&[("content-length", "3"), ("content-length", "3")], Some(&[("content-length", "3")])),
            (&[("content-length", "3, 3")], Some(&[("content-length", "3")])),
            (
                &[("content-length", "3"), ("transfer-encoding", "Chunked")],
                Some(&[("transfer-encoding", "Chunked")]),
            ),
            (&[("transfer-encoding", "gzip, chunked")], None),
            (&[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")], None),
            (&[("transfer-encoding", "gzip")], None),
        ] {
            let mut answer = headers(fields);
            assert_eq!(one_framing(&mut answer).map(|()| answer), left.map(headers), "{fields:?}");
        }
    }

    #[test]
    fn via_grows_by_one_entry_and_keeps_the_others() {
        let mut answer = headers(&[("via", "1.0 backend")]);
        from_backend(&mut answer);
        let via: Vec<_> = answer.get_all(VIA).iter().collect();
        assert_eq!(via, ["1.0 backend", "1.1 unanimous"]);
    }

    #[test]
    fn a_work_call_goes_without_the_clients_key_and_without_its_body_fields() {
        let client = headers(&[
            ("idempotency-key", "\"k\""),
            ("content-length", "3"),
            ("content-type", "text/plain"),
            ("expect", "100-continue"),
            ("accept-encoding", "gzip"),
            ("if-match", "\"v1\""),
        ]);
        assert_eq!(headers_for_work(&client), headers(&[("if-match", "\"v1\"")]));
        assert_eq!(for_part(&client), HeaderMap::new());
    }
}
