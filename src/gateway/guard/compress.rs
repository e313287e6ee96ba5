//! Answers in gzip for clients that take it, by `tower-http`.
//!
//! Never a stream of events, which would stand still in the compressor; nor what is encoded already, an image, gRPC, short, a
//! part of something, or not to be transformed (`Cache-Control: no-transform`).

use std::convert::Infallible;
use std::future::ready;

use axum::body::Body;
use axum::response::Response;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, ETAG};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate as _};

/// What of a request has to be known.
pub(super) const ASKED: [HeaderName; 1] = [ACCEPT_ENCODING];

/// The same answer, compressed where client and answer are fit for it.
pub(super) async fn compressed(headers: &HeaderMap, answer: Response) -> Response {
    let is_encoded = answer.headers().contains_key(CONTENT_ENCODING);
    let mut asked = Request::new(Body::empty());
    asked.headers_mut().clone_from(headers);
    let mut answer = Some(answer);
    let inner =
        service_fn(move |_: Request<Body>| ready(Ok::<_, Infallible>(answer.take().unwrap_or_default())));
    let layer = CompressionLayer::new().compress_when(DefaultPredicate::new().and(may_be_changed));
    let Ok(answer) = layer.layer(inner).oneshot(asked).await;
    let mut answer = answer.map(Body::new);
    if !is_encoded && answer.headers().contains_key(CONTENT_ENCODING) {
        weaken(answer.headers_mut());
    }
    answer
}

fn may_be_changed(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let directives = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = directives.flat_map(|list| list.split(','));
    !directives.any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"))
}

/// Other bytes than those that a strong tag stands for (RFC 9110, 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let strong = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    let weak = strong.and_then(|tag| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok());
    if let Some(weak) = weak {
        headers.insert(ETAG, weak);
    }
}
