//! Spans: when a request or a call began, how long it took, and what came of it.
//!
//! Their names and attributes are those of the OpenTelemetry semantic conventions for HTTP
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>). No query, no body and no field of a header is in them.
//! A span that nobody takes costs no more than the number that a backend is told in `traceparent`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Method, Uri};
use tokio::time::Instant;

use super::Trace;
use crate::clock::time_of_day;

/// Takes spans that are over.
pub trait Sink: fmt::Debug + Send + Sync {
    /// Whether the spans of a trace are taken. `said` is what the client says of that; `None`: the trace begins here.
    fn samples(&self, trace: u128, said: Option<bool>) -> bool;

    /// Takes one. It must not wait.
    fn take(&self, span: Ended);
}

/// Where spans go when they are over. Default: nowhere.
#[derive(Debug, Clone, Default)]
pub struct Spans(Option<Arc<dyn Sink>>);

/// What the spans of one request have in common. Default: no trace.
#[derive(Debug, Clone, Default)]
pub struct Context {
    trace: Option<Trace>,
    /// The span of the request, which those of its calls are a part of.
    span: u64,
    /// The client's own.
    parent: Option<u64>,
    /// `None`: nobody takes them.
    sink: Option<Arc<dyn Sink>>,
}

/// A request or a call that goes on. It is over when it is dropped.
#[derive(Debug)]
pub struct Span {
    trace: Option<Trace>,
    id: u64,
    /// What is known so far, where somebody takes it.
    known: Option<Box<Known>>,
}

#[derive(Debug)]
struct Known {
    sink: Arc<dyn Sink>,
    begun: Instant,
    span: Ended,
}

/// A span that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Its trace.
    pub trace: u128,
    /// Its own number.
    pub id: u64,
    /// The span that it is a part of.
    pub parent: Option<u64>,
    /// On which side of it we are.
    pub kind: Kind,
    /// What is asked, without what differs from request to request.
    pub name: String,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// The status that it was answered with.
    pub status: Option<u16>,
    /// Why it failed, where no status says so.
    pub error: Option<&'static str>,
    /// What else is known of it.
    pub attributes: Vec<Attribute>,
}

/// Whether we answer, or ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request that a client has sent to us.
    Server,
    /// A call that we have sent to a service.
    Client,
}

/// Its name, and what it is.
pub type Attribute = (&'static str, Value);

/// What an attribute says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(u32),
}

/// One call, as its span tells of it.
#[derive(Debug, Clone, Copy)]
pub struct Called<'a> {
    /// What is asked of the service, in one word; `None`: the method says it.
    pub what: Option<&'static str>,
    /// The service.
    pub service: &'a str,
    /// The base URL of the instance.
    pub endpoint: &'a str,
    /// The method.
    pub method: &'a Method,
    /// Path and query.
    pub target: &'a str,
    /// How often the same was asked of the service before.
    pub before: u32,
}

impl Spans {
    /// They go to `sink`.
    #[must_use]
    pub fn to(sink: Arc<dyn Sink>) -> Self {
        Self(Some(sink))
    }

    /// The context of a request. `client` is the trace that it belongs to, and the client's span in that. Where it has none
    /// and spans are taken, one begins here that bears `number`.
    #[must_use]
    pub fn of_request(&self, client: Option<(Trace, u64)>, number: u128) -> Context {
        let (trace, parent) = client.unzip();
        let Some(sink) = &self.0 else { return Context { trace, ..Context::default() } };
        let id = trace.map_or(number, |trace| trace.id);
        let flags = u8::from(sink.samples(id, trace.map(Trace::is_sampled)));
        Context { parent, ..self.of_calls(Trace { id, flags }, fastrand::u64(1..)) }
    }

    /// The context of calls that are a part of the span `span` of `trace`.
    #[must_use]
    pub fn of_calls(&self, trace: Trace, span: u64) -> Context {
        let sink = self.0.clone().filter(|_| trace.is_sampled());
        Context { trace: Some(trace), span, parent: None, sink }
    }
}

impl Context {
    /// The trace, where there is one.
    #[must_use]
    pub fn trace(&self) -> Option<Trace> {
        self.trace
    }

    /// Begins the span of the request itself, of which `more` is known.
    #[must_use]
    pub fn request(&self, method: &Method, more: impl FnOnce() -> Vec<Attribute>) -> Span {
        self.begin(self.span, self.parent, Kind::Server, || {
            let named = (named(method).unwrap_or("HTTP").to_owned(), more());
            (named.0, [vec![requested(method)], named.1].concat())
        })
    }

    /// Begins the span of one call for the request.
    #[must_use]
    pub fn call(&self, called: &Called<'_>) -> Span {
        self.begin(fastrand::u64(1..), Some(self.span), Kind::Client, || {
            let what = called.what.unwrap_or(named(called.method).unwrap_or("HTTP"));
            (format!("{what} {}", called.service), called.attributes())
        })
    }

    fn begin(
        &self,
        id: u64,
        parent: Option<u64>,
        kind: Kind,
        about: impl FnOnce() -> (String, Vec<Attribute>),
    ) -> Span {
        let known = self.trace.zip(self.sink.clone()).map(|(trace, sink)| {
            let (name, attributes) = about();
            let (began, took) = (time_of_day(), Duration::ZERO);
            // Whoever gives it up does not come to say so.
            let (status, error) = (None, Some("cancelled"));
            let trace = trace.id;
            let span = Ended { trace, id, parent, kind, name, began, took, status, error, attributes };
            Box::new(Known { sink, begun: Instant::now(), span })
        });
        Span { trace: self.trace, id, known }
    }
}

impl Span {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What the one who is called is told of it; `None` where there is no trace.
    #[must_use]
    pub fn parent(&self) -> Option<String> {
        self.trace.map(|trace| trace.parent(self.id).to_string())
    }

    /// It has this number from now on. Nothing may have been told of the one before.
    pub fn becomes(&mut self, id: u64) {
        if let Some(known) = &mut self.known {
            known.span.id = id;
        }
        self.id = id;
    }

    /// The request takes this route; `pattern` is the path that it matches.
    pub fn takes(&mut self, id: &str, pattern: impl FnOnce() -> Option<String>) {
        let Some(known) = &mut self.known else { return };
        known.span.attributes.push(("unanimous.route", id.into()));
        if let Some(pattern) = pattern() {
            known.span.name = format!("{} {pattern}", known.span.name);
            known.span.attributes.push(("http.route", Value::Text(pattern)));
        }
    }

    /// This is known of it too.
    pub fn say<const N: usize>(&mut self, more: impl FnOnce() -> [Attribute; N]) {
        if let Some(known) = &mut self.known {
            known.span.attributes.extend(more());
        }
    }

    /// It was answered.
    pub fn answered(&mut self, status: u16) {
        if let Some(known) = &mut self.known {
            (known.span.status, known.span.error) = (Some(status), None);
        }
    }

    /// It failed, whatever status may have come.
    pub fn failed(&mut self, why: &'static str) {
        if let Some(known) = &mut self.known {
            known.span.error = Some(why);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(known) = self.known.take() {
            let Known { sink, begun, span } = *known;
            sink.take(Ended { took: begun.elapsed(), ..span });
        }
    }
}

impl Called<'_> {
    fn attributes(&self) -> Vec<Attribute> {
        let path = self.target.split(['?', '#']).next().unwrap_or_default();
        let mut attributes = vec![
            requested(self.method),
            ("peer.service", self.service.into()),
            ("url.full", Value::Text(format!("{}{path}", self.endpoint))),
        ];
        if let Ok(endpoint) = self.endpoint.parse::<Uri>() {
            attributes.extend(endpoint.host().map(|host| ("server.address", host.into())));
            let port = endpoint.port_u16().unwrap_or(80);
            attributes.push(("server.port", Value::Number(port.into())));
        }
        if self.before > 0 {
            attributes.push(("http.request.resend_count", Value::Number(self.before)));
        }
        attributes
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What a client may write there without end is one thing for whoever counts.
fn requested(method: &Method) -> Attribute {
    ("http.request.method", named(method).unwrap_or("_OTHER").into())
}

fn named(method: &Method) -> Option<&str> {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::CONNECT,
        Method::TRACE,
    ];
    known.contains(method).then(|| method.as_str())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<Ended>>);

    impl Sink for Kept {
        fn samples(&self, _trace: u128, said: Option<bool>) -> bool {
            said.unwrap_or(true)
        }

        fn take(&self, span: Ended) {
            self.0.lock().unwrap().push(span);
        }
    }

    fn called(target: &str) -> Called<'_> {
        let (service, endpoint, method) = ("accounts", "http://[::1]:9001", &Method::GET);
        Called { what: None, service, endpoint, method, target, before: 0 }
    }

    #[test]
    fn a_call_is_a_part_of_its_request_and_of_the_clients_trace() {
        let kept = Arc::new(Kept::default());
        let client = Trace { id: 7, flags: 1 };
        let context = Spans::to(kept.clone()).of_request(Some((client, 5)), 9);
        let request = context.request(&Method::GET, Vec::new);
        let mut call = context.call(&called("/x?token=secret"));
        call.answered(200);
        let told = call.parent();
        drop((call, request));
        let spans = kept.0.lock().unwrap();
        let (call, request) = (&spans[0], &spans[1]);
        assert_eq!((request.trace, request.parent, call.parent), (7, Some(5), Some(request.id)));
        assert_eq!(told.unwrap(), client.parent(call.id).to_string());
        assert_eq!((call.status, call.error, request.error), (Some(200), None, Some("cancelled")));
        assert!(!format!("{spans:?}").contains("secret"), "{spans:?}");
        assert!(call.attributes.contains(&("server.address", "[::1]".into())), "{call:?}");
    }

    #[test]
    fn nothing_is_taken_of_a_trace_that_is_not_sampled_and_the_backend_hears_that() {
        let kept = Arc::new(Kept::default());
        let context = Spans::to(kept.clone()).of_request(Some((Trace { id: 7, flags: 0 }, 5)), 9);
        let call = context.call(&called("/x"));
        assert!(call.parent().unwrap().ends_with("-00"));
        drop((call, context.request(&Method::GET, Vec::new)));
        assert_eq!(*kept.0.lock().unwrap(), []);
    }

    #[test]
    fn where_nobody_takes_spans_no_trace_begins() {
        let context = Spans::default().of_request(None, 9);
        assert_eq!((context.trace(), context.call(&called("/x")).parent()), (None, None));
    }
}
