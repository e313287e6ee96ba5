//! Clients in a closed loop: each sends its next request when the last one was answered.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Failure;
use super::wire::Wire;

/// What the clients saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How long each answer took, growing.
    pub(crate) waits: Vec<Duration>,
    /// Answers that were not the expected one.
    pub(crate) strange: u64,
    pub(crate) took: Duration,
}

/// When a client stops.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Time(Instant),
    /// It has sent so many.
    Count(usize),
}

impl Seen {
    pub(crate) fn per_second(&self) -> f64 {
        count(self.waits.len()) / self.took.as_secs_f64()
    }

    /// The wait that this part of all answers did not exceed.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
        let place = (count(self.waits.len()) * part) as usize;
        self.waits.get(place.min(self.waits.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Runs so many clients that post to `path` for `span`, after all of them are connected.
pub(crate) async fn run(
    address: SocketAddr,
    path: &str,
    status: u16,
    clients: usize,
    span: Duration,
) -> Result<Seen, Failure> {
    let mut wires = Vec::new();
    for _ in 0..clients {
        wires.push(Wire::new(TcpStream::connect(address).await?)?);
    }
    let started = Instant::now();
    let until = Until::Time(started + span);
    let mut seen = together(wires, path, status, |_| until).await?;
    sleep_until(started + span).await;
    seen.took = started.elapsed();
    Ok(seen)
}

/// Posts exactly `total` requests.
pub(crate) async fn exactly(
    address: SocketAddr,
    path: &str,
    status: u16,
    clients: usize,
    total: usize,
) -> Result<Seen, Failure> {
    let mut wires = Vec::new();
    for _ in 0..clients {
        wires.push(Wire::new(TcpStream::connect(address).await?)?);
    }
    let started = Instant::now();
    let share = |client| Until::Count(total / clients + usize::from(client < total % clients));
    let mut seen = together(wires, path, status, share).await?;
    seen.took = started.elapsed();
    Ok(seen)
}

async fn together(
    wires: Vec<Wire>,
    path: &str,
    status: u16,
    until: impl Fn(usize) -> Until,
) -> Result<Seen, Failure> {
    let body = r#"{"from":"anna","to":"ben","amount":12.50,"reference":"invoice 4711"}"#;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut running = JoinSet::new();
    for (number, wire) in wires.into_iter().enumerate() {
        running.spawn(client(wire, request.clone(), status, until(number)));
    }
    let mut all = Seen::default();
    while let Some(seen) = running.join_next().await {
        let seen = seen??;
        all.waits.extend(seen.waits);
        all.strange += seen.strange;
    }
    all.waits.sort();
    Ok(all)
}

async fn client(mut wire: Wire, request: String, status: u16, until: Until) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    let mut sent = 0;
    while match until {
        Until::Time(time) => Instant::now() < time,
        Until::Count(count) => sent < count,
    } {
        let began = Instant::now();
        wire.stream.write_all(request.as_bytes()).await?;
        if !wire.read().await? {
            return Err("the gateway closed a connection".into());
        }
        seen.waits.push(began.elapsed());
        seen.strange += u64::from(wire.status() != status);
        sent += 1;
    }
    Ok(seen)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn count(number: usize) -> f64 {
    number as f64
}
