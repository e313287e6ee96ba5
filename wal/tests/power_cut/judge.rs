//! What a process promised, and whether a directory keeps it: opened, read, gone on with, and opened again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Runtime;
use unanimous_wal::verify;
use unanimous_wal::{Copied, Lsn, Options, Readable};

use crate::common::{self, Records, lsn};
use crate::workload::{id_of, patient, payload_of};

/// What was promised up to some moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promises {
    /// What was said, as it was said.
    pub(crate) words: Arc<Vec<String>>,
    /// Number of the log and of its last start, once it was started.
    started: Option<(u32, u64)>,
    /// Records that were acknowledged, or read at a start: number and what was in it.
    records: Arc<BTreeMap<u64, u64>>,
    /// Nothing below is there again.
    low_min: u64,
    /// Nothing from here on was let go.
    low_max: u64,
}

/// What the log made of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Nothing had been promised, and a new log was begun.
    Begun,
    /// All that was promised is there.
    Sound,
    /// So it is, and the last record, which was not acknowledged, was cut off.
    CutOff,
}

impl Promises {
    pub(crate) fn hear(&mut self, words: &str) {
        Arc::make_mut(&mut self.words).push(words.to_owned());
        let (what, rest) = words.split_once(' ').unwrap();
        let numbers: Vec<u64> = rest.split_whitespace().map(|word| word.parse().unwrap()).collect();
        match (what, &numbers[..]) {
            ("started", [node, epoch]) => self.started = Some((u32::try_from(*node).unwrap(), *epoch)),
            ("holds", records) => {
                let records = records.chunks(2).map(|record| (record[0], record[1]));
                Arc::make_mut(&mut self.records).extend(records);
            }
            ("retires", [below]) => self.low_max = self.low_max.max(*below),
            ("retired", [low]) => self.low_min = self.low_min.max(*low),
            _ => panic!("`{words}` is no promise"),
        }
    }

    /// How many there were; two moments with as many are the same here.
    pub(crate) fn count(&self) -> usize {
        self.words.len()
    }

    const fn is_any(&self) -> bool {
        self.started.is_some()
    }
}

/// Opens a directory as a node would after a power cut, and says what is wrong.
pub(crate) fn judge(directory: &Path, promises: &Promises, runtime: &Runtime) -> Result<Verdict, String> {
    is_taken_for_a_copy_only_because_it_is_one(directory)?;
    let (readable, records) = open(directory, Copied::Complete)?;
    check(&readable, &records, promises)?;
    let is_cut = readable.torn().is_some();
    let (node, low, next) = (readable.node(), readable.low(), readable.next());
    let wal = readable.start().map_err(|error| format!("was read, but not started: {error}"))?;
    let epoch = wal.epoch();
    if promises.started.is_some_and(|(_, before)| epoch <= before) {
        return Err(format!("was started as number {epoch} a second time"));
    }
    let payload = payload_of(LATER);
    let appended = runtime.block_on(wal.append(payload.clone(), ()));
    let number = appended.map_err(|error| format!("does not go on: {error}"))?.lsn();
    if number != Some(next) {
        return Err(format!("gave a new record the number {number:?} and not {next}"));
    }
    runtime.block_on(wal.close()).map_err(|error| format!("cannot be closed: {error}"))?;
    let (again, found) = open(directory, Copied::Refuse).map_err(|error| format!("once started, {error}"))?;
    if (again.node(), again.low(), again.epoch()) != (node, low, epoch) {
        return Err(format!("is another log after a start: {again:?}"));
    }
    let mut expected = records;
    expected.push((next, payload));
    if found != expected {
        return Err("holds other records after a start and an append".to_owned());
    }
    drop(again);
    // A copy is kept of what is repaired, and only a few of them: a power cut must not need that.
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    if names.into_iter().any(|name| name.to_string_lossy().starts_with("aside-")) {
        return Err("needed a repair".to_owned());
    }
    Ok(match (is_cut, promises.is_any()) {
        (true, _) => Verdict::CutOff,
        (_, true) => Verdict::Sound,
        (_, false) => Verdict::Begun,
    })
}

/// The id of the record that is appended to every state.
const LATER: u64 = 99_999_999;

/// Every state is a copy of what was recorded, so its `start-N` names another file. It is wrong if it is damaged, too old, or missing.
fn is_taken_for_a_copy_only_because_it_is_one(directory: &Path) -> Result<(), String> {
    match verify::copied(directory) {
        Ok(Some((why, is_older))) if is_older || !why.contains(" when it was written, and is ") => {
            Err(format!("is taken for a copy: {why}"))
        }
        // Where it cannot be told, it cannot be opened either.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn open(directory: &Path, copied: Copied) -> Result<(Readable, Records), String> {
    let options = Options { copied, ..patient() };
    common::try_read(directory, options).map_err(|error| format!("cannot be opened: {error}"))
}

fn check(readable: &Readable, records: &Records, promises: &Promises) -> Result<(), String> {
    let low = readable.low();
    if let Some((node, epoch)) = promises.started
        && (readable.node() != node || readable.epoch() < epoch)
    {
        return Err(format!("is {readable:?}, and log {node} was started as number {epoch}"));
    }
    if low.get() < promises.low_min || low > lsn(promises.low_max.max(1)) {
        return Err(format!("begins at {low}, and not from {} to {}", promises.low_min, promises.low_max));
    }
    for (expected, (number, payload)) in (low.get()..).zip(records) {
        let id = id_of(payload);
        if *number != lsn(expected) || id.is_none_or(|id| *payload != payload_of(id)) {
            return Err(format!("holds a record {number} that nobody wrote, where {expected} should be"));
        }
    }
    let ids: BTreeMap<u64, u64> =
        records.iter().map(|(number, payload)| (number.get(), id_of(payload).unwrap())).collect();
    for (number, id) in promises.records.range(low.get()..) {
        if ids.get(number) != Some(id) {
            let found = ids.get(number);
            let high = readable.high().map_or(0, Lsn::get);
            return Err(format!(
                "lost record {number} ({id}), which was acknowledged: it holds {found:?}, and ends with {high}"
            ));
        }
    }
    Ok(())
}
