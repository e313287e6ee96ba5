//! More is asked of a node than it can do, in six ways and in all of them at once, beside clients of healthy participants.
//!
//! `cargo bench --bench overload [-- --quick] [-- WORD]` (WORD: a part of the name of an attack)
//!
//! The node is the real program; participants and attackers are processes of their own. Windows with and without the attack
//! alternate, and a ratio is the median over such pairs. Exit 1 when a claim is missed.
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

mod attack;
mod health;
#[path = "../kit/mod.rs"]
mod kit;
mod world;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use attack::Attack;
use health::{Seen, Watch};
use kit::load::{self, count};
use kit::node::{Node, Plan};
use kit::{Failure, goal, median};
use tokio::time::{Instant, sleep};
use world::{Participants, Phase, bound};

/// From the beginning of an attack until it is in full swing.
const RAMP: Duration = Duration::from_secs(3);

/// From its end until it is forgotten.
const CALM: Duration = Duration::from_secs(2);

/// Transactions that the killed node has left in doubt.
const IN_DOUBT: usize = 500;

/// What an attack makes the node refuse, for the one who measures how long that takes.
type Refused = (&'static str, usize);

const ATTACKS: [(Attack, Refused); 7] = [
    (Attack::Closed(10_000), ("/slow", 2)),
    (Attack::Open(4_000), ("/slow", 2)),
    (Attack::Bodies(200), ("/bulk", 1024 * 1024)),
    (Attack::Idle(10_000), ("/slow", 2)),
    (Attack::Slow(500), ("/big", 2)),
    (Attack::Hung(2_000), ("/hung", 2)),
    (Attack::Late(2_000), ("/late", 2)),
];

const ALL: [(Attack, Refused); 5] = [
    (Attack::Open(1_000), ("/slow", 2)),
    (Attack::Bodies(50), ("/bulk", 1024 * 1024)),
    (Attack::Idle(5_000), ("/slow", 2)),
    (Attack::Slow(200), ("/big", 2)),
    (Attack::Late(1_000), ("/late", 2)),
];

/// What one attack came to.
#[derive(Default)]
struct Row {
    name: String,
    /// Most memory, in MiB.
    peak: f64,
    /// As the attackers count: served, refused, refused without `Retry-After`, other answers, cut off.
    told: [u64; 5],
    /// How long refusals took, in milliseconds: half of them, 99 of 100, all.
    refusals: Option<[f64; 3]>,
    bare: u64,
    /// Of those who were to be refused.
    cut: u64,
    failed: u64,
    with: Vec<f64>,
    without: Vec<f64>,
    /// From the decision to the end.
    phase: Phase,
    /// The longest that `/readyz` took, and how often it did not say 200.
    probe: Option<Duration>,
    unready: u64,
}

fn main() -> Result<(), Failure> {
    if attack::play()? || world::play()? {
        return Ok(());
    }
    kit::run(bench())
}

async fn bench() -> Result<(), Failure> {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let participants = Participants::start()?;
    let mut rows = Vec::new();
    for (attack, refused) in ATTACKS {
        if attack.name().contains(&wanted) {
            rows.push(row(attack.name(), &[attack], refused, &participants).await?);
            print(rows.last().ok_or("there is a row")?);
        }
    }
    let mut recoveries = None;
    if "all at once".contains(&wanted) {
        let attacks = ALL.map(|(attack, _)| attack);
        rows.push(
            row("all at once, but fewer of each".to_owned(), &attacks, ("/slow", 2), &participants).await?,
        );
        print(rows.last().ok_or("there is a row")?);
        recoveries = Some((recovery(&[], &participants).await?, recovery(&attacks, &participants).await?));
    }
    println!();
    let mut is_met = rows.iter().map(judge).fold(true, |all, one| all & one);
    if let Some((without, with)) = recoveries {
        let what = format!("{IN_DOUBT} in doubt told after SIGKILL: without and under attack");
        is_met &= claim(&what, &format!("{without:.2} s, {with:.2} s"), "<= 5 s", with <= 5.0);
    }
    if is_met { Ok(()) } else { Err("a claim is missed".into()) }
}

/// One attack, or several at once, on a node of its own.
async fn row(
    name: String,
    attacks: &[Attack],
    refused: Refused,
    participants: &Participants,
) -> Result<Row, Failure> {
    let (rounds, span) = match has_goal(&name) {
        _ if kit::is_quick() => (1, Duration::from_secs(3)),
        true => (9, Duration::from_secs(5)),
        false => (3, Duration::from_secs(5)),
    };
    let directory = kit::directory()?;
    let plan = world::plan(directory.path(), participants.address)?;
    let mut node = Node::spawn(&plan)?;
    node.ready().await?;
    let watch = Watch::begin(plan.listen, plan.admin, refused);
    sleep(RAMP).await;
    let mut row = Row { name, ..Row::default() };
    for _ in 0..rounds {
        row.without.push(watch.count(span, false).await);
        let begun = attacks.iter().map(|attack| attack.begin(plan.listen)).collect::<Result<Vec<_>, _>>()?;
        sleep(RAMP).await;
        let before = Phase::committing(&node).await?;
        row.with.push(watch.count(span, true).await);
        let phase = Phase::committing(&node).await?.since(before);
        row.phase.count += phase.count;
        row.phase.seconds += phase.seconds;
        row.phase.within_a_second += phase.within_a_second;
        for attackers in begun {
            let told = attackers.end()?;
            row.told.iter_mut().zip(told).for_each(|(sum, told)| *sum += told);
        }
        sleep(CALM).await;
    }
    row.peak = node.memory("VmHWM")?;
    let seen = watch.end().await;
    [row.bare, row.cut, row.failed, row.unready] =
        [&seen.bare, &seen.cut, &seen.failed, &seen.unready].map(|number| number.load(Relaxed));
    row.probe = seen.probes.lock().expect("nobody panics with it").iter().max().copied();
    row.refusals = quantiles(&seen);
    Ok(row)
}

fn quantiles(seen: &Seen) -> Option<[f64; 3]> {
    let mut took = seen.refusals.lock().expect("nobody panics with it").clone();
    took.sort();
    let seen = load::Seen { waits: took, ..load::Seen::default() };
    let millis = |part| seen.quantile(part).as_secs_f64() * 1e3;
    (!seen.waits.is_empty()).then(|| [millis(0.5), millis(0.99), millis(1.0)])
}

/// Whether the attackers leave the processors to the healthy, so that their speed is the node's own doing.
fn has_goal(name: &str) -> bool {
    name.contains("hangs")
}

/// With the attack and without it, pair by pair.
fn ratios(row: &Row) -> Vec<f64> {
    row.with.iter().zip(&row.without).map(|(with, without)| with / without).collect()
}

fn print(row: &Row) {
    let [served, refused, bare, other, cut] = row.told;
    println!("\n{}", row.name);
    println!(
        "  attackers: {served} served, {refused} refused with Retry-After, {bare} without, {other} told otherwise, {cut} cut off"
    );
    match row.refusals {
        Some([half, most, all]) => {
            println!(
                "  a refusal took {half:.1} ms, 99 of 100 at most {most:.1} ms, all at most {all:.1} ms"
            );
        }
        None => println!("  nothing was refused that could be measured"),
    }
    let (with, without) = (median(row.with.clone()), median(row.without.clone()));
    println!("  healthy: {with:.0} a second, without the attack {without:.0}; {} failed", row.failed);
    let ratios: Vec<_> = ratios(row).iter().map(|ratio| format!("{ratio:.2}")).collect();
    println!("  with / without, pair by pair: {}", ratios.join(" "));
    let Phase { count, seconds, .. } = row.phase;
    println!(
        "  decided: {count} ended, {:.1} ms each; /readyz took {:.1} ms at most; {:.0} MiB at most",
        seconds * 1e3 / count.max(1.0),
        row.probe.unwrap_or_default().as_secs_f64() * 1e3,
        row.peak
    );
}

/// Prints the claims beside the figures; whether all are met.
fn judge(row: &Row) -> bool {
    let name = &row.name;
    let bound = bound();
    let mut is_met = claim(
        &format!("{name}: memory"),
        &format!("{:.0} MiB", row.peak),
        &format!("<= {bound:.0} MiB"),
        row.peak <= bound,
    );
    let bare = row.bare + row.told.get(2).copied().unwrap_or_default();
    is_met &= claim(&format!("{name}: 503 without Retry-After"), &bare.to_string(), "= 0", bare == 0);
    // Idle connections give way, so that nobody need be refused beside them.
    let most = row.refusals.map_or(if name.contains("idle") { 0.0 } else { f64::NAN }, |[_, most, _]| most);
    is_met &=
        claim(&format!("{name}: a refusal, 99 of 100"), &format!("{most:.1} ms"), "<= 100 ms", most <= 100.0);
    is_met &= claim(&format!("{name}: cut off instead"), &row.cut.to_string(), "= 0", row.cut == 0);
    let ended = row.phase.within_a_second / row.phase.count;
    is_met &= claim(
        &format!("{name}: of those that ended, within 1 s of the decision"),
        &format!("{ended:.4}"),
        ">= 0.99",
        ended >= 0.99,
    );
    let probe = row.probe.map_or(f64::NAN, |probe| probe.as_secs_f64());
    is_met &=
        claim(&format!("{name}: /readyz, the slowest"), &format!("{probe:.3} s"), "<= 1 s", probe <= 1.0);
    let what = format!("{name}: /readyz, not 200");
    is_met &= claim(&what, &row.unready.to_string(), "= 0", row.unready == 0);
    let ratio = median(ratios(row));
    let what = format!("{name}: healthy with / without");
    if has_goal(name) {
        let failed = format!("{name}: healthy, not answered 200");
        is_met &= claim(&failed, &row.failed.to_string(), "= 0", row.failed == 0);
        is_met & claim(&what, &format!("{ratio:.2}"), ">= 0.90", ratio >= 0.90)
    } else {
        println!("{what:<70} {ratio:>14.2}");
        is_met
    }
}

fn claim(what: &str, figure: &str, limit: &str, is_met: bool) -> bool {
    goal(what, figure, limit, is_met);
    is_met
}

/// Seconds from the start of a killed node until all that it had left in doubt is told, while it is attacked.
async fn recovery(attacks: &[Attack], participants: &Participants) -> Result<f64, Failure> {
    let directory = kit::directory()?;
    let plan = world::plan(directory.path(), participants.address)?;
    participants.confirm(false).await?;
    let mut node = Node::spawn(&plan)?;
    node.ready().await?;
    let seen = load::exactly(plan.listen, "/moody", 202, 32, IN_DOUBT).await?;
    if seen.strange > 0 {
        return Err(format!("{} answers were not 202: {}", seen.strange, plan.said()).into());
    }
    let begun = attacks.iter().map(|attack| attack.begin(plan.listen)).collect::<Result<Vec<_>, _>>()?;
    sleep(RAMP).await;
    node.kill()?;
    participants.confirm(true).await?;
    let (took, peak) = told_again(&plan).await?;
    println!(
        "\nafter SIGKILL, {} attacks: {IN_DOUBT} were told within {took:.2} s; {peak:.0} MiB at most",
        begun.len()
    );
    begun.into_iter().try_for_each(|attackers| attackers.end().map(drop))?;
    Ok(took)
}

async fn told_again(plan: &Plan) -> Result<(f64, f64), Failure> {
    let started = Instant::now();
    let mut node = Node::spawn(plan)?;
    node.ready().await?;
    let told = "unanimous_participant_calls_total{service=\"moody\",operation=\"commit\",result=\"ok\"}";
    while node.metric(told).await.unwrap_or(0.0) < count(IN_DOUBT) - 0.5 {
        if started.elapsed() > Duration::from_mins(1) {
            return Err(format!("recovery did not end in a minute: {}", plan.said()).into());
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok((started.elapsed().as_secs_f64(), node.memory("VmHWM")?))
}
