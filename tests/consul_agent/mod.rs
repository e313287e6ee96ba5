//! A Consul agent for tests: it answers as the pages of the HTTP API say, or as it is told to, and remembers every request.
//!
//! Without a script it is a small catalog. `GET /v1/health/service/NAME` without an index answers at once; with one it hangs
//! until the index of the service is another, or until `wait` and a bit have passed
//! (<https://developer.hashicorp.com/consul/api-docs/features/blocking>). `PUT /v1/agent/service/..` is answered with 200 and
//! an empty body (<https://developer.hashicorp.com/consul/api-docs/agent/service>).
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "each test file is a crate of its own, and the agent a module in it")]
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A scripted agent. It keeps its port for life; dropping it stops it.
pub struct Agent {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<JoinSet<()>>,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    services: BTreeMap<String, (u64, Value)>,
    script: VecDeque<Answer>,
    asked: Vec<Asked>,
    /// Whose door is tried at every PUT.
    door: Option<String>,
    /// Whether a PUT is never answered.
    is_deaf: bool,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    pub at: tokio::time::Instant,
    /// Whether [`Agent::try_door`] found the door open.
    pub door_is_open: bool,
}

impl Asked {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// The index that it waits at.
    pub fn index(&self) -> Option<u64> {
        self.parameter("index").map(|index| index.parse().unwrap())
    }
}

/// An answer to one query for a service.
#[derive(Debug, Clone)]
pub enum Answer {
    /// This status, these headers and this body.
    Of(u16, Vec<(&'static str, String)>, String),
    /// The same, but the connection ends in the middle of the body.
    Cut(Vec<(&'static str, String)>, String),
    /// The status line comes, the rest of the head never.
    SlowHead,
    /// Nothing comes at all.
    Silence,
}

impl Answer {
    /// 200 with this index and this list.
    pub fn list(index: u64, list: &Value) -> Self {
        Self::indexed(&index.to_string(), &list.to_string())
    }

    pub fn indexed(index: &str, body: &str) -> Self {
        Self::Of(200, vec![("X-Consul-Index", index.to_owned())], body.to_owned())
    }

    pub fn status(status: u16, body: &str) -> Self {
        Self::Of(status, vec![], body.to_owned())
    }

    /// With one more header.
    pub fn with(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Of(status, mut headers, body) => {
                headers.push((name, value.to_owned()));
                Self::Of(status, headers, body)
            }
            other @ (Self::Cut(..) | Self::SlowHead | Self::Silence) => panic!("{other:?} has no headers"),
        }
    }
}

/// One entry of the list, with the members that the sample response has.
/// <https://developer.hashicorp.com/consul/api-docs/health#list-service-instances-for-service>
pub fn instance(address: &str, port: u16) -> Value {
    json!({
        "Node": {
            "ID": "40e4a748-2192-161a-0510-9bf59fe950b5", "Node": "foobar", "Address": "10.1.10.12", "Datacenter": "dc1",
            "TaggedAddresses": {"lan": "10.1.10.12", "wan": "10.1.10.12"}, "Meta": {"instance_type": "t2.medium"}
        },
        "Service": {
            "ID": format!("redis-{port}"), "Service": "redis", "Tags": ["primary"], "Address": address,
            "TaggedAddresses": {"lan": {"address": address, "port": port}, "wan": {"address": "198.18.1.2", "port": 80}},
            "Meta": {"redis_version": "4.0"}, "Port": port, "Weights": {"Passing": 10, "Warning": 1}, "Namespace": "default"
        },
        "Checks": [
            {"Node": "foobar", "CheckID": "service:redis", "Name": "Service 'redis' check", "Status": "passing", "Notes": "",
             "Output": "", "ServiceID": "redis", "ServiceName": "redis", "ServiceTags": ["primary"], "Namespace": "default"},
            {"Node": "foobar", "CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing", "Notes": "",
             "Output": "", "ServiceID": "", "ServiceName": "", "ServiceTags": [], "Namespace": "default"}
        ]
    })
}

impl Agent {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut agent = Self { address, shared: Arc::default(), running: None };
        agent.serve(listener);
        agent
    }

    fn serve(&mut self, listener: TcpListener) {
        let (shared, mut running) = (self.shared.clone(), JoinSet::new());
        running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(connection(stream, shared.clone()));
            }
        });
        self.running = Some(running);
    }

    /// Refuses connections from now on, and closes those that are open.
    pub async fn stop(&mut self) {
        self.running.take().unwrap().shutdown().await;
    }

    /// Listens again on the port it had.
    pub async fn start_again(&mut self) {
        let mut listener = None;
        crate::kit::until("the port is free again", async || {
            listener = TcpListener::bind(self.address).await.ok();
            listener.is_some()
        })
        .await;
        self.serve(listener.unwrap());
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets what the catalog has of a service; its index is the next one.
    pub fn set(&self, service: &str, list: &[Value]) {
        let mut inner = self.lock();
        let index = inner.services.get(service).map_or(10, |(index, _)| index + 1);
        inner.services.insert(service.to_owned(), (index, json!(list)));
        drop(inner);
        self.shared.changed.send_modify(|count| *count += 1);
    }

    /// Answers the next queries for services so, one after the other, whatever they ask. A query that waits goes on waiting.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.lock().script.extend(answers);
    }

    /// How many of the answers it was told to give are left.
    pub fn left(&self) -> usize {
        self.lock().script.len()
    }

    /// Wakes whoever waits, as an idempotent write does: nothing has changed but the index.
    pub fn touch(&self, service: &str) {
        let list = self.lock().services.get(service).map(|(_, list)| list.clone());
        self.set(service, list.unwrap().as_array().unwrap());
    }

    /// Tries at every PUT whether something listens at this address.
    pub fn try_door(&self, address: &str) {
        self.lock().door = Some(address.to_owned());
    }

    /// Whether what the node says of itself is heard and never answered.
    pub fn is_deaf(&self, is_deaf: bool) {
        self.lock().is_deaf = is_deaf;
    }

    /// All queries for services so far.
    pub fn queries(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.method == "GET").collect()
    }

    /// All that the node said of itself so far, as method and target, in order.
    pub fn told(&self) -> Vec<String> {
        let told = self.asked().into_iter().filter(|asked| asked.method == "PUT");
        told.map(|asked| {
            let query: Vec<_> = asked.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{}?{}", asked.path, query.join("&"))
        })
        .collect()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }

    /// Waits until it was asked for a service so many times.
    pub async fn wait_for_queries(&self, count: usize) -> Vec<Asked> {
        crate::kit::until(&format!("{count} queries"), async || self.queries().len() >= count).await;
        self.queries()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap()
    }
}

async fn connection(mut stream: TcpStream, shared: Arc<Shared>) {
    let Some(mut asked) = read(&mut stream).await else { return };
    let (door, is_deaf) = {
        let inner = shared.inner.lock().unwrap();
        (inner.door.clone().filter(|_| asked.method == "PUT"), inner.is_deaf)
    };
    if let Some(door) = door {
        asked.door_is_open = TcpStream::connect(door).await.is_ok();
    }
    let (is_query, mut changed) = (asked.method == "GET", shared.changed.subscribe());
    let scripted = {
        let mut inner = shared.inner.lock().unwrap();
        inner.asked.push(asked.clone());
        if is_query { inner.script.pop_front() } else { None }
    };
    let answer = match scripted {
        Some(answer) => answer,
        None if is_query => from_catalog(&asked, &shared, &mut changed).await,
        None if is_deaf => Answer::Silence,
        None => Answer::status(200, ""),
    };
    write(&mut stream, answer).await;
}

/// Waits as the page says, and answers with what there is.
async fn from_catalog(asked: &Asked, shared: &Shared, changed: &mut watch::Receiver<u64>) -> Answer {
    let service = asked.path.rsplit('/').next().unwrap().to_owned();
    let now = || shared.inner.lock().unwrap().services.get(&service).cloned().unwrap_or((1, json!([])));
    if let Some(index) = asked.index() {
        let wait = humantime::parse_duration(asked.parameter("wait").unwrap()).unwrap();
        let moved = async { while now().0 == index && changed.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(wait + wait / 16, moved).await;
    }
    let (index, list) = now();
    Answer::list(index, &list).with("X-Consul-KnownLeader", "true").with("X-Consul-LastContact", "0")
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break String::from_utf8_lossy(&bytes.drain(..end + 4).collect::<Vec<u8>>()).into_owned();
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    };
    let mut lines = head.lines();
    let mut request = lines.next()?.split(' ');
    let (method, target) = (request.next()?.to_owned(), request.next()?);
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < length {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    let url = reqwest::Url::parse(&format!("http://agent{target}")).unwrap();
    Some(Asked {
        method,
        path: url.path().to_owned(),
        query: url.query_pairs().into_owned().collect(),
        headers,
        body: String::from_utf8(bytes).unwrap(),
        at: tokio::time::Instant::now(),
        door_is_open: false,
    })
}

async fn write(stream: &mut TcpStream, answer: Answer) {
    let (status, headers, body, kept) = match answer {
        Answer::Of(status, headers, body) => (status, headers, body, None),
        Answer::Cut(headers, body) => {
            let half = body.len() / 2;
            (200, headers, body, Some(half))
        }
        Answer::SlowHead => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-Consul-Index: 5\r\n").await;
            return std::future::pending().await;
        }
        Answer::Silence => return std::future::pending().await,
    };
    let headers: String = headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let sent = &body.as_bytes()[..kept.unwrap_or(length)];
    let _ = stream.write_all(&[head.as_bytes(), sent].concat()).await;
    let _ = stream.shutdown().await;
}
