//! A proxy between the gateway and one bank that does what bad networks do. It knows nothing of HTTP: what comes in one
//! piece is a request, what comes back an answer.

use std::io;
use std::iter::Sum;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The most bytes that are taken for one piece.
const PIECE: usize = 64 * 1024;

/// How long a connection stands still that hangs: longer than the gateway waits for any call.
const HANGS: Duration = Duration::from_secs(5);

/// The latest that a request comes which the gateway has given up: after its repetition, after the decision, or after the end.
const LATE_MAX: Duration = Duration::from_secs(2);

/// How bad the network is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// So many of a hundred requests meet a fault.
    pub loss: f64,
    /// The longest that a request is held up.
    pub slow: Duration,
}

/// How often each fault happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that passed without one.
    pub passed: u64,
    /// The connection broke before the request came through.
    pub requests_lost: u64,
    /// The connection broke, and the request came through later.
    pub late: u64,
    /// Neither request nor answer came, and nothing broke.
    pub hung: u64,
    /// The bank did it, and the connection broke before the answer came back.
    pub answers_lost: u64,
    /// The same, after half of the answer.
    pub torn: u64,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Passes,
    RequestLost,
    Late,
    Hangs,
    AnswerLost,
    AnswerTorn,
}

const BAD_FATES: [Fate; 5] = [Fate::RequestLost, Fate::Late, Fate::Hangs, Fate::AnswerLost, Fate::AnswerTorn];

impl Faults {
    /// Whether there is nothing to do for a proxy.
    pub fn are_none(&self) -> bool {
        self.loss <= 0.0 && self.slow.is_zero()
    }
}

/// A running proxy; dropped, it takes every connection with it.
#[derive(Debug)]
pub struct Proxy {
    line: Arc<Line>,
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct Line {
    bank: SocketAddr,
    faults: Faults,
    chance: Mutex<(fastrand::Rng, Tally)>,
    /// False during a partition.
    open: watch::Sender<bool>,
}

impl Proxy {
    /// Listens at `at` and passes on to `bank`.
    pub async fn start(at: SocketAddr, bank: SocketAddr, faults: Faults, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let chance = Mutex::new((fastrand::Rng::with_seed(seed), Tally::default()));
        let line = Arc::new(Line { bank, faults, chance, open: watch::Sender::new(true) });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&line)));
        Ok(Self { line, _accepting: accepting })
    }

    /// Begins a partition, or ends it. During one every byte waits, in both directions.
    pub fn let_through(&self, open: bool) {
        self.line.open.send_replace(open);
    }

    /// Every fault so far.
    pub fn tally(&self) -> Tally {
        self.line.chance.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

async fn accept(listener: TcpListener, line: Arc<Line>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // What cannot be accepted is lost, as in any network.
            accepted = listener.accept() => if let Ok((near, _)) = accepted {
                let line = Arc::clone(&line);
                connections.spawn(async move { drop(line.carry(near).await) });
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Line {
    /// Carries everything between the gateway, which is near, and the bank, until either closes or a fault breaks it.
    async fn carry(&self, mut near: TcpStream) -> io::Result<()> {
        self.wait_while_cut().await;
        let mut far = TcpStream::connect(self.bank).await?;
        let (mut request, mut answer) = (vec![0; PIECE], vec![0; PIECE]);
        loop {
            tokio::select! {
                came = near.read(&mut request) => {
                    let piece = request.get(..came?).unwrap_or_default();
                    if piece.is_empty() {
                        return Ok(());
                    }
                    sleep(self.delay()).await;
                    self.wait_while_cut().await;
                    if let Some(fate) = self.bad_fate() {
                        return self.break_off(fate, piece, near, far).await;
                    }
                    far.write_all(piece).await?;
                }
                came = far.read(&mut answer) => {
                    let piece = answer.get(..came?).unwrap_or_default();
                    if piece.is_empty() {
                        return Ok(());
                    }
                    self.wait_while_cut().await;
                    near.write_all(piece).await?;
                }
            }
        }
    }

    /// Does something bad to a request, and to its connection.
    async fn break_off(
        &self,
        fate: Fate,
        piece: &[u8],
        mut near: TcpStream,
        mut far: TcpStream,
    ) -> io::Result<()> {
        let mut answer = vec![0; PIECE];
        match fate {
            Fate::Passes | Fate::RequestLost => Ok(()),
            Fate::Hangs => {
                sleep(HANGS).await;
                Ok(())
            }
            Fate::Late => {
                drop(near);
                sleep(self.late()).await;
                // A new connection: the bank may have been killed meanwhile.
                let mut far = TcpStream::connect(self.bank).await?;
                far.write_all(piece).await?;
                far.read(&mut answer).await.map(drop)
            }
            Fate::AnswerLost => {
                far.write_all(piece).await?;
                far.read(&mut answer).await.map(drop)
            }
            Fate::AnswerTorn => {
                far.write_all(piece).await?;
                let came = far.read(&mut answer).await?;
                near.write_all(answer.get(..came / 2).unwrap_or_default()).await
            }
        }
    }

    async fn wait_while_cut(&self) {
        let opened = self.open.subscribe().wait_for(|open| *open).await.is_ok();
        assert!(opened, "the line holds the sender");
    }

    /// Draws what happens to a request; `None` where it passes.
    fn bad_fate(&self) -> Option<Fate> {
        self.draw(|rng, tally| {
            let is_bad = rng.f64() * 100.0 < self.faults.loss;
            let fate = if is_bad { rng.choice(BAD_FATES).unwrap_or(Fate::Passes) } else { Fate::Passes };
            *tally.count(fate) += 1;
            is_bad.then_some(fate)
        })
    }

    fn delay(&self) -> Duration {
        self.draw(|rng, _| self.faults.slow.mul_f64(rng.f64()))
    }

    fn late(&self) -> Duration {
        // Most are only a little late: squared, half of them come in the first quarter.
        self.draw(|rng, _| LATE_MAX.mul_f64(rng.f64().powi(2)))
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut fastrand::Rng, &mut Tally) -> T) -> T {
        let (rng, tally) = &mut *self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        draw(rng, tally)
    }
}

impl Tally {
    /// Every request that met a fault.
    pub fn bad(&self) -> u64 {
        self.requests_lost + self.late + self.hung + self.answers_lost + self.torn
    }

    fn count(&mut self, fate: Fate) -> &mut u64 {
        match fate {
            Fate::Passes => &mut self.passed,
            Fate::RequestLost => &mut self.requests_lost,
            Fate::Late => &mut self.late,
            Fate::Hangs => &mut self.hung,
            Fate::AnswerLost => &mut self.answers_lost,
            Fate::AnswerTorn => &mut self.torn,
        }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            passed: a.passed + b.passed,
            requests_lost: a.requests_lost + b.requests_lost,
            late: a.late + b.late,
            hung: a.hung + b.hung,
            answers_lost: a.answers_lost + b.answers_lost,
            torn: a.torn + b.torn,
        })
    }
}
