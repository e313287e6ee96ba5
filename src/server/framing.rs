//! What a request says about its own length that the server library lets pass, and that others would read in another way.

use axum::response::{IntoResponse as _, Response};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{StatusCode, Version};

use crate::gateway::Problem;

/// The longest body that may be announced: to a backend that counts with a sign, more is less than nothing.
const LENGTH_MAX: u64 = i64::MAX.cast_unsigned();

/// The answer to a request whose body could be taken for another one: 501 for a transfer coding but `chunked`, once (RFC 9112,
/// 6.1), or 413. Nothing more is read from the connection after a coding that is not known.
pub(super) fn refusal(version: Version, headers: &HeaderMap) -> Option<Response> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_some_and(|coding| !is_chunked(coding)) || codings.next().is_some() {
        let detail = "the only transfer coding that is known here is `chunked`, and it can be said only once";
        let problem = Problem::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", detail);
        let mut answer = problem.into_response();
        if version < Version::HTTP_2 {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        return Some(answer);
    }
    let length = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>();
    let is_too_long = length.is_ok_and(|length| length > LENGTH_MAX);
    is_too_long.then(|| {
        let detail = "no body can be as long as this one is said to be";
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail).into_response()
    })
}
