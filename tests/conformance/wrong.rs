//! A participant that keeps every rule, and can be told to break one: a counter that work promises to raise.
//!
//! It restarts when a file appears, which a command of the shell can make: what a fault says is only in memory is gone then.
#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::match_same_arms,
    reason = "most faults change one arm of one table"
)]

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use unanimous::clock::{Clock, SystemClock};

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Nothing,
    /// A repeat of the work is refused.
    RefusesWorkAgain,
    /// A repeat of the work promises another time.
    WorksAgain,
    /// Whether it was here before is looked up before, and written down after, the work.
    LooksThenWorks,
    /// A repeat of prepare is refused.
    RefusesPrepareAgain,
    /// A prepare of what is committed is refused.
    RefusesLatePrepare,
    /// A repeat of the commit is refused.
    RefusesCommitAgain,
    /// A repeat of the commit is done again.
    CommitsAgain,
    /// Whether it is committed is looked up before, and written down after, it is done.
    LooksThenCommits,
    /// Of two calls at once the second is told 409.
    OneAtATime,
    /// A repeat of the abort is refused.
    RefusesAbortAgain,
    /// An abort changes the counter back, also where nothing was done.
    UndoesTooMuch,
    /// Nothing that is promised can be aborted.
    NeverAborts,
    /// What is finished is forgotten.
    ForgetsTheFinished,
    /// An abort of what was never seen is refused.
    RefusesUnknownAbort,
    /// An abort of what was never seen is answered and forgotten.
    ForgetsUnknownAbort,
    /// An abort of what was aborted, and then refused as late, is refused.
    RefusesAbortAfterLateWork,
    /// What was aborted is forgotten.
    ForgetsAborts,
    /// A prepare of what was never seen, or is aborted, is answered 200.
    PreparesAnything,
    /// A commit of what was never seen is answered 200.
    CommitsTheUnknown,
    /// A commit of what was aborted is answered 200.
    CommitsTheAborted,
    /// An abort of what is committed is answered 200.
    AbortsTheCommitted,
    /// An abort of what is committed is answered 404.
    MissesTheCommitted,
    /// Work that cannot be done is answered 500.
    FailsToRefuse,
    /// Refused work is promised when it is asked for again.
    RefusesOnce,
    /// A commit, and a prepare, of what was refused is answered 200.
    CommitsTheRefused,
    /// An abort of what was refused is refused.
    RefusesAbortOfRefused,
    /// One piece of work a transaction.
    KnowsNoBranches,
    /// An abort lets go of everything that is promised.
    AbortsAll,
    /// A call with an epoch greater than that of the work is refused.
    RefusesTheNextLife,
    /// A call with a smaller epoch makes it forget what it promised.
    SpoiltByTheFormerLife,
    /// The greatest epoch of all nodes together counts.
    ComparesNodes,
    /// A restart takes all that was promised and not committed.
    ForgetsPromises,
    /// A restart takes all that is known of what is finished.
    ForgetsEndsAtRestart,
    /// A restart takes what is shown.
    ForgetsEffects,
    /// A restart takes all that is known of what was promised and aborted.
    TidiesAbortsAtStart,
    /// What was promised before a restart is committed again by every repeat.
    CommitsTheRecoveredAgain,
    /// What was promised before a restart is forgotten when it is aborted.
    ForgetsTheRecoveredAborted,
    /// An abort of what was committed before a restart is answered 200.
    AbortsTheCommittedOfBefore,
    /// What it answers is on its disk only when somebody has looked at it.
    WritesLate,
    /// A promise ends by itself.
    LosesPatience,
    /// A repeat of the commit is never answered.
    Hangs,
    /// A repeat of the abort is answered by a redirect.
    Redirects,
    /// A no stands in the header, and the status is 200.
    VotesInTheHeader,
    /// A repeat of the work is answered without end.
    Chatters,
    /// A commit is answered 500.
    NeverCommits,
    /// Nothing is wrong: it asks the coordinator before it does what it is told.
    Asks,
    /// Nothing is wrong: a smaller epoch of the same node is refused.
    RefusesTheFormerLife,
    /// Nothing is wrong: after a restart it answers every call at once, and shows its work a while later.
    ShowsLate,
    /// Nothing is wrong: after a restart everything is answered 503 for a while.
    ComesUpLate,
    /// Nothing is wrong: it is asked again before it answers.
    PutsOff,
    /// Nothing is wrong: while it has promised something it refuses all other work.
    HasOneSeat,
    /// Nothing is wrong: while it has promised something it answers 503 to all other work.
    HasOneSeatToWaitFor,
    /// The first repeat of a prepare is answered 503 for ever, and every call is asked again before it answers.
    RestsOnce,
}

/// How long a promise holds where it ends by itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long it takes to come up again, where it does so late.
const COMING_UP: Duration = Duration::from_secs(2);

/// What it knows of a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Promised { times: u32, epoch: u64, at: Instant },
    Prepared { times: u32, epoch: u64, at: Instant },
    Refused,
    Committed,
    Aborted,
    AbortedTwice,
}

impl Known {
    fn is_promise(&self) -> bool {
        matches!(self, Self::Promised { .. } | Self::Prepared { .. })
    }
}

type Piece = (String, String);

/// The participant, listening.
pub struct Counter {
    pub url: String,
    directory: tempfile::TempDir,
    _serving: JoinSet<()>,
}

struct Inner {
    fault: Fault,
    restart: PathBuf,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    known: HashMap<Piece, Known>,
    counter: i64,
    /// What was known of what when it was restarted.
    before: HashMap<Piece, Known>,
    /// What was ever promised.
    promised: HashSet<Piece>,
    /// What is known, and the counter, on a disk that is written late.
    disk: (HashMap<Piece, Known>, i64),
    epoch: u64,
    /// The greatest epoch by node.
    epochs: HashMap<String, u64>,
    busy: bool,
    /// Until when it comes up, after a restart.
    up: Option<Instant>,
    /// What is answered 503 where a first repeat is.
    resting: Option<Piece>,
}

impl Counter {
    pub async fn start(fault: Fault) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let restart = directory.path().join("restart");
        let inner = Arc::new(Inner { fault, restart, memory: Mutex::default() });
        let router = Router::new()
            .route("/raise", post(|state, headers, body| call("work", state, headers, body)))
            .route("/prepare", post(|state, headers, body| call("prepare", state, headers, body)))
            .route("/commit", post(|state, headers, body| call("commit", state, headers, body)))
            .route("/abort", post(|state, headers, body| call("abort", state, headers, body)))
            .route("/", get(show))
            .with_state(inner);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, directory, _serving: serving }
    }

    /// The command that restarts it.
    pub fn restart(&self) -> String {
        format!("touch {}", self.directory.path().join("restart").display())
    }
}

async fn show(State(inner): State<Arc<Inner>>) -> Response {
    inner.restart_if_asked();
    {
        let mut memory = inner.memory.lock().unwrap();
        memory.disk = (memory.known.clone(), memory.counter);
    }
    match inner.fault {
        Fault::ComesUpLate if inner.comes_up() => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Fault::ShowsLate if inner.comes_up() => "starting".into_response(),
        _ => Json(json!({ "counter": inner.memory.lock().unwrap().counter, "at": now() })).into_response(),
    }
}

/// What it shows beside its work: a clock that says the same for a whole second.
fn now() -> u64 {
    SystemClock.now().0 / 1000
}

async fn call(
    operation: &'static str,
    State(inner): State<Arc<Inner>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    inner.restart_if_asked();
    let fault = inner.fault;
    if fault == Fault::ComesUpLate && inner.comes_up() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if fault == Fault::OneAtATime && std::mem::replace(&mut inner.memory.lock().unwrap().busy, true) {
        return StatusCode::CONFLICT.into_response();
    }
    if (fault, operation) == (Fault::LooksThenWorks, "abort") {
        // Work that comes at the same time is under way by then.
        sleep(Duration::from_millis(100)).await;
    }
    let is_racy = matches!(
        (fault, operation),
        (Fault::LooksThenWorks, "work") | (Fault::LooksThenCommits, "commit") | (Fault::OneAtATime, _)
    );
    let before = inner.memory.lock().unwrap().known.get(&piece(fault, &headers)).copied();
    if is_racy {
        sleep(Duration::from_millis(200)).await;
    }
    let status = {
        let mut memory = inner.memory.lock().unwrap();
        memory.busy = false;
        let now = memory.known.get(&piece(fault, &headers)).copied();
        memory.answer(fault, operation, &headers, &body, if is_racy { before } else { now })
    };
    // It answers each question at the second try, so that the third one is a repeat.
    let is_repeat = !["1", "2"].iter().any(|first| headers["transaction-attempt"] == *first);
    if fault == Fault::RestsOnce && operation == "prepare" && is_repeat {
        let piece = piece(fault, &headers);
        if *inner.memory.lock().unwrap().resting.get_or_insert(piece.clone()) == piece {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    }
    if fault == Fault::Asks && !coordinator_agrees(operation, &headers).await {
        return StatusCode::CONFLICT.into_response();
    }
    match (fault, operation, status) {
        (Fault::Chatters, "work", 299) => {
            let chunks = std::iter::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 65_536]));
            Body::from_stream(futures_util::stream::iter(chunks)).into_response()
        }
        (Fault::NeverCommits, "commit", _) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        (Fault::PutsOff | Fault::RestsOnce, _, 200) if headers["transaction-attempt"] == "1" => {
            StatusCode::TOO_EARLY.into_response()
        }
        (Fault::Hangs, "commit", 299) => std::future::pending().await,
        (Fault::VotesInTheHeader, _, 409) => ([("transaction-vote", "no")], "no").into_response(),
        (_, _, status) => StatusCode::from_u16(status).unwrap().into_response(),
    }
}

/// Whether the coordinator says what this call says.
async fn coordinator_agrees(operation: &str, headers: &HeaderMap) -> bool {
    let told = crate::kit::get(headers["transaction-coordinator"].to_str().unwrap()).await;
    let expected = match operation {
        "commit" => "committed",
        "abort" => "aborted",
        _ => return true,
    };
    told["id"] == headers["transaction-id"].to_str().unwrap() && told["outcome"] == expected
}

impl Inner {
    fn restart_if_asked(&self) {
        if std::fs::remove_file(&self.restart).is_err() {
            return;
        }
        let memory = &mut *self.memory.lock().unwrap();
        memory.up = Some(Instant::now() + COMING_UP);
        memory.before.clone_from(&memory.known);
        match self.fault {
            Fault::ForgetsPromises => memory.known.retain(|_, known| !known.is_promise()),
            Fault::ForgetsEndsAtRestart => memory.known.retain(|_, known| known.is_promise()),
            Fault::ForgetsEffects => memory.counter = 0,
            Fault::TidiesAbortsAtStart => {
                let promised = memory.promised.clone();
                memory.known.retain(|piece, known| *known != Known::Aborted || !promised.contains(piece));
            }
            Fault::WritesLate => (memory.known, memory.counter) = memory.disk.clone(),
            _ => {}
        }
    }
}

impl Inner {
    fn comes_up(&self) -> bool {
        self.memory.lock().unwrap().up.is_some_and(|up| Instant::now() < up)
    }
}

fn piece(fault: Fault, headers: &HeaderMap) -> Piece {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    match fault {
        Fault::KnowsNoBranches => (header("transaction-id"), String::new()),
        _ => (header("transaction-id"), header("transaction-branch")),
    }
}

impl Memory {
    /// The status of the answer; 299 is a repeat that may be treated otherwise.
    fn answer(
        &mut self,
        fault: Fault,
        operation: &str,
        headers: &HeaderMap,
        body: &str,
        seen: Option<Known>,
    ) -> u16 {
        let epoch: u64 = headers["transaction-epoch"].to_str().unwrap().parse().unwrap();
        let piece = piece(fault, headers);
        let is_smaller = epoch < self.epoch;
        self.epoch = self.epoch.max(epoch);
        let url = headers["transaction-coordinator"].to_str().unwrap();
        // Scheme, host and port, as a browser tells one origin from another.
        let node = url.split('/').take(3).collect::<Vec<_>>().join("/");
        let of_node = self.epochs.entry(node).or_default();
        let is_former = epoch < *of_node;
        *of_node = epoch.max(*of_node);
        if fault == Fault::ComparesNodes && is_smaller || fault == Fault::RefusesTheFormerLife && is_former {
            return 409;
        }
        let seen = match seen {
            Some(Known::Promised { epoch: of, .. } | Known::Prepared { epoch: of, .. })
                if fault == Fault::RefusesTheNextLife && epoch > of =>
            {
                return 409;
            }
            Some(Known::Promised { epoch: of, .. } | Known::Prepared { epoch: of, .. })
                if fault == Fault::SpoiltByTheFormerLife && epoch < of =>
            {
                self.known.insert(piece, Known::Aborted);
                return 409;
            }
            Some(Known::Promised { at, .. } | Known::Prepared { at, .. })
                if fault == Fault::LosesPatience && at.elapsed() > PATIENCE =>
            {
                Some(Known::Aborted)
            }
            seen => seen,
        };
        let before = self.before.get(&piece).copied();
        let is_taken = seen.is_none() && self.known.values().any(Known::is_promise);
        let (status, known) = match operation {
            "work" if is_taken && fault == Fault::HasOneSeat => (409, Some(Known::Refused)),
            "work" if is_taken && fault == Fault::HasOneSeatToWaitFor => (503, None),
            "work" => work(fault, seen, self.known.get(&piece).copied(), epoch, body),
            "prepare" => prepare(fault, seen),
            "commit" => self.commit(fault, seen, before),
            _ => self.abort(fault, seen, before),
        };
        if (operation, status) == ("work", 200) {
            self.promised.insert(piece.clone());
        }
        match known {
            Some(known) => self.known.insert(piece, known),
            None => self.known.remove(&piece),
        };
        status
    }

    fn commit(&mut self, fault: Fault, seen: Option<Known>, before: Option<Known>) -> (u16, Option<Known>) {
        match seen {
            Some(Known::Promised { times, .. } | Known::Prepared { times, .. }) => {
                self.counter += i64::from(times);
                let is_kept = fault != Fault::ForgetsTheFinished;
                (200, is_kept.then_some(Known::Committed))
            }
            Some(Known::Committed) => {
                let is_recovered = before.is_some_and(|known| known.is_promise());
                let is_again = fault == Fault::CommitsTheRecoveredAgain && is_recovered;
                self.counter += i64::from(fault == Fault::CommitsAgain || is_again);
                let status = match fault {
                    Fault::RefusesCommitAgain => 409,
                    Fault::Hangs => 299,
                    _ => 200,
                };
                (status, seen)
            }
            None if fault == Fault::CommitsTheUnknown => (200, None),
            Some(Known::Refused) if fault == Fault::CommitsTheRefused => (200, seen),
            Some(Known::Aborted) if fault == Fault::CommitsTheAborted => (200, seen),
            None | Some(Known::Refused | Known::Aborted | Known::AbortedTwice) => (409, seen),
        }
    }

    fn abort(&mut self, fault: Fault, seen: Option<Known>, before: Option<Known>) -> (u16, Option<Known>) {
        if fault == Fault::AbortsAll {
            let promises = self.known.values_mut().filter(|known| known.is_promise());
            promises.for_each(|known| *known = Known::Aborted);
        }
        let is_recovered = before.is_some_and(|known| known.is_promise());
        if fault == Fault::UndoesTooMuch && !matches!(seen, Some(Known::Committed)) {
            self.counter -= i64::from(matches!(seen, Some(Known::Aborted)));
        }
        match seen {
            Some(Known::Promised { .. } | Known::Prepared { .. }) if fault == Fault::NeverAborts => {
                (409, seen)
            }
            Some(Known::Promised { .. } | Known::Prepared { .. }) if fault == Fault::ForgetsAborts => {
                (200, None)
            }
            Some(Known::Promised { .. } | Known::Prepared { .. })
                if fault == Fault::ForgetsTheRecoveredAborted && is_recovered =>
            {
                (200, None)
            }
            Some(Known::Promised { .. } | Known::Prepared { .. }) => (200, Some(Known::Aborted)),
            None if fault == Fault::RefusesUnknownAbort => (409, None),
            None if fault == Fault::ForgetsUnknownAbort => (404, None),
            None => (200, Some(Known::Aborted)),
            Some(Known::Refused) if fault == Fault::RefusesAbortOfRefused => (409, seen),
            Some(Known::Refused) => (200, Some(Known::Aborted)),
            Some(Known::Aborted) if fault == Fault::RefusesAbortAgain => (409, seen),
            Some(Known::Aborted) if fault == Fault::Redirects => (302, seen),
            Some(Known::Aborted) => (200, seen),
            Some(Known::AbortedTwice) => (409, seen),
            Some(Known::Committed) => match fault {
                Fault::AbortsTheCommitted => (200, seen),
                Fault::MissesTheCommitted => (404, seen),
                Fault::AbortsTheCommittedOfBefore if before == Some(Known::Committed) => (200, seen),
                _ => (409, seen),
            },
        }
    }
}

fn work(
    fault: Fault,
    seen: Option<Known>,
    known: Option<Known>,
    epoch: u64,
    body: &str,
) -> (u16, Option<Known>) {
    let promise = |times| Known::Promised { times, epoch, at: Instant::now() };
    let is_impossible = body.contains("impossible");
    match seen {
        None if is_impossible && fault == Fault::FailsToRefuse => (500, None),
        None if is_impossible => (409, Some(Known::Refused)),
        None => {
            let here = matches!(known, Some(Known::Promised { .. }));
            (200, Some(promise(if fault == Fault::LooksThenWorks && here { 2 } else { 1 })))
        }
        Some(Known::Refused) if fault == Fault::RefusesOnce => (200, Some(promise(1))),
        Some(Known::Aborted) if fault == Fault::RefusesAbortAfterLateWork => (409, Some(Known::AbortedTwice)),
        Some(Known::Aborted | Known::AbortedTwice | Known::Refused) => (409, seen),
        Some(_) if fault == Fault::RefusesWorkAgain => (409, seen),
        Some(Known::Promised { times, .. } | Known::Prepared { times, .. }) if fault == Fault::WorksAgain => {
            (200, Some(promise(times + 1)))
        }
        Some(_) if fault == Fault::Chatters => (299, seen),
        Some(_) => (200, seen),
    }
}

fn prepare(fault: Fault, seen: Option<Known>) -> (u16, Option<Known>) {
    match seen {
        Some(Known::Promised { times, epoch, at }) => (200, Some(Known::Prepared { times, epoch, at })),
        Some(Known::Prepared { .. }) if fault == Fault::RefusesPrepareAgain => (409, seen),
        Some(Known::Committed) if fault == Fault::RefusesLatePrepare => (409, seen),
        Some(Known::Prepared { .. } | Known::Committed) => (200, seen),
        None | Some(Known::Aborted) if fault == Fault::PreparesAnything => (200, seen),
        Some(Known::Refused) if fault == Fault::CommitsTheRefused => (200, seen),
        None | Some(Known::Aborted | Known::AbortedTwice | Known::Refused) => (409, seen),
    }
}
