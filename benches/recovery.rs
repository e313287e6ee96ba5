//! Ten thousand transactions in doubt: how fast a killed node is back, and how fast it finishes them.
//!
//! `cargo bench --bench recovery [-- --quick]`
//!
//! The participants do the work and confirm nothing; the gateway is killed with SIGKILL and started again
//! while they are down; some seconds later they answer again.
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use kit::load::{self, count};
use kit::node::{Choice, Node, Plan};
use kit::participant::{Control, Mood, serve};
use kit::{Failure, goal};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

/// How long the participants stay down after the gateway is back.
const DOWN: Duration = Duration::from_secs(5);

/// For how long it is waited for all of them to finish.
const PATIENCE: Duration = Duration::from_mins(2);

fn main() -> Result<(), Failure> {
    kit::run(bench())
}

async fn bench() -> Result<(), Failure> {
    let total = if kit::is_quick() { 1_000 } else { 10_000 };
    let control = Arc::new(Control::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let participant = listener.local_addr()?;
    TaskTracker::new().spawn(serve(listener, control.clone()));
    let directory = kit::directory()?;
    let choice = Choice { participant, asks: true, reply_within: "1ms", retention: "24h" };
    let plan = Plan::new(directory.path(), &choice)?;
    leave_in_doubt(&plan, &control, total).await?;

    // What the killed node still had on its connections is not to be taken for a call of the next one.
    sleep(Duration::from_secs(1)).await;
    control.set(Mood::Down);
    let started = Instant::now();
    let mut node = Node::spawn(&plan)?;
    node.ready().await?;
    let ready = started.elapsed().as_secs_f64();
    let found = node.metric("unanimous_recovery_found").await?;
    sleep(DOWN).await;
    let first_call = control.first_call().ok_or("recovery called nobody")?;
    let read = log_was_read(&plan.said()).ok_or("the node did not say that it had read the log")?;
    let delay = i128::from(first_call) - i128::from(read);

    control.set(Mood::Up);
    let finished = all_finished(&node).await?;
    println!("{found} transactions were in doubt after SIGKILL, with both participants down");
    let is_all = (found - count(total)).abs() < 0.5;
    goal("transactions found again", &format!("{found}"), &format!("= {total}"), is_all);
    goal("from start to ready", &format!("{ready:.3} s"), "< 1 s", ready < 1.0);
    goal("from log read to the first call", &format!("{delay} ms"), "<= 100 ms", delay <= 100);
    let seconds = finished.as_secs_f64();
    let what = "from the participants' return to all finished";
    goal(what, &format!("{seconds:.2} s"), "< 10 s", seconds < 10.0);
    println!("most memory of the restarted node: {:.0} MiB", node.memory("VmHWM")?);
    Ok(())
}

/// Commits so many transactions that no participant confirms, and kills the gateway.
async fn leave_in_doubt(plan: &Plan, control: &Control, total: usize) -> Result<(), Failure> {
    control.set(Mood::Undecided);
    let mut node = Node::spawn(plan)?;
    node.ready().await?;
    let seen = load::exactly(plan.listen, "/transfers", 202, 64, total).await?;
    if seen.strange > 0 {
        return Err(format!("{} answers were not 202: {}", seen.strange, plan.said()).into());
    }
    let (took, memory) = (seen.took.as_secs_f64(), node.memory("VmRSS")?);
    println!("{total} transactions were left in doubt within {took:.1} s; the node had {memory:.0} MiB");
    node.kill()
}

async fn all_finished(node: &Node) -> Result<Duration, Failure> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if node.metric("unanimous_transactions_in_doubt").await? < 0.5 {
            return Ok(since.elapsed());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Err(format!("not all transactions were finished within {PATIENCE:?}").into())
}

/// When the node said that it had read its log, in milliseconds since the epoch.
fn log_was_read(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("the log was read"))?;
    let time: jiff::Timestamp = line.split_whitespace().next()?.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}
