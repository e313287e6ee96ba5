//! What a rescue says of a damaged log, and what it writes in place of what is missing.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

#[path = "kit/files.rs"]
mod files;
#[path = "journal/made.rs"]
mod made;

use std::path::Path;

use unanimous::clock::Timestamp;
use unanimous::journal::OpenError;
use unanimous::journal::codec;
use unanimous::journal::inspect::{Wanted, audit, records};
use unanimous::journal::record::{Carried, Entry, Record};
use unanimous::journal::salvage::{Copied, Doubt, Question, Report, SalvageError, salvage};
use unanimous::plan::{Issuer, TransactionId};
use unanimous::txn::{Branch, Decision, Transition, Txn, Votes};
use unanimous_wal::salvage::look;
use unanimous_wal::{Lsn, Options, open};

use files::damage;
use made::{begun, decided, id};

const NOBODY: TransactionId = TransactionId::NONE;

/// When the rescue is made. The records were made before, each at the time of its number.
const NOW: Timestamp = Timestamp(1_000);

/// A log, and the bytes of each of its records.
struct Log {
    directory: tempfile::TempDir,
    payloads: Vec<Vec<u8>>,
}

/// What a rescue says, and what the new log holds, from which number on.
struct Rescue {
    report: Report,
    low: u64,
    entries: Vec<Entry>,
    to: tempfile::TempDir,
}

impl Log {
    async fn of(records: &[(TransactionId, Record)]) -> Self {
        let encoded = |(number, (transaction, record)): (u64, &(TransactionId, Record))| {
            let entry = Entry { time: Timestamp(number), transaction: *transaction, record: record.clone() };
            codec::encode(&entry).unwrap()
        };
        Self::with((1..).zip(records).map(encoded).collect()).await
    }

    async fn with(payloads: Vec<Vec<u8>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let readable =
            open(directory.path(), Options::default()).unwrap().read_all(|_, _| Ok::<_, ()>(())).unwrap();
        let wal = readable.start().unwrap();
        for payload in &payloads {
            wal.append(payload.clone(), ()).await.unwrap();
        }
        wal.close().await.unwrap();
        Self { directory, payloads }
    }

    /// Flips a bit in every copy of a record.
    fn lose(&self, number: usize) {
        damage(self.directory.path(), &self.payloads[number - 1]);
    }

    fn remove(&self, file: &str) {
        std::fs::remove_file(self.directory.path().join(file)).unwrap();
    }

    fn node(&self) -> Option<u32> {
        look(self.directory.path(), Copied::Complete).unwrap().findings().marker
    }

    fn try_rescue(&self) -> Result<Rescue, SalvageError> {
        let to = tempfile::tempdir().unwrap();
        let report = salvage(self.directory.path(), to.path(), Copied::Complete, NOW)?;
        let (mut low, mut entries) = (0, Vec::new());
        let take = |lsn: Lsn, entry: &Entry| {
            low = if entries.is_empty() { lsn.get() } else { low };
            entries.push(entry.clone());
            true
        };
        records(to.path(), Wanted::default(), take).unwrap();
        Ok(Rescue { report, low, entries, to })
    }

    fn rescue(&self) -> Rescue {
        self.try_rescue().unwrap()
    }
}

impl Rescue {
    /// Where the new log says that something is missing, at what time and what.
    fn gaps(&self) -> Vec<(u64, u64, &str)> {
        let mut gaps = Vec::new();
        for (number, entry) in (self.low..).zip(&self.entries) {
            if let Record::GaveUp { damage } = &entry.record {
                gaps.push((number, entry.time.0, damage.as_str()));
            }
        }
        gaps
    }

    /// Which log the new one is.
    fn node(&self) -> Option<u32> {
        look(self.to.path(), Copied::Complete).unwrap().findings().marker
    }

    /// How many were begun and not decided, were decided and have not ended, and have ended.
    fn counts(&self) -> (usize, usize, u64) {
        (self.report.to_abort, self.report.to_tell, self.report.finished)
    }
}

fn lsn(number: u64) -> Lsn {
    Lsn::new(number).unwrap()
}

fn opened(version: &str) -> (TransactionId, Record) {
    (NOBODY, Record::Opened { epoch: 1, version: version.to_owned() })
}

fn acked() -> Record {
    Record::Acked(Branch::new(0).unwrap())
}

fn ended() -> Record {
    Record::Ended(Decision::Commit)
}

fn carried() -> Record {
    let Record::Begun(plan) = begun() else { panic!("it begins") };
    let yes = Votes { yes: Votes::default().yes.with(Branch::new(0).unwrap()), ..Votes::default() };
    let commit = Transition::Decided { decision: Decision::Commit, votes: yes, reason: None };
    let txn = Txn::replay(plan.shape().unwrap(), [commit]).unwrap();
    Record::Carried(Box::new(Carried { plan, txn, kept: None, parked: None }))
}

#[tokio::test]
async fn a_sound_log_is_rescued_as_it_is() {
    let (done, told, asked) = (id(1), id(2), id(3));
    let log = [
        opened("1"),
        (done, begun()),
        (told, begun()),
        (done, decided()),
        (done, ended()),
        (asked, begun()),
        (told, decided()),
    ];
    let rescue = Log::of(&log).await.rescue();
    assert!(rescue.report.is_whole(), "{:?}", rescue.report);
    assert_eq!((rescue.counts(), rescue.low), ((1, 1, 1), 1));
    let copied: Vec<_> = rescue.entries.into_iter().map(|entry| (entry.transaction, entry.record)).collect();
    assert_eq!(copied, log);
}

#[tokio::test]
async fn whoever_was_undecided_at_a_gap_is_in_question_unless_a_later_record_tells() {
    let (asked, told, new) = (id(1), id(2), id(3));
    let log = Log::of(&[
        (asked, begun()),
        (told, begun()),
        opened("lost"),
        (asked, acked()),
        (told, decided()),
        (new, begun()),
    ])
    .await;
    log.lose(3);
    let rescue = log.rescue();
    let gap = (3, 4, "record 3 is missing: this log was rescued from a damaged one");
    assert_eq!(rescue.gaps(), [gap], "it comes with the time of what follows it");
    assert_eq!((rescue.counts(), rescue.entries.len()), ((1, 1, 0), 6));
    let Record::Begun(plan) = begun() else { panic!("it begins") };
    let question = Question {
        id: asked,
        why: Doubt::Undecided,
        stood: "working",
        plan: Some(plan),
        later: vec![(lsn(4), "acked by branch 0".to_owned())],
    };
    assert_eq!(rescue.report.questions, [question]);
}

#[tokio::test]
async fn a_gap_that_leaves_nothing_in_question_is_a_gap_all_the_same() {
    let log = Log::of(&[opened("1"), opened("2"), opened("3"), opened("4"), opened("5")]).await;
    (2..=4).for_each(|number| log.lose(number));
    let rescue = log.rescue();
    let first = "records 2 to 4 are missing: this log was rescued from a damaged one";
    assert_eq!(rescue.gaps(), [(2, 5, first), (3, 5, "missing"), (4, 5, "missing")]);
    assert_eq!((rescue.report.questions.as_slice(), rescue.report.is_whole()), (&[][..], false));
}

#[tokio::test]
async fn what_was_given_up_before_is_counted_and_is_no_new_damage() {
    let gave_up = || (NOBODY, Record::GaveUp { damage: "a gap".to_owned() });
    let Rescue { report, .. } = Log::of(&[opened("1"), gave_up(), opened("2"), gave_up()]).await.rescue();
    assert_eq!((report.given_up, report.is_whole()), (2, true));
}

#[tokio::test]
async fn of_what_is_missing_at_the_beginning_one_record_is_enough() {
    let (lost, done, known) = (id(1), id(2), id(3));
    let log = Log::of(&[
        (lost, begun()),
        (known, begun()),
        opened("2"),
        (lost, decided()),
        (done, acked()),
        (done, ended()),
        (known, decided()),
        (known, carried()),
    ])
    .await;
    (1..=2).for_each(|number| log.lose(number));
    let rescue = log.rescue();
    let words = "records 1 to 2 are missing: this log was rescued from a damaged one";
    assert_eq!(rescue.gaps(), [(2, 3, words)]);
    assert_eq!((rescue.low, rescue.entries.len(), rescue.counts()), (2, 7, (0, 1, 0)));
    let questions: Vec<_> = rescue.report.questions.iter().map(|one| (one.id, &one.why, &one.plan)).collect();
    assert_eq!(
        questions,
        [(lost, &Doubt::NoBeginning, &None)],
        "of the others an end or a beginning is there"
    );
    let later = &rescue.report.questions[0].later;
    assert_eq!(later, &[(lsn(4), "decided commit".to_owned())]);
}

#[tokio::test]
async fn records_in_an_order_that_no_run_can_have_written_are_in_question_where_none_is_missing() {
    let log = Log::of(&[(id(1), begun()), (id(1), begun()), (id(1), acked())]).await;
    let Rescue { report, entries, .. } = log.rescue();
    assert_eq!((report.findings.is_whole(), report.is_whole(), entries.len()), (true, false, 3));
    let question = &report.questions[0];
    assert_eq!(question.why, Doubt::Disorder("record 2: it begins a second time".to_owned()));
    assert_eq!((question.later.as_slice(), report.questions.len()), (&[][..], 1));
}

#[tokio::test]
async fn a_record_that_is_none_of_ours_is_left_out() {
    let of = |record| codec::encode(&Entry { time: Timestamp(7), transaction: NOBODY, record }).unwrap();
    let (first, last) = (of(opened("1").1), of(opened("3").1));
    let rescue = Log::with(vec![first, b"\x00nonsense".to_vec(), last]).await.rescue();
    let why = "record 2 could not be rescued: it is not a record: its format is 0";
    assert_eq!(rescue.gaps(), [(2, 7, why)]);
    let report = &rescue.report;
    assert_eq!((report.not_records.len(), report.not_records[0].0.get()), (1, 2));
    assert_eq!(report.findings.records, 2, "what is given up was not rescued");
    assert_eq!((report.findings.is_whole(), report.is_whole(), report.questions.len()), (true, false, 0));
}

#[tokio::test]
async fn a_record_of_a_newer_program_is_not_damaged() {
    let log = Log::with(vec![b"\x02what only the newer program knows".to_vec()]).await;
    let refused = log.try_rescue().err().unwrap();
    assert!(matches!(refused, SalvageError::Newer(lsn, _) if lsn.get() == 1), "{refused}");
}

#[tokio::test]
async fn without_its_witness_nobody_knows_what_came_at_the_end() {
    let log = Log::of(&[(id(1), begun()), (id(2), decided())]).await;
    log.remove("witness");
    let rescue = log.rescue();
    let words = "what came here is not known: this log was rescued from a damaged one without its witness";
    assert_eq!(rescue.gaps(), [(3, NOW.0, words)]);
    let questions: Vec<_> = rescue.report.questions.iter().map(|one| (one.id, &one.why)).collect();
    assert_eq!(questions, [(id(1), &Doubt::Undecided), (id(2), &Doubt::NoBeginning)]);

    let empty = Log::of(&[]).await;
    empty.remove("witness");
    assert_eq!(empty.rescue().gaps(), [(1, NOW.0, words)]);
}

#[tokio::test]
async fn a_new_log_has_the_number_of_the_old_one_which_its_transactions_know_best() {
    let idle = Log::of(&[opened("1")]).await;
    assert_eq!((idle.rescue().node(), idle.node().is_some()), (idle.node(), true));
    // The marker says something else.
    let busy = Log::of(&[(id(1), begun()), (id(1), decided())]).await;
    assert_ne!(busy.node(), Some(1));
    assert_eq!(busy.rescue().node(), Some(1));
    // None of the files says it.
    busy.remove("INIT");
    busy.remove("witness");
    assert_eq!((busy.node(), busy.rescue().node()), (None, Some(1)));
}

#[tokio::test]
async fn a_log_of_which_nothing_says_whose_it_is_has_a_new_number() {
    let log = Log::of(&[opened("1")]).await;
    log.remove("INIT");
    log.remove("witness");
    assert!(log.rescue().node().is_some());
}

#[tokio::test]
async fn files_of_several_logs_are_not_made_one() {
    let of_node = |node| (Issuer::new(node).issue(Timestamp(1), 0), begun());
    let mixed = Log::of(&[of_node(1), of_node(2)]).await;
    let marker = mixed.node().unwrap();
    let refused = mixed.try_rescue().err().unwrap();
    assert!(
        matches!(&refused, SalvageError::Identity(nodes) if *nodes == [1, 2, marker].into()),
        "{refused}"
    );
    // The same where no transaction tells.
    let (one, other) = (Log::of(&[opened("1")]).await, Log::of(&[opened("1")]).await);
    let witness = |log: &Log| log.directory.path().join("witness");
    std::fs::copy(witness(&other), witness(&one)).unwrap();
    let refused = one.try_rescue().err().unwrap();
    let both = [one.node().unwrap(), other.node().unwrap()];
    assert!(matches!(&refused, SalvageError::Identity(nodes) if *nodes == both.into()), "{refused}");
}

/// As one may be that a client sent, to be in a record.
#[tokio::test]
async fn one_record_of_another_node_does_not_hide_whose_log_it_is() {
    let of_node = |node| Issuer::new(node).issue(Timestamp(1), 0);
    let own = Log::of(&[(of_node(1), begun())]).await.rescue();
    let strange = Entry { time: Timestamp(2), transaction: of_node(2), record: begun() };
    let readable = open(own.to.path(), Options::default()).unwrap().read_all(|_, _| Ok::<_, ()>(())).unwrap();
    let wal = readable.start().unwrap();
    wal.append(codec::encode(&strange).unwrap(), ()).await.unwrap();
    wal.close().await.unwrap();
    let log = Log { directory: own.to, payloads: Vec::new() };
    let rescue = log.rescue();
    assert_eq!((log.node(), rescue.node()), (Some(1), Some(1)));
    let left_out: Vec<_> = rescue.report.not_records.iter().map(|(lsn, _)| lsn.get()).collect();
    assert_eq!((left_out, rescue.report.findings.records), (vec![2], 1));
    // So that a node starts with it.
    let audited = audit(rescue.to.path()).unwrap();
    assert!(!audited.faults.iter().any(|fault| fault.contains("are mixed")), "{audited:?}");
}

#[tokio::test]
async fn the_new_log_is_not_made_inside_the_old_one() {
    let log = Log::of(&[opened("1")]).await;
    let inside = |to: &Path| salvage(log.directory.path(), to, Copied::Complete, NOW).err();
    for to in ["", "new", "new/below", "store"].map(|name| log.directory.path().join(name)) {
        assert!(matches!(inside(&to), Some(SalvageError::Inside)), "{}", to.display());
    }
    assert!(!log.directory.path().join("new").exists());
}

#[tokio::test]
async fn a_log_that_is_worked_with_and_a_place_that_is_taken_are_refused() {
    let (log, other) = (Log::of(&[opened("1")]).await, Log::of(&[opened("2")]).await);
    let taken = salvage(log.directory.path(), other.directory.path(), Copied::Complete, NOW).err().unwrap();
    let of_place = |error: &OpenError| error.is_not_empty() && !error.is_locked();
    assert!(matches!(&taken, SalvageError::Make(error) if of_place(error)), "{taken}");
    let worked_with = open(log.directory.path(), Options::default()).unwrap();
    let refused = log.try_rescue().err().unwrap();
    let of_work = |error: &OpenError| error.is_locked() && !error.is_not_empty();
    assert!(matches!(&refused, SalvageError::Look(error) if of_work(error)), "{refused}");
    drop(worked_with);
    assert!(log.rescue().report.is_whole());
}
