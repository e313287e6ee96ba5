//! Services that speak HTTP/2 without TLS, behind a real node: forwarded to, merged, checked, and in transactions.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Version};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use kit::Node;
use serde_json::json;
use tokio::net::TcpListener;
use tower::service_fn;

/// What a service saw of a request.
#[derive(Debug, Clone)]
struct Seen {
    version: Version,
    what: String,
    headers: HeaderMap,
    body: String,
}

/// A service that speaks HTTP/2 only, says `ok`, and keeps what it saw.
struct Service {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Service {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let kept = seen.clone();
        let tasks = tokio_util::task::TaskTracker::new();
        let connections = tasks.clone();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    answer(request.map(Body::new), kept.clone())
                });
                connections.spawn(async move {
                    let builder = Builder::new(TokioExecutor::new()).http2_only();
                    let served =
                        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
                    drop(served.await);
                });
            }
        });
        Self { url, seen }
    }

    fn saw(&self, what: &str) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|seen| seen.what == what).cloned().collect()
    }
}

async fn answer(request: Request, kept: Arc<Mutex<Vec<Seen>>>) -> Result<Response, std::convert::Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let body = format!("{}{}", String::from_utf8_lossy(&body.to_bytes()), trailers.len());
    let what = format!("{} {}", parts.method, parts.uri.path());
    kept.lock().unwrap().push(Seen { version: parts.version, what, headers: parts.headers, body });
    let mut end = HeaderMap::new();
    end.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(Bytes::from_static(b"\"ok\"")), Frame::trailers(end)].map(Ok::<_, axum::Error>);
    let mut response = Body::new(StreamBody::new(stream::iter(frames))).into_response();
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    Ok(response)
}

fn config(service: &Service) -> String {
    format!(
        "[services.s]\nendpoints = [{:?}]\nprotocol = \"http2\"\n\
         [services.s.health]\npath = \"/health\"\ninterval = \"50ms\"\ntimeout = \"50ms\"\n\
         [services.s.transaction]\nprepare = \"/prepare\"\ncommit = \"/commit\"\nabort = \"/abort\"\n\
         [[routes]]\nid = \"all\"\nmatch = {{ path = \"/{{*rest}}\" }}\nforward = {{ service = \"s\" }}\n\
         [[routes]]\nid = \"both\"\nmatch = {{ path = \"/both\" }}\n\
         merge = {{ parts = [ {{ service = \"s\", path = \"/a\", as = \"a\" }}, {{ service = \"s\", path = \"/b\", as = \"b\" }} ] }}\n\
         [[routes]]\nid = \"t\"\nmatch = {{ path = \"/t\" }}\n\
         transaction = {{ branches = [ {{ service = \"s\", path = \"/work\" }} ] }}\n",
        service.url
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_call_speaks_http_2() {
    let service = Service::start().await;
    let mut node = Node::new(&config(&service));
    node.start().await;
    let answer = node.post("/x", &json!({"a": 1})).await.expect(200);
    assert_eq!(answer.text, "\"ok\"");
    assert_eq!(node.get("/both").await.expect(200).json(), json!({"a": "ok", "b": "ok"}));
    node.post("/t", &json!({})).await.expect(200);
    kit::until("a check", async || !service.saw("GET /health").is_empty()).await;
    for what in ["POST /x", "GET /a", "GET /b", "POST /work", "POST /prepare", "POST /commit", "GET /health"]
    {
        let seen = service.saw(what).pop().unwrap_or_else(|| panic!("no {what}"));
        assert_eq!(seen.version, Version::HTTP_2, "{what}");
        assert!(!seen.headers.contains_key("connection"), "{what}: {seen:?}");
    }
    let seen = service.saw("POST /x").pop().unwrap();
    assert_eq!(
        (seen.body.as_str(), &seen.headers["x-forwarded-for"]),
        ("{\"a\":1}0", &HeaderValue::from_static("127.0.0.1"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_and_te_go_through_as_grpc_needs_them() {
    let service = Service::start().await;
    let mut node = Node::new(&config(&service));
    node.start().await;
    let stream = tokio::net::TcpStream::connect(node.listen()).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio_util::task::TaskTracker::new().spawn(async move { drop(connection.await) });
    let mut sender = sender.ready().await.unwrap();
    let request = http::Request::post("http://x/grpc").header("te", "trailers").body(()).unwrap();
    let (answer, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"hi"), false).unwrap();
    let mut end = HeaderMap::new();
    end.insert("x-checksum", HeaderValue::from_static("1"));
    body.send_trailers(end).unwrap();
    let mut answer = answer.await.unwrap().into_body();
    while let Some(data) = answer.data().await {
        data.unwrap();
    }
    let trailers = answer.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    let seen = service.saw("POST /grpc").pop().unwrap();
    assert_eq!((seen.body.as_str(), &seen.headers["te"]), ("hi1", &HeaderValue::from_static("trailers")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_a_tunnel_is_an_ordinary_request_to_such_a_service() {
    let service = Service::start().await;
    let mut node = Node::new(&config(&service));
    node.start().await;
    let wish = "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let answer = node.raw(wish).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(!service.saw("GET /chat")[0].headers.contains_key("upgrade"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_a_service_has_refused_was_not_looked_at_and_is_sent_again() {
    let service = Service::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = format!("http://{}", listener.local_addr().unwrap());
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
    });
    let mut node = Node::new(&format!(
        "[services.s]\nendpoints = [{refusing:?}, {:?}]\nprotocol = \"http2\"\n\
         [[routes]]\nid = \"all\"\nmatch = {{ path = \"/{{*rest}}\" }}\nforward = {{ service = \"s\" }}\n",
        service.url
    ));
    node.start().await;
    for _ in 0..2 {
        let request = node.send(http::Method::DELETE, &node.url("/x"), &[], None).await;
        request.expect(200);
    }
    assert_eq!(service.saw("DELETE /x").len(), 2);
}
