//! Those who are not to suffer: clients of healthy participants, one who is refused, and the operator's probe.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::attack::one;
use crate::kit::Failure;
use crate::kit::node::get;
use crate::kit::wire::Wire;

/// Clients of the healthy participants, each in a closed loop on a connection of its own.
const CLIENTS: usize = 8;

/// Clients who are to be refused: some of them wait for an answer while the others ask.
const REFUSED: usize = 4;

/// Longer than a service that hangs is waited for: whoever has no answer by then was not let in either.
const LONGEST: Duration = Duration::from_secs(35);

/// What was seen while it lasted.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) done: AtomicU64,
    /// Answers of healthy clients other than 200.
    pub(crate) failed: AtomicU64,
    /// How long each took, and [`LONGEST`] for each who was told nothing.
    pub(crate) refusals: Mutex<Vec<Duration>>,
    /// Refusals without `Retry-After`.
    pub(crate) bare: AtomicU64,
    /// Connections of those to be refused that ended without an answer.
    pub(crate) cut: AtomicU64,
    /// How long each `/readyz` took.
    pub(crate) probes: Mutex<Vec<Duration>>,
    /// Of these, those that were not 200.
    pub(crate) unready: AtomicU64,
}

/// All of them, until this value goes.
pub(crate) struct Watch {
    pub(crate) seen: Arc<Seen>,
    /// Whether what happens now counts.
    counts: Arc<AtomicBool>,
    /// Set at the end: who waits for an answer then still gets it.
    ends: Arc<AtomicBool>,
    waiting: JoinSet<()>,
    _healthy: JoinSet<()>,
}

impl Watch {
    /// `refused` is what the attack makes the node refuse: a path, and the length of a body.
    pub(crate) fn begin(listen: SocketAddr, admin: SocketAddr, refused: (&'static str, usize)) -> Self {
        let (seen, counts, ends) = <(Arc<Seen>, Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let (mut tasks, mut waiting) = (JoinSet::new(), JoinSet::new());
        for _ in 0..CLIENTS {
            let (seen, counts) = (seen.clone(), counts.clone());
            tasks.spawn(async move {
                loop {
                    // A connection that was cut is one failure, and another takes its place.
                    if healthy(listen, &seen, &counts).await.is_err() && counts.load(Relaxed) {
                        seen.failed.fetch_add(1, Relaxed);
                    }
                    sleep(Duration::from_millis(10)).await;
                }
            });
        }
        for _ in 0..REFUSED {
            let (seen, counts, ends) = (seen.clone(), counts.clone(), ends.clone());
            waiting.spawn(async move {
                while !ends.load(Relaxed) {
                    // Only then: a service that hangs would keep whoever it was asked for before.
                    if counts.load(Relaxed) {
                        ask_for_a_refusal(listen, refused, &seen).await;
                    }
                    sleep(Duration::from_millis(80)).await;
                }
            });
        }
        let also = (seen.clone(), counts.clone(), ends.clone());
        waiting.spawn(async move {
            while !also.2.load(Relaxed) {
                if also.1.load(Relaxed) {
                    probe(admin, &also.0).await;
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
        Self { seen, counts, ends, waiting, _healthy: tasks }
    }

    /// What was seen, once everybody who waits has been told something.
    pub(crate) async fn end(self) -> Arc<Seen> {
        self.ends.store(true, Relaxed);
        self.waiting.join_all().await;
        self.seen
    }

    /// Healthy transactions a second over `span`; the rest is noted where it is `under_attack`.
    pub(crate) async fn count(&self, span: Duration, under_attack: bool) -> f64 {
        let (before, began) = (self.seen.done.load(Relaxed), Instant::now());
        self.counts.store(under_attack, Relaxed);
        sleep(span).await;
        self.counts.store(false, Relaxed);
        let done = usize::try_from(self.seen.done.load(Relaxed) - before).unwrap_or(usize::MAX);
        crate::kit::load::count(done) / began.elapsed().as_secs_f64()
    }
}

async fn healthy(listen: SocketAddr, seen: &Seen, counts: &AtomicBool) -> Result<(), Failure> {
    let mut wire = Wire::new(TcpStream::connect(listen).await?)?;
    loop {
        let request = b"POST /well HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        wire.stream.write_all(request).await?;
        if !wire.read().await? {
            return Err("cut".into());
        }
        match wire.status() {
            200 => drop(seen.done.fetch_add(1, Relaxed)),
            _ if counts.load(Relaxed) => drop(seen.failed.fetch_add(1, Relaxed)),
            _ => {}
        }
        if wire.status() == 503 {
            return Ok(());
        }
    }
}

/// However long it takes: the slow ones count most of all.
async fn ask_for_a_refusal(listen: SocketAddr, (path, length): (&str, usize), seen: &Seen) {
    let began = Instant::now();
    // From the first try to connect to the head of the answer.
    match timeout(LONGEST, one(listen, path, length)).await {
        Ok(Ok((503, again))) => {
            seen.refusals.lock().expect("nobody panics with it").push(began.elapsed());
            seen.bare.fetch_add(u64::from(again.is_none()), Relaxed);
        }
        // It was let in.
        Ok(Ok(_)) => {}
        Ok(Err(_)) => drop(seen.cut.fetch_add(1, Relaxed)),
        Err(_) => seen.refusals.lock().expect("nobody panics with it").push(LONGEST),
    }
}

async fn probe(admin: SocketAddr, seen: &Seen) {
    let began = Instant::now();
    let told = timeout(LONGEST, get(admin, "/readyz")).await;
    seen.probes.lock().expect("nobody panics with it").push(began.elapsed());
    seen.unready.fetch_add(u64::from(!matches!(told, Ok(Ok((200, _))))), Relaxed);
}
