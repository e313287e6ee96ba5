//! What `/metrics` shows of transactions that are open, the log and its disk.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::on_read::OnRead;
use crate::journal::{BATCH_SIZES, COMMIT_SECONDS, Disk, LogStats};

/// What is read when `/metrics` is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Live {
    /// Transactions that are open.
    pub in_doubt: usize,
    /// How long the oldest of them has been.
    pub oldest_in_doubt: Duration,
    /// Transactions that an operator has to look at.
    pub parked: usize,
    /// Transactions that this start of the node found unfinished.
    pub recovery_found: usize,
    /// How many of those are still open.
    pub recovery_remaining: usize,
    /// Tasks that the runtime holds: of transactions, connections, timers, and those that are always there.
    pub tasks: usize,
    /// What the log counts about itself.
    pub log: LogStats,
    /// The disk of the log, once it was looked at.
    pub disk: Option<Disk>,
}

impl Collector for OnRead<Live> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let live = self.read();
        let log = live.log;
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        gauge("transactions_in_doubt", "Transactions that are not finished", float(live.in_doubt as u64))?;
        gauge("oldest_in_doubt_seconds", "Age of the oldest of them", live.oldest_in_doubt.as_secs_f64())?;
        gauge(
            "transactions_parked",
            "Transactions that an operator has to look at",
            float(live.parked as u64),
        )?;
        gauge(
            "recovery_found",
            "Unfinished transactions that the last start found",
            float(live.recovery_found as u64),
        )?;
        gauge(
            "recovery_remaining",
            "How many of those are still open",
            float(live.recovery_remaining as u64),
        )?;
        gauge("tasks", "Tasks that the runtime holds", float(live.tasks as u64))?;
        gauge("log_queue_length", "Records that wait for the disk", float(log.queued))?;
        gauge("log_blocks", "Blocks in the log", float(log.blocks))?;
        gauge("log_bytes", "Bytes of records in the log", float(log.bytes))?;
        let of_disk = |read: fn(Disk) -> u64| live.disk.map_or(f64::NAN, |disk| float(read(disk)));
        let free = of_disk(|disk| disk.room.free);
        gauge("disk_free_bytes", "Free where the log is kept, beside the reserve", free)?;
        let kept = of_disk(|disk| if disk.room.is_kept { disk.room.reserve } else { 0 });
        gauge(
            "disk_reserve_bytes",
            "Kept free so that what was begun can end; 0 once it was given back",
            kept,
        )?;
        let is_nearly_full = of_disk(|disk| disk.is_nearly_full.into());
        gauge("disk_nearly_full", "1 while new transactions are refused for want of room", is_nearly_full)?;
        let mut counter = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
        };
        counter("log_records", "Records written", log.appended)?;
        counter("log_syncs", "Syncs of the log, each for a batch of records", log.commits)?;
        let seconds = buckets(COMMIT_SECONDS, &log.commit_seconds);
        let help = "How long the log took to write and sync a batch";
        encoder
            .encode_descriptor("log_sync_duration_seconds", help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(log.commit_seconds_sum, log.commits, &seconds, None)?;
        let sizes = buckets(BATCH_SIZES.map(float), &log.batch_sizes);
        encoder
            .encode_descriptor("log_batch_records", "Records in a batch", None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(float(log.appended), log.commits, &sizes, None)
    }
}

#[expect(clippy::cast_precision_loss, reason = "no reading comes near 2^52")]
fn float(value: u64) -> f64 {
    value as f64
}

/// Bounds and counts as the encoder wants them: the last bucket has no bound.
fn buckets<const N: usize>(bounds: [f64; N], counts: &[u64]) -> Vec<(f64, u64)> {
    bounds.into_iter().chain([f64::INFINITY]).zip(counts.iter().copied()).collect()
}
