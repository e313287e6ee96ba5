//! Real sockets for the tests of the gateway: backends that record what they get, a gateway in front,
//! and a client that sends exactly the bytes it is told.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse as _, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use unanimous::budget::Halves;
use unanimous::clients::Forwarders;
use unanimous::config::Config;
use unanimous::discovery::Discovery;
use unanimous::gateway::{Gateway, Pools, Problem, Routed, Shares, Trust, what_may_be_asked};
use unanimous::trace::Spans;

/// The clients that a node with this configuration would have.
pub(crate) fn clients(config: &Config) -> Forwarders {
    Forwarders::new(config.gateway.connect_timeout, config.gateway.pool_idle)
}

/// What a backend saw, in the order it saw it.
pub(crate) type Seen = Arc<Mutex<Vec<String>>>;

/// An answer that ends its connection.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// Long enough for anything local; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Runs something beside the test until the test ends.
#[expect(clippy::disallowed_methods, reason = "a test has no tracker; its runtime ends with it")]
pub(crate) fn beside<F: Future<Output = ()> + Send + 'static>(task: F) {
    tokio::spawn(task);
}

/// A listener on a free port, and its address.
pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// An address that nobody listens on.
pub(crate) async fn nobody() -> SocketAddr {
    listener().await.1
}

/// A backend that keeps the bytes of each request and answers each with `answer` and the end of the
/// connection. It reads until the head, and as much body as `Content-Length` says, is there.
pub(crate) async fn recorder(answer: &'static str) -> (SocketAddr, Seen) {
    let (listener, address) = listener().await;
    let seen = Seen::default();
    let record = seen.clone();
    beside(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let record = record.clone();
            beside(async move { record_one(stream, &record, answer).await });
        }
    });
    (address, seen)
}

async fn record_one(mut stream: TcpStream, seen: &Seen, answer: &str) {
    let mut text = Vec::new();
    while !is_whole(&text) {
        if stream.read_buf(&mut text).await.unwrap_or(0) == 0 {
            return;
        }
    }
    seen.lock().expect("no panic").push(String::from_utf8_lossy(&text).into_owned());
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let chunked = head.contains("transfer-encoding: chunked");
    body.len() >= length.map_or(0, |length| length.parse().unwrap_or(0))
        && (!chunked || body.ends_with("0\r\n\r\n"))
}

/// What a recorder saw so far.
pub(crate) fn seen(seen: &Seen) -> Vec<String> {
    seen.lock().expect("no panic").clone()
}

/// A gateway with this configuration, as the server would run it.
pub(crate) async fn gateway(config: &str) -> SocketAddr {
    gateway_with_budget(config, 1 << 20).await
}

/// The same, with a limit on the bytes of bodies it holds.
pub(crate) async fn gateway_with_budget(config: &str, budget: usize) -> SocketAddr {
    let parsed = parsed(config);
    let pools = Pools::new(clients(&parsed));
    let discovery = Arc::new(parsed.discovery());
    gateway_over(parsed, budget, &pools, discovery).await
}

/// A configuration that has no mistake.
pub(crate) fn parsed(config: &str) -> Config {
    unanimous::config::parse("test", config, std::iter::empty()).expect("a good configuration")
}

/// The same, with services of which something may be known already, and instances that may change.
pub(crate) async fn gateway_over(
    config: Config,
    budget: usize,
    pools: &Arc<Pools>,
    discovery: Arc<dyn Discovery>,
) -> SocketAddr {
    let bodies = Halves::new(budget);
    let waiting = Shares::new(config.node.connections_max);
    pools.configure(config.policies(), discovery.clone());
    let gateway = Arc::new(Gateway::new(
        config.routes,
        config.gateway,
        bodies,
        discovery,
        pools.clone(),
        Arc::new(|_| {}),
        waiting,
    ));
    let router = Router::new().fallback(answer).with_state(gateway);
    let (listener, address) = listener().await;
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    beside(async move { axum::serve(listener, service).await.expect("serves") });
    address
}

async fn answer(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let trust = Trust { proxies: Vec::new(), pseudonym: "unanimous".to_owned() };
    let caller =
        trust.caller(&parts, client, &Spans::default()).expect("no test sends what this gateway sent");
    match gateway.route(&parts) {
        Routed::Forward(matched) => {
            gateway.forward(&matched, Request::from_parts(parts, body), &caller).await
        }
        Routed::Merge(matched) => gateway.merge(&matched, &parts, &caller).await,
        Routed::Transaction(matched) => matched.id.to_owned().into_response(),
        Routed::Redirect(matched) => matched.answer(&parts),
        Routed::Respond(matched) => matched.answer(),
        Routed::NotFound => Problem::not_found().into_response(),
        Routed::MethodNotAllowed(allow) => Problem::method_not_allowed(&allow).into_response(),
        Routed::Options(allow) => what_may_be_asked(&allow),
        Routed::BadRequest(problem) => problem.into_response(),
    }
}

/// A configuration with one service `s` at these endpoints, and then `routes`.
pub(crate) fn config(endpoints: &[SocketAddr], routes: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"http://{address}\"")).collect();
    format!("[services.s]\nendpoints = [{}]\n{routes}", endpoints.join(", "))
}

/// Services `a` and `b` at these addresses, and a route that merges these parts and has these keys beside them.
pub(crate) fn merging(services: &[SocketAddr], keys: &str, parts: &str) -> String {
    let services = ["a", "b"].iter().zip(services).fold(String::new(), |text, (name, at)| {
        format!("{text}[services.{name}]\nendpoints = [\"http://{at}\"]\n")
    });
    format!(
        "{services}[[routes]]\nid = \"m\"\nmatch = {{ path = \"/m/{{id}}\" }}\n\
         [routes.merge]\ntimeout = \"5s\"\n{keys}\nparts = [{parts}]\n"
    )
}

/// An answer with this status line and these lines before its body.
pub(crate) fn answering(status: &str, lines: &[&str], body: &str) -> &'static str {
    let lines: String = lines.iter().flat_map(|line| [line, "\r\n"]).collect();
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{lines}Content-Length: {length}\r\nConnection: close\r\n");
    Box::leak(format!("{head}\r\n{body}").into_boxed_str())
}

/// An answer in JSON.
pub(crate) fn json(body: &str) -> &'static str {
    answering("200 OK", &["Content-Type: application/json"], body)
}

/// A gateway that forwards everything to these endpoints.
pub(crate) async fn forwarding_to(endpoints: &[SocketAddr]) -> SocketAddr {
    forwarding_within("10s", endpoints).await
}

/// The same, with a limit on the wait for an answer.
pub(crate) async fn forwarding_within(timeout: &str, endpoints: &[SocketAddr]) -> SocketAddr {
    let route = format!(
        "[[routes]]\nid = \"all\"\nmatch = {{ path = \"/{{*rest}}\" }}\n\
         forward = {{ service = \"s\", timeout = \"{timeout}\" }}\n"
    );
    gateway(&config(endpoints, &route)).await
}

/// Sends exactly `request` and gives all that comes back until the connection ends.
pub(crate) async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.expect("an answer in time").expect("reads");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A GET of `target` with these header lines, on a connection of its own.
pub(crate) async fn get(address: SocketAddr, target: &str, headers: &[&str]) -> String {
    let headers = headers.iter().flat_map(|line| [line, "\r\n"]).collect::<String>();
    raw(
        address,
        &format!("GET {target} HTTP/1.1\r\nHost: api.example.com\r\n{headers}Connection: close\r\n\r\n"),
    )
    .await
}

/// The status code of an answer.
pub(crate) fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// The body of an answer.
pub(crate) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// Whether head or body has this line, whatever the case.
pub(crate) fn has_line(text: &str, line: &str) -> bool {
    text.to_lowercase().lines().any(|found| found == line.to_lowercase())
}

/// What comes of `future`, which is not waited for longer than a test can be patient.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// Reads until `expected` has come.
pub(crate) async fn read_until(stream: &mut TcpStream, expected: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(expected) {
        assert_ne!(soon(stream.read_buf(&mut text)).await.expect("reads"), 0, "the connection ended");
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Sends `text` as it is.
pub(crate) async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.expect("writes");
}

/// The next connection.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    soon(listener.accept()).await.expect("accepts").0
}

/// A POST of `body`, on a connection of its own.
pub(crate) async fn post(address: SocketAddr, body: &str) -> String {
    let length = body.len();
    let head =
        format!("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    raw(address, &format!("{head}{body}")).await
}
