//! Everything the proof looks at, gathered when nothing is in doubt any more.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;
use uuid::Uuid;

use super::super::bank::{Outcome, Standing, Sum};
use super::HarnessError;
use super::addresses::{Addresses, EXPIRED};
use super::clients::{Clients, Memory};
use super::cluster::Cluster;
use super::log::Log;
use super::plan::{BANKS, Transfer};

/// How many questions are asked at once.
const AT_ONCE: usize = 16;

/// About how many transactions the gateway is asked about at the end, spread evenly over the run. Each answer is a search
/// in its log; the log itself is read in full anyway.
const ASKED: usize = 100;

/// How long the last records may take to the disk. Nobody waits for `ended`, so that it may come after the listing that shows
/// nothing in doubt.
const LAST_RECORDS: Duration = Duration::from_secs(5);

/// What the banks, the log, the gateway and the clients say.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub(super) banks: Vec<BankEvidence>,
    pub(super) log: &'a Log,
    /// What the gateway's public listener says today of a sample of the transactions a client was told about; without
    /// those whose retention may have passed.
    pub(super) outcomes: HashMap<Uuid, String>,
    pub(super) memories: Vec<(Transfer, Memory)>,
}

/// What one bank says.
#[derive(Debug)]
pub(super) struct BankEvidence {
    pub(super) name: &'static str,
    pub(super) before: Sum,
    pub(super) after: Sum,
    pub(super) outcomes: HashMap<Uuid, Outcome>,
}

/// Asks everyone.
pub(super) async fn gather<'a>(
    cluster: &Cluster,
    log: &'a mut Log,
    before: &[Sum],
    clients: &Clients<'_>,
    retention: Option<Duration>,
) -> Result<Evidence<'a>, HarnessError> {
    let addresses = cluster.addresses();
    read_to_the_end(log, &addresses).await?;
    let memories = clients.memories();
    let step = (memories.len() / ASKED).max(1);
    let told = memories.iter().step_by(step).flat_map(|(_, memory)| memory.transactions.iter().copied());
    let ask = |id: Uuid| {
        let addresses = &addresses;
        async move { addresses.outcome(id).await.map(|outcome| (id, outcome)) }
    };
    let asked = stream::iter(told).map(ask).buffer_unordered(AT_ONCE);
    let mut outcomes: HashMap<Uuid, String> = asked.try_collect().await?;
    if retention.is_some() {
        outcomes.retain(|_, outcome| outcome != EXPIRED);
    }
    let (after, standings) = (cluster.sums().await?, cluster.standings().await?);
    let sums = before.iter().copied().zip(after);
    let banks = BANKS.iter().zip(sums).zip(standings);
    let banks = banks.map(|((name, (before, after)), standings)| {
        let outcomes =
            standings.into_iter().map(|Standing { transaction, outcome, .. }| (transaction, outcome));
        BankEvidence { name, before, after, outcomes: outcomes.collect() }
    });
    Ok(Evidence { banks: banks.collect(), log, outcomes, memories })
}

/// Reads what is new in the log until it, too, shows nothing in doubt. What still is after a while is for the proof.
async fn read_to_the_end(log: &mut Log, addresses: &Addresses) -> Result<(), HarnessError> {
    let deadline = Instant::now() + LAST_RECORDS;
    loop {
        log.read(&addresses.log(log.next()).await?);
        if log.in_doubt().is_empty() || Instant::now() > deadline {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
