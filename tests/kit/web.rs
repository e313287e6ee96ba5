//! HTTP in one line: send a request, look at the answer.

use std::time::Duration;

use http::{HeaderMap, Method};
use serde_json::Value;

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    /// The body as JSON; panics where it is not.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{} is not JSON ({error}): {:?}", self.status, self.text))
    }

    /// A header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The `Transaction-Id` header.
    pub fn transaction(&self) -> &str {
        self.header("transaction-id")
    }

    /// Panics, showing the whole answer, unless it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "the answer was {self:#?}");
        self
    }
}

/// A client that follows nothing, goes through no proxy, and waits at most 30 s.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}

/// Sends one request and reads the whole answer; an error where there is none.
pub async fn send(
    client: &reqwest::Client,
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<String>,
) -> reqwest::Result<Reply> {
    let mut request = client.request(method, url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.body(body);
    }
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Reply { status, headers, text: response.text().await? })
}

/// `GET` of JSON from an address that answers with 200.
pub async fn get(url: &str) -> Value {
    send(&client(), Method::GET, url, &[], None).await.unwrap().expect(200).json()
}

/// JSON lines, as `dump --format json` and `GET /v1/log` print them.
#[track_caller]
pub fn lines(text: &str) -> Vec<Value> {
    let parse = |line: &str| match serde_json::from_str(line) {
        Ok(value) => value,
        Err(error) => panic!("not a line of JSON ({error}): {line:?}"),
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(parse).collect()
}

/// A list that came as a JSON array, as an object with one array in it, or as JSON lines.
#[track_caller]
pub fn list(text: &str) -> Vec<Value> {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(items)) => items,
        Ok(Value::Object(members)) => members
            .values()
            .find_map(|member| member.as_array().cloned())
            .unwrap_or_else(|| vec![Value::Object(members.clone())]),
        _ => lines(text),
    }
}
