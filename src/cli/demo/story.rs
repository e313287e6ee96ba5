//! What the demo prints: what was in doubt at each kill and how it ended, and the proof.

use std::io::{self, Write};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use super::DemoArgs;
use super::harness::{Crash, Options, Proof, Report, Stage};

/// A line under the header, and no other.
const RULED: TableStyle = NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));

/// So many problems are printed; the rest are counted.
const PROBLEMS: usize = 50;

pub(super) fn begin(out: &mut dyn Write, args: &DemoArgs, options: &Options) -> io::Result<()> {
    let Options { clients, kills, bank_kills, seed, .. } = options;
    let transfers = args.transfers;
    writeln!(
        out,
        "{transfers} transfers by {clients} clients between 3 banks; {kills} kills of the gateway, {bank_kills} of banks"
    )?;
    writeln!(out, "seed {seed}; everything is kept in {}\n", options.data_dir.display())
}

pub(super) fn end(out: &mut dyn Write, options: &Options, report: &Report) -> io::Result<()> {
    if !report.crashes.is_empty() {
        writeln!(
            out,
            "What was in doubt when the gateway was killed, and how it ended\n{}\n",
            crashes(report)
        )?;
    }
    writeln!(out, "The money\n{}\n", money(&report.proof))?;
    figures(out, report)?;
    verdict(out, &report.proof)?;
    let log = options.data_dir.join("gateway");
    let (program, log) = (options.program.display(), log.display());
    writeln!(
        out,
        "\nLook at the log: {program} dump --data-dir {log}\nCheck it:        {program} verify --data-dir {log}"
    )
}

fn crashes(report: &Report) -> Table {
    let header = [
        "kill",
        "after",
        "settled",
        "in doubt",
        "working",
        "preparing",
        "to commit",
        "to abort",
        "committed",
        "aborted",
        "all ended in",
    ];
    let mut table = numbers(&header);
    let mut before = 0;
    for crash in &report.crashes {
        table.add_row(row(crash.numbers(before), crash));
        before += crash.kills;
    }
    table
}

fn row(name: String, crash: &Crash) -> Vec<String> {
    let stages = [Stage::Working, Stage::Preparing, Stage::Committing, Stage::Aborting];
    let mut row = vec![name, seconds(crash.at), crash.settled.to_string(), crash.in_doubt.len().to_string()];
    row.extend(stages.map(|stage| crash.at_stage(stage).to_string()));
    row.extend([crash.committed, crash.aborted].map(|count| count.to_string()));
    row.push(crash.ended_after.map_or("never".to_owned(), |span| format!("{} ms", span.as_millis())));
    row
}

fn money(proof: &Proof) -> Table {
    let mut table = numbers(&["bank", "before", "after", "by the answers"]);
    for bank in &proof.banks {
        let figures = [bank.before, bank.after, bank.expected].map(|sum| sum.to_string());
        table.add_row([vec![bank.name.clone()], figures.to_vec()].concat());
    }
    let (before, after) = proof.totals();
    table.add_row(["all", &before.to_string(), &after.to_string(), ""]);
    table
}

fn figures(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let proof = &report.proof;
    let (committed, pending) = proof.told_committed;
    writeln!(out, "transactions  {} committed, {} aborted", proof.committed, proof.aborted)?;
    writeln!(
        out,
        "clients       were told \"committed\" {committed} times ({pending} with confirmations to come), \"aborted\" {} times",
        proof.told_aborted
    )?;
    writeln!(out, "keys          sent again {} times; each stood for one transaction", proof.asked_again)?;
    writeln!(out, "log           {} records", proof.records)?;
    writeln!(out, "time          {}", seconds(report.took))
}

fn verdict(out: &mut dyn Write, proof: &Proof) -> io::Result<()> {
    if proof.problems.is_empty() {
        return writeln!(
            out,
            "\nNo money was made or lost, no transaction ended in two ways, and nobody was told an untruth."
        );
    }
    writeln!(out, "\nTHE PROMISE WAS BROKEN: {} problems", proof.problems.len())?;
    for problem in proof.problems.iter().take(PROBLEMS) {
        writeln!(out, "  {problem}")?;
    }
    let rest = proof.problems.len().saturating_sub(PROBLEMS);
    if rest > 0 { writeln!(out, "  and {rest} more") } else { Ok(()) }
}

/// A table whose columns are numbers, but for the first.
fn numbers(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(RULED).set_header(header.to_vec());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn seconds(span: Duration) -> String {
    format!("{:.2} s", span.as_secs_f64())
}
