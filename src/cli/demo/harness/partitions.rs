//! Partitions: a bank is cut off from the gateway at the instants of the plan, and healed again. What waited for it has to end
//! without anyone's help.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::addresses::Addresses;
use super::clients::Clients;
use super::killer::wait_for;
use super::network::Network;
use super::plan::{BANKS, Cut};
use super::{Event, HarnessError, Options, Watcher};

/// After that long, what was under way when it began has ended or waits for the one that was cut off. The shortest partition is
/// twice as long.
const SOON: Duration = Duration::from_millis(100);

/// One partition.
#[derive(Debug, Clone)]
pub struct Partition {
    /// The bank that was cut off.
    pub bank: &'static str,
    /// For how long.
    pub lasted: Duration,
    /// How many transactions waited for that bank from soon after it was cut off until it healed. 0 also where the gateway was
    /// down at either moment.
    pub in_doubt: usize,
    /// From the healing until the last of them had ended.
    pub ended_after: Duration,
}

/// Makes the partitions, and keeps what each of them has shown.
pub(super) struct Cutter<'a> {
    addresses: Addresses,
    clients: &'a Clients<'a>,
    network: Arc<dyn Network>,
    patience: Duration,
    watcher: Watcher<'a>,
    partitions: Vec<Partition>,
}

impl<'a> Cutter<'a> {
    pub(super) fn new(
        addresses: Addresses,
        clients: &'a Clients<'a>,
        options: &Options,
        watcher: Watcher<'a>,
    ) -> Self {
        let (network, patience) = (Arc::clone(&options.network), options.patience);
        Self { addresses, clients, network, patience, watcher, partitions: Vec::new() }
    }

    /// All partitions of the plan, one after the other.
    pub(super) async fn cut_off(&mut self, cuts: &[Cut]) -> Result<(), HarnessError> {
        for (cut, left) in cuts.iter().zip((1..=cuts.len()).rev()) {
            wait_for(cut.when, left, 1, self.clients).await;
            let Some(bank) = BANKS.get(cut.bank) else { continue };
            let failed = |source| HarnessError::Machine { doing: format!("cut off bank {bank}"), source };
            self.network.cut(cut.bank).map_err(failed)?;
            sleep(SOON).await;
            let soon = self.waiting_for(bank).await;
            sleep(cut.lasts.saturating_sub(SOON)).await;
            let mut waiting = self.waiting_for(bank).await;
            waiting.retain(|id| soon.contains(id));
            self.network.heal(cut.bank).map_err(failed)?;
            let ended_after = self.until_ended(&waiting).await?;
            let partition = Partition { bank, lasted: cut.lasts, in_doubt: waiting.len(), ended_after };
            (self.watcher)(Event::Healed(&partition));
            self.partitions.push(partition);
        }
        self.clients.a_plan_is_done();
        Ok(())
    }

    /// What the partitions have shown.
    pub(super) fn into_partitions(self) -> Vec<Partition> {
        self.partitions
    }

    /// What waits for an answer of this bank; nothing where the gateway is down.
    async fn waiting_for(&self, bank: &str) -> HashSet<Uuid> {
        let open = self.addresses.in_doubt().await.unwrap_or_default();
        open.into_iter().filter(|open| open.waits_for(bank)).map(|open| open.id).collect()
    }

    /// How long it took until none of these was in doubt any more.
    async fn until_ended(&self, these: &HashSet<Uuid>) -> Result<Duration, HarnessError> {
        let began = Instant::now();
        while began.elapsed() < self.patience {
            // Where the gateway is down, nothing has ended.
            let open = self.addresses.in_doubt().await;
            if open.is_ok_and(|open| !open.iter().any(|open| these.contains(&open.id))) {
                return Ok(began.elapsed());
            }
            sleep(Duration::from_millis(10)).await;
        }
        let what = "what waited behind a partition to end".to_owned();
        Err(HarnessError::Stuck { what, patience: self.patience })
    }
}
