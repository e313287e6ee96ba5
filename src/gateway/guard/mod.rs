//! What stands before a route: who may come, how often, from which web pages; and how its answers leave.
//!
//! ```text
//!  request ─► address ─► rates ─► length ─► the route ─► compression ─► CORS ─► answer
//!     │          403       429       413                                 ▲
//!     └─ preflight of a browser ─────────────────────────────────────────┘
//! ```
//!
//! None of it applies to what the node itself sends: prepare, commit and abort are never counted, limited or refused here.

mod addresses;
mod compress;
mod cors;
mod rate;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::response::Response;
use http::header::{CONTENT_LENGTH, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

pub use addresses::Addresses;
pub use cors::{Cors, Origins};
pub use rate::{By, Limiters, Rate};

use self::compress::compressed;
use self::rate::{Limiter, Room};
use super::caller::Caller;
use super::problem::Problem;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What the configuration says of one route.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guards {
    /// Who may come.
    pub addresses: Addresses,
    /// How often; each of them has to have room.
    pub rates: Vec<Rate>,
    /// The most bytes of a body; `None`: as many as the kind of route allows.
    pub body_max: Option<usize>,
    /// Which web pages may read the answers.
    pub cors: Option<Cors>,
    /// Whether answers are compressed for clients that take that.
    pub compress: bool,
}

/// The guards of all routes of a configuration, by the id of the route.
#[derive(Default)]
pub struct GuardBook(HashMap<String, Guard>);

/// The guards of one route, at work.
pub struct Guard {
    route: String,
    addresses: Addresses,
    rates: Vec<(Rate, Arc<Limiter>)>,
    /// The most bytes of a body.
    pub body_max: Option<usize>,
    cors: Option<cors::Layer>,
    compress: bool,
}

/// What has to be known of a request when its answer leaves.
pub struct Visit {
    asked: HeaderMap,
    /// What is said of the rates.
    fields: HeaderMap,
}

impl GuardBook {
    /// Puts guards before routes; `limiters` remembers who came how often under earlier configurations.
    #[must_use]
    pub fn new(guards: &BTreeMap<String, Guards>, limiters: &Limiters) -> Self {
        let guard =
            |(route, guards): (&String, &Guards)| (route.clone(), Guard::new(route, guards, limiters));
        limiters.keep(guards);
        Self(guards.iter().map(guard).collect())
    }

    /// The guard of a route; `None` where nothing stands before it.
    #[must_use]
    pub fn of(&self, route: &str) -> Option<&Guard> {
        self.0.get(route)
    }
}

impl Guard {
    fn new(route: &str, guards: &Guards, limiters: &Limiters) -> Self {
        let limiter = |(number, rate): (usize, &Rate)| (rate.clone(), limiters.of(route, number, rate));
        Self {
            route: route.to_owned(),
            addresses: guards.addresses.clone(),
            rates: guards.rates.iter().enumerate().map(limiter).collect(),
            body_max: guards.body_max,
            cors: guards.cors.as_ref().map(Cors::layer),
            compress: guards.compress,
        }
    }

    /// Lets a request pass, or says why not: 403 `forbidden_address`, 429 `rate_limited`, 413 `body_too_large`. In both cases
    /// the answer has to leave by [`Guard::leaves`].
    pub fn enters(&self, client: &Caller, request: &Parts) -> (Visit, Result<(), Problem>) {
        let mut visit = Visit::of(request);
        let entered = self.check(client, request, &mut visit.fields);
        (visit, entered)
    }

    fn check(&self, client: &Caller, request: &Parts, fields: &mut HeaderMap) -> Result<(), Problem> {
        if !self.addresses.let_in(client.address) {
            let detail = "this route is not open to the address that the request comes from";
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden_address", detail));
        }
        self.count(client, request, fields)?;
        let declared = request.headers.get(CONTENT_LENGTH);
        let declared = declared.and_then(|length| length.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
        match self.body_max.filter(|bytes_max| declared > *bytes_max) {
            Some(bytes_max) => Err(Problem::body_too_large(bytes_max)),
            None => Ok(()),
        }
    }

    fn count(&self, client: &Caller, request: &Parts, fields: &mut HeaderMap) -> Result<(), Problem> {
        let (mut policies, mut rooms) = (Vec::new(), Vec::new());
        let mut wait = None;
        for (number, (rate, limiter)) in self.rates.iter().enumerate() {
            let room = limiter.ask(rate.asker(client, &request.headers));
            let name = if number == 0 { "default".to_owned() } else { format!("default-{}", number + 1) };
            policies.push(rate.policy(&name));
            rooms.push(room.field(&name));
            if let Room::None { wait: more } = room {
                wait = wait.max(Some(more));
            }
        }
        for (name, list) in [(RATE_LIMIT_POLICY, policies), (RATE_LIMIT, rooms)] {
            let value = HeaderValue::from_str(&list.join(", ")).ok().filter(|value| !value.is_empty());
            fields.extend(value.map(|value| (name, value)));
        }
        let Some(wait) = wait else { return Ok(()) };
        let seconds = rate::seconds(wait);
        let detail = format!("more requests came than this route takes; come again in {seconds} s");
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
        Err(problem.with_header(RETRY_AFTER, &seconds.to_string()))
    }

    /// The answer as it leaves.
    pub async fn leaves(&self, visit: Visit, answer: Response) -> Response {
        let Visit { asked, fields } = visit;
        let mut answer = if self.compress { compressed(&asked, answer).await } else { answer };
        answer.headers_mut().extend(fields);
        match &self.cors {
            // Whatever its method was: the layer takes every OPTIONS for a preflight, and those do not come here.
            Some(cors) => cors.apply(Method::GET, asked, answer).await,
            None => answer,
        }
    }

    /// What a browser is told that asks whether a web page may send a request; `None` where nothing is said of web pages.
    pub async fn preflight(&self, request: &Parts) -> Option<Response> {
        let cors = self.cors.as_ref()?;
        Some(cors.apply(Method::OPTIONS, Visit::of(request).asked, Response::default()).await)
    }

    /// The route that it stands before.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }
}

/// The method that a browser asks about in a preflight (Fetch Standard, "CORS-preflight request").
#[must_use]
pub fn preflight_of(request: &Parts) -> Option<Method> {
    let asked = request.headers.get(http::header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let is_preflight =
        request.method == Method::OPTIONS && request.headers.contains_key(http::header::ORIGIN);
    if is_preflight { Method::from_bytes(asked.as_bytes()).ok() } else { None }
}

impl Visit {
    fn of(request: &Parts) -> Self {
        let mut asked = HeaderMap::new();
        for name in cors::ASKED.iter().chain(compress::ASKED.iter()) {
            let values = request.headers.get_all(name).iter().cloned();
            asked.extend(values.map(|value| (name.clone(), value)));
        }
        Self { asked, fields: HeaderMap::new() }
    }
}
