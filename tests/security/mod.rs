//! A node between raw sockets: what the client sends is sent to the byte, and what the backend gets is kept to the byte.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::kit::Node;

/// After this long without a byte nobody has anything more to say.
const SILENCE: Duration = Duration::from_millis(300);

/// A backend that understands as little as it can: it keeps all bytes, and answers each head that it sees.
pub(crate) struct Backend {
    pub(crate) address: String,
    got: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Backend {
    /// Answers each request with 200 and `ok`, on connections that stay open.
    pub(crate) async fn start() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await
    }

    /// Answers each head with exactly these bytes.
    pub(crate) async fn answering(answer: impl AsRef<[u8]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (got, answer) = (Arc::<Mutex<Vec<Vec<u8>>>>::default(), answer.as_ref().to_vec());
        let kept = got.clone();
        tokio_util::task::TaskTracker::new().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, answer) = (kept.clone(), answer.clone());
                tokio_util::task::TaskTracker::new().spawn(serve(stream, kept, answer));
            }
        });
        Self { address, got }
    }

    /// What came on each connection.
    pub(crate) fn connections(&self) -> Vec<String> {
        self.got.lock().unwrap().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// All that came.
    pub(crate) fn all(&self) -> String {
        self.connections().concat()
    }

    /// The request lines of all that came, as a backend that believes nothing would see them: every line that ends with
    /// ` HTTP/1.1`.
    pub(crate) fn request_lines(&self) -> Vec<String> {
        let all = self.all();
        let lines = all.split("\r\n").filter_map(|line| line.strip_suffix(" HTTP/1.1"));
        lines.map(str::to_owned).collect()
    }

    /// The value of a field in the first request; `None` where it is not there. Panics where it is there twice.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let all = self.all().to_lowercase();
        let head = all.split("\r\n\r\n").next().unwrap();
        let mut values = head.split("\r\n").filter_map(|line| line.strip_prefix(&format!("{name}: ")));
        let first = values.next().map(str::to_owned);
        assert!(values.next().is_none(), "{name} is there twice: {all}");
        first
    }
}

async fn serve(mut stream: TcpStream, kept: Arc<Mutex<Vec<Vec<u8>>>>, answer: Vec<u8>) {
    let place = {
        let mut kept = kept.lock().unwrap();
        kept.push(Vec::new());
        kept.len() - 1
    };
    let (mut buffer, mut answered) = (vec![0; 65536], 0);
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let heads = {
            let mut kept = kept.lock().unwrap();
            kept[place].extend(&buffer[..count]);
            String::from_utf8_lossy(&kept[place]).matches(" HTTP/1.1\r\n").count()
        };
        for _ in answered..heads {
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        answered = heads;
    }
}

/// A node that forwards all to this backend, with more keys for `[node]` and for the route.
pub(crate) async fn node(backend: &Backend, section: &str, route: &str) -> Node {
    let config = format!(
        "[services.s]\nendpoints = [\"http://{}\"]\n[[routes]]\nid = \"all\"\nmatch = {{ path = \"/{{*rest}}\" }}\n\
         forward = {{ service = \"s\" }}\n{route}\n",
        backend.address
    );
    let mut node = Node::with_section(section, &config);
    node.start().await;
    node
}

/// Sends these bytes, and gives what comes back until the connection ends or nothing more comes.
pub(crate) async fn send(node: &Node, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(node.listen()).await.unwrap();
    // Whoever is refused may be cut off while he still speaks.
    let _ = stream.write_all(bytes.as_ref()).await;
    let mut answer = Vec::new();
    while let Ok(Ok(1..)) = timeout(SILENCE, stream.read_buf(&mut answer)).await {}
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status codes of all answers in what came back.
pub(crate) fn statuses(answers: &str) -> Vec<u16> {
    let lines = answers
        .split("\r\n")
        .filter_map(|line| line.rsplit_once("HTTP/1.").and_then(|(_, rest)| rest.get(2..)));
    lines.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect()
}
