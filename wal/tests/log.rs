//! The log as its users see it, on sled.

mod common;

use common::{lsn, payload, read, start};
use unanimous_wal::{AppendError, Lsn, OpenError, Options, PAYLOAD_MAX};

#[tokio::test]
async fn what_was_appended_is_read_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, nothing) = start(directory.path());
    assert!(nothing.is_empty());
    assert_eq!((wal.low(), wal.high(), wal.epoch()), (Lsn::FIRST, None, 1));
    for n in 1..=20 {
        let durable = wal.append(payload(n, 100), n).await.unwrap();
        assert_eq!((durable.lsn(), durable.into_inner()), (Some(lsn(n)), n));
    }
    let node = wal.node();
    wal.close().await.unwrap();

    let (wal, records) = start(directory.path());
    assert_eq!(records, (1..=20).map(|n| (lsn(n), payload(n, 100))).collect::<Vec<_>>());
    assert_eq!((wal.low(), wal.high(), wal.epoch(), wal.node()), (Lsn::FIRST, Some(lsn(20)), 2, node));
    assert_eq!(wal.append(vec![], ()).await.unwrap().lsn(), Some(lsn(21)));
}

#[tokio::test]
async fn a_record_of_the_greatest_length_has_one_number() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    assert_eq!(PAYLOAD_MAX, 4_194_304);
    let big = payload(2, PAYLOAD_MAX);
    wal.append(payload(1, 10), ()).await.unwrap();
    assert_eq!(wal.append(big.clone(), ()).await.unwrap().lsn(), Some(lsn(2)));
    assert_eq!(wal.append(payload(3, 10), ()).await.unwrap().lsn(), Some(lsn(3)));
    let read_now: Vec<_> = wal.read(lsn(2)).map(Result::unwrap).collect();
    assert_eq!(read_now, [(lsn(2), big.clone()), (lsn(3), payload(3, 10))]);
    wal.close().await.unwrap();
    let (_wal, records) = start(directory.path());
    assert_eq!(records, [(lsn(1), payload(1, 10)), (lsn(2), big), (lsn(3), payload(3, 10))]);
}

#[tokio::test]
async fn when_the_last_handle_goes_what_is_queued_is_written_and_the_directory_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    let other = wal.clone();
    let (_, synced) = wal.append_lazily(payload(1, 10), ()).await.unwrap();
    drop(wal);
    synced.await.unwrap();
    drop(other.append_lazily(payload(2, 10), ()).await.unwrap());
    drop(other);
    let began = tokio::time::Instant::now();
    let records = loop {
        match common::try_read(directory.path(), Options::default()) {
            Ok((_, records)) => break records,
            Err(refused) => {
                assert!(refused.contains("in use") && began.elapsed().as_secs() < 10, "{refused}");
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!(records, [(lsn(1), payload(1, 10)), (lsn(2), payload(2, 10))]);
}

#[tokio::test]
async fn a_record_that_is_too_long_is_refused_and_the_log_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    let refused = wal.append(vec![0; PAYLOAD_MAX + 1], ()).await.unwrap_err();
    assert!(matches!(refused, AppendError::TooLarge { size, max } if size == max + 1));
    assert_eq!(wal.append(vec![1], ()).await.unwrap().lsn(), Some(Lsn::FIRST));
}

#[tokio::test]
async fn a_lazy_record_is_handed_back_at_once_and_written_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    let (released, synced) = wal.append_lazily(payload(1, 10), "go").await.unwrap();
    assert_eq!((released.lsn(), *released.get()), (None, "go"));
    synced.await.unwrap();
    let (_, _unwatched) = wal.append_lazily(payload(2, 10), ()).await.unwrap();
    assert_eq!(wal.append(payload(3, 10), ()).await.unwrap().lsn(), Some(lsn(3)));
    assert_eq!(wal.read(Lsn::FIRST).map(|r| r.unwrap().0.get()).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn a_reader_sees_what_becomes_durable_after_it_was_made() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    let mut follow = wal.follow();
    let mut reader = wal.read(Lsn::FIRST);
    assert!(reader.next().is_none());
    wal.append(payload(1, 10), ()).await.unwrap();
    follow.changed().await.unwrap();
    assert_eq!(*follow.borrow(), 1);
    assert_eq!(reader.next().unwrap().unwrap(), (lsn(1), payload(1, 10)));
    assert!(reader.next().is_none());
}

#[tokio::test]
async fn appends_after_the_end_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    let other = wal.clone();
    wal.close().await.unwrap();
    let refused = other.append(vec![], ()).await.unwrap_err();
    assert!(refused.to_string().contains("it was closed"), "{refused}");
}

#[tokio::test]
async fn a_second_opener_is_told_that_the_log_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let (_wal, _) = start(directory.path());
    let refused = unanimous_wal::open(directory.path(), Options::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }));
    let refused = unanimous_wal::verify::verify(directory.path()).unwrap_err();
    assert!(matches!(&refused, OpenError::Locked { directory: named } if named == directory.path()));
    assert!(refused.to_string().contains(directory.path().to_str().unwrap()));
}

#[tokio::test]
async fn a_lock_that_is_let_go_of_a_moment_later_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = start(directory.path());
    wal.close().await.unwrap();
    // As a child of a process that had the log open, before it runs its own program.
    let held = std::fs::File::open(directory.path().join("LOCK")).unwrap();
    held.lock().unwrap();
    let letting_go = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(150));
        drop(held);
    });
    let (wal, _) = start(directory.path());
    wal.close().await.unwrap();
    letting_go.join().unwrap();
}

#[test]
fn what_was_read_back_is_durable_without_a_number() {
    let directory = tempfile::tempdir().unwrap();
    let (readable, _) = read(unanimous_wal::open(directory.path(), Options::default()).unwrap()).unwrap();
    assert_eq!(readable.read_back("tell again").lsn(), None);
}
