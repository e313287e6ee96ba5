//! A log that no node works with, looked at without changing it.

use std::collections::HashMap;
use std::path::Path;

use unanimous_wal::{Lsn, ReadAllError, RingState, SALVAGE, verify};

use super::codec::{self, CodecError};
use super::record::{Entry, Record};
use super::replay::{Fault, FaultKind, Replay};
use super::{OpenError, mixed};
use crate::plan::TransactionId;

/// What was found in a log, and how far it can be trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Records that could be read.
    pub records: u64,
    /// The last of them.
    pub high: Option<Lsn>,
    /// Transactions that ended.
    pub finished: u64,
    /// Transactions that did not.
    pub unfinished: usize,
    /// Everything that is wrong, as sentences. Empty: every record is there and makes sense, in both copies.
    pub faults: Vec<String>,
    /// What to do about that.
    pub advice: Option<&'static str>,
    /// What is worth a word and not wrong.
    pub notes: Vec<String>,
}

/// What to do about transactions that are in question.
const SETTLE: &str = "a node that starts parks these, and sends nothing for them: look at every branch, then `unanimous tx resolve` each";

/// Checks every record: checksum, sequence, encoding, legal order.
pub fn audit(directory: &Path) -> Result<Audit, OpenError> {
    let mut replay = Replay::default();
    let (mut audit, mut first, mut node) = (Audit::default(), None, None);
    let snapshot = match verify::read_only(directory) {
        Err(unanimous_wal::OpenError::Damage(damage)) => Err(ReadAllError::Damage(damage)),
        snapshot => Ok(snapshot?),
    };
    let read = snapshot.and_then(|snapshot| {
        snapshot.read_all(|lsn, bytes| {
            first.get_or_insert(lsn);
            audit.high = Some(lsn);
            replay.read(lsn, bytes)
        })
    });
    let is_readable = read.is_ok();
    audit.advice = match &read {
        Err(ReadAllError::Damage(damage)) => Some(damage.advice()),
        Err(ReadAllError::Visit { cause, .. }) if !matches!(cause, CodecError::Newer(_)) => Some(SALVAGE),
        Ok(_) | Err(ReadAllError::Visit { .. } | ReadAllError::NewerVersion(_) | ReadAllError::Store(_)) => {
            None
        }
    };
    match read {
        Ok(summary) => {
            audit.faults.extend(summary.copies.faults());
            node = Some(summary.node);
            if summary.copies.ring == RingState::Missing {
                audit.notes.push("there is no mirror ring; the next start makes one".to_owned());
            }
        }
        Err(ReadAllError::Damage(damage)) => audit.faults.push(damage.to_string()),
        Err(error @ ReadAllError::Visit { .. }) => audit.faults.push(error.to_string()),
        Err(error @ (ReadAllError::NewerVersion(_) | ReadAllError::Store(_))) => return Err(error.into()),
    }
    if let Some((why, is_older)) = verify::copied(directory)? {
        let place = if is_older { &mut audit.faults } else { &mut audit.notes };
        place.push(format!(
            "the directory is a copy, or was restored: {why}. No node starts with it before `log.accept_copy` says what it is"
        ));
    }
    let (index, unfinished, found) = replay.into_parts();
    audit.notes.extend((!index.is_whole()).then(|| {
        "some records were given up (`gave_up` in the dump); nobody knows of transactions that were lost wholly".to_owned()
    }));
    let stranger = node.and_then(|own| Some((own, found.stranger(own)?))).filter(|_| index.is_whole());
    audit.faults.extend(stranger.map(|(own, (lsn, theirs))| mixed(lsn, theirs, own)));
    // Of those whose beginning is gone, the end may be behind the damage.
    let is_certain = |fault: &&Fault| is_readable || fault.kind != FaultKind::NoBeginning;
    let in_question = unfinished.iter().filter_map(|logged| {
        let fault = logged.fault.as_ref().filter(is_certain)?;
        Some(format!("record {} of {}: {}", fault.lsn, logged.id, fault.why))
    });
    let in_question: Vec<_> = in_question.collect();
    audit.advice = audit.advice.or((is_readable && !in_question.is_empty()).then_some(SETTLE));
    audit.faults.extend(in_question);
    if found.strays > 0 && first == Some(Lsn::FIRST) && index.is_whole() {
        audit.faults.push(format!("{} records belong to transactions that never began", found.strays));
    }
    Ok(Audit { records: found.records, finished: found.finished, unfinished: unfinished.len(), ..audit })
}

/// Which records are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Only from this LSN on.
    pub from: Option<Lsn>,
    /// Only of this transaction.
    pub transaction: Option<TransactionId>,
    /// Only of transactions that have not ended.
    pub in_doubt: bool,
}

/// Gives the wanted records to `take`, in order, until it says false.
pub fn records(
    directory: &Path,
    wanted: Wanted,
    mut take: impl FnMut(Lsn, &Entry) -> bool,
) -> Result<(), OpenError> {
    let mut goes_on = true;
    let mut held: HashMap<TransactionId, Vec<(Lsn, Entry)>> = HashMap::new();
    let read = verify::read_only(directory)?.read_all(|lsn, bytes| {
        if !goes_on || wanted.from.is_some_and(|from| lsn < from) {
            return Ok(());
        }
        let entry = codec::decode(bytes)?;
        let id = entry.transaction;
        if wanted.transaction.is_some_and(|only| only != id) || (wanted.in_doubt && id == TransactionId::NONE)
        {
            return Ok(());
        }
        if !wanted.in_doubt {
            goes_on = take(lsn, &entry);
        } else if matches!(entry.record, Record::Ended(_) | Record::Settled) {
            held.remove(&id);
        } else {
            held.entry(id).or_default().push((lsn, entry));
        }
        Ok::<(), CodecError>(())
    });
    let mut left: Vec<_> = held.into_values().flatten().collect();
    left.sort_by_key(|(lsn, _)| *lsn);
    let _ = left.iter().all(|(lsn, entry)| take(*lsn, entry));
    read.map(drop).map_err(OpenError::from)
}
