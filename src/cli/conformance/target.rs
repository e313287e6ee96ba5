//! What is attacked: where the participant is, its four paths, and the work it is given.
//!
//! It comes from the command line, or from a route of a configuration; plans and work calls are made of it by the code
//! that a node makes them with.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Args, Carry, ConformanceError};
use crate::budget::Halves;
use crate::clients::Speaks;
use crate::clock::Timestamp;
use crate::config::{self, Config, endpoint};
use crate::discovery::Endpoint;
use crate::gateway::{Action, Params, PlannedCall, Template, TransactionRoute, Trust};
use crate::participant::Work;
use crate::participant::options::{CallBody, Retry, TransactionOptions};
use crate::plan::{Plan, Trace};
use crate::server::transact::{planned, work, work_headers};
use crate::trace::Spans;

/// How many branches each transaction has: the most that a script uses.
const BRANCHES: usize = 2;

/// A participant and what it is asked to do.
#[derive(Debug)]
pub(super) struct Target {
    /// Its instances, at least one.
    pub(super) endpoints: Vec<Endpoint>,
    /// How it takes part.
    pub(super) options: TransactionOptions,
    possible: PlannedCall,
    impossible: Option<PlannedCall>,
    headers: HeaderMap,
}

impl Target {
    /// What the arguments name.
    pub(super) fn of(args: &Args) -> Result<Self, ConformanceError> {
        let content_type = HeaderValue::from_str(&args.content_type)
            .map_err(|_| usage(format!("`{}` is no content type", args.content_type)))?;
        let headers = headers(args)?;
        let bodies = (text(&args.body)?, args.refused_body.as_deref().map(text).transpose()?);
        let endpoints = args.urls.iter().map(|url| endpoint(url).map_err(usage)).collect::<Result<_, _>>()?;
        match &args.config {
            Some(path) => {
                let config = config::load(path, config::process_env())?;
                Self::of_route(args, &config, endpoints, &content_type, bodies, headers)
            }
            None => Self::of_paths(args, endpoints, bodies, headers),
        }
    }

    fn of_paths(
        args: &Args,
        endpoints: Vec<Endpoint>,
        (body, refused): (Bytes, Option<Bytes>),
        headers: HeaderMap,
    ) -> Result<Self, ConformanceError> {
        let needed = |path: &Option<String>| checked(path.as_deref().unwrap_or_default());
        let method = args.method.to_ascii_uppercase();
        let possible = PlannedCall {
            service: "participant".to_owned(),
            method: method.parse::<Method>().map_err(|_| usage(format!("`{method}` is no method")))?,
            path: needed(&args.work)?,
            content_type: Some(args.content_type.clone()),
            body,
        };
        let impossible = refused.map(|body| PlannedCall { body, ..possible.clone() });
        let options = TransactionOptions {
            speaks: Speaks::default(),
            prepare: args.prepare.as_deref().map(checked).transpose()?,
            commit: needed(&args.commit)?,
            abort: needed(&args.abort)?,
            body: match args.carry {
                Carry::Envelope => CallBody::Envelope,
                Carry::Request => CallBody::Request,
            },
            timeout: args.timeout.map_or(TransactionOptions::TIMEOUT, Into::into),
            retry: Retry::default(),
            calls_max: TransactionOptions::CALLS_MAX,
        };
        Ok(Self { endpoints, options, possible, impossible, headers })
    }

    fn of_route(
        args: &Args,
        config: &Config,
        endpoints: Vec<Endpoint>,
        content_type: &HeaderValue,
        (body, refused): (Bytes, Option<Bytes>),
        headers: HeaderMap,
    ) -> Result<Self, ConformanceError> {
        let route = transaction(config, args.route.as_deref().unwrap_or_default())?;
        let plan = |body: &Bytes| -> Result<PlannedCall, ConformanceError> {
            let calls = route.plan(&Params::default(), None, Some(content_type), body);
            let calls =
                calls.map_err(|error| usage(format!("the gateway would refuse this request: {error}")))?;
            let count = calls.len();
            let missing = || usage(format!("the route has {count} branches, numbered from 0"));
            calls.into_iter().nth(args.branch).ok_or_else(missing)
        };
        let possible = plan(&body)?;
        let impossible = refused.as_ref().map(plan).transpose()?;
        let service = config.services.get(&possible.service).expect("the configuration was checked");
        let mut options = service.transaction.clone().expect("the configuration was checked");
        options.timeout = args.timeout.map_or(options.timeout, Into::into);
        let of_service = || service.instances().iter().map(|instance| instance.endpoint.clone()).collect();
        let endpoints: Vec<_> = if endpoints.is_empty() { of_service() } else { endpoints };
        if endpoints.is_empty() {
            let (name, kind) = (&possible.service, service.spec.source.kind());
            return Err(usage(format!(
                "the service {name} is looked for by `{kind}`; say which instance: give its URL"
            )));
        }
        Ok(Self { endpoints, options, possible, impossible, headers })
    }

    /// The address of a path at its first instance.
    pub(super) fn url(&self, path: &str) -> Result<String, ConformanceError> {
        let endpoint = self.endpoints.first().expect("there is at least one");
        Ok(format!("{endpoint}{}", checked(path)?))
    }

    /// Whether there is work that has to be refused.
    pub(super) fn has_impossible(&self) -> bool {
        self.impossible.is_some()
    }

    /// A transaction with this work, and what its work calls carry.
    pub(super) fn begin(&self, is_impossible: bool, now: Timestamp) -> (Arc<Plan>, Work) {
        let call = if is_impossible { self.impossible.as_ref() } else { None };
        let call = call.unwrap_or(&self.possible);
        let work = work(call, &call.body, &self.headers);
        let mut plan = Plan {
            route: "conformance".to_owned(),
            deadline: now.plus(Duration::from_mins(1)),
            branches: Vec::with_capacity(BRANCHES),
            bodies: Vec::new(),
            key: None,
            trace: Trace::begin(fastrand::u128(..)),
        };
        let kept = Halves::new(usize::MAX);
        for _ in 0..BRANCHES {
            let branch = planned(call.clone(), &self.options, &mut plan.bodies, &kept);
            plan.branches.push(branch.expect("there is room for everything"));
        }
        (Arc::new(plan), work)
    }
}

/// The transaction route of this name, whose path binds nothing.
fn transaction<'a>(config: &'a Config, id: &str) -> Result<&'a TransactionRoute, ConformanceError> {
    let known = || config.routes.iter().map(|route| route.id.as_str()).collect::<Vec<_>>().join(", ");
    let route = config.routes.iter().find(|route| route.id == id);
    let route = route.ok_or_else(|| usage(format!("there is no route `{id}`; there are: {}", known())))?;
    let Action::Transaction(transaction) = &route.action else {
        return Err(usage(format!("the route `{id}` is not a transaction")));
    };
    if route.matches.path.params().next().is_some() {
        let why = "has parameters; give URL, --work, --commit and --abort instead";
        return Err(usage(format!("the path of the route `{id}` {why}")));
    }
    Ok(transaction)
}

/// The client's headers, as they go with the work.
fn headers(args: &Args) -> Result<HeaderMap, ConformanceError> {
    let (mut request, ()) = http::Request::new(()).into_parts();
    let client = &mut request.headers;
    client.insert(HOST, HeaderValue::from_static("localhost"));
    for header in &args.headers {
        let wrong =
            || usage(format!("`{header}` is no header; write it as in --header 'Authorization: Bearer x'"));
        let (name, value) = header.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
        client.append(name, HeaderValue::try_from(value.trim()).map_err(|_| wrong())?);
    }
    let caller = Trust::new(Vec::new()).caller(
        &request,
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        &Spans::default(),
    );
    let caller = caller.map_err(|problem| usage(problem.detail))?;
    Ok(work_headers(&request.headers, &caller))
}

/// A body: the text itself, or `@FILE`.
fn text(given: &str) -> Result<Bytes, ConformanceError> {
    match given.strip_prefix('@') {
        Some(path) => std::fs::read(path).map(Bytes::from).map_err(|error| usage(format!("{path}: {error}"))),
        None => Ok(Bytes::copy_from_slice(given.as_bytes())),
    }
}

/// A path in the form in which a node sends it.
fn checked(path: &str) -> Result<String, ConformanceError> {
    let wrong = |error: &dyn std::fmt::Display| usage(format!("the path `{path}` cannot be called: {error}"));
    let template = Template::parse(path).map_err(|error| wrong(&error))?;
    if template.params().next().is_some() {
        return Err(wrong(&"it has a parameter; write the value"));
    }
    let target = template.fill(&Params::default()).map_err(|error| wrong(&error))?;
    Ok(target.with_query(None))
}

fn usage(message: String) -> ConformanceError {
    ConformanceError::Usage(message)
}
