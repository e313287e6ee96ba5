//! Spans to a collector by OTLP over HTTP (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>), as the environment says.
//!
//! What the variables mean, batches and their queue are the OpenTelemetry SDK's. Here is what it leaves to others: spans that
//! bear our own numbers, an HTTP client, and one line in the log where the collector takes nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, InstrumentationScope, Key, KeyValue, Value as Said};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Config, SamplingDecision, ShouldSample, SpanData, SpanEvents, SpanLinks,
    SpanProcessor as _,
};
use tokio::runtime::Handle;
use tokio_util::context::TokioContext;

use super::span::{Attribute, Ended, Kind, Sink, Spans, Value};
use crate::clients::{Clients, Speaks};

/// How long a node that stops waits for the last spans to be taken.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// How long one batch may take, where the environment does not say (`OTEL_EXPORTER_OTLP_TIMEOUT`).
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long connecting to a collector may take; connections to it are kept for longer than a batch is collected.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(30);

/// The most bytes of an answer: it has a few.
const ANSWER_MAX: usize = 64 * 1024;

/// Exports spans until it is told to finish.
#[derive(Debug)]
pub struct Exporter(Option<Arc<Collector>>);

/// The way to the collector.
#[derive(Debug)]
struct Collector {
    sampler: Box<dyn ShouldSample>,
    batches: BatchSpanProcessor,
    scope: InstrumentationScope,
    is_over: AtomicBool,
}

impl Exporter {
    /// As the environment says, which is not at all where it says nothing. A mistake in it is said in the log, and no spans
    /// are exported. Has to be called within the runtime that is to make the calls.
    #[must_use]
    pub fn from_environment() -> Self {
        let collector = is_wanted().and_then(|is_wanted| is_wanted.then(collector).transpose());
        collector.map_or_else(
            |why| {
                tracing::error!("no spans are exported: {why}");
                Self(None)
            },
            |collector| Self(collector.map(Arc::new)),
        )
    }

    /// Where spans go.
    #[must_use]
    pub fn spans(&self) -> Spans {
        self.0.clone().map_or_else(Spans::default, |collector| Spans::to(collector))
    }

    /// Sends what is left, if that does not take long.
    pub async fn finish(self) {
        let Some(collector) = self.0 else { return };
        collector.is_over.store(true, Ordering::Relaxed);
        let finish = move || collector.batches.shutdown_with_timeout(FINISH_WITHIN);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(finish).await {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// Whether spans are to be exported, and why they cannot be.
fn is_wanted() -> Result<bool, String> {
    let endpoint = said("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| said("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let protocol = said("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| said("OTEL_EXPORTER_OTLP_PROTOCOL"));
    let is_disabled = said("OTEL_SDK_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true"));
    match said("OTEL_TRACES_EXPORTER").as_deref() {
        _ if is_disabled => return Ok(false),
        Some("none") => return Ok(false),
        None if endpoint.is_none() => return Ok(false),
        None | Some("otlp") => {}
        Some(other) => {
            return Err(format!("OTEL_TRACES_EXPORTER is {other}, and there are `otlp` and `none`"));
        }
    }
    if let Some(other) = protocol.filter(|protocol| protocol != "http/protobuf") {
        return Err(format!("OTEL_EXPORTER_OTLP_PROTOCOL is {other}, and `http/protobuf` is what is spoken"));
    }
    if endpoint.is_some_and(|endpoint| !endpoint.to_ascii_lowercase().starts_with("http://")) {
        let why = "OTEL_EXPORTER_OTLP_ENDPOINT has to begin with http://, because no TLS is spoken; a collector beside \
                   the node can speak it";
        return Err(why.to_owned());
    }
    Ok(true)
}

/// What a variable says; an empty one says nothing.
fn said(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn collector() -> Result<Collector, String> {
    let timeout = said("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT").or_else(|| said("OTEL_EXPORTER_OTLP_TIMEOUT"));
    let timeout = timeout.and_then(|millis| millis.parse().ok()).map_or(TIMEOUT, Duration::from_millis);
    let clients = Clients::new(CONNECT_WITHIN, IDLE).map_err(|error| error.to_string())?;
    let client = Client { http: clients.of(Speaks::Http1).clone(), runtime: Handle::current(), timeout };
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build();
    let exporter = exporter.map_err(|error| error.to_string())?;
    let mut batches =
        BatchSpanProcessor::builder(Told { exporter, is_failing: AtomicBool::new(false) }).build();
    batches.set_resource(&resource());
    let scope = InstrumentationScope::builder("unanimous").with_version(env!("CARGO_PKG_VERSION")).build();
    tracing::info!("spans are exported");
    Ok(Collector { sampler: Config::default().sampler, batches, scope, is_over: AtomicBool::new(false) })
}

/// Who we are: what the environment says, and our name where it says none.
fn resource() -> Resource {
    let resource = Resource::builder().build();
    let name = resource.get(&Key::from_static_str("service.name"));
    if name.is_some_and(|name| !name.as_str().starts_with("unknown_service")) {
        return resource;
    }
    Resource::builder().with_service_name("unanimous").build()
}

impl Sink for Collector {
    fn samples(&self, trace: u128, said: Option<bool>) -> bool {
        let trace = TraceId::from(trace);
        let parent = said.map(|is_sampled| {
            let flags = TraceFlags::default().with_sampled(is_sampled);
            let parent = SpanContext::new(trace, SpanId::from(1), flags, true, TraceState::NONE);
            Context::new().with_remote_span_context(parent)
        });
        let sampled = self.sampler.should_sample(parent.as_ref(), trace, "", &SpanKind::Server, &[], &[]);
        sampled.decision == SamplingDecision::RecordAndSample
    }

    fn take(&self, span: Ended) {
        // What ends after the node has stopped is lost.
        if !self.is_over.load(Ordering::Relaxed) {
            self.batches.on_end(data(span, self.scope.clone()));
        }
    }
}

/// A span as the SDK has it.
fn data(span: Ended, instrumentation_scope: InstrumentationScope) -> SpanData {
    let sampled = TraceFlags::SAMPLED;
    let (trace, id) = (TraceId::from(span.trace), SpanId::from(span.id));
    let error = error(&span);
    let status = span.status.map(|status| ("http.response.status_code", Value::Number(status.into())));
    let error_type = error.clone().map(|error| ("error.type", Value::Text(error)));
    SpanData {
        span_context: SpanContext::new(trace, id, sampled, false, TraceState::NONE),
        parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from),
        parent_span_is_remote: span.kind == Kind::Server && span.parent.is_some(),
        span_kind: match span.kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
        },
        name: span.name.into(),
        start_time: span.began,
        end_time: span.began + span.took,
        attributes: span.attributes.into_iter().chain(status).chain(error_type).map(attribute).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        // The attributes say why.
        status: if error.is_some() { Status::error("") } else { Status::Unset },
        instrumentation_scope,
    }
}

/// Why it failed. An answer of 4xx is an error of the one who asked.
fn error(span: &Ended) -> Option<String> {
    let least = match span.kind {
        Kind::Server => 500,
        Kind::Client => 400,
    };
    let by_status = || span.status.filter(|status| *status >= least).map(|status| status.to_string());
    span.error.map(str::to_owned).or_else(by_status)
}

fn attribute((name, value): Attribute) -> KeyValue {
    let value: Said = match value {
        Value::Text(text) => text.into(),
        Value::Number(number) => i64::from(number).into(),
    };
    KeyValue::new(name, value)
}

/// An exporter that says once that its collector takes nothing, and once that it does again.
#[derive(Debug)]
struct Told {
    exporter: SpanExporter,
    is_failing: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for Told {
    /// Never an error: the SDK would say it of each batch.
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exported = self.exporter.export(batch).await;
        let was_failing = self.is_failing.swap(exported.is_err(), Ordering::Relaxed);
        match exported {
            Err(error) if !was_failing => {
                tracing::warn!(%error, "the collector takes no spans; they are dropped until it does");
            }
            Ok(()) if was_failing => tracing::info!("the collector takes spans again"),
            Ok(()) | Err(_) => {}
        }
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Our own HTTP client, for a thread of the SDK's that is none of the runtime's.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
    timeout: Duration,
}

impl HttpClient for Client {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let answer = async move {
            let mut request = reqwest::Request::try_from(request)?;
            *request.timeout_mut() = Some(self.timeout);
            let sent = self.http.execute(request).await;
            let answer =
                sent.inspect_err(|error| tracing::debug!(?error, "a batch of spans was not sent"))?;
            let (parts, body) = Response::from(answer).into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        Box::pin(TokioContext::new(answer, self.runtime.clone()))
    }
}
