//! What the log counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of [`Stats::commit_seconds`], in seconds; a last bucket holds what is above.
pub const COMMIT_SECONDS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0];

/// Upper bounds of the buckets of [`Stats::batch_sizes`], in records; a last bucket holds what is above.
pub const BATCH_SIZES: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 1024];

/// Counters since the start of this process, but for `queued`, `blocks` and `bytes`, which are of now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    /// Records made durable.
    pub appended: u64,
    /// Commits, each with one sync.
    pub commits: u64,
    /// Requests that wait for a commit.
    pub queued: u64,
    /// The duration of all commits together, in seconds.
    pub commit_seconds_sum: f64,
    /// How many commits took up to the time in [`COMMIT_SECONDS`]; not cumulative.
    pub commit_seconds: [u64; COMMIT_SECONDS.len() + 1],
    /// How many commits held up to the number of records in [`BATCH_SIZES`]; not cumulative.
    pub batch_sizes: [u64; BATCH_SIZES.len() + 1],
    /// Blocks that are kept.
    pub blocks: u64,
    /// Their length, in bytes, without what sled adds.
    pub bytes: u64,
}

/// The counters behind [`Stats`]. Written by the committer alone.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    appended: AtomicU64,
    commits: AtomicU64,
    commit_nanos: AtomicU64,
    commit_seconds: [AtomicU64; COMMIT_SECONDS.len() + 1],
    batch_sizes: [AtomicU64; BATCH_SIZES.len() + 1],
    blocks: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn new(blocks: u64, bytes: u64) -> Self {
        Self { blocks: blocks.into(), bytes: bytes.into(), ..Self::default() }
    }

    pub(crate) fn committed(&self, records: u64, blocks: u64, bytes: u64, took: Duration) {
        let seconds = took.as_secs_f64();
        add(&self.appended, records);
        add(&self.commits, 1);
        add(&self.commit_nanos, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        count(&self.commit_seconds, COMMIT_SECONDS.iter().take_while(|bound| seconds > **bound).count());
        count(&self.batch_sizes, BATCH_SIZES.iter().take_while(|bound| records > **bound).count());
        add(&self.blocks, blocks);
        add(&self.bytes, bytes);
    }

    pub(crate) fn removed(&self, blocks: u64, bytes: u64) {
        self.blocks.fetch_sub(blocks, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum of seconds is read by people and graphs")]
    pub(crate) fn read(&self, queued: usize) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            appended: get(&self.appended),
            commits: get(&self.commits),
            queued: queued as u64,
            commit_seconds_sum: get(&self.commit_nanos) as f64 / 1e9,
            commit_seconds: self.commit_seconds.each_ref().map(get),
            batch_sizes: self.batch_sizes.each_ref().map(get),
            blocks: get(&self.blocks),
            bytes: get(&self.bytes),
        }
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn count(buckets: &[AtomicU64], bucket: usize) {
    if let Some(bucket) = buckets.get(bucket) {
        add(bucket, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let counters = Counters::new(0, 0);
        counters.committed(1, 1, 100, Duration::from_micros(100));
        counters.committed(3, 1, 300, Duration::from_secs(2));
        let stats = counters.read(7);
        assert_eq!(
            (stats.appended, stats.commits, stats.queued, stats.blocks, stats.bytes),
            (4, 2, 7, 2, 400)
        );
        assert_eq!((stats.commit_seconds[0], stats.commit_seconds[12]), (1, 1));
        assert_eq!((stats.batch_sizes[0], stats.batch_sizes[2]), (1, 1));
        assert!((stats.commit_seconds_sum - 2.0001).abs() < 1e-9);
    }
}
