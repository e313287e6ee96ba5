//! Which web pages may read the answers of a route: CORS (Fetch Standard, section 3.3), by `tower-http`.

use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer, ExposeHeaders};

/// What of a request has to be known.
pub(super) const ASKED: [HeaderName; 3] =
    [ORIGIN, ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_REQUEST_HEADERS];

/// What the configuration says of web pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Pages of these origins.
    pub origins: Origins,
    /// What they may do. Default: GET, HEAD and POST, which need no leave in any case.
    pub methods: Vec<Method>,
    /// The fields that they may set, beside those that need no leave.
    pub headers: Vec<HeaderName>,
    /// The fields of answers that they may read, beside those that need no leave.
    pub expose: Vec<HeaderName>,
    /// Whether cookies and the like may go along. Never with [`Origins::Any`].
    pub credentials: bool,
    /// How long a browser may remember this.
    pub max_age: Duration,
}

/// Origins of web pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All of them.
    Any,
    /// These: `https://shop.example.com`.
    These(Vec<HeaderValue>),
}

/// The same, ready for use.
pub(super) struct Layer(CorsLayer);

impl Cors {
    pub(super) fn layer(&self) -> Layer {
        let origins = match &self.origins {
            Origins::Any => AllowOrigin::any(),
            Origins::These(origins) => AllowOrigin::list(origins.iter().cloned()),
        };
        let layer = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods(AllowMethods::list(self.methods.iter().cloned()))
            .allow_headers(AllowHeaders::list(self.headers.iter().cloned()))
            .expose_headers(ExposeHeaders::list(self.expose.iter().cloned()))
            .max_age(self.max_age);
        Layer(if self.credentials { layer.allow_credentials(true) } else { layer })
    }
}

impl Layer {
    /// The same answer with what a browser has to know; to a preflight, the answer.
    pub(super) async fn apply(&self, method: Method, headers: HeaderMap, mut answer: Response) -> Response {
        // The gateway answers for it, and two words would be none.
        remove(answer.headers_mut());
        let mut answer = Some(answer);
        let inner =
            service_fn(move |_: Request<Body>| ready(Ok::<_, Infallible>(answer.take().unwrap_or_default())));
        let mut asked = Request::new(Body::empty());
        (*asked.method_mut(), *asked.headers_mut()) = (method, headers);
        let Ok(mut answer) = self.0.layer(inner).oneshot(asked).await;
        // Who may not read it need not know who may do what.
        if !answer.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
            remove(answer.headers_mut());
        }
        answer
    }
}

/// Takes out all that is said of web pages.
fn remove(headers: &mut HeaderMap) {
    let is_cors = |name: &&HeaderName| name.as_str().starts_with("access-control-");
    let names: Vec<HeaderName> = headers.keys().filter(is_cors).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}
