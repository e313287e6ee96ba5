//! The attackers: a process of their own, told by its first arguments which attack it makes, until its stdin is closed.
//!
//! They count what they are told; how long a refusal takes is measured from the process that does not attack.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::kit::Failure;
use crate::kit::wire::Wire;

/// One attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attack {
    /// So many clients that ask again when they are told to.
    Closed(usize),
    /// So many new clients a second, whatever becomes of those before.
    Open(usize),
    /// So many clients with bodies as long as they may be, and now and then longer.
    Bodies(usize),
    /// So many connections that ask for nothing.
    Idle(usize),
    /// So many clients that send a byte a second, and as many that never read.
    Slow(usize),
    /// So many clients of a service that never answers.
    Hung(usize),
    /// So many clients of a service that answers work and then no commit.
    Late(usize),
}

/// What bodies are made of.
const PIECE: &[u8] = &[b'x'; 16 * 1024];

/// What the attackers were told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) served: AtomicU64,
    /// 503 with `Retry-After`.
    pub(crate) refused: AtomicU64,
    /// 503 without it.
    pub(crate) bare: AtomicU64,
    /// Any other answer.
    pub(crate) other: AtomicU64,
    /// Connections that ended without an answer.
    pub(crate) cut: AtomicU64,
}

/// An attack under way. It ends with this value.
pub(crate) struct Attackers {
    child: Child,
}

impl Attack {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Closed(count) => format!("{count} clients, each again when it is told to"),
            Self::Open(rate) => format!("{rate} new clients a second"),
            Self::Bodies(count) => format!("{count} clients with 1 MiB bodies"),
            Self::Idle(count) => format!("{count} idle connections"),
            Self::Slow(count) => format!("{count} slow senders, {count} slow readers"),
            Self::Hung(count) => format!("{count} clients of one that hangs"),
            Self::Late(count) => format!("{count} clients of one that hangs at commit"),
        }
    }

    fn words(self) -> (&'static str, usize) {
        match self {
            Self::Closed(count) => ("closed", count),
            Self::Open(count) => ("open", count),
            Self::Bodies(count) => ("bodies", count),
            Self::Idle(count) => ("idle", count),
            Self::Slow(count) => ("slow", count),
            Self::Hung(count) => ("hung", count),
            Self::Late(count) => ("late", count),
        }
    }

    fn parse(word: &str, count: usize) -> Option<Self> {
        let all = [Self::Closed, Self::Open, Self::Bodies, Self::Idle, Self::Slow, Self::Hung, Self::Late];
        all.into_iter().map(|attack: fn(usize) -> Self| attack(count)).find(|attack| attack.words().0 == word)
    }

    /// Begins it, from a process of its own.
    pub(crate) fn begin(self, target: SocketAddr) -> Result<Attackers, Failure> {
        let (word, count) = self.words();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["role:attack", word, &count.to_string(), &target.to_string()]);
        Ok(Attackers { child: command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()? })
    }
}

impl Attackers {
    /// Ends the attack; what was told, as numbers in the order of [`Told`].
    pub(crate) fn end(mut self) -> Result<[u64; 5], Failure> {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.child.stdout.take().ok_or("the attackers have no stdout")?.read_to_string(&mut said)?;
        self.child.wait()?;
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        numbers.try_into().map_err(|_| format!("the attackers said {said:?}").into())
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Attacks, where the arguments say so.
pub(crate) fn play() -> Result<bool, Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, role, word, count, target, ..] = arguments.as_slice() else { return Ok(false) };
    if role != "role:attack" {
        return Ok(false);
    }
    let attack = Attack::parse(word, count.parse()?).ok_or("no such attack")?;
    crate::kit::run(attack_until_told(attack, target.parse()?))?;
    Ok(true)
}

async fn attack_until_told(attack: Attack, target: SocketAddr) -> Result<(), Failure> {
    let told = Arc::new(Told::default());
    let stopped = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    tokio::select! {
        () = carry_out(attack, target, &told) => {}
        stopped = stopped => drop(stopped?),
    }
    let Told { served, refused, bare, other, cut } = &*told;
    let numbers = [served, refused, bare, other, cut].map(|number| number.load(Relaxed).to_string());
    println!("{}", numbers.join(" "));
    Ok(())
}

async fn carry_out(attack: Attack, target: SocketAddr, told: &Arc<Told>) {
    let mut tasks = JoinSet::new();
    let (_, count) = attack.words();
    if matches!(attack, Attack::Open(_)) {
        let mut pace = interval(Duration::from_millis(10));
        loop {
            pace.tick().await;
            for _ in 0..count / 100 {
                let told = told.clone();
                tasks.spawn(async move { ask(target, "/slow", 2, &told).await });
            }
            while tasks.try_join_next().is_some() {}
        }
    }
    for number in 0..count {
        let told = told.clone();
        tasks.spawn(async move {
            // Not all in the same instant.
            sleep(Duration::from_micros(fastrand::u64(..1_000_000))).await;
            loop {
                match attack {
                    Attack::Closed(_) | Attack::Open(_) => ask(target, "/slow", 2, &told).await,
                    Attack::Bodies(_) => {
                        ask(target, "/bulk", 1024 * 1024 + usize::from(number % 10 == 0), &told).await;
                    }
                    Attack::Idle(_) => idle(target).await,
                    Attack::Slow(_) => {
                        let (sends, reads) = (send_slowly(target, number), never_read(target, number));
                        tokio::join!(sends, reads);
                    }
                    Attack::Hung(_) => ask(target, "/hung", 2, &told).await,
                    Attack::Late(_) => ask(target, "/late", 2, &told).await,
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// One request on a connection of its own; where it is refused, a pause as long as the answer asks for.
async fn ask(target: SocketAddr, path: &str, length: usize, told: &Told) {
    match timeout(Duration::from_secs(30), one(target, path, length)).await {
        Ok(Ok((503, Some(seconds)))) => {
            told.refused.fetch_add(1, Relaxed);
            return sleep(Duration::from_secs(seconds)).await;
        }
        Ok(Ok((503, None))) => told.bare.fetch_add(1, Relaxed),
        Ok(Ok((200 | 202, _))) => {
            told.served.fetch_add(1, Relaxed);
            return;
        }
        Ok(Ok(_)) => told.other.fetch_add(1, Relaxed),
        Ok(Err(_)) | Err(_) => told.cut.fetch_add(1, Relaxed),
    };
    sleep(Duration::from_secs(1)).await;
}

/// The status of the answer to one request with a body of this length, and in how many seconds to come again.
pub(crate) async fn one(
    target: SocketAddr,
    path: &str,
    length: usize,
) -> Result<(u16, Option<u64>), Failure> {
    let (mut reading, mut writing) = TcpStream::connect(target).await?.into_split();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    let sending = async {
        writing.write_all(head.as_bytes()).await?;
        let mut left = length;
        while left > 0 {
            let now = left.min(PIECE.len());
            writing.write_all(PIECE.get(..now).unwrap_or_default()).await?;
            left -= now;
        }
        std::future::pending::<Result<(), std::io::Error>>().await
    };
    let mut answer = Vec::with_capacity(1024);
    let head = async {
        while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
            if reading.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::pin!(head);
    tokio::select! {
        biased;
        told = &mut head => told?,
        // Whoever refuses may close before all was sent, and what it said is there to be read.
        _ = sending => head.await?,
    }
    let text = String::from_utf8_lossy(&answer).to_lowercase();
    let status = text.get(9..12).and_then(|status| status.parse().ok()).ok_or("no status")?;
    let (_, again) = text.split_once("\r\nretry-after: ").unwrap_or_default();
    Ok((status, again.lines().next().and_then(|seconds| seconds.trim().parse().ok())))
}

/// A connection that says nothing until it is closed, and comes again.
async fn idle(target: SocketAddr) {
    if let Ok(mut stream) = TcpStream::connect(target).await {
        drop(stream.read(&mut [0]).await);
    }
    sleep(Duration::from_secs(5)).await;
}

/// A byte a second: of the head, of a body, of a body that is forwarded.
async fn send_slowly(target: SocketAddr, number: usize) {
    let head = [
        "GET /slow HTTP/1.1\r\nHost: ",
        "POST /bulk HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n",
        "POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n",
    ];
    let Ok(mut stream) = TcpStream::connect(target).await else {
        return sleep(Duration::from_millis(100)).await;
    };
    let head = head.get(number % head.len()).copied().unwrap_or_default();
    drop(stream.write_all(head.as_bytes()).await);
    while stream.write_all(b"x").await.is_ok() {
        sleep(Duration::from_secs(1)).await;
        // Whatever it is told, it goes on until it is cut.
        if matches!(stream.try_read(&mut [0; 256]), Ok(0)) {
            return;
        }
    }
}

/// Asks for eight megabytes and reads none.
async fn never_read(target: SocketAddr, number: usize) {
    let path = if number.is_multiple_of(2) { "/big" } else { "/merged" };
    let Ok(stream) = TcpStream::connect(target).await else { return sleep(Duration::from_millis(100)).await };
    let Ok(mut wire) = Wire::new(stream) else { return };
    drop(wire.stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await);
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until && wire.stream.write_all(b"").await.is_ok() {
        sleep(Duration::from_secs(1)).await;
    }
}
