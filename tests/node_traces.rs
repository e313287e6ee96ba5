//! Spans by OTLP, as a collector gets them from a real node.
//!
//! The program under test is built with the feature `otlp`; so is this: `cargo test --features otlp --test node_traces`.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use kit::{Answer, Gate, Node, Reply, Stub};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::Span as Wire;
use prost::Message as _;
use serde_json::json;
use tokio::time::Instant;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

const ROUTES: &str = r#"
    [[routes]]
    id = "account"
    match = { methods = ["GET"], path = "/accounts/{id}" }
    forward = { service = "accounts", path = "/own/{id}", retry = { on = [503] } }

    [[routes]]
    id = "overview"
    match = { methods = ["GET"], path = "/overview/{id}" }
    [routes.merge]
    parts = [
      { service = "accounts", path = "/accounts/{id}", as = "account" },
      { service = "ledger",   path = "/entries/{id}",  as = "entries", required = false },
    ]
"#;

/// A span, as it is easily compared.
#[derive(Debug, Clone)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    is_server: bool,
    is_error: bool,
    said: BTreeMap<String, String>,
}

impl Span {
    /// An attribute, empty where there is none.
    fn said(&self, name: &str) -> &str {
        self.said.get(name).map_or("", String::as_str)
    }

    /// What the one who was called was told of it.
    fn parent_header(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }
}

fn hex(bytes: &[u8]) -> String {
    let number = bytes.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    if bytes.is_empty() { String::new() } else { format!("{number:0width$x}", width = 2 * bytes.len()) }
}

fn said(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let said = |attribute: &KeyValue| {
        let value = attribute.value.clone().unwrap().value.unwrap();
        let text = if let Any::StringValue(text) = value { text } else { number(&value).to_string() };
        (attribute.key.clone(), text)
    };
    attributes.iter().map(said).collect()
}

fn number(value: &Any) -> i64 {
    let Any::IntValue(number) = value else { panic!("neither text nor number: {value:?}") };
    *number
}

fn span(wire: &Wire) -> Span {
    assert!(wire.start_time_unix_nano <= wire.end_time_unix_nano && wire.start_time_unix_nano > 0);
    Span {
        trace: hex(&wire.trace_id),
        id: hex(&wire.span_id),
        parent: hex(&wire.parent_span_id),
        name: wire.name.clone(),
        is_server: wire.kind == 2,
        is_error: wire.status.as_ref().is_some_and(|status| status.code == 2),
        said: said(&wire.attributes),
    }
}

fn batches(collector: &Stub) -> Vec<ExportTraceServiceRequest> {
    let decoded = |call: kit::Call| ExportTraceServiceRequest::decode(call.body.as_slice()).unwrap();
    collector.calls_to("/v1/traces").into_iter().map(decoded).collect()
}

/// All spans that have come, those of requests first.
fn spans(collector: &Stub) -> Vec<Span> {
    let batches = batches(collector);
    let resources = batches.iter().flat_map(|batch| &batch.resource_spans);
    let scopes = resources.flat_map(|resource| &resource.scope_spans);
    let mut spans: Vec<_> = scopes.flat_map(|scope| &scope.spans).map(span).collect();
    spans.sort_by_key(|span| !span.is_server);
    spans
}

async fn wait_for_spans(collector: &Stub, count: usize) -> Vec<Span> {
    kit::until(&format!("{count} spans"), async || spans(collector).len() >= count).await;
    let spans = spans(collector);
    assert_eq!(spans.len(), count, "{spans:#?}");
    spans
}

struct Shop {
    accounts: Stub,
    ledger: Stub,
    collector: Stub,
    node: Node,
}

/// A node with all kinds of routes that exports to a collector.
async fn shop(environment: &[(&str, &str)]) -> Shop {
    let (accounts, ledger, collector) = (Stub::start().await, Stub::start().await, Stub::start().await);
    collector.always("/v1/traces", Answer::bytes(200, "application/x-protobuf", []));
    let mut node = Node::with_section("drain = \"10ms\"", &(kit::two_branches(&accounts, &ledger) + ROUTES));
    node.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url("")).env("OTEL_BSP_SCHEDULE_DELAY", "20");
    for (name, value) in environment {
        node.env(name, value);
    }
    node.start().await;
    Shop { accounts, ledger, collector, node }
}

impl Shop {
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.node.send(Method::GET, &self.node.url(path), headers, None).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_try_of_a_forwarded_request_is_a_span_below_that_of_the_request() {
    let shop = shop(&[
        ("OTEL_SERVICE_NAME", "shop-gateway"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=payments"),
    ])
    .await;
    shop.accounts.next("/own/7", [Answer::status(503)]);
    let headers =
        [("traceparent", SAMPLED), ("authorization", "Bearer secret-1"), ("x-request-id", "order-7")];
    shop.get("/accounts/7?token=secret-2", &headers).await.expect(200);
    let spans = wait_for_spans(&shop.collector, 3).await;
    let [request, first, second] = spans.as_slice() else { panic!("{spans:?}") };

    assert_eq!((request.name.as_str(), request.is_server), ("GET /accounts/{id}", true));
    assert_eq!((request.trace.as_str(), request.parent.as_str()), (TRACE, "00f067aa0ba902b7"));
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/accounts/{id}"),
        ("http.response.status_code", "200"),
        ("url.path", "/accounts/7"),
        ("url.scheme", "http"),
        ("client.address", "127.0.0.1"),
        ("error.type", ""),
        ("unanimous.route", "account"),
        ("unanimous.request_id", "order-7"),
    ] {
        assert_eq!(request.said(name), value, "{name}");
    }
    let calls = shop.accounts.calls_to("/own/7");
    for (call, attempt) in calls.iter().zip([first, second]) {
        assert_eq!((attempt.name.as_str(), attempt.is_server), ("GET accounts", false));
        assert_eq!((&attempt.trace, &attempt.parent), (&request.trace, &request.id));
        assert_eq!(call.header("traceparent"), attempt.parent_header());
        assert_eq!(attempt.said("peer.service"), "accounts");
        assert_eq!(attempt.said("url.full"), shop.accounts.url("/own/7"));
        assert_eq!(attempt.said("server.address"), "127.0.0.1");
    }
    let told = |span: &Span| {
        let names = ["http.response.status_code", "error.type", "http.request.resend_count"];
        (names.map(|name| span.said(name).to_owned()).join(","), span.is_error)
    };
    assert_eq!(told(first), ("503,503,".to_owned(), true));
    assert_eq!(told(second), ("200,,1".to_owned(), false));

    let batch = shop.collector.calls_to("/v1/traces").remove(0);
    assert_eq!(
        (batch.header("x-team"), batch.header("content-type")),
        ("payments", "application/x-protobuf")
    );
    assert!(!batch.text().contains("secret"), "{}", batch.text());
    let resource = batches(&shop.collector)[0].resource_spans[0].resource.clone().unwrap();
    let resource = said(&resource.attributes);
    assert_eq!(resource["service.name"], "shop-gateway");
    assert_eq!(resource["deployment.environment.name"], "test");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_of_a_merge_is_a_span_also_one_that_cannot_be_had() {
    let mut shop = shop(&[]).await;
    shop.ledger.stop().await;
    shop.get("/overview/7", &[]).await.expect(200);
    let spans = wait_for_spans(&shop.collector, 3).await;
    let request = &spans[0];
    // Nobody asked for a trace, and so this one begins here.
    assert_eq!((request.name.as_str(), request.parent.as_str()), ("GET /overview/{id}", ""));
    let part = |service: &str| spans.iter().find(|span| span.said("peer.service") == service).unwrap();
    let (accounts, ledger) = (part("accounts"), part("ledger"));
    for part in [accounts, ledger] {
        assert_eq!((&part.trace, &part.parent), (&request.trace, &request.id));
    }
    let told = shop.accounts.calls_to("/accounts/7")[0].header("traceparent").to_owned();
    assert_eq!(told, accounts.parent_header());
    assert_eq!((ledger.said("error.type"), ledger.is_error), ("unreachable", true));
    assert_ne!(accounts.id, ledger.id);
    let resource = batches(&shop.collector)[0].resource_spans[0].resource.clone().unwrap();
    assert_eq!(said(&resource.attributes)["service.name"], "unanimous");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_a_transaction_is_a_span_also_after_a_crash() {
    let mut shop = shop(&[]).await;
    let gate = Gate::closed();
    shop.accounts.next("/tx/commit", [Answer::status(503)]);
    shop.ledger.always("/tx/commit", Answer::ok().behind(&gate));
    let reply = shop.node.post_with("/transfers", &[("traceparent", SAMPLED)], &json!({})).await.expect(202);
    // Work and prepare at both, two commits of the one, and the request. Of the other's commits some may have been late.
    let is_said = |span: &Span| span.name != "commit ledger" || span.said("error.type") != "late";
    let said_of = |collector: &Stub| spans(collector).into_iter().filter(is_said).collect::<Vec<_>>();
    kit::until("seven spans", async || said_of(&shop.collector).len() == 7).await;
    let before = said_of(&shop.collector);
    let request = before[0].clone();
    assert_eq!((request.name.as_str(), request.is_server), ("POST /transfers", true));
    assert_eq!((request.trace.as_str(), request.parent.as_str()), (TRACE, "00f067aa0ba902b7"));
    assert_eq!(request.said("unanimous.transaction.id"), reply.header("transaction-id"));
    shop.node.kill().await;
    shop.collector.forget();
    shop.ledger.always("/tx/commit", Answer::ok());
    shop.node.start().await;
    shop.node.settled().await;
    kit::until("the last commit", async || said_of(&shop.collector).len() == 1).await;
    let after = said_of(&shop.collector);
    assert_eq!(
        (after[0].name.as_str(), after[0].said("http.response.status_code")),
        ("commit ledger", "200")
    );

    let all = [&before[1..], &after].concat();
    let calls = [shop.accounts.calls(), shop.ledger.calls()].concat();
    for span in &all {
        assert_eq!((&span.trace, &span.parent), (&request.trace, &request.id), "{span:?}");
        let told = calls.iter().filter(|call| call.header("traceparent") == span.parent_header());
        let told: Vec<_> = told.map(|call| (call.operation(), call.branch().to_string())).collect();
        let (operation, branch) =
            (span.said("unanimous.transaction.operation"), span.said("unanimous.transaction.branch"));
        assert_eq!(told, [(operation, branch.to_owned())], "{span:?}");
        assert_eq!(span.name, format!("{operation} {}", ["accounts", "ledger"][usize::from(branch == "1")]));
        assert_eq!(span.said("unanimous.transaction.id"), reply.header("transaction-id"));
    }
    let commits: Vec<_> = all.iter().filter(|span| span.name == "commit accounts").collect();
    let statuses = |name: &str| commits.iter().map(|span| span.said(name).to_owned()).collect::<Vec<_>>();
    assert_eq!(statuses("http.response.status_code"), ["503", "200"]);
    assert_eq!(statuses("http.request.resend_count"), ["", "1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_does_not_sample_is_not_exported_and_backends_hear_that() {
    let shop = shop(&[]).await;
    shop.get("/accounts/1", &[("traceparent", UNSAMPLED)]).await.expect(200);
    shop.node.post_with("/transfers", &[("traceparent", UNSAMPLED)], &json!({})).await.expect(200);
    shop.get("/accounts/2", &[("traceparent", SAMPLED)]).await.expect(200);
    let spans = wait_for_spans(&shop.collector, 2).await;
    assert!(spans.iter().all(|span| span.said["http.response.status_code"] == "200"));
    assert_eq!(spans[0].said("url.path"), "/accounts/2");
    for path in ["/own/1", "/debit", "/tx/prepare", "/tx/commit"] {
        let told = shop.accounts.calls_to(path)[0].header("traceparent").to_owned();
        assert!(told.starts_with(&UNSAMPLED[..36]) && told.ends_with("-00"), "{path}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sampler_of_the_environment_decides_for_traces_that_begin_here() {
    let shop = shop(&[("OTEL_TRACES_SAMPLER", "parentbased_always_off")]).await;
    shop.get("/accounts/1", &[]).await.expect(200);
    shop.get("/accounts/2", &[("traceparent", SAMPLED)]).await.expect(200);
    let spans = wait_for_spans(&shop.collector, 2).await;
    assert_eq!(spans[0].said("url.path"), "/accounts/2");
    assert!(shop.accounts.calls_to("/own/1")[0].header("traceparent").ends_with("-00"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_and_an_answer_that_breaks_off_are_errors() {
    let shop = shop(&[]).await;
    shop.accounts.always("/own/1", Answer::cut_midway());
    shop.accounts.always("/own/2", Answer::hang());
    shop.node.raw("GET /accounts/1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let broken = wait_for_spans(&shop.collector, 2).await;
    assert_eq!((broken[0].said("error.type"), broken[0].is_error), ("answer_broke_off", true));
    shop.collector.forget();
    let gone = kit::client().get(shop.node.url("/accounts/2")).timeout(Duration::from_millis(300)).send();
    assert!(gone.await.is_err());
    let spans = wait_for_spans(&shop.collector, 2).await;
    let told =
        |span: &Span| (span.said("http.response.status_code").to_owned(), span.said("error.type").to_owned());
    assert_eq!(
        [told(&spans[0]), told(&spans[1])],
        [const { String::new() }; 2].map(|none| (none, "cancelled".to_owned()))
    );
    assert_eq!(spans[0].name, "GET /accounts/{id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_or_hangs_costs_no_request_and_is_said_once() {
    for is_down in [true, false] {
        let mut shop = shop(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "100"), ("OTEL_BSP_MAX_QUEUE_SIZE", "8")]).await;
        shop.collector.always("/v1/traces", Answer::hang());
        if is_down {
            shop.collector.stop().await;
        }
        let begun = Instant::now();
        let mut slowest = Duration::ZERO;
        while begun.elapsed() < Duration::from_secs(1) {
            let asked = Instant::now();
            shop.get("/accounts/1", &[]).await.expect(200);
            slowest = slowest.max(asked.elapsed());
        }
        let says = || shop.node.stderr().matches("the collector takes no spans").count();
        kit::until("it is said", async || says() == 1).await;
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
        let dropped = || shop.node.stderr().matches("dropped a Span due to queue full").count();
        assert!(is_down || dropped() == 1, "what does not fit is said once: {}", shop.node.stderr());
        shop.collector.always("/v1/traces", Answer::status(200));
        if is_down {
            shop.collector.start_again().await;
        }
        kit::until("the collector takes spans", async || {
            shop.get("/accounts/1", &[]).await.expect(200);
            shop.node.stderr().contains("the collector takes spans again")
        })
        .await;
        assert_eq!(says(), 1, "{}", shop.node.stderr());
        assert!(shop.node.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_goes_out_at_the_end_and_a_collector_that_hangs_does_not_hold_that_up() {
    let mut kind = shop(&[("OTEL_BSP_SCHEDULE_DELAY", "60000")]).await;
    kind.get("/accounts/1", &[]).await.expect(200);
    assert!(kind.node.terminate().await.success());
    assert_eq!(spans(&kind.collector).len(), 2);

    let mut slow = shop(&[("OTEL_BSP_SCHEDULE_DELAY", "60000")]).await;
    slow.collector.always("/v1/traces", Answer::hang());
    slow.get("/accounts/1", &[]).await.expect(200);
    let begun = Instant::now();
    assert!(slow.node.terminate().await.success());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(slow.node.stderr().contains("the last spans were not exported"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_environment_says_nothing_or_what_cannot_be_nothing_is_exported_and_all_else_goes_on() {
    for (name, value, expected) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "", ""),
        ("OTEL_TRACES_EXPORTER", "none", ""),
        ("OTEL_SDK_DISABLED", "true", ""),
        ("OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER is zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL is grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318", "no TLS is spoken"),
    ] {
        let mut shop = shop(&[(name, value)]).await;
        shop.get("/accounts/1", &[]).await.expect(200);
        assert_eq!(shop.accounts.calls_to("/own/1")[0].header("traceparent"), "", "{name}={value}");
        assert!(shop.node.terminate().await.success());
        assert_eq!(shop.collector.count("/v1/traces"), 0, "{name}={value}");
        let stderr = shop.node.stderr();
        assert_eq!(stderr.contains("no spans are exported"), !expected.is_empty(), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}
