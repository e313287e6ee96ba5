//! One request to a Consul agent. The token goes into a header and never into a URL, which would be logged.
//!
//! <https://developer.hashicorp.com/consul/api-docs/api-structure#authentication>

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Client, Response, Url};
use serde_json::Value;
use tokio::time::timeout;

use super::{AgentAddress, TokenPlace};
use crate::discovery::trouble::{ANSWER_BYTES_MAX, Trouble};

/// For an attempt to connect: the agent is near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A way to an agent.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    client: Client,
    address: AgentAddress,
}

/// What an agent answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Agent {
    pub(super) fn new(address: AgentAddress) -> Result<Self, Trouble> {
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            // There is a question a minute or so. A connection that was kept would be one that the agent has closed.
            .pool_max_idle_per_host(0)
            .http1_only()
            .build()
            .map_err(|_| Trouble::Unreachable)?;
        Ok(Self { client, address })
    }

    /// A request to the path of these segments, with these parameters; all of it within `patience`.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Answer, Trouble> {
        let url = self.url(path, query).ok_or(Trouble::Unreachable)?;
        let mut request = self.client.request(method, url);
        if let Some(token) = self.token().await? {
            request = request.header("x-consul-token", token);
        }
        if let Some(body) = body {
            request = request.header(http::header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = async { read(request.send().await.map_err(|error| trouble(&error))?).await };
        timeout(patience, answer).await.unwrap_or(Err(Trouble::Late))
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Option<Url> {
        let mut url = Url::parse(&self.address.url).ok()?;
        url.path_segments_mut().ok()?.pop_if_empty().extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Some(url)
    }

    async fn token(&self) -> Result<Option<HeaderValue>, Trouble> {
        let Some(place) = &self.address.token else { return Ok(None) };
        let (text, place) = match place {
            TokenPlace::Variable(name) => {
                let missing = |_| Trouble::NoToken(format!("the environment has no variable {name}"));
                (std::env::var(name).map_err(missing)?, name.clone())
            }
            TokenPlace::File(path) => {
                let place = path.display().to_string();
                let unreadable = |error| Trouble::NoToken(format!("{place}: {error}"));
                (tokio::fs::read_to_string(path).await.map_err(unreadable)?, place)
            }
        };
        let token = Some(text.trim()).filter(|text| !text.is_empty());
        let token = token.and_then(|text| HeaderValue::from_str(text).ok());
        let mut token = token.ok_or_else(|| Trouble::NoToken(format!("{place} holds no token")))?;
        token.set_sensitive(true);
        Ok(Some(token))
    }
}

async fn read(mut response: Response) -> Result<Answer, Trouble> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| trouble(&error))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Trouble::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body: body.into() })
}

fn trouble(error: &reqwest::Error) -> Trouble {
    if error.is_connect() {
        Trouble::Unreachable
    } else if error.is_timeout() {
        Trouble::Late
    } else {
        Trouble::Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(token: Option<TokenPlace>) -> Agent {
        Agent::new(AgentAddress { url: "http://127.0.0.1:8500".to_owned(), token }).unwrap()
    }

    #[test]
    fn names_cannot_leave_their_place_in_the_url() {
        let url = agent(None).url(&["v1", "health", "service", "a/../b?c"], &[("dc", "x&y=z")]).unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:8500/v1/health/service/a%2F..%2Fb%3Fc?dc=x%26y%3Dz");
    }

    #[tokio::test]
    async fn a_token_that_is_not_there_is_said_to_be_missing_without_a_word_of_it() {
        let trouble = agent(Some(TokenPlace::Variable("NO_SUCH_VARIABLE".into()))).token().await.unwrap_err();
        assert!(trouble.to_string().contains("NO_SUCH_VARIABLE"), "{trouble}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let place = || Some(TokenPlace::File(file.path().to_owned()));
        std::fs::write(file.path(), "  \n").unwrap();
        assert!(matches!(agent(place()).token().await, Err(Trouble::NoToken(_))));
        std::fs::write(file.path(), "sec\u{1}ret").unwrap();
        let trouble = agent(place()).token().await.unwrap_err();
        assert!(!trouble.to_string().contains("ret"), "{trouble}");
        std::fs::write(file.path(), "secret\n").unwrap();
        let token = agent(place()).token().await.unwrap().unwrap();
        assert_eq!((token.to_str().unwrap(), format!("{token:?}").as_str()), ("secret", "Sensitive"));
    }
}
