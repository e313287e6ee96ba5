//! Where the processes can be asked, and what.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::HarnessError;

/// What the gateway says of a transaction whose retention has passed.
pub(super) const EXPIRED: &str = "expired";

/// Where the gateway is asked what it knows.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    admin_url: String,
    public_url: String,
    client: reqwest::Client,
}

/// A transaction that is in doubt.
#[derive(Debug, Deserialize)]
pub(super) struct Open {
    pub(super) id: Uuid,
    branches: Vec<OpenBranch>,
}

#[derive(Debug, Deserialize)]
struct OpenBranch {
    service: String,
    state: String,
}

impl Open {
    /// Whether an answer of this bank is outstanding.
    pub(super) fn waits_for(&self, bank: &str) -> bool {
        self.branches.iter().any(|branch| branch.service == bank && branch.state == "waiting")
    }
}

impl Addresses {
    pub(super) fn new(public_url: &str, admin_url: String) -> Result<Self, HarnessError> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build();
        let failed = |source| HarnessError::Unanswered { url: admin_url.clone(), source };
        Ok(Self { client: client.map_err(failed)?, public_url: public_url.to_owned(), admin_url })
    }

    /// What is in doubt now, by the admin listener.
    pub(super) async fn in_doubt(&self) -> Result<Vec<Open>, HarnessError> {
        #[derive(Deserialize)]
        struct Listed {
            transactions: Vec<Open>,
        }
        let url = format!("{}/v1/transactions?in_doubt=true", self.admin_url);
        Ok(self.get::<Listed>(&url).await?.transactions)
    }

    /// The log from this LSN on, as JSON lines.
    pub(super) async fn log(&self, from: u64) -> Result<String, HarnessError> {
        self.text(&format!("{}/v1/log?from={from}", self.admin_url)).await
    }

    /// What became of a transaction, by the public listener: `committed`, `aborted`, `undecided` or [`EXPIRED`].
    pub(super) async fn outcome(&self, transaction: Uuid) -> Result<String, HarnessError> {
        let asked = self.get(&format!("{}/v1/transactions/{transaction}", self.public_url)).await;
        let told: Value = match asked {
            Err(HarnessError::Unanswered { source, .. }) if source.status() == Some(StatusCode::GONE) => {
                return Ok(EXPIRED.to_owned());
            }
            other => other?,
        };
        Ok(told.get("outcome").and_then(Value::as_str).unwrap_or("not told").to_owned())
    }

    /// JSON from anywhere.
    pub(super) async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, HarnessError> {
        let text = self.text(url).await?;
        serde_json::from_str(&text).map_err(|error| HarnessError::Unclear {
            url: url.to_owned(),
            why: error.to_string(),
            text: text.chars().take(500).collect(),
        })
    }

    async fn text(&self, url: &str) -> Result<String, HarnessError> {
        let failed = |source| HarnessError::Unanswered { url: url.to_owned(), source };
        let response = self.client.get(url).send().await.map_err(failed)?;
        let response = response.error_for_status().map_err(failed)?;
        response.text().await.map_err(failed)
    }
}
