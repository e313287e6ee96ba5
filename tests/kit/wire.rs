//! The little of HTTP/1.1 that a stub speaks. By hand, because a proper server cannot be told to be improper.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::answer::{Answer, Manner};

/// Counts arrivals over all stubs of the test process.
static ARRIVALS: AtomicUsize = AtomicUsize::new(0);

/// One request as a stub received it.
#[derive(Debug, Clone)]
pub struct Call {
    /// Place in the order of arrival over *all* stubs of this process.
    pub order: usize,
    pub at: Instant,
    pub method: String,
    /// With the query, if any.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Call {
    /// A header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The `Transaction-Id` header.
    pub fn transaction(&self) -> &str {
        self.header("transaction-id")
    }

    /// The `Transaction-Operation` header: `work`, `prepare`, `commit` or `abort`.
    pub fn operation(&self) -> &str {
        self.header("transaction-operation")
    }

    /// The `Transaction-Branch` header.
    #[track_caller]
    pub fn branch(&self) -> usize {
        self.header("transaction-branch").parse().expect("Transaction-Branch is a number")
    }

    /// The `Transaction-Attempt` header.
    #[track_caller]
    pub fn attempt(&self) -> usize {
        self.header("transaction-attempt").parse().expect("Transaction-Attempt is a number")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics where it is not.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body of the call is JSON")
    }
}

/// Reads the next request of a connection; `None` where the client has closed it.
pub(super) async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Call>> {
    let Some(first) = line(stream).await? else { return Ok(None) };
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = HeaderMap::new();
    while let Some(header) = line(stream).await?.filter(|line| !line.is_empty()) {
        let (name, value) = header.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(io::Error::other)?;
        headers.append(name, HeaderValue::from_str(value.trim()).map_err(io::Error::other)?);
    }
    let body = body(stream, &headers).await?;
    let order = ARRIVALS.fetch_add(1, Ordering::SeqCst);
    let (method, path) = (method.to_owned(), path.to_owned());
    Ok(Some(Call { order, at: Instant::now(), method, path, headers, body }))
}

async fn body(stream: &mut BufReader<TcpStream>, headers: &HeaderMap) -> io::Result<Vec<u8>> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        return chunks(stream).await;
    }
    let length = header("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

async fn chunks(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; size];
        stream.read_exact(&mut chunk).await?;
        body.extend(chunk);
        line(stream).await?;
        if size == 0 {
            return Ok(body);
        }
    }
}

async fn line(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await?;
    Ok((read > 0).then(|| line.trim_end().to_owned()))
}

/// Writes one answer; true where the connection can carry another request.
pub(super) async fn write(stream: &mut TcpStream, answer: &Answer) -> io::Result<bool> {
    let half = answer.body.len() / 2;
    match &answer.manner {
        Manner::Whole => {
            let mut whole = head(answer);
            whole.extend(&answer.body);
            stream.write_all(&whole).await?;
        }
        Manner::Slow { piece, pause } => {
            stream.write_all(&head(answer)).await?;
            for piece in answer.body.chunks(*piece) {
                tokio::time::sleep(*pause).await;
                stream.write_all(piece).await?;
            }
        }
        Manner::CutMidway => {
            stream.write_all(&head(answer)).await?;
            stream.write_all(&answer.body[..half]).await?;
        }
        Manner::Garbage(bytes) => stream.write_all(bytes).await?,
        Manner::Hang => std::future::pending().await,
        Manner::Cut => {}
    }
    Ok(matches!(answer.manner, Manner::Whole | Manner::Slow { .. }))
}

fn head(answer: &Answer) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} x\r\ncontent-length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    head.into_bytes()
}
