//! One look at the gateway: what Linux says of its process, what its log takes, and what it says of itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One look at the gateway.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// From the beginning of the run.
    pub at: Duration,
    /// How often it had been killed.
    pub kills: usize,
    /// What it takes.
    pub reading: Reading,
    /// Requests a second since the sample before; 0 in the first one of a process.
    pub requests_per_second: f64,
}

/// What can be read at one instant.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reading {
    pid: u32,
    /// Resident memory, in MiB.
    pub memory: f64,
    /// What the directory of the log takes on the disk, in MiB.
    pub disk: f64,
    /// Open file descriptors.
    pub descriptors: f64,
    /// Threads of the system.
    pub threads: f64,
    /// Tasks of the runtime.
    pub tasks: f64,
    /// Transactions that are open.
    pub in_doubt: f64,
    /// Requests answered since the process began.
    requests: f64,
}

/// A figure that is looked at over time.
#[derive(Debug, Clone, Copy)]
pub struct Series {
    /// In the table.
    pub name: &'static str,
    /// In the picture.
    pub title: &'static str,
    pub of: fn(&Sample) -> f64,
}

pub const SERIES: [Series; 7] = [
    Series { name: "memory_mib", title: "resident memory, MiB", of: |sample| sample.reading.memory },
    Series { name: "disk_mib", title: "the log on the disk, MiB", of: |sample| sample.reading.disk },
    Series { name: "descriptors", title: "open file descriptors", of: |sample| sample.reading.descriptors },
    Series { name: "threads", title: "threads", of: |sample| sample.reading.threads },
    Series { name: "tasks", title: "tasks of the runtime", of: |sample| sample.reading.tasks },
    Series { name: "in_doubt", title: "transactions open", of: |sample| sample.reading.in_doubt },
    Series {
        name: "requests_per_second",
        title: "requests answered a second",
        of: |sample| sample.requests_per_second,
    },
];

impl Reading {
    /// The sample that this makes after the one before.
    pub fn after(self, last: Option<(Duration, Self)>, at: Duration, kills: usize) -> Sample {
        let same = last.filter(|(_, last)| last.pid == self.pid);
        let rate = |(then, last): (Duration, Self)| {
            (self.requests - last.requests) / at.saturating_sub(then).as_secs_f64()
        };
        Sample { at, kills, reading: self, requests_per_second: same.map_or(0.0, rate) }
    }
}

/// Reads the figures.
#[derive(Debug)]
pub struct Reader {
    log_dir: PathBuf,
    http: reqwest::Client,
}

impl Reader {
    pub fn new(log_dir: &Path) -> Self {
        Self { log_dir: log_dir.to_owned(), http: reqwest::Client::new() }
    }

    /// All figures; `None` where the process is gone or does not answer yet.
    pub async fn read(&self, pid: u32, admin_url: &str) -> Option<Reading> {
        let request = self.http.get(format!("{admin_url}/metrics")).timeout(Duration::from_secs(10));
        let metrics = request.send().await.ok()?.text().await.ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let of = |name: &str| number_after(&status, name);
        Some(Reading {
            pid,
            memory: of("VmRSS:")? / 1024.0,
            disk: mebibytes(disk_use(&self.log_dir).ok()?),
            descriptors: float(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count()),
            threads: of("Threads:")?,
            tasks: number_after(&metrics, "unanimous_tasks ")?,
            in_doubt: number_after(&metrics, "unanimous_transactions_in_doubt ")?,
            requests: sum_of(&metrics, "unanimous_http_requests_total{"),
        })
    }
}

/// The first number after this word at the beginning of a line.
fn number_after(text: &str, word: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(word))?.split_whitespace().next()?.parse().ok()
}

/// The values of all samples that begin so.
fn sum_of(metrics: &str, start: &str) -> f64 {
    let samples = metrics.lines().filter(|line| line.starts_with(start));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The bytes of the disk that everything below takes.
fn disk_use(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // What the log has removed between the two looks takes nothing.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        bytes += if metadata.is_dir() { disk_use(&path)? } else { taken(&metadata) };
    }
    Ok(bytes)
}

#[cfg(unix)]
fn taken(metadata: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;

    metadata.blocks() * 512
}

#[cfg(not(unix))]
fn taken(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}

fn mebibytes(bytes: u64) -> f64 {
    float(usize::try_from(bytes / 1024).unwrap_or(usize::MAX)) / 1024.0
}

#[expect(clippy::cast_precision_loss, reason = "nothing that is counted here comes near 2^52")]
fn float(number: usize) -> f64 {
    number as f64
}
