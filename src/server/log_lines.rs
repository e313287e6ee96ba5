//! The log as a stream of JSON lines: `GET /v1/log`.
//!
//! Reading is blocking I/O, so a thread of its own reads and a short channel hands the lines on: a
//! reader that is slow holds up nothing but itself.

use std::collections::HashSet;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use http::StatusCode;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::gateway::Problem;
use crate::journal::{Journal, LogPosition, line};
use crate::plan::TransactionId;

/// Lines that may wait for a slow reader.
const LINES_MAX: usize = 256;

/// How long a follower waits for a new record before it looks whether its reader is still there.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);

/// One line of the log.
pub(super) type Line = Result<Bytes, std::io::Error>;

/// Which records are asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogQuery {
    /// The first LSN; the oldest record where it is left out.
    pub from: Option<u64>,
    /// The most lines.
    pub limit: Option<u64>,
    /// Only records of this transaction.
    pub transaction: Option<String>,
    /// Only records of transactions that have not ended.
    pub in_doubt: bool,
    /// Go on with new records as they come.
    pub follow: bool,
}

/// The lines that `query` asks for.
pub(super) fn stream(journal: Journal, query: LogQuery) -> Result<impl Stream<Item = Line>, Problem> {
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail);
    let from = match query.from {
        Some(0) => return Err(bad("`from` is an LSN, and they begin at 1")),
        Some(number) => number,
        None => 1,
    };
    let only = match &query.transaction {
        Some(id) => Some(id.parse().map_err(|_| bad("`transaction` is no UUID"))?),
        None => None,
    };
    let (lines, waiting) = mpsc::channel(LINES_MAX);
    let reading = Reading { journal, query, only, lines };
    tokio::task::spawn_blocking(move || reading.run(from));
    Ok(unfold(waiting, |mut waiting| async move { Some((waiting.recv().await?, waiting)) }))
}

struct Reading {
    journal: Journal,
    query: LogQuery,
    only: Option<TransactionId>,
    lines: mpsc::Sender<Line>,
}

impl Reading {
    fn run(self, from: u64) {
        // A reader that goes away ends this, and needs no word of it.
        if let Err(Stop::Failed(error)) = self.read(from) {
            let _ = self.lines.blocking_send(Err(std::io::Error::other(error)));
        }
    }

    fn read(&self, from: u64) -> Result<(), Stop> {
        let open = if self.query.in_doubt { Some(self.unfinished()?) } else { None };
        let mut left = self.query.limit.unwrap_or(u64::MAX);
        let mut next = LogPosition::new(from).unwrap_or(LogPosition::FIRST);
        let runtime = tokio::runtime::Handle::current();
        loop {
            for item in self.journal.read(next) {
                let (lsn, entry) = item.map_err(|error| Stop::Failed(error.to_string()))?;
                next = lsn.next();
                let is_wanted = self.only.is_none_or(|id| id == entry.transaction)
                    && open.as_ref().is_none_or(|open| open.contains(&entry.transaction));
                if !is_wanted {
                    continue;
                }
                if left == 0 {
                    return Ok(());
                }
                left -= 1;
                let text = format!("{}\n", line::json(lsn, &entry));
                self.lines.blocking_send(Ok(Bytes::from(text))).map_err(|_| Stop::Gone)?;
            }
            if !self.query.follow || left == 0 {
                return Ok(());
            }
            if self.lines.is_closed() {
                return Err(Stop::Gone);
            }
            let mut news = self.journal.follow();
            let newer = news.wait_for(|high| *high >= next.get());
            // Whether there is news or only time has passed, the next look will tell.
            let _ = runtime.block_on(async { timeout(FOLLOW_PAUSE, newer).await.is_ok() });
        }
    }

    fn unfinished(&self) -> Result<HashSet<TransactionId>, Stop> {
        self.journal.unfinished().map_err(|error| Stop::Failed(error.to_string()))
    }
}

enum Stop {
    Gone,
    Failed(String),
}
