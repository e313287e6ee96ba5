//! What the recorded process does: several lives of one log, with all that a log does in each.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use unanimous_wal::{Copied, Lsn, Options, Wal};

use crate::common::{self, lsn};
use crate::recorder::PROMISE;
use crate::tracer::say;

/// How the lives of a log differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// Short records, one after the other.
    pub(crate) single: u64,
    /// Rounds of five records at the same time, the last of them long.
    pub(crate) together: u64,
    /// Rounds of long records, after each of which the oldest go.
    pub(crate) bulk: u64,
    /// Ends by a signal instead of a close.
    pub(crate) is_killed: bool,
}

impl Life {
    /// Starts and ends.
    pub(crate) const NONE: Self = Self { single: 0, together: 0, bulk: 0, is_killed: false };

    pub(crate) fn to_words(self) -> String {
        format!("{} {} {} {}", self.single, self.together, self.bulk, u64::from(self.is_killed))
    }

    pub(crate) fn from_words(words: &str) -> Self {
        let numbers: Vec<u64> = words.split(' ').map(|word| word.parse().unwrap()).collect();
        let [single, together, bulk, is_killed] = numbers[..] else { panic!("`{words}` is no life") };
        Self { single, together, bulk, is_killed: is_killed == 1 }
    }
}

/// The record of an id: some fit a sector, some a page, some take several, and a few need more than one block.
pub(crate) fn payload_of(id: u64) -> Vec<u8> {
    let lengths = [120, 700, 120, 5000, 2000];
    let length = if id % 10 == 7 { 150_000 } else { lengths[usize::try_from((id + id / 10) % 5).unwrap()] };
    common::payload(id, length)
}

/// The id of a record, if it has one.
pub(crate) fn id_of(payload: &[u8]) -> Option<u64> {
    std::str::from_utf8(payload.strip_prefix(b"payload-")?.get(..8)?).ok()?.parse().ok()
}

/// How a log is opened here: that a machine is busy is no finding.
pub(crate) fn patient() -> Options {
    Options { commit_limit: Duration::from_mins(2), ..Options::default() }
}

/// Lives once, and says what it promises.
pub(crate) async fn live(directory: &Path, life: Life) {
    // It may be a state that was made, which is a copy.
    let options = Options { copied: Copied::Complete, ..patient() };
    let log = unanimous_wal::open(directory, options).unwrap();
    let (readable, records) = common::read(log).unwrap();
    let held: Vec<String> =
        records.iter().map(|(lsn, bytes)| format!("{lsn} {}", id_of(bytes).unwrap())).collect();
    // Whoever reads a record may act on it.
    promise(&format!("holds {}", held.join(" ")));
    let wal = readable.start().unwrap();
    promise(&format!("started {} {}", wal.node(), wal.epoch()));
    let mut ids = (wal.epoch() * 100_000..).step_by(10);
    for id in ids.by_ref().take(usize::try_from(life.single).unwrap()) {
        append(&wal, id).await;
    }
    for _ in 0..life.together {
        let id = ids.next().unwrap();
        tokio::join!(
            append(&wal, id),
            append(&wal, id + 1),
            append_lazily(&wal, id + 2),
            append(&wal, id + 3),
            append(&wal, id + 7),
        );
        retire(&wal, 5).await;
    }
    for _ in 0..life.bulk {
        let id = ids.next().unwrap();
        tokio::join!(append(&wal, id + 7), append(&wal, id));
        retire(&wal, 30).await;
    }
    if life.is_killed {
        raise(Signal::SIGKILL).unwrap();
    }
    wal.close().await.unwrap();
}

fn promise(words: &str) {
    say(&format!("{PROMISE}{words}"));
}

async fn append(wal: &Wal, id: u64) {
    let durable = wal.append(payload_of(id), ()).await.unwrap();
    promise(&format!("holds {} {id}", durable.lsn().unwrap()));
}

async fn append_lazily(wal: &Wal, id: u64) {
    let (_, synced) = wal.append_lazily(payload_of(id), ()).await.unwrap();
    promise(&format!("holds {} {id}", synced.await.unwrap()));
}

/// Lets go of all but the last so many.
async fn retire(wal: &Wal, keep: u64) {
    let below = wal.high().map_or(0, Lsn::get).saturating_sub(keep).max(1);
    promise(&format!("retires {below}"));
    wal.retire(lsn(below)).await.unwrap();
    promise(&format!("retired {}", wal.low()));
}
