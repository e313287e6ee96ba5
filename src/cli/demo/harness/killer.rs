//! SIGKILL at the instants of the plan, a new start, and a look at what was in doubt.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::addresses::Addresses;
use super::clients::Clients;
use super::log::{Decision, InDoubt, Log, Reading, Stage};
use super::plan::{BankKill, Kill, When};
use super::process::Process;
use super::{Event, HarnessError, Watcher};

/// How many settled transfers are asked for again after each crash.
const ASKED_AGAIN: usize = 5;

/// How often the log is read while nobody is killed.
const READ_EVERY: Duration = Duration::from_secs(5);

/// One kill of the gateway (or two, where it was killed again before it was ready).
#[derive(Debug, Clone)]
pub struct Crash {
    /// When, from the first transfer on.
    pub at: Duration,
    /// How many transfers were settled by then.
    pub settled: usize,
    /// How many kills: 2 where the second hit it while it was starting.
    pub kills: usize,
    /// From the last new start until it was ready.
    pub ready_after: Duration,
    /// What the log shows as begun and not ended when the node opened again.
    pub in_doubt: Vec<InDoubt>,
    /// How many the admin listener still listed as in doubt when it was first asked.
    pub still_listed: usize,
    /// How many of them were committed in the end.
    pub committed: usize,
    /// How many of them were aborted in the end.
    pub aborted: usize,
    /// From the opening of the log until the last of them had ended; `None` where one has not.
    pub ended_after: Option<Duration>,
    opened: Option<jiff::Timestamp>,
}

impl Crash {
    /// Which kills of the run these were when so many came before: `"3"`, or `"3+4"`.
    #[must_use]
    pub fn numbers(&self, before: usize) -> String {
        let first = before + 1;
        if self.kills > 1 { format!("{first}+{}", before + self.kills) } else { first.to_string() }
    }

    /// How many were in doubt at this stage.
    #[must_use]
    pub fn at_stage(&self, stage: Stage) -> usize {
        self.in_doubt.iter().filter(|doubt| doubt.stage == stage).count()
    }

    /// Fills in how everything that was in doubt has ended.
    pub(super) fn learn_the_end(&mut self, log: &Log) {
        let stories: Vec<_> = self.in_doubt.iter().filter_map(|doubt| log.story(doubt.transaction)).collect();
        let decided = |decision| stories.iter().filter(|story| story.decision == Some(decision)).count();
        self.committed = decided(Decision::Commit);
        self.aborted = decided(Decision::Abort);
        let ends: Option<Vec<_>> = stories.iter().map(|story| story.ended).collect();
        self.ended_after = ends.zip(self.opened).map(|(ends, opened)| {
            let last = ends.into_iter().max().unwrap_or(opened);
            Duration::try_from(last.duration_since(opened)).unwrap_or_default()
        });
    }
}

/// Kills the gateway, and keeps what each kill has left behind.
pub(super) struct Killer<'a> {
    addresses: Addresses,
    clients: &'a Clients<'a>,
    watcher: Watcher<'a>,
    log: Log,
    crashes: Vec<Crash>,
}

impl<'a> Killer<'a> {
    pub(super) fn new(addresses: Addresses, clients: &'a Clients<'a>, watcher: Watcher<'a>) -> Self {
        Self { addresses, clients, watcher, log: Log::default(), crashes: Vec::new() }
    }

    /// All kills of the plan, one after the other, in the first of so many `parts` of the run; then reads the log to the end.
    pub(super) async fn kill_gateway(
        &mut self,
        gateway: &mut Process,
        kills: &[Kill],
        parts: usize,
    ) -> Result<(), HarnessError> {
        (self.watcher)(Event::Runs { pid: gateway.id() });
        // The `opened` record of the first start must not be taken for that after the first crash.
        self.read().await?;
        for (kill, left) in kills.iter().zip((1..=kills.len()).rev()) {
            self.clients.begin_new(true);
            self.read_until(wait_for(kill.when, left, parts, self.clients)).await?;
            let crash = self.crash(gateway, *kill).await?;
            (self.watcher)(Event::Runs { pid: gateway.id() });
            let before = self.crashes.iter().map(|crash| crash.kills).sum();
            (self.watcher)(Event::Recovered { before, crash: &crash });
            self.crashes.push(crash);
            self.clients.ask_again(ASKED_AGAIN).await;
        }
        self.clients.begin_new(true);
        self.clients.a_plan_is_done();
        self.read_until(self.clients.done()).await
    }

    /// Reads the log now and then, before the retention passes, until something has happened.
    async fn read_until(&mut self, happened: impl Future<Output = ()>) -> Result<(), HarnessError> {
        let mut happened = pin!(happened);
        while timeout(READ_EVERY, &mut happened).await.is_err() {
            self.read().await?;
        }
        Ok(())
    }

    /// What the kills have left behind, and the log as far as it was read.
    pub(super) fn into_findings(self) -> (Vec<Crash>, Log) {
        (self.crashes, self.log)
    }

    async fn crash(&mut self, gateway: &mut Process, kill: Kill) -> Result<Crash, HarnessError> {
        gateway.kill().await?;
        self.clients.begin_new(false);
        let (at, settled) = (self.clients.elapsed(), *self.clients.settled().borrow());
        tokio::time::sleep(kill.down).await;
        gateway.spawn()?;
        if let Some(delay) = kill.again {
            tokio::time::sleep(delay).await;
            gateway.kill().await?;
            gateway.spawn()?;
        }
        let spawned = Instant::now();
        gateway.ready().await?;
        let ready_after = spawned.elapsed();
        let listed = self.addresses.in_doubt().await?;
        let Reading { opened, in_doubt } = self.read().await?;
        Ok(Crash {
            at,
            settled,
            kills: 1 + usize::from(kill.again.is_some()),
            ready_after,
            in_doubt,
            still_listed: listed.len(),
            committed: 0,
            aborted: 0,
            ended_after: None,
            opened,
        })
    }

    async fn read(&mut self) -> Result<Reading, HarnessError> {
        let lines = self.addresses.log(self.log.next()).await?;
        Ok(self.log.read(&lines))
    }
}

/// All kills of banks of the plan, one after the other; how many there were.
pub(super) async fn kill_banks(
    banks: &mut [Process],
    kills: &[BankKill],
    clients: &Clients<'_>,
    watcher: Watcher<'_>,
) -> Result<usize, HarnessError> {
    let mut killed = 0;
    for (kill, left) in kills.iter().zip((1..=kills.len()).rev()) {
        wait_for(kill.when, left, 1, clients).await;
        let Some(bank) = banks.get_mut(kill.bank) else { continue };
        bank.kill().await?;
        killed += 1;
        watcher(Event::BankKilled(bank.name()));
        tokio::time::sleep(kill.down).await;
        bank.spawn()?;
        bank.ready().await?;
    }
    clients.a_plan_is_done();
    Ok(killed)
}

/// Waits for the instant of a fault that is to fall into the first of so many `parts` of the run, as `left` faults are.
pub(super) async fn wait_for(when: When, left: usize, parts: usize, clients: &Clients<'_>) {
    let (now, end) = clients.position();
    let end = (end / parts).max(now + clients.room_for(left));
    clients.reach(when.after(now, end, left)).await;
    tokio::time::sleep(when.delay).await;
}
