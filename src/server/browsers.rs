//! Web pages must not do what operators may: a page that an operator has open could ask the admin listener for it.
//!
//! Browsers say on every request that changes something which page it comes from (Fetch Standard, "Origin header"); nothing here
//! is meant for pages. And a page whose name was made to point at this machine (DNS rebinding) comes with that name in `Host`: a
//! listener on loopback is not asked for by any name but `localhost`.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{HOST, ORIGIN};
use http::{Method, StatusCode, uri::Authority};

use crate::gateway::Problem;

/// Lets a request to the admin listener at `address` pass, or says why not.
pub(super) async fn keep_out(State(address): State<SocketAddr>, request: Request, next: Next) -> Response {
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_reading && request.headers().contains_key(ORIGIN) {
        let detail =
            "this was sent by a web page (it has an Origin field); operators use curl or `unanimous tx`";
        return Problem::new(StatusCode::FORBIDDEN, "from_a_web_page", detail).into_response();
    }
    if address.ip().is_loopback() && !is_of_this_machine(&request) {
        let detail =
            "this listener is on loopback and is asked for as localhost or by address, not by another name";
        return Problem::new(StatusCode::MISDIRECTED_REQUEST, "other_host", detail).into_response();
    }
    next.run(request).await
}

/// Whether what was asked for is an address, `localhost`, or nothing.
fn is_of_this_machine(request: &Request) -> bool {
    let field = request.headers().get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let Some(asked) = request.uri().authority().cloned().or(field) else {
        return !request.headers().contains_key(HOST);
    };
    let name = asked.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let is_local = |name: &str| name == "localhost" || name.ends_with(".localhost");
    name.parse::<IpAddr>().is_ok() || is_local(&name.to_ascii_lowercase())
}
