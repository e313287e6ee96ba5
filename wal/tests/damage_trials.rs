//! Damage in trials: a log with known content, hurt by chance, and then opened, verified and rescued.
//!
//! A trial is one seed. It takes one of a few logs, hurts its files in one to three ways (flipped bits, zeroed, swapped, misdirected and
//! outdated pages, files cut short, emptied, deleted, or brought back from an older copy of the directory), and holds:
//!
//! - `open` gives every record that was acknowledged, or an error that says what is wrong: for a directory that was restored as a
//!   whole, that it is a copy. It gives nothing else, ever;
//! - `verify` says the same, and neither it nor an open that refuses changes anything;
//! - `salvage` gets back every record whose bytes are whole, under its own number, and no other record; what it does not get
//!   back it lists.
//!
//! ```text
//! cargo test -p unanimous-wal --test damage_trials                                        a short form
//! UNANIMOUS_DAMAGE=long cargo test --release -p unanimous-wal --test damage_trials        10,000 trials; TMPDIR=/dev/shm
//! UNANIMOUS_DAMAGE=seed:4711 cargo test -p unanimous-wal --test damage_trials             one trial again, in words
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may panic, and says how to repeat it"
)]

mod common;

#[path = "damage_trials/base.rs"]
mod base;
#[path = "damage_trials/hurt.rs"]
mod hurt;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use base::{Base, bases};
use common::try_read;
use hurt::{Hurt, hurt};
use unanimous_wal::salvage::{self, Findings, Item, Rebuild};
use unanimous_wal::verify::{self, Report, verify};
use unanimous_wal::{Copied, Lsn, OpenError, Options};

/// Trials of the two forms.
const SHORT: u64 = 40;
const LONG: u64 = 10_000;

/// What stands in the new log where a record is missing.
const NOTHING: &[u8] = b"missing";

/// Records by number.
type Found = BTreeMap<u64, Vec<u8>>;

/// What came of a trial.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    trials: u64,
    /// All records were there all the same.
    harmless: u64,
    /// One copy of the last blocks made up for the other, and both the start and `verify` say so.
    mended: u64,
    /// The damage was named.
    named: u64,
    /// Of these, those that are a copy, or of which nobody can say that they are none.
    copies: u64,
    /// Records that salvage got back where the log was damaged and could not be opened, and those that were lost. What an old copy
    /// holds was never lost.
    rescued: u64,
    lost: u64,
}

#[test]
fn no_damage_is_silent_and_every_whole_record_is_rescued() {
    let wish = std::env::var("UNANIMOUS_DAMAGE").unwrap_or_default();
    let bases = bases();
    if let Some(seed) = wish.strip_prefix("seed:").and_then(|seed| seed.parse().ok()) {
        let mut tally = Tally::default();
        trial(&bases, seed, true, &mut tally);
        return eprintln!("{tally:?}");
    }
    let (mut tally, mut failed) = (Tally::default(), Vec::new());
    let trials = if wish == "long" { LONG } else { wish.parse().unwrap_or(SHORT) };
    for seed in 0..trials {
        if catch_unwind(AssertUnwindSafe(|| trial(&bases, seed, false, &mut tally))).is_err() {
            eprintln!("again: UNANIMOUS_DAMAGE=seed:{seed} cargo test -p unanimous-wal --test damage_trials");
            failed.push(seed);
        }
    }
    eprintln!("{tally:?}");
    assert!(failed.is_empty(), "{} of {trials} trials failed: {failed:?}", failed.len());
    let least = tally.named.min(tally.harmless).min(tally.mended);
    assert!(least > trials / 40 && tally.copies > 0, "the damage is of every kind: {tally:?}");
    assert!(tally.rescued > tally.lost, "{tally:?}");
}

fn trial(bases: &[Base], seed: u64, aloud: bool, tally: &mut Tally) {
    let mut chance = fastrand::Rng::with_seed(seed);
    // The last one is much larger than the others.
    let base = &bases[[0, 0, 0, 1, 1, 2, 2, 3][chance.usize(..8)]];
    let place = common::in_memory();
    let directory = place.path().join("log");
    base.copy_to(&directory);
    let unhurt = state_of(&directory);
    // Once more where nothing has changed: zeros where there were zeros, or a page that changed places with itself.
    let mut tries = std::iter::repeat_with(|| (hurt(&directory, base, &mut chance), state_of(&directory)));
    let (hurts, before) = tries.find(|(_, state)| *state != unhurt).expect("it goes on until one is found");
    let words = format!("seed {seed}, {}: {hurts:?}", base.name);
    if aloud {
        eprintln!("{words}");
    }
    let is_old = is_an_old_copy(&hurts);
    let findings = rescue(&directory, &place.path().join("new"), base, is_old, &words);
    let (report, copied) = (verify(&directory), verify::copied(&directory));
    assert!(state_of(&directory) == before, "{words}: a look changed something");
    tally.trials += 1;
    match try_read(&directory, Options::default()) {
        Ok((_, records)) => {
            let found: Found = records.into_iter().map(|(lsn, payload)| (lsn.get(), payload)).collect();
            assert!(found == base.records, "{words}: lost in silence");
            let report = report.unwrap();
            assert!(report.damage.is_none(), "{words}: {report:?}");
            *(if report.is_sound() { &mut tally.harmless } else { &mut tally.mended }) += 1;
        }
        Err(said) => {
            tally.named += 1;
            let is_copy = said.contains("is a copy of a log, or was restored");
            tally.copies += u64::from(is_copy);
            let is_named = is_copy || said.contains("cannot be read") || said.contains("is not empty");
            assert!(is_named, "{words}: {said}");
            let is_sound = report.as_ref().is_ok_and(Report::is_sound) && matches!(copied, Ok(None));
            assert!(!is_sound, "{words}: verify calls it sound, and the start says {said}");
            let after = state_of(&directory);
            assert!(
                of_store(&after) == of_store(&before),
                "{words}: the start changed something, and said {said}"
            );
            if !is_copy {
                let missing = findings.missing.iter().map(|gap| gap.last.get() - gap.first.get() + 1);
                tally.rescued += findings.records;
                tally.lost += missing.sum::<u64>();
            }
            if aloud {
                eprintln!("{said}\n{findings:#?}");
            }
        }
    }
}

/// An older state of the store and of all that lies beside it: what is in it knows of nothing that came later.
fn is_an_old_copy(hurts: &[Hurt]) -> bool {
    let is_old =
        |wanted: &str| hurts.iter().any(|hurt| matches!(hurt, Hurt::OldFile(name) if name == wanted));
    let is_all_old = ["store/db", "witness", "ring"].into_iter().all(is_old);
    hurts.iter().any(|hurt| matches!(hurt, Hurt::OldDirectory)) || is_all_old
}

/// Rescues, and holds what comes of it against what the log held and what is left of it. One time of eight a new log is
/// made of it and opened; it must hold the same.
fn rescue(directory: &Path, to: &Path, base: &Base, is_old: bool, words: &str) -> Findings {
    let looked =
        salvage::look(directory, Copied::Complete).unwrap_or_else(|error| panic!("{words}: {error}"));
    let findings = looked.findings().clone();
    let mut found = Found::new();
    let read = looked.each(|item| {
        match item {
            Item::Record(lsn, payload) => drop(found.insert(lsn.get(), payload.to_vec())),
            Item::Missing(first, last) => {
                found.extend((first.get()..=last.get()).map(|lsn| (lsn, NOTHING.to_vec())));
            }
        }
        Ok::<(), OpenError>(())
    });
    read.unwrap_or_else(|error| panic!("{words}: {error}"));
    if crc32fast::hash(words.as_bytes()).is_multiple_of(8) {
        assert!(made_anew(&found, findings.epoch, to) == found, "{words}: the new log holds something else");
    }
    for (lsn, payload) in found.iter().filter(|(_, payload)| *payload != NOTHING) {
        assert!(base.was_written(*lsn, payload), "{words}: record {lsn} was never written so");
    }
    let is_missing = |lsn: u64| {
        let listed = findings.missing.iter().any(|gap| gap.first.get() <= lsn && lsn <= gap.last.get());
        listed
            || (!findings.is_end_known() && findings.high.is_none_or(|high| high.get() < lsn))
            || (!findings.is_beginning_known() && findings.low.is_none_or(|low| lsn < low.get()))
    };
    // Nothing in an old copy tells of what came after it.
    let whole = if is_old { BTreeSet::new() } else { base.whole_records(directory) };
    for (lsn, payload) in if is_old { &base.old_records } else { &base.records } {
        let is_back = found.get(lsn) == Some(payload);
        assert!(is_back || !whole.contains(lsn), "{words}: record {lsn} is whole and was not rescued");
        assert!(is_back || is_missing(*lsn), "{words}: record {lsn} is not rescued and not listed");
    }
    findings
}

/// Writes a new log of these records, and gives what a node reads there.
fn made_anew(records: &Found, epoch: u64, to: &Path) -> Found {
    let low = records.keys().next().copied().and_then(Lsn::new).unwrap_or(Lsn::FIRST);
    let mut new = Rebuild::create(to, 1, epoch, low).unwrap();
    records.values().try_for_each(|payload| new.push(payload)).unwrap();
    new.finish().unwrap();
    std::fs::write(to.join("ballast"), []).unwrap();
    let (_, read) = try_read(to, Options::default()).unwrap();
    read.into_iter().map(|(lsn, bytes)| (lsn.get(), bytes)).collect()
}

/// Name, length and checksum of every file, read in pieces.
fn state_of(directory: &Path) -> Vec<(String, usize, u32)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(state_of(&path));
            continue;
        }
        let (mut file, mut sum, mut len) = (std::fs::File::open(&path).unwrap(), crc32fast::Hasher::new(), 0);
        let mut bytes = vec![0; 65_536];
        while let Some(read) = Some(file.read(&mut bytes).unwrap()).filter(|read| *read > 0) {
            sum.update(&bytes[..read]);
            len += read;
        }
        files.push((path.display().to_string(), len, sum.finalize()));
    }
    files.sort();
    files
}

/// Only an open that succeeds may change anything there.
fn of_store(files: &[(String, usize, u32)]) -> Vec<&(String, usize, u32)> {
    files.iter().filter(|(name, ..)| name.contains("/store/")).collect()
}
