//! What can be watched during a run: a bar on a terminal, a line now and then elsewhere. On stderr.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;
use unanimous::cli::demo::harness::{Event, Extent, Options};

/// Where a bar cannot be drawn, a line is printed so often.
const LINE_EVERY: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    extent: Extent,
    began: Instant,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    settled: usize,
    kills: usize,
    in_doubt: usize,
    bank_kills: usize,
    partitions: usize,
    last_line: Duration,
}

impl Progress {
    pub fn new(options: &Options) -> Self {
        let length = match options.extent {
            Extent::Transfers(transfers) | Extent::AtLeast(transfers) => {
                u64::try_from(transfers).unwrap_or(u64::MAX)
            }
            Extent::Time(time) => time.as_secs(),
        };
        let style = ProgressStyle::with_template("{bar:30} {elapsed}  {msg}").expect("the template is right");
        let bar = ProgressBar::new(length).with_style(style);
        Self { bar, extent: options.extent, began: Instant::now(), seen: Mutex::default() }
    }

    pub fn on(&self, event: Event<'_>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Settled(settled) => seen.settled = settled,
            Event::BankKilled(_) => seen.bank_kills += 1,
            Event::Healed(_) => seen.partitions += 1,
            Event::Recovered { crash, .. } => {
                seen.kills += crash.kills;
                seen.in_doubt += crash.in_doubt.len();
            }
            Event::Started { .. } | Event::Runs { .. } | Event::Waiting => {}
        }
        self.show(&mut seen);
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn show(&self, seen: &mut Seen) {
        let elapsed = self.began.elapsed();
        self.bar.set_position(match self.extent {
            Extent::Transfers(_) | Extent::AtLeast(_) => u64::try_from(seen.settled).unwrap_or(u64::MAX),
            Extent::Time(_) => elapsed.as_secs(),
        });
        let said = format!(
            "{} transfers, {} kills ({} in doubt), {} of banks, {} partitions",
            seen.settled, seen.kills, seen.in_doubt, seen.bank_kills, seen.partitions
        );
        if !std::io::stderr().is_terminal() && elapsed.saturating_sub(seen.last_line) > LINE_EVERY {
            seen.last_line = elapsed;
            eprintln!("{:5.0} s  {said}", elapsed.as_secs_f64());
        }
        self.bar.set_message(said);
    }
}
