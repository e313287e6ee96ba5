//! What is said of a log that no node works with: how much there is, what makes no sense, and the records that are asked for.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "journal/made.rs"]
mod made;

use std::path::Path;
use std::sync::Arc;

use unanimous::clock::{SystemClock, Timestamp};
use unanimous::journal::codec;
use unanimous::journal::inspect::{Audit, Wanted, audit, records};
use unanimous::journal::options::LogOptions;
use unanimous::journal::record::{Carried, Entry, Record};
use unanimous::journal::{Journal, LogPosition as Lsn};
use unanimous::plan::TransactionId;
use unanimous::txn::{Decision, Txn};
use unanimous_wal::salvage::Rebuild;
use unanimous_wal::{Options, SALVAGE, open};

use made::{begun, decided, id};

/// A log with these records, of which those below `low` were retired, each in a block of its own. It is that of node 1, as the
/// transactions are.
async fn a_log(low: u64, records: &[(TransactionId, Record)]) -> tempfile::TempDir {
    a_log_of(1, low, records).await
}

async fn a_log_of(node: u32, low: u64, records: &[(TransactionId, Record)]) -> tempfile::TempDir {
    a_log_with(node, low, &bytes_of(records)).await
}

fn bytes_of(records: &[(TransactionId, Record)]) -> Vec<Vec<u8>> {
    let encoded = |(number, (transaction, record)): (u64, &(TransactionId, Record))| {
        let entry = Entry { time: Timestamp(number), transaction: *transaction, record: record.clone() };
        codec::encode(&entry).unwrap()
    };
    (1..).zip(records).map(encoded).collect()
}

async fn a_log_with(node: u32, low: u64, payloads: &[Vec<u8>]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    Rebuild::create(directory.path(), node, 0, Lsn::FIRST).unwrap().finish().unwrap();
    let readable =
        open(directory.path(), Options::default()).unwrap().read_all(|_, _| Ok::<_, ()>(())).unwrap();
    let wal = readable.start().unwrap();
    for payload in payloads {
        wal.append(payload.clone(), ()).await.unwrap();
    }
    wal.retire(Lsn::new(low).unwrap()).await.unwrap();
    wal.close().await.unwrap();
    directory
}

fn opened() -> (TransactionId, Record) {
    (TransactionId::NONE, Record::Opened { epoch: 1, version: "1".to_owned() })
}

fn counts(directory: &Path) -> (u64, Option<u64>, u64, usize, Vec<String>) {
    let Audit { records, high, finished, unfinished, faults, advice, notes } = audit(directory).unwrap();
    assert!(advice.is_none_or(|advice| advice.contains("tx resolve")), "all of it could be read");
    assert_eq!(notes, [""; 0]);
    (records, high.map(Lsn::get), finished, unfinished, faults)
}

#[tokio::test]
async fn records_and_transactions_are_counted() {
    let (done, open) = (id(1), id(2));
    let log = [(done, begun()), (open, begun()), (done, decided()), (done, Record::Ended(Decision::Commit))];
    let directory = a_log(1, &log).await;
    assert_eq!(counts(directory.path()), (4, Some(4), 1, 1, vec![]));
    assert_eq!(counts(a_log(1, &[]).await.path()), (0, None, 0, 0, vec![]));
}

#[tokio::test]
async fn whoever_has_neither_a_beginning_nor_an_end_is_in_question_and_both_may_be_gone() {
    let lost = |lsn: u64, id: TransactionId| {
        format!("record {lsn} of {id}: its beginning is missing, and with it who takes part")
    };
    let strays = |count: u64| format!("{count} records belong to transactions that never began");
    let ended = || Record::Ended(Decision::Commit);
    let log = [(id(1), begun()), (id(2), decided()), (id(3), decided()), (id(3), ended())];
    let faults = vec![lost(2, id(2)), strays(3)];
    assert_eq!(counts(a_log(1, &log).await.path()), (4, Some(4), 0, 2, faults));
    let retired = a_log(2, &log).await;
    assert_eq!(counts(retired.path()), (3, Some(4), 0, 1, vec![lost(2, id(2))]), "it may have been retired");
    let gave_up = (TransactionId::NONE, Record::GaveUp { damage: "a gap".to_owned() });
    let given_up = a_log(1, &[gave_up, (id(2), decided()), (id(2), ended())]).await;
    let Audit { records, unfinished, faults, notes, .. } = audit(given_up.path()).unwrap();
    assert_eq!((records, unfinished, faults), (3, 0, vec![]), "it may have been given up");
    assert!(matches!(notes.as_slice(), [note] if note.contains("some records were given up")), "{notes:?}");
}

#[tokio::test]
async fn what_to_do_is_said_where_something_is_wrong_that_can_be_mended() {
    let with = async |last: &[u8]| {
        let payloads = [bytes_of(&[opened()]), vec![last.to_vec()]].concat();
        let directory = a_log_with(1, 1, &payloads).await;
        let Audit { faults, advice, .. } = audit(directory.path()).unwrap();
        assert!(matches!(faults.as_slice(), [fault] if fault.starts_with("record 2 was read")), "{faults:?}");
        advice
    };
    assert_eq!(with(b"\x00nonsense").await, Some(SALVAGE));
    assert_eq!(with(b"\x02what only the newer program knows").await, None, "a newer program reads it");
    assert_eq!(audit(a_log(1, &[(id(1), begun())]).await.path()).unwrap().advice, None, "nothing is wrong");
    let lost = audit(a_log(1, &[(id(1), decided())]).await.path()).unwrap().advice;
    assert!(lost.is_some_and(|advice| advice.contains("tx resolve")), "{lost:?}");
}

/// Whose beginning is missing may have ended behind what cannot be read; what was begun twice is wrong whatever comes.
#[tokio::test]
async fn of_a_log_that_is_not_read_to_its_end_only_that_is_said_which_its_end_cannot_change() {
    let log = [opened(), (id(1), decided()), (id(2), begun()), (id(2), begun())];
    let payloads = [bytes_of(&log), vec![b"\x00nonsense".to_vec()]].concat();
    let directory = a_log_with(1, 2, &payloads).await;
    let Audit { records, faults, advice, .. } = audit(directory.path()).unwrap();
    assert_eq!((records, advice), (3, Some(SALVAGE)));
    let words = format!("record 4 of {}: it begins a second time", id(2));
    assert!(matches!(faults.as_slice(), [_, fault] if *fault == words), "{faults:?}");
}

#[tokio::test]
async fn records_of_another_node_are_no_part_of_this_log_and_no_node_starts_with_them() {
    let directory = a_log_of(7, 1, &[(id(1), begun()), (id(1), decided())]).await;
    let (.., faults) = counts(directory.path());
    let words = "record 1 is of node 1, and by `INIT` this is the log of node 7: files of two logs are mixed";
    assert!(matches!(faults.as_slice(), [fault] if fault.starts_with(words)), "{faults:?}");
    let start = async || {
        let opened =
            Journal::open(directory.path(), &LogOptions::default(), Arc::new(SystemClock), "0.1.0").await;
        opened.err().map(|error| error.to_string())
    };
    let refused = start().await.unwrap();
    assert!(refused.starts_with(words), "{refused}");
    assert_eq!(start().await, Some(refused), "nothing was changed");
    // A log whose number was lost to damage says that something was given up.
    let gave_up = (TransactionId::NONE, Record::GaveUp { damage: "all of it".to_owned() });
    let log = [(id(1), begun()), gave_up, (id(1), decided()), (id(1), Record::Ended(Decision::Commit))];
    assert_eq!(audit(a_log_of(7, 1, &log).await.path()).unwrap().faults, [""; 0]);
    // When all of that has been retired, what was open then is carried on.
    let Record::Begun(plan) = begun() else { unreachable!("it begins") };
    let txn = Txn::begin(plan.shape().unwrap());
    let carried = Carried { plan, txn, kept: None, parked: None };
    let log = [(id(1), Record::Carried(Box::new(carried)))];
    assert_eq!(audit(a_log_of(7, 1, &log).await.path()).unwrap().faults, [""; 0]);
}

#[tokio::test]
async fn the_records_that_are_asked_for_come_in_order_and_until_it_is_enough() {
    let (done, open) = (id(1), id(2));
    let directory = a_log(
        1,
        &[
            opened(),
            (open, begun()),
            (done, begun()),
            (done, decided()),
            (open, decided()),
            (done, Record::Ended(Decision::Commit)),
            (id(3), begun()),
            (id(3), Record::Settled),
        ],
    )
    .await;
    let told = |wanted: Wanted, most: usize| {
        let mut told = Vec::new();
        let take = |lsn: Lsn, _: &Entry| {
            told.push(lsn.get());
            told.len() < most
        };
        records(directory.path(), wanted, take).unwrap();
        told
    };
    let all = Wanted::default();
    assert_eq!(told(all, 10), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(told(all, 2), [1, 2]);
    assert_eq!(told(Wanted { from: Lsn::new(5), ..all }, 10), [5, 6, 7, 8]);
    assert_eq!(told(Wanted { transaction: Some(done), ..all }, 10), [3, 4, 6]);
    assert_eq!(told(Wanted { transaction: Some(done), from: Lsn::new(4), ..all }, 10), [4, 6]);
    assert_eq!(told(Wanted { in_doubt: true, ..all }, 10), [2, 5]);
    assert_eq!(told(Wanted { in_doubt: true, ..all }, 1), [2]);
    assert_eq!(told(Wanted { in_doubt: true, transaction: Some(done), ..all }, 10), [0; 0]);
}
