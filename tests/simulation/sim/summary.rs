//! How much happened: a storm that reaches only half of the program proves half.

use std::fmt;

use unanimous_wal::sim::Operation;

macro_rules! summary {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {
        /// Counts over one run, or over many.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Summary { $($(#[doc = $doc])* pub $name: u64),* }

        impl Summary {
            /// Every count by name.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }

            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

summary! {
    runs,
    lives,
    /// Transactions of which at least one call was sent.
    transactions,
    committed,
    aborted,
    calls,
    /// Calls and answers that were lost.
    lost,
    duplicated,
    /// Work that came after the abort and was refused.
    late_work,
    participant_crashes,
    /// Lives that ended at a time, at a change on the disk, at a call, at an answer.
    crashes_at_a_time,
    crashes_at_a_change,
    crashes_at_a_call,
    crashes_at_an_answer,
    /// The node was stopped as it should be.
    drains,
    /// The power went: what was not synced is gone, at least in part.
    power_cuts,
    /// The process died and the machine lived on.
    kills,
    /// What failed of a disk, once or for ever.
    failed_puts,
    failed_syncs,
    failed_ring_writes,
    failed_ring_syncs,
    failed_witness_writes,
    failed_witness_syncs,
    /// Records of several blocks of which a power cut left the first.
    torn_records,
    /// Damage to a block that a start refused, because the ring did not have it either.
    damage_refused,
    /// Damage to one copy that the next start mends by the other.
    stores_mended,
    rings_mended,
    /// Transactions that a start found undecided, and decided.
    found_undecided,
    found_decided,
    carried,
    /// Lives in which old blocks were dropped.
    retired,
    parked,
    resolved,
    told_committed,
    told_aborted,
    /// A key was used again and got the first answer.
    replayed,
    /// A key was used again while the first request was undecided, or for another request.
    key_refused,
    refused_overload,
    /// Questions what became of a transaction, and those answered `never_seen`, which makes an abort safe.
    asked,
    never_seen,
    expired,
    /// Transactions that ended while a service that they did not need was dead.
    isolated,
}

impl Summary {
    /// The disk failed in this, if it did.
    pub fn failed(&mut self, operation: Option<Operation>) {
        match operation {
            Some(Operation::Put) => self.failed_puts += 1,
            Some(Operation::Sync) => self.failed_syncs += 1,
            Some(Operation::WriteRing) => self.failed_ring_writes += 1,
            Some(Operation::SyncRing) => self.failed_ring_syncs += 1,
            Some(Operation::WriteWitness) => self.failed_witness_writes += 1,
            Some(Operation::SyncWitness) => self.failed_witness_syncs += 1,
            Some(Operation::Read | Operation::Remove | Operation::Close) | None => {}
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts()
            .into_iter()
            .try_for_each(|(name, count)| writeln!(f, "{count:>14}  {}", name.replace('_', " ")))
    }
}
