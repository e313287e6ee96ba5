//! The other clients: they ask for everything that a gateway does beside the transfers, badly behaved where a client can be.
//! What they are told is only looked at for what may never be answered; what they do moves no money.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::clients::Clients;
use super::plan::BANKS;

/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(20);

/// So many odd answers are kept; the rest would say the same.
const ODD: usize = 20;

/// What the other clients do and have seen.
pub(super) struct Others<'a> {
    url: String,
    http: reqwest::Client,
    clients: &'a Clients<'a>,
    answered: AtomicUsize,
    odd: Mutex<Vec<String>>,
}

/// What such a client asks for.
#[derive(Debug, Clone, Copy)]
enum Wish {
    /// A request that is forwarded.
    Forward,
    /// One whose answer is merged of three.
    Merge,
    /// A transaction without an `Idempotency-Key`.
    NoKey,
    /// The same, whose client does not wait for the answer.
    HangUp,
    /// A transaction whose body lacks what its branches need.
    Nonsense,
    /// A path that leads nowhere.
    Nowhere,
}

const WISHES: [Wish; 6] =
    [Wish::Forward, Wish::Merge, Wish::NoKey, Wish::HangUp, Wish::Nonsense, Wish::Nowhere];

impl<'a> Others<'a> {
    pub(super) fn new(gateway_url: &str, clients: &'a Clients<'a>) -> Self {
        Self {
            url: gateway_url.to_owned(),
            http: reqwest::Client::new(),
            clients,
            answered: AtomicUsize::new(0),
            odd: Mutex::default(),
        }
    }

    /// So many clients, until all transfers are settled.
    pub(super) async fn run(&self, clients: usize) {
        let one = |first: usize| async move {
            for wish in WISHES.iter().cycle().skip(first % WISHES.len()) {
                if self.clients.is_done() {
                    return;
                }
                self.ask(*wish).await;
                tokio::time::sleep(PAUSE).await;
            }
        };
        futures_util::future::join_all((0..clients).map(one)).await;
    }

    /// How many requests were answered, and what was answered that may not be.
    pub(super) fn into_findings(self) -> (usize, Vec<String>) {
        (self.answered.into_inner(), self.odd.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    async fn ask(&self, wish: Wish) {
        let get = |path: &str| self.http.get(format!("{}{path}", self.url));
        let post = |body: &Value| self.http.post(format!("{}/transfers", self.url)).body(body.to_string());
        let patience = if matches!(wish, Wish::HangUp) { fastrand::u64(1..20) } else { 30_000 };
        let request = match wish {
            Wish::Forward => get("/accounts"),
            Wish::Merge => get("/overview"),
            Wish::NoKey | Wish::HangUp => post(&nothing_for_everyone()),
            Wish::Nonsense => post(&json!({"north": 1})),
            Wish::Nowhere => get("/nowhere"),
        };
        let request = request.header("content-type", "application/json");
        // The gateway may be down, or the client may have hung up.
        let Ok(response) = request.timeout(Duration::from_millis(patience)).send().await else { return };
        self.answered.fetch_add(1, Ordering::Relaxed);
        let status = response.status();
        if !may_be(wish, status) {
            let text = response.text().await.unwrap_or_default();
            let mut odd = self.odd.lock().unwrap_or_else(PoisonError::into_inner);
            if odd.len() < ODD {
                odd.push(format!("{wish:?} was answered {status}: {text}"));
            }
        }
    }
}

/// A transfer that takes nothing and gives nothing.
fn nothing_for_everyone() -> Value {
    BANKS.iter().map(|bank| ((*bank).to_owned(), json!({"account": 0, "amount": 0}))).collect()
}

/// Whether such a wish may be answered so, whatever is killed or lost meanwhile.
fn may_be(wish: Wish, status: StatusCode) -> bool {
    let status = status.as_u16();
    match wish {
        Wish::Forward | Wish::Merge => [200, 502, 503, 504].contains(&status),
        Wish::NoKey | Wish::HangUp => [200, 202, 409, 502, 503, 504].contains(&status),
        Wish::Nonsense => [400, 422, 503].contains(&status),
        Wish::Nowhere => status == 404,
    }
}
