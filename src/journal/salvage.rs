//! A new log of what can be rescued of a damaged one, and what that leaves in question.
//!
//! Nothing is guessed. Every record that is whole comes into the new log as it was, under its own number. Where records are missing
//! the new log says `gave_up`: whoever was undecided there, and of whom no later record tells, is parked at the next start
//! until an operator has settled it; what was begun and lost there is answered 410, never `never_seen`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

pub use unanimous_wal::Copied;
pub use unanimous_wal::salvage::{Contradiction, Findings, Missing, Spot};
use unanimous_wal::salvage::{Item, Rebuild, Salvage, look, new_node};
use unanimous_wal::{Lsn, store::StoreError};

use super::OpenError;
use super::codec::{self, CodecError};
use super::inspect::audit;
use super::record::{Entry, Record};
use super::replay::{Fault, FaultKind, Logged, Replay};
use crate::clock::Timestamp;
use crate::plan::{Plan, TransactionId};

/// What was rescued, and what it leaves in question.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was found in the files.
    pub findings: Findings,
    /// Records that are whole and yet none of ours. They were left out.
    pub not_records: Vec<(Lsn, CodecError)>,
    /// Transactions that an operator has to settle, oldest first.
    pub questions: Vec<Question>,
    /// Records that say that something was given up, or was not rescued, before. They are in the new log too.
    pub given_up: u64,
    /// Transactions that ended.
    pub finished: u64,
    /// Decided transactions of which some branch is told, perhaps again, at the next start.
    pub to_tell: usize,
    /// Undecided transactions of which no record can be missing: the next start aborts them, as always.
    pub to_abort: usize,
}

/// A transaction of which nobody knows any more how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its name.
    pub id: TransactionId,
    /// Why it is in question.
    pub why: Doubt,
    /// How far it had come, as far as is known.
    pub stood: &'static str,
    /// Who takes part; `None` where that is lost.
    pub plan: Option<Arc<Plan>>,
    /// What later records say of it, each with its number.
    pub later: Vec<(Lsn, String)>,
}

/// Why a transaction is in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// It was undecided when records went missing; what was decided may have been among them. It is parked in the new log.
    Undecided,
    /// Its records are in an order that no run can have written. It is parked in the new log.
    Disorder(String),
    /// Its beginning is missing, so that nobody knows who takes part. It is parked in the new log.
    NoBeginning,
}

/// Why nothing was rescued, or not for certain.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The damaged log could not be looked at.
    #[error(transparent)]
    Look(#[from] OpenError),
    /// A whole record of a format that this program does not know: it is not damaged.
    #[error("record {0} cannot be read: {1}")]
    Newer(Lsn, CodecError),
    /// It cannot be told which log this is.
    #[error(
        "it cannot be told which log this is: marker, witness and records name the nodes {0:?}; files of several logs may be mixed"
    )]
    Identity(BTreeSet<u32>),
    /// The new log would be made inside the damaged one.
    #[error("the new log cannot be made inside the damaged one: name another directory")]
    Inside,
    /// The new log could not be made.
    #[error("the new log could not be made: {0}")]
    Make(#[source] OpenError),
    /// The new log could not be read for a check.
    #[error(
        "the new log is written, and could not be read back for a check: {cause}. Check it with `unanimous verify`"
    )]
    Unchecked {
        /// Why not.
        #[source]
        cause: OpenError,
        /// What was rescued all the same.
        report: Box<Report>,
    },
    /// What was written is not what is read.
    #[error("the new log does not hold what was written to it: {0}")]
    NotReadBack(String),
}

/// Rescues what can be of the log in `directory` into a new one in `to`, which must be empty or not there. The damaged one is
/// not changed. `now` is the time up to which records may be missing where the end is.
///
/// Of a directory that is a copy, or was restored, `copied` says whether it holds everything that the node ever wrote. Where
/// nobody says so, what came later counts as missing.
pub fn salvage(directory: &Path, to: &Path, copied: Copied, now: Timestamp) -> Result<Report, SalvageError> {
    if is_inside(directory, to) {
        return Err(SalvageError::Inside);
    }
    let salvage = look(directory, copied).map_err(OpenError::Log)?;
    let mut draft = Draft::default();
    salvage.each(|item| draft.take(item))?;
    let node = draft.node(salvage.findings())?;
    // A log that lost its number to damage says so, and has transactions under both.
    if draft.given_up == 0 && draft.nodes.iter().any(|other| *other != node) {
        draft = Draft { own: Some(node), ..Draft::default() };
        salvage.each(|item| draft.take(item))?;
    }
    draft.end(salvage.findings(), now);
    let records = write(&salvage, &draft, to, node)?;
    let report = draft.report(salvage.findings().clone());
    let audited = match audit(to) {
        Ok(audited) => audited,
        Err(cause) => return Err(SalvageError::Unchecked { cause, report: Box::new(report) }),
    };
    if audited.records != records {
        let words = format!("{} of {records} records are read back", audited.records);
        return Err(SalvageError::NotReadBack(words));
    }
    Ok(report)
}

/// The new log is written nowhere below the old one, by whatever name.
fn is_inside(directory: &Path, to: &Path) -> bool {
    let Ok(directory) = directory.canonicalize() else { return false };
    let there = to.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        path.canonicalize().ok()
    });
    there.is_some_and(|there| there.starts_with(directory))
}

/// Writes the new log and gives the number of its records.
fn write(salvage: &Salvage, draft: &Draft, to: &Path, node: u32) -> Result<u64, SalvageError> {
    let findings = salvage.findings();
    let low = draft.low().or(findings.low).unwrap_or(Lsn::FIRST);
    let mut new = Rebuild::create(to, node, findings.epoch, low).map_err(make)?;
    let mut gaps = draft.gaps.iter().peekable();
    salvage.each(|item| match item {
        Item::Record(lsn, payload) => match gaps.next_if(|gap| gap.first == lsn) {
            Some(gap) => gap.write(&mut new),
            None => new.push(payload).map_err(store),
        },
        Item::Missing(..) => gaps.next().map_or(Ok(()), |gap| gap.write(&mut new)),
    })?;
    gaps.try_for_each(|gap| gap.write(&mut new))?;
    let records = new.next().get() - low.get();
    new.finish().map_err(make)?;
    Ok(records)
}

fn make(error: unanimous_wal::OpenError) -> SalvageError {
    SalvageError::Make(OpenError::Log(error))
}

fn store(error: StoreError) -> SalvageError {
    make(error.into())
}

impl From<unanimous_wal::OpenError> for SalvageError {
    fn from(error: unanimous_wal::OpenError) -> Self {
        Self::Look(OpenError::Log(error))
    }
}

/// What is known of the new log before it is written.
#[derive(Default)]
struct Draft {
    /// Records of another node than this are left out.
    own: Option<u32>,
    replay: Replay,
    gaps: Vec<Gap>,
    /// Gaps after which no record came yet.
    waiting: Vec<(Lsn, Lsn, String)>,
    not_records: Vec<(Lsn, CodecError)>,
    /// What records say of transactions that were undecided at a gap before them, or whose beginning was not met.
    later: BTreeMap<TransactionId, Vec<(Lsn, String)>>,
    nodes: BTreeSet<u32>,
    records: u64,
    given_up: u64,
}

/// Records that are missing, and what stands in their place.
struct Gap {
    first: Lsn,
    last: Lsn,
    /// The time of what comes after it.
    time: Timestamp,
    why: String,
    /// Nothing was rescued before it.
    is_leading: bool,
}

impl Draft {
    fn take(&mut self, item: Item<'_>) -> Result<(), SalvageError> {
        match item {
            Item::Missing(first, last) => {
                let why = if first == last {
                    format!("record {first} is missing: this log was rescued from a damaged one")
                } else {
                    format!("records {first} to {last} are missing: this log was rescued from a damaged one")
                };
                self.waiting.push((first, last, why));
            }
            Item::Record(lsn, payload) => match codec::decode(payload).and_then(|entry| self.of_own(entry)) {
                Ok(entry) => self.record(lsn, entry),
                Err(newer @ CodecError::Newer(_)) => return Err(SalvageError::Newer(lsn, newer)),
                Err(error) => {
                    self.waiting.push((lsn, lsn, format!("record {lsn} could not be rescued: {error}")));
                    self.not_records.push((lsn, error));
                }
            },
        }
        Ok(())
    }

    fn of_own(&self, entry: Entry) -> Result<Entry, CodecError> {
        match entry.transaction.node().filter(|node| self.own.is_some_and(|own| own != *node)) {
            Some(node) => Err(CodecError::Malformed(format!("it is of node {node}, and no other here is"))),
            None => Ok(entry),
        }
    }

    fn record(&mut self, lsn: Lsn, entry: Entry) {
        self.close_gaps(entry.time);
        self.records += 1;
        self.given_up += u64::from(matches!(entry.record, Record::GaveUp { .. }));
        let (id, says) = (entry.transaction, says(&entry.record));
        let ends = matches!(entry.record, Record::Ended(_) | Record::Settled);
        if matches!(entry.record, Record::Begun(_) | Record::Carried(_) | Record::CarriedResolved(..)) {
            self.nodes.extend(id.node());
        }
        self.replay.take(lsn, entry);
        if self.replay.open(id).map_or(!ends, is_in_gap) {
            self.later.entry(id).or_default().push((lsn, says));
        } else {
            self.later.remove(&id);
        }
    }

    /// Everything that is missing was written up to `time`.
    fn close_gaps(&mut self, time: Timestamp) {
        for (first, last, why) in std::mem::take(&mut self.waiting) {
            let gap = Gap { first, last, time, why, is_leading: self.records == 0 };
            self.replay.take(first, gap.entry(&gap.why));
            self.gaps.push(gap);
        }
    }

    fn end(&mut self, findings: &Findings, now: Timestamp) {
        if !findings.is_end_witnessed() {
            let last = self.waiting.last().map(|(_, last, _)| *last).or(findings.high);
            let next = last.map_or(Lsn::FIRST, Lsn::next);
            let of =
                if findings.moved.is_some() { "an older copy" } else { "a damaged one without its witness" };
            let why = format!("what came here is not known: this log was rescued from {of}");
            self.waiting.push((next, next, why));
        }
        self.close_gaps(now);
    }

    /// The number of the first record of the new log, where it is not the first that was rescued: of what is missing at the
    /// beginning one record is enough.
    fn low(&self) -> Option<Lsn> {
        self.gaps.iter().rfind(|gap| gap.is_leading).map(|gap| gap.last)
    }

    /// Which node the log is of. Its transactions have that number in their ids.
    fn node(&self, findings: &Findings) -> Result<u32, SalvageError> {
        let written: BTreeSet<u32> =
            findings.marker.into_iter().chain(findings.witness.map(|witness| witness.node)).collect();
        let all: BTreeSet<u32> = written.union(&self.nodes).copied().collect();
        let only = |nodes: &BTreeSet<u32>| nodes.first().copied().filter(|_| nodes.len() == 1);
        // What is written down beside the log, unless all of its records say otherwise: one may be what somebody sent.
        let written = only(&written).filter(|node| self.nodes.contains(node));
        match only(&all).or(only(&self.nodes)).or(written) {
            Some(node) => Ok(node),
            None if all.is_empty() => Ok(new_node()),
            None => Err(SalvageError::Identity(all)),
        }
    }

    fn report(self, findings: Findings) -> Report {
        let (_, open, found) = self.replay.into_parts();
        let (mut later, mut questions) = (self.later, Vec::new());
        let (mut to_tell, mut to_abort) = (0, 0);
        for logged in open {
            let why = match &logged.fault {
                Some(Fault { kind: FaultKind::Gap, .. }) => Doubt::Undecided,
                Some(Fault { kind: FaultKind::NoBeginning, .. }) => Doubt::NoBeginning,
                Some(fault) => Doubt::Disorder(format!("record {}: {}", fault.lsn, fault.why)),
                None => {
                    let count = if logged.txn.decision().is_some() { &mut to_tell } else { &mut to_abort };
                    *count += 1;
                    continue;
                }
            };
            let Logged { id, plan, txn, .. } = logged;
            let later = later.remove(&id).unwrap_or_default();
            let plan = (why != Doubt::NoBeginning).then_some(plan);
            questions.push(Question { id, why, stood: txn.state().name(), plan, later });
        }
        questions.sort_by_key(|question| question.id);
        let (not_records, given_up, finished) = (self.not_records, self.given_up, found.finished);
        let findings = Findings { records: self.records, ..findings };
        Report { findings, not_records, questions, given_up, finished, to_tell, to_abort }
    }
}

impl Report {
    /// Whether nothing is missing but what was given up before, and nothing is in question.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_whole() && self.not_records.is_empty() && self.questions.is_empty()
    }
}

impl Gap {
    fn entry(&self, damage: &str) -> Entry {
        let damage = damage.to_owned();
        Entry { time: self.time, transaction: TransactionId::NONE, record: Record::GaveUp { damage } }
    }

    /// Each number that is missing is said to be: none is given again, and none is left out.
    fn write(&self, new: &mut Rebuild) -> Result<(), SalvageError> {
        let mut why = self.why.as_str();
        let from = if self.is_leading { self.last } else { self.first };
        for lsn in from.get()..=self.last.get() {
            let bytes = codec::encode(&self.entry(why)).expect("a sentence fits into a record");
            if new.next().get() <= lsn {
                new.push(&bytes).map_err(store)?;
            }
            why = "missing";
        }
        Ok(())
    }
}

fn is_in_gap(logged: &Logged) -> bool {
    logged.fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::Gap)
}

/// What a record says of its transaction, in a few words.
fn says(record: &Record) -> String {
    match record {
        Record::Decided { decision, .. } => format!("decided {}", decision.name()),
        Record::Acked(branch) => format!("acked by branch {branch}"),
        Record::Parked { branch, status, .. } => format!("branch {branch} parked with {status}"),
        Record::Resolved { branch, decision, .. } => {
            format!("branch {branch} resolved as {}", decision.outcome())
        }
        Record::Ended(decision) => format!("ended {}", decision.outcome()),
        Record::Opened { .. }
        | Record::GaveUp { .. }
        | Record::Begun(_)
        | Record::Preparing { .. }
        | Record::Carried(_)
        | Record::CarriedResolved(..)
        | Record::Settled => record.name().to_owned(),
    }
}
