//! What can be watched while the demo runs: a bar on a terminal, a line now and then elsewhere. On stderr.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::harness::{Crash, Event, Stage};

/// Where a bar cannot be drawn, a line is printed so often in a run.
const LINES: usize = 10;

#[derive(Debug)]
pub(super) struct Progress {
    transfers: usize,
    /// Only on a terminal.
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(transfers: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(transfers));
        Self { transfers, bar }
    }

    pub(super) fn on(&self, event: Event<'_>) {
        match event {
            Event::Started { total, .. } => {
                self.say(&format!("3 banks with {total} in all, and a gateway, are running"));
            }
            Event::Settled(settled) => self.settled(settled),
            Event::Runs { .. } | Event::Healed(_) => {}
            Event::BankKilled(name) => self.say(&format!("killed {name}")),
            Event::Recovered { before, crash } => self.say(&recovered(before, crash)),
            Event::Waiting => self.say("all transfers are made; waiting until nothing is in doubt"),
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn settled(&self, settled: usize) {
        match &self.bar {
            Some(bar) => bar.set_position(u64::try_from(settled).unwrap_or(u64::MAX)),
            None if settled.is_multiple_of((self.transfers / LINES).max(1)) => {
                self.say(&format!("{settled} of {} transfers settled", self.transfers));
            }
            None => {}
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            // Nobody who could be told of an error here would be reading.
            None => drop(writeln!(std::io::stderr(), "{line}")),
        }
    }
}

fn recovered(before: usize, crash: &Crash) -> String {
    let stage = |stage| crash.at_stage(stage);
    let undecided = stage(Stage::Working) + stage(Stage::Preparing);
    let (to_commit, to_abort) = (stage(Stage::Committing), stage(Stage::Aborting));
    format!(
        "killed the gateway ({}): ready again in {:.0?}, {} in doubt: {undecided} undecided, \
         {to_commit} to commit, {to_abort} to abort",
        crash.numbers(before),
        crash.ready_after,
        crash.in_doubt.len(),
    )
}

fn bar(transfers: usize) -> ProgressBar {
    let length = u64::try_from(transfers).unwrap_or(u64::MAX);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} transfers  {per_sec}  {elapsed}")
        .expect("the template is right, or no demo has ever worked");
    ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr()).with_style(style)
}
