//! What one route is: which requests it takes, and what becomes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, Method};

use super::host::HostPattern;
use super::merge::MergeRoute;
use super::path::{BadPath, CleanPath};
use super::pattern::{Params, Pattern};
use super::query;
use super::redirect::{RedirectRoute, RespondRoute};
use super::rewrite::Rewrite;
use super::split::Split;
use super::template::{Target, Template};
use super::transaction::TransactionRoute;
use crate::balance::RetryRule;

/// One route of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its name: in errors, metrics and the log.
    pub id: String,
    /// Which requests it takes.
    pub matches: Matcher,
    /// Of routes that are as specific as each other, the one with the greater takes a request. Default: 0.
    pub priority: i32,
    /// What becomes of them.
    pub action: Action,
}

/// Which requests a route takes: all conditions have to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    /// The path.
    pub path: Pattern,
    /// One of these methods; `None`: any method.
    pub methods: Option<Vec<Method>>,
    /// One of these hosts; none: any host.
    pub hosts: Vec<HostPattern>,
    /// Fields that the request has exactly once, with exactly this value; names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Query parameters that the request has exactly once, with exactly this value, decoded.
    pub query: BTreeMap<String, String>,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// It goes on to one service, and the answer comes back; both are streamed.
    Forward(Box<ForwardRoute>),
    /// Several services are asked, and their answers become one JSON object.
    Merge(MergeRoute),
    /// It is done at every branch or at none.
    Transaction(TransactionRoute),
    /// The client is sent elsewhere.
    Redirect(RedirectRoute),
    /// It gets an answer that is always the same.
    Respond(RespondRoute),
}

/// Plain forwarding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardRoute {
    /// The service asked, or those that share the requests.
    pub to: Split,
    /// The path asked for; `None`: that of the request.
    pub path: Option<Template>,
    /// What else is changed on the way.
    pub rewrite: Rewrite,
    /// The longest wait for the head of the answer, from the moment the request stopped moving. The
    /// body may then take as long as it likes. Over all tries. Default: 30 s.
    pub timeout: Duration,
    /// The same for one try; `None`: as long as there is time.
    pub try_timeout: Option<Duration>,
    /// The bytes a second that a client has to send of a body; 0: any; `None`: those of the node.
    pub body_rate_min: Option<usize>,
    /// When a request is tried again although it may have been sent; `None`: never.
    pub retry: Option<RetryRule>,
}

/// The first condition of a route that a request does not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss<'a> {
    /// It asks for another host.
    Host,
    /// Its path is another.
    Path,
    /// It does not have this field exactly once, with the value that is wanted.
    Header(&'a str),
    /// It does not have this query parameter exactly once, with the value that is wanted.
    Query(&'a str),
}

/// What a request is matched by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Its method.
    pub(super) method: &'a Method,
    /// Its host, in lower case and without port.
    pub(super) host: Option<&'a str>,
    /// Its path.
    pub(super) path: &'a CleanPath,
    /// Its query, without the `?`.
    pub(super) query: Option<&'a str>,
    /// Its header fields.
    pub(super) headers: &'a HeaderMap,
}

impl Route {
    /// The services that a request to this route may reach, in declared order, each once.
    #[must_use]
    pub fn services(&self) -> Vec<&str> {
        let all: Vec<&str> = match &self.action {
            Action::Forward(forward) => forward.to.shares().map(|(service, _)| service).collect(),
            Action::Merge(merge) => merge.parts.iter().map(|part| part.service.as_str()).collect(),
            Action::Transaction(route) => {
                route.branches.iter().map(|branch| branch.service.as_str()).collect()
            }
            Action::Redirect(_) | Action::Respond(_) => Vec::new(),
        };
        let mut services = Vec::new();
        for service in all {
            if !services.contains(&service) {
                services.push(service);
            }
        }
        services
    }

    /// Whether the route takes `method`. HEAD is GET without a body, so a route that takes GET takes it
    /// too; a transaction is no question, so there it has to be named.
    #[must_use]
    pub fn takes(&self, method: &Method) -> bool {
        let head = method == Method::HEAD && !matches!(self.action, Action::Transaction(_));
        self.matches.names(method) || (head && self.matches.names(&Method::GET))
    }
}

impl ForwardRoute {
    /// Path and query as they are sent, for a request with this path and query. The path is in normal form
    /// again, or refused.
    pub fn target(&self, params: &Params, path: &CleanPath, query: Option<&str>) -> Result<String, BadPath> {
        let target = match &self.path {
            Some(template) => template.fill(params)?,
            None => Target { path: path.clone(), query: None },
        };
        let query = self.rewrite.query.apply(target.query.as_deref().or(query), params);
        Ok(Target { query: query.map(query::in_ascii), ..target }.with_query(None))
    }
}

impl Matcher {
    /// What the path bound, where all but the method fits; else what does not.
    pub(super) fn check(&self, asked: &Asked<'_>) -> Result<Params, Miss<'_>> {
        if !self.fits_host(asked.host) {
            return Err(Miss::Host);
        }
        let params = self.path.matches(asked.path).ok_or(Miss::Path)?;
        self.check_headers(asked.headers)?;
        self.check_query(asked.query)?;
        Ok(params)
    }

    /// Whether `method` is one of those listed, or none are.
    #[must_use]
    pub fn names(&self, method: &Method) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contains(method))
    }

    fn fits_host(&self, asked: Option<&str>) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|host| asked.is_some_and(|asked| host.takes(asked)))
    }

    fn check_headers(&self, asked: &HeaderMap) -> Result<(), Miss<'_>> {
        let is_missed = |(name, expected): &(&String, &String)| {
            let mut values = asked.get_all(name.as_str()).iter();
            let first = values.next();
            first.is_none_or(|value| value.as_bytes() != expected.as_bytes()) || values.next().is_some()
        };
        self.headers.iter().find(is_missed).map_or(Ok(()), |(name, _)| Err(Miss::Header(name)))
    }

    fn check_query(&self, asked: Option<&str>) -> Result<(), Miss<'_>> {
        let asked = asked.unwrap_or_default();
        let is_missed = |(name, expected): &(&String, &String)| !query::has_once(asked, name, expected);
        self.query.iter().find(is_missed).map_or(Ok(()), |(name, _)| Err(Miss::Query(name)))
    }
}
