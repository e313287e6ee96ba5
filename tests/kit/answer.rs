//! What a [`Stub`](super::Stub) can be told to answer, from a plain 200 to bytes that are not HTTP at all.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

/// One answer of a stub.
#[derive(Debug, Clone)]
pub struct Answer {
    pub(super) manner: Manner,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) delay: Duration,
    pub(super) gate: Option<Gate>,
}

/// How the bytes of an answer go out.
#[derive(Debug, Clone)]
pub(super) enum Manner {
    /// As it should be.
    Whole,
    /// The request is read, and nothing ever comes back. The connection stays open.
    Hang,
    /// The connection is closed without one byte.
    Cut,
    /// The head and half of the body, then the connection is closed.
    CutMidway,
    /// These bytes instead of HTTP, then the connection is closed.
    Garbage(Vec<u8>),
    /// The body in pieces of `piece` bytes with a pause before each.
    Slow { piece: usize, pause: Duration },
}

impl Answer {
    /// 200 with an empty JSON object.
    pub fn ok() -> Self {
        Self::json(200, Value::Object(serde_json::Map::new()))
    }

    /// This status and no body.
    pub fn status(status: u16) -> Self {
        Self { headers: Vec::new(), body: Vec::new(), ..Self::json(status, Value::Null) }
    }

    /// This status and this JSON.
    #[expect(clippy::needless_pass_by_value, reason = "json!(..) is a value")]
    pub fn json(status: u16, body: Value) -> Self {
        Self {
            manner: Manner::Whole,
            status,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.to_string().into_bytes(),
            delay: Duration::ZERO,
            gate: None,
        }
    }

    /// This status and these bytes of this content type.
    pub fn bytes(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let answer = Self::status(status).header("content-type", content_type);
        Self { body: body.into(), ..answer }
    }

    /// 200 with a JSON string of this many bytes in all.
    pub fn big(bytes: usize) -> Self {
        let text = "x".repeat(bytes.saturating_sub(2));
        Self::bytes(200, "application/json", format!("\"{text}\""))
    }

    /// Never an answer; the connection stays open.
    pub fn hang() -> Self {
        Self { manner: Manner::Hang, ..Self::ok() }
    }

    /// The connection is closed without one byte of an answer.
    pub fn cut() -> Self {
        Self { manner: Manner::Cut, ..Self::ok() }
    }

    /// The head and half of a body, then the connection is closed.
    pub fn cut_midway() -> Self {
        Self { manner: Manner::CutMidway, ..Self::big(1_000) }
    }

    /// Bytes that are not HTTP.
    pub fn garbage() -> Self {
        Self { manner: Manner::Garbage(b"\x00\xff\x13 this is no HTTP\r\n\r\n".to_vec()), ..Self::ok() }
    }

    /// This answer, its body in pieces of `piece` bytes with `pause` before each.
    pub fn slowly(self, piece: usize, pause: Duration) -> Self {
        Self { manner: Manner::Slow { piece: piece.max(1), pause }, ..self }
    }

    /// This answer with one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// This answer, but only after `delay`.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// This answer, but not before `gate` is open.
    pub fn behind(self, gate: &Gate) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }
}

/// Holds answers back until it is opened: a test that needs "while the commit is under way" uses it in place
/// of a sleep. It can be closed again.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A gate that holds.
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everything pass that waits and all that comes.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Holds what comes from now on.
    pub fn close(&self) {
        self.0.send_replace(false);
    }

    pub(super) async fn pass(&self) {
        let open = self.0.subscribe().wait_for(|open| *open).await.is_ok();
        assert!(open, "the gate holds its own sender");
    }
}
