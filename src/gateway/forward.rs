//! Plain forwarding: one call to one service, both bodies streamed.

use std::task::Poll;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::HOST;
use http::request::Parts;
use http::{Request, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};

use super::backend::{Call, Failure, Held};
use super::caller::Caller;
use super::keeping::looking_on;
use super::pace::Pace;
use super::problem::Problem;
use super::route::ForwardRoute;
use super::tunnel::Wish;
use super::upload::Upload;
use super::{Gateway, Matched, cause, headers};
use crate::clients::Speaks;

impl Gateway {
    /// Forwards a request and gives the service's answer, or a problem of our own: 502 `unreachable`,
    /// 504 `late`, 408 `slow_body`, 400 `bad_path`. `client` is who asks.
    pub async fn forward(
        &self,
        matched: &Matched<'_, ForwardRoute>,
        request: Request<Body>,
        client: &Caller,
    ) -> Response {
        let (mut parts, body) = request.into_parts();
        let target = match matched.route.target(&matched.params, &matched.path, parts.uri.query()) {
            Ok(target) => target,
            Err(reason) => return Problem::from(reason).into_response(),
        };
        let service = matched.route.to.pick(&mut fastrand::Rng::new());
        let speaks = self.backends.speaks(service);
        // In HTTP/2 a connection carries many requests, and none of them can have it for itself.
        let wish = Wish::of(&mut parts).filter(|_| speaks == Speaks::Http1);
        let upload = self.upload(matched.route, service, &parts, body).await;
        let key = self.backends.key(service, &parts.headers, &matched.params);
        let te = headers::te(&parts.headers, speaks);
        let mut call = Call { key, ..call(matched, service, parts, target, upload, client) };
        call.headers.extend(te);
        if let Some(wish) = &wish {
            wish.add_to(&mut call.headers);
        }
        match (self.backends.send(&call).await, wish) {
            (Ok((answer, mut held)), Some(wish)) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                held.giver.went_well();
                wish.granted(answer, held, self.options.tunnel_idle, call.service)
            }
            (Ok((answer, held)), _) => from_backend(answer, held, call.service, matched),
            (Err(failure), _) => failure.problem(call.service).into_response(),
        }
    }

    /// The body, kept where the request may be sent twice.
    async fn upload(&self, route: &ForwardRoute, service: &str, parts: &Parts, body: Body) -> Upload {
        let is_harmless = || self.backends.is_harmless_twice(service, &parts.method, &parts.headers);
        let rate_min = route.body_rate_min.unwrap_or(self.options.body_rate_min);
        let pace = Pace::new(self.options.body_timeout, rate_min);
        if route.retry.is_some() && is_harmless() {
            Upload::kept(body, pace, self.bodies.of(service).permit()).await
        } else {
            Upload::new(body, pace)
        }
    }
}

fn call<'a>(
    matched: &Matched<'a, ForwardRoute>,
    service: &'a str,
    mut parts: Parts,
    target: String,
    upload: Upload,
    client: &Caller,
) -> Call<'a> {
    let route = matched.route;
    let host = route.rewrite.host.of(&parts);
    let mut headers = headers::from_client(std::mem::take(&mut parts.headers));
    route.rewrite.request.apply(&mut headers, &matched.params);
    headers.extend(host.map(|host| (HOST, host)));
    client.add_to(&mut headers);
    Call {
        route: matched.id,
        service,
        method: parts.method,
        target,
        headers,
        upload,
        timeout: route.timeout,
        try_timeout: route.try_timeout,
        retry: route.retry.as_ref(),
        key: None,
        context: client.context.clone(),
    }
}

fn from_backend(
    answer: http::Response<Incoming>,
    mut held: Held,
    service: &str,
    matched: &Matched<'_, ForwardRoute>,
) -> Response {
    // Nobody asked for another protocol.
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Failure::Broken.problem(service).into_response();
    }
    let (mut parts, body) = answer.into_parts();
    // What the backend spoke is not what the client does.
    parts.version = Version::HTTP_11;
    headers::from_backend(&mut parts.headers);
    matched.route.rewrite.response.apply(&mut parts.headers, &matched.params);
    // What the client library noted about the connection is not for the next one.
    parts.extensions.clear();
    let body = body.map_frame(|frame| match frame.into_trailers() {
        Ok(mut trailers) => {
            headers::trailers(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    });
    // The client waits for it until its last byte.
    looking_on(Response::from_parts(parts, Body::new(body)), move |polled, _| {
        if let Poll::Ready(Some(Err(error))) = polled {
            held.giver.broke_off(cause::of_answer(error));
        }
    })
}
