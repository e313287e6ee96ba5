//! Those who are not to suffer: clients of healthy participants, one who is refused, and the operator's probe.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
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

/// What was seen while it lasted.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) done: AtomicU64,
    /// Answers of healthy clients other than 200.
    pub(crate) failed: AtomicU64,
    pub(crate) refusals: std::sync::Mutex<Vec<Duration>>,
    /// Refusals without `Retry-After`.
    pub(crate) bare: AtomicU64,
    /// The longest that `/readyz` took, in microseconds.
    pub(crate) probe: AtomicU64,
}

/// All of them, until this value goes.
pub(crate) struct Watch {
    pub(crate) seen: Arc<Seen>,
    /// Whether what happens now counts.
    counts: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Watch {
    /// `refused` is what the attack makes the node refuse: a path, and the length of a body.
    pub(crate) fn begin(listen: SocketAddr, admin: SocketAddr, refused: (&'static str, usize)) -> Self {
        let (seen, counts, mut tasks) =
            (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)), JoinSet::new());
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
        let also = (seen.clone(), counts.clone());
        tasks.spawn(async move {
            loop {
                ask_for_a_refusal(listen, refused, &also.0, &also.1).await;
                sleep(Duration::from_millis(20)).await;
            }
        });
        let also = (seen.clone(), counts.clone());
        tasks.spawn(async move {
            loop {
                let began = Instant::now();
                let told = timeout(Duration::from_secs(10), get(admin, "/readyz")).await;
                if also.1.load(Relaxed) && matches!(told, Ok(Ok((200, _))) | Err(_)) {
                    let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                    also.0.probe.fetch_max(took, Relaxed);
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
        Self { seen, counts, _tasks: tasks }
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

async fn ask_for_a_refusal(
    listen: SocketAddr,
    (path, length): (&str, usize),
    seen: &Seen,
    counts: &AtomicBool,
) {
    let began = Instant::now();
    // From the first try to connect to the head of the answer.
    let told = timeout(Duration::from_secs(2), one(listen, path, length)).await;
    if !counts.load(Relaxed) {
        return;
    }
    if let Ok(Ok((503, again))) = told {
        seen.refusals.lock().expect("nobody panics with it").push(began.elapsed());
        seen.bare.fetch_add(u64::from(again.is_none()), Relaxed);
    }
}
