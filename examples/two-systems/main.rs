//! One of two systems that have to do the same thing, or both not: `two-systems NAME ADDRESS`.
//!
//! It takes JSON at `/api/process` and promises to do it; `/api/commit` does it, `/api/abort` lets it go. It prints all
//! it receives. JSON with `"refuse": NAME` is refused by the system of that name.
//!
//! What it knows is gone when it ends, so it is no example of a durable participant: that is `bank.py`.
#![expect(clippy::print_stdout, reason = "a sample shows what it receives")]

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Json;
use axum::routing::post;
use serde_json::{Value, json};

/// How far a transaction has come at this system.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Progress {
    Promised,
    Committed,
    Aborted,
}

#[derive(Debug)]
struct System {
    name: String,
    /// By transaction and branch, which together name a piece of work.
    progress: Mutex<HashMap<(String, String), Progress>>,
}

type Answer = (StatusCode, Json<Value>);

const USAGE: &str = "usage: two-systems NAME ADDRESS, for example: two-systems system1 127.0.0.1:9101";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, address] = arguments.as_slice() else {
        if ["--help", "-h"].map(str::to_owned).iter().any(|help| arguments.contains(help)) {
            println!("{USAGE}");
            return Ok(());
        }
        return Err(USAGE.into());
    };
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("{name} listens on {address}");
    let system = Arc::new(System { name: name.clone(), progress: Mutex::default() });
    axum::serve(listener, router(system)).await?;
    Ok(())
}

fn router(system: Arc<System>) -> Router {
    Router::new()
        .route("/api/process", post(process))
        .route("/api/commit", post(commit))
        .route("/api/abort", post(abort))
        .with_state(system)
}

async fn process(State(system): State<Arc<System>>, headers: HeaderMap, Json(body): Json<Value>) -> Answer {
    let refused = body.get("refuse").and_then(Value::as_str) == Some(&system.name);
    system.receive("process", &headers, &body, |known| match known {
        None if refused => (Some(Progress::Aborted), false),
        None => (Some(Progress::Promised), true),
        // The work of a transaction that was aborted comes too late; any other repeat is fine.
        Some(progress) => (Some(progress), progress != Progress::Aborted),
    })
}

async fn commit(State(system): State<Arc<System>>, headers: HeaderMap, Json(body): Json<Value>) -> Answer {
    system.receive("commit", &headers, &body, |known| match known {
        Some(Progress::Promised | Progress::Committed) => (Some(Progress::Committed), true),
        Some(Progress::Aborted) | None => (known, false),
    })
}

async fn abort(State(system): State<Arc<System>>, headers: HeaderMap, Json(body): Json<Value>) -> Answer {
    system.receive("abort", &headers, &body, |known| match known {
        // Remembered even where nothing was known: the work may still be on its way.
        Some(Progress::Promised | Progress::Aborted) | None => (Some(Progress::Aborted), true),
        Some(Progress::Committed) => (known, false),
    })
}

impl System {
    /// Prints the call, lets `step` say what follows from what is known, remembers that, and answers.
    fn receive(
        &self,
        call: &str,
        headers: &HeaderMap,
        body: &Value,
        step: impl FnOnce(Option<Progress>) -> (Option<Progress>, bool),
    ) -> Answer {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("none");
        let (id, branch) = (header("transaction-id"), header("transaction-branch"));
        let piece = (id.to_owned(), branch.to_owned());
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let (after, yes) = step(progress.get(&piece).copied());
        if let Some(after) = after {
            progress.insert(piece, after);
        }
        println!("{} {call} {body} of {id}: {}", self.name, if yes { "yes" } else { "no" });
        let answer = json!({"system": self.name, "call": call, "done": yes});
        (if yes { StatusCode::OK } else { StatusCode::CONFLICT }, Json(answer))
    }
}
