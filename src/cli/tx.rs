//! `unanimous tx`: what an engineer on call asks a live node, and tells it.

use std::io::Write;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::admin::{AdminClient, AdminError};
use super::check::Format;
use super::dump::printable;
use crate::plan::TransactionId;
use crate::txn::STATES;

/// See what a live node has in doubt, and settle it.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List transactions: all that are open, and those that ended of late.
    List {
        /// The admin address of the node: `http://127.0.0.1:8001`.
        #[arg(long, value_name = "ADMIN")]
        url: String,
        /// Only in this state.
        #[arg(long, value_parser = STATES)]
        state: Option<String>,
        /// Only those that are not finished.
        #[arg(long)]
        in_doubt: bool,
        /// A table for people, or json: one object a line.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show one transaction: its state, its branches, and why.
    Show {
        /// The transaction.
        id: TransactionId,
        /// The admin address of the node.
        #[arg(long, value_name = "ADMIN")]
        url: String,
        /// A table for people, or json: one object a line.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Tell the branches again, now; the parked ones too.
    Retry {
        /// The transaction.
        id: TransactionId,
        /// The admin address of the node.
        #[arg(long, value_name = "ADMIN")]
        url: String,
    },
    /// Settle a parked branch: say what really became of it, after you looked there.
    Resolve {
        /// The transaction.
        id: TransactionId,
        /// The admin address of the node.
        #[arg(long, value_name = "ADMIN")]
        url: String,
        /// The number of the branch.
        #[arg(long, value_name = "N")]
        branch: usize,
        /// What became of it there.
        #[arg(long = "as", value_parser = ["committed", "aborted"])]
        outcome: String,
        /// Why you know; it is written to the log.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who you are; it is written to the log. Default: the name of the user.
        #[arg(long, env = "USER", default_value = "operator")]
        actor: String,
    },
}

/// Asks the node and prints what it says.
pub async fn run(command: Command, out: &mut dyn Write) -> Result<(), AdminError> {
    match command {
        Command::List { url, state, in_doubt, format } => {
            let state = state.map(|state| format!("&state={state}")).unwrap_or_default();
            let path = format!("/v1/transactions?in_doubt={in_doubt}{state}");
            let answer = AdminClient::new(&url)?.get(&path).await?;
            let transactions =
                answer.get("transactions").and_then(Value::as_array).cloned().unwrap_or_default();
            list(&transactions, format, out)
        }
        Command::Show { id, url, format } => {
            let transaction = AdminClient::new(&url)?.get(&format!("/v1/transactions/{id}")).await?;
            show(&transaction, format, out)
        }
        Command::Retry { id, url } => {
            let path = format!("/v1/transactions/{id}/retry");
            let transaction = AdminClient::new(&url)?.post(&path, &json!({})).await?;
            show(&transaction, Format::Table, out)
        }
        Command::Resolve { id, url, branch, outcome, reason, actor } => {
            let path = format!("/v1/transactions/{id}/resolve");
            let wish = json!({ "branch": branch, "as": outcome, "reason": reason, "actor": actor });
            let transaction = AdminClient::new(&url)?.post(&path, &wish).await?;
            show(&transaction, Format::Table, out)
        }
    }
}

fn list(transactions: &[Value], format: Format, out: &mut dyn Write) -> Result<(), AdminError> {
    if format == Format::Json {
        return Ok(transactions.iter().try_for_each(|transaction| writeln!(out, "{transaction}"))?);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["transaction", "state", "route", "begun", "waits for", "needs"]);
    for transaction in transactions {
        let waits_for: Vec<_> = branches(transaction)
            .iter()
            .filter(|branch| text(branch, "state") == "waiting")
            .map(name)
            .collect();
        let needs = if transaction.get("parked") == Some(&Value::Bool(true)) { "an operator" } else { "" };
        let (id, state) = (text(transaction, "id"), text(transaction, "state"));
        let (route, begun) = (text(transaction, "route"), text(transaction, "begun"));
        table.add_row([id, state, route, begun, waits_for.join(", "), needs.to_owned()]);
    }
    Ok(writeln!(out, "{}", table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))?)
}

fn show(transaction: &Value, format: Format, out: &mut dyn Write) -> Result<(), AdminError> {
    if format == Format::Json {
        return Ok(writeln!(out, "{transaction}")?);
    }
    for member in ["id", "state", "outcome", "route", "begun", "deadline", "parked_reason"] {
        if transaction.get(member).is_some() {
            writeln!(out, "{member:14} {}", text(transaction, member))?;
        }
    }
    if let Some(reason) = transaction.get("reason") {
        writeln!(out, "{:14} {}", "reason", reason)?;
    }
    for branch in branches(transaction) {
        let settled = branch.get("as").map(|_| format!(" as {}", text(branch, "as"))).unwrap_or_default();
        writeln!(out, "{:14} {}: {}{settled}", "branch", name(branch), text(branch, "state"))?;
    }
    Ok(())
}

fn branches(transaction: &Value) -> &[Value] {
    transaction.get("branches").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// `1 (ledger)`.
fn name(branch: &Value) -> String {
    format!("{} ({})", branch.get("branch").unwrap_or(&Value::Null), text(branch, "service"))
}

fn text(value: &Value, member: &str) -> String {
    printable(value.get(member).and_then(Value::as_str).unwrap_or("-"))
}
