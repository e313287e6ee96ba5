//! The soak: what the gateway takes of the machine, looked at every few seconds for as long as the run goes, and whether it stays
//! level.
//!
//! The gateway is killed in the first third of the run only. A process that was killed begins with little memory, so kills would hide
//! a leak: in the two thirds that follow one process lives on, under the same load and all other faults, and its
//! last third is compared with the middle one ([`level`]).
//!
//! ```text
//!  harness ── events: pid, address ──► Watch ── /proc, the folder of the log, /metrics ──► samples ──► level ──► verdict
//!                                                                                             └──► soak.csv, soak.svg
//! ```

pub mod level;
pub mod plot;
pub mod sample;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use unanimous::cli::demo::harness::Event;

use self::sample::{Reader, Reading, Sample};

/// Between two samples.
const EVERY: Duration = Duration::from_secs(5);

/// Where the gateway is down when its sample is due.
const AGAIN: Duration = Duration::from_millis(100);

/// Takes samples of a gateway, whichever process that is at the moment.
#[derive(Debug)]
pub struct Watch {
    log_dir: PathBuf,
    gateway: Mutex<Gateway>,
    samples: Mutex<Vec<Sample>>,
}

/// What is known of the gateway.
#[derive(Debug, Clone, Default)]
struct Gateway {
    pid: Option<u32>,
    admin_url: String,
    kills: usize,
}

impl Watch {
    pub fn new(log_dir: PathBuf) -> Self {
        Self { log_dir, gateway: Mutex::default(), samples: Mutex::default() }
    }

    /// Follows the gateway from process to process.
    pub fn on(&self, event: Event<'_>) {
        let mut gateway = self.gateway();
        match event {
            Event::Started { admin_url, .. } => admin_url.clone_into(&mut gateway.admin_url),
            Event::Runs { pid } => gateway.pid = pid,
            Event::Recovered { crash, .. } => gateway.kills += crash.kills,
            Event::Settled(_) | Event::BankKilled(_) | Event::Healed(_) | Event::Waiting => {}
        }
    }

    /// Takes samples for ever.
    pub async fn take_samples(&self) {
        let reader = Reader::new(&self.log_dir);
        let (began, mut last) = (Instant::now(), None);
        for number in 1.. {
            sleep_until(began + EVERY * number).await;
            let (reading, gateway) = self.read(&reader).await;
            let at = began.elapsed();
            self.lock().push(reading.after(last, at, gateway.kills));
            last = Some((at, reading));
        }
    }

    /// Every sample so far.
    pub fn samples(&self) -> Vec<Sample> {
        self.lock().clone()
    }

    /// Reads all figures of one process; tries again where it was killed meanwhile.
    async fn read(&self, reader: &Reader) -> (Reading, Gateway) {
        loop {
            let gateway = self.gateway().clone();
            if let Some(pid) = gateway.pid
                && let Some(reading) = reader.read(pid, &gateway.admin_url).await
                && self.gateway().pid == Some(pid)
            {
                return (reading, gateway);
            }
            sleep(AGAIN).await;
        }
    }

    fn gateway(&self) -> MutexGuard<'_, Gateway> {
        self.gateway.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the samples as a table, one line each.
pub fn write_csv(samples: &[Sample], path: &Path) -> io::Result<()> {
    let names: Vec<&str> = sample::SERIES.iter().map(|series| series.name).collect();
    let mut text = format!("seconds,kills,{}\n", names.join(","));
    for sample in samples {
        let values = sample::SERIES.iter().map(|series| format!("{:.1}", (series.of)(sample)));
        let line = [format!("{:.0}", sample.at.as_secs_f64()), sample.kills.to_string()];
        let line: Vec<String> = line.into_iter().chain(values).collect();
        writeln!(text, "{}", line.join(",")).expect("writing to a string does not fail");
    }
    std::fs::write(path, text)
}
