//! Asking a live node, over its admin listener.

use std::time::Duration;

use http::StatusCode;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;

/// How long a node may take to answer an operator; following the log has no such limit.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a node did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// It could not be reached, or broke off.
    #[error("the node at {url} does not answer: is it running, and is this its admin address (node.admin)?")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// It answered as the public listener does.
    #[error(
        "{url} is where clients connect; give the admin address (node.admin), by default http://127.0.0.1:8001"
    )]
    Public {
        /// What was asked.
        url: String,
    },
    /// The address is one that no admin listener has.
    #[error("{url}: the admin listener of a node speaks plain http: give http://HOST:PORT")]
    NotHttp {
        /// The address.
        url: String,
    },
    /// It said no.
    #[error("the node says: {detail} ({status}, {code})")]
    Refused {
        /// The status of the answer.
        status: StatusCode,
        /// The stable code of the problem.
        code: String,
        /// The problem as a sentence.
        detail: String,
    },
    /// It answered with something else than JSON.
    #[error("{url} answered with something that is no JSON: is it an admin address?")]
    NotJson {
        /// What was asked.
        url: String,
    },
    /// The result could not be printed.
    #[error("the result cannot be printed: {0}")]
    Output(#[from] std::io::Error),
}

/// The admin listener of one node.
#[derive(Debug, Clone)]
pub struct AdminClient {
    base: String,
    http: Client,
}

impl AdminClient {
    /// The admin listener at `url`; `http://` may be left out.
    pub fn new(url: &str) -> Result<Self, AdminError> {
        let base = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let base = base.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") {
            return Err(AdminError::NotHttp { url: base });
        }
        let http = Client::builder().no_proxy().connect_timeout(Duration::from_secs(5)).build();
        let http = http.map_err(|source| AdminError::Unreachable { url: base.clone(), source })?;
        Ok(Self { base, http })
    }

    /// `GET`, the answer as JSON.
    pub async fn get(&self, path: &str) -> Result<Value, AdminError> {
        let request = self.request(Method::GET, path).timeout(PATIENCE);
        self.json(path, request).await
    }

    /// `POST` of JSON, the answer as JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, AdminError> {
        let request = self.request(Method::POST, path).timeout(PATIENCE);
        let request = request.header("content-type", "application/json").body(body.to_string());
        self.json(path, request).await
    }

    /// `GET`, the answer as it comes.
    pub async fn stream(&self, path: &str) -> Result<Response, AdminError> {
        self.send(path, self.request(Method::GET, path)).await
    }

    /// The error that a broken answer of this path is.
    #[must_use]
    pub fn broken(&self, path: &str, source: reqwest::Error) -> AdminError {
        AdminError::Unreachable { url: self.url(path), source }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    async fn send(&self, path: &str, request: RequestBuilder) -> Result<Response, AdminError> {
        let response = request.send().await.map_err(|source| self.broken(path, source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let said = |name: &str| problem.get(name).and_then(Value::as_str).map(str::to_owned);
        let (code, detail) = (said("code").unwrap_or_default(), said("detail").unwrap_or(text));
        if code == "no_route" {
            return Err(AdminError::Public { url: self.url(path) });
        }
        Err(AdminError::Refused { status, code, detail })
    }

    async fn json(&self, path: &str, request: RequestBuilder) -> Result<Value, AdminError> {
        let response = self.send(path, request).await?;
        let text = response.text().await.map_err(|source| self.broken(path, source))?;
        serde_json::from_str(&text).map_err(|_| AdminError::NotJson { url: self.url(path) })
    }
}
