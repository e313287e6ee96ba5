//! One call to a participant, sent as a node sends it, and what was heard.
//!
//! Message, client and the reading of answers are those of the node, so that what passes here passes there.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use reqwest::{Client, Response};
use tokio::time::{Instant, timeout};

use crate::clients::{Clients, Speaks};
use crate::discovery::Endpoint;
use crate::gateway::GatewayOptions;
use crate::participant::answer::{Answer, Outcome, is_no, meaning};
use crate::participant::wire::{Message, Sender as Coordinator, message, retry_after, vote};
use crate::participant::{Call, Reply};
use crate::txn::{Operation, Vote};

/// How much of an answer is kept for the report.
const KEPT_MAX: usize = 2_000;

/// Sends calls.
#[derive(Debug)]
pub(super) struct Sender {
    speaks: Speaks,
    client: Client,
    timeout: Duration,
    answer_max: usize,
}

/// One call and what was heard.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// What was asked.
    pub operation: Operation,
    /// Which branch.
    pub branch: usize,
    /// The how manieth time, as its `Transaction-Attempt` says.
    pub attempt: u32,
    /// Its method.
    pub method: Method,
    /// Where it went.
    pub url: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// What was heard.
    pub heard: Heard,
    /// Until the last byte of the answer.
    pub took: Duration,
}

/// What was heard of a call.
#[derive(Debug, Clone)]
pub enum Heard {
    /// An answer.
    Answered(Answered),
    /// It could not be sent.
    NeverSent(String),
    /// It was sent, and no answer can be made of what came.
    Broken(String),
    /// Nothing, or not all, in time.
    Late,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Its `Transaction-Vote`.
    pub vote: Option<String>,
    /// The beginning of its body.
    pub text: String,
    /// What is wrong with its body.
    pub flaw: Option<String>,
    outcome: Outcome,
}

/// A client as a node has it, with no connection yet.
pub(super) fn client(speaks: Speaks) -> reqwest::Result<Client> {
    let options = GatewayOptions::default();
    Ok(Clients::new(options.connect_timeout, options.pool_idle)?.of(speaks).clone())
}

impl Sender {
    pub(super) fn new(speaks: Speaks, timeout: Duration) -> reqwest::Result<Self> {
        let answer_max = GatewayOptions::default().answer_max;
        Ok(Self { speaks, client: client(speaks)?, timeout, answer_max })
    }

    /// Forgets every open connection: after a restart they lead nowhere.
    pub(super) fn renew(&mut self) -> reqwest::Result<()> {
        self.client = client(self.speaks)?;
        Ok(())
    }

    /// Makes one attempt at `call`.
    pub(super) async fn send(&self, call: &Call, coordinator: &Coordinator, endpoint: &Endpoint) -> Exchange {
        let Message { method, url, headers, body } = message(call, coordinator, endpoint, fastrand::u64(1..));
        let request = self.client.request(method.clone(), &url).headers(headers.clone()).body(body.clone());
        let began = Instant::now();
        let asking = async {
            match request.send().await {
                Ok(response) => Heard::Answered(self.read(call.operation, response).await),
                Err(error) if error.is_connect() || error.is_builder() => Heard::NeverSent(chain(&error)),
                Err(error) => Heard::Broken(chain(&error)),
            }
        };
        let heard = timeout(self.timeout, asking).await.unwrap_or(Heard::Late);
        let (operation, branch, attempt) = (call.operation, call.branch.index(), call.attempt);
        Exchange { operation, branch, attempt, method, url, headers, body, heard, took: began.elapsed() }
    }

    /// `GET` of what the participant shows; a sentence where there is nothing to see.
    pub(super) async fn look(&self, url: &str) -> Result<String, String> {
        let asking = async {
            let response = self.client.get(url).send().await.map_err(|error| chain(&error))?;
            let status = response.status();
            let (body, flaw) = self.body(response).await;
            match flaw {
                _ if !status.is_success() => Err(format!("GET {url} was answered {status}")),
                Some(flaw) => Err(format!("GET {url}: {flaw}")),
                None => Ok(String::from_utf8_lossy(&body).into_owned()),
            }
        };
        let late = |_| Err(format!("GET {url} was not answered in time"));
        timeout(self.timeout, asking).await.unwrap_or_else(late)
    }

    async fn read(&self, operation: Operation, response: Response) -> Answered {
        let headers = response.headers().clone();
        let status = response.status().as_u16();
        let (body, flaw) = self.body(response).await;
        let text = String::from_utf8_lossy(body.get(..KEPT_MAX).unwrap_or(&body)).into_owned();
        let text_of = |name: &str| {
            headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        // The client gets what was done, so that must be whole. Of all others only the status counts.
        let outcome = if operation == Operation::Work && flaw.is_some() && !is_no(status) {
            Outcome::Broken(Some(status))
        } else {
            let reply = Reply { status, content_type: text_of(CONTENT_TYPE.as_str()), body: Bytes::new() };
            Outcome::Answered { reply, vote: vote(&headers), retry_after: retry_after(&headers) }
        };
        Answered { status, vote: text_of("transaction-vote"), text, flaw, outcome }
    }

    /// The body, or as much of it as may be held, and what is wrong with it.
    async fn body(&self, mut response: Response) -> (Vec<u8>, Option<String>) {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > self.answer_max => {
                    return (body, Some(format!("its body has more than {} bytes", self.answer_max)));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return (body, None),
                Err(error) => return (body, Some(format!("its body broke off: {}", chain(&error)))),
            }
        }
    }
}

impl Exchange {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match &self.heard {
            Heard::Answered(answered) => Some(answered.status),
            Heard::NeverSent(_) | Heard::Broken(_) | Heard::Late => None,
        }
    }

    /// What it means to a node.
    #[must_use]
    pub fn meaning(&self) -> Answer {
        let outcome = match &self.heard {
            Heard::Answered(answered) => answered.outcome.clone(),
            Heard::NeverSent(_) => Outcome::NeverSent,
            Heard::Broken(_) => Outcome::Broken(None),
            Heard::Late => Outcome::Late,
        };
        meaning(self.operation, outcome)
    }

    /// Whether the branch asks to be left out of what follows.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        matches!(self.meaning(), Answer::Done { vote: Vote::ReadOnly, .. })
            && matches!(self.operation, Operation::Work | Operation::Prepare)
    }
}

/// An error with all its causes: reqwest's own words end before the point.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
