//! Plain forwarding: one call to one service, both bodies streamed.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{Request, StatusCode};

use super::backend::{Call, Failure, Held};
use super::caller::Caller;
use super::headers;
use super::keeping::keeping;
use super::path::BadPath;
use super::problem::Problem;
use super::route::ForwardRoute;
use super::template::Target;
use super::tunnel::Wish;
use super::upload::Upload;
use super::{Gateway, Matched};

impl Gateway {
    /// Forwards a request and gives the service's answer, or a problem of our own: 502 `unreachable`,
    /// 504 `late`, 400 `bad_path`. `client` is who asks.
    pub async fn forward(
        &self,
        matched: &Matched<'_, ForwardRoute>,
        request: Request<Body>,
        client: &Caller,
    ) -> Response {
        let (mut parts, body) = request.into_parts();
        let wish = Wish::of(&mut parts);
        let target = match target(matched) {
            Ok(target) => target.with_query(parts.uri.query()),
            Err(reason) => return Problem::from(reason).into_response(),
        };
        let upload = self.upload(matched.route, &parts, body).await;
        let key = self.backends.key(&matched.route.service, &parts.headers, &matched.params);
        let mut call = Call { key, ..call(matched, parts, target, upload, client) };
        if let Some(wish) = &wish {
            wish.add_to(&mut call.headers);
        }
        match (self.backends.send(&call).await, wish) {
            (Ok((answer, held)), Some(wish)) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                wish.granted(answer, held, self.options.tunnel_idle, call.service)
            }
            (Ok((answer, held)), _) => from_backend(answer, held, call.service),
            (Err(failure), _) => failure.problem(call.service).into_response(),
        }
    }

    /// The body, kept where the request may be sent twice.
    async fn upload(&self, route: &ForwardRoute, parts: &Parts, body: Body) -> Upload {
        let is_harmless = || self.backends.is_harmless_twice(&route.service, &parts.method, &parts.headers);
        if route.retry.is_some() && is_harmless() {
            Upload::kept(body, self.bodies.of(&route.service).permit()).await
        } else {
            Upload::new(body)
        }
    }
}

fn target(matched: &Matched<'_, ForwardRoute>) -> Result<Target, BadPath> {
    match &matched.route.path {
        Some(template) => template.fill(&matched.params),
        None => Ok(Target { path: matched.path.clone(), query: None }),
    }
}

fn call<'a>(
    matched: &Matched<'a, ForwardRoute>,
    parts: Parts,
    target: String,
    upload: Upload,
    client: &Caller,
) -> Call<'a> {
    let mut headers = headers::from_client(&parts.headers);
    client.add_to(&mut headers);
    let route = matched.route;
    Call {
        service: &route.service,
        method: parts.method,
        target,
        headers,
        upload,
        timeout: route.timeout,
        try_timeout: route.try_timeout,
        retry: route.retry.as_ref(),
        key: None,
    }
}

fn from_backend(answer: reqwest::Response, held: Held, service: &str) -> Response {
    // Nobody asked for another protocol.
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Failure::Broken.problem(service).into_response();
    }
    let (mut parts, body) = http::Response::from(answer).into_parts();
    headers::from_backend(&mut parts.headers);
    // What the client library noted about the connection is not for the next one.
    parts.extensions.clear();
    // The client waits for it until its last byte.
    keeping(Response::from_parts(parts, Body::new(body)), held)
}
