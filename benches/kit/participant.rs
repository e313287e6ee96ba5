//! A participant that says yes to everything, or is down, and costs next to nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use unanimous::clock::{Clock, SystemClock};

use super::wire::Wire;

const YES: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

/// How it behaves now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    /// Every call is answered with 200.
    Up,
    /// Work is done and promised, and no commit or abort is confirmed.
    Undecided,
    /// Every connection is cut as soon as a call has come.
    Down,
}

/// The remote control of a participant.
#[derive(Debug, Default)]
pub(crate) struct Control {
    mood: AtomicU8,
    /// When the first call came since the mood changed, in milliseconds since the epoch; 0 for none.
    first_call: AtomicU64,
}

impl Control {
    pub(crate) fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
        self.first_call.store(0, Ordering::SeqCst);
    }

    pub(crate) fn first_call(&self) -> Option<u64> {
        Some(self.first_call.load(Ordering::SeqCst)).filter(|time| *time > 0)
    }

    fn take(&self) -> u8 {
        if self.first_call.load(Ordering::Relaxed) == 0 {
            let now = SystemClock.now().0;
            let _ = self.first_call.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst);
        }
        self.mood.load(Ordering::Relaxed)
    }
}

/// Serves on `listener` for ever.
pub(crate) async fn serve(listener: TcpListener, control: Arc<Control>) -> io::Result<()> {
    let tasks = TaskTracker::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let control = control.clone();
        // A connection that breaks is the gateway's affair.
        tasks.spawn(async move { drop(answer(stream, &control).await) });
    }
}

async fn answer(stream: TcpStream, control: &Control) -> io::Result<()> {
    let mut wire = Wire::new(stream)?;
    while wire.read().await? {
        let mood = control.take();
        if mood == Mood::Down as u8 {
            return Ok(());
        }
        let head = wire.head();
        let is_held = head.starts_with(b"POST /hold/") || mood == Mood::Undecided as u8;
        let is_told = head.starts_with(b"POST /commit") || head.starts_with(b"POST /abort");
        let is_told = is_told || head.starts_with(b"POST /hold/commit");
        let answer = if is_held && is_told { BUSY } else { YES };
        wire.stream.write_all(answer).await?;
    }
    Ok(())
}
