//! What is rescued of a damaged log: every whole record under its own number, nothing else, and never in place.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what goes wrong in a helper ends the test that called it"
)]

mod common;

use std::path::Path;

use common::{Records, copy_tree, files_below, flip, lsn, payload, start, try_read};
use unanimous_wal::salvage::{self, Findings, Item, Rebuild};
use unanimous_wal::{Copied, Lsn, OpenError, Options, PAYLOAD_MAX};

/// What stands in the new log where a record is missing.
const NOTHING: &[u8] = b"missing";

/// Rescues what can be into another directory.
fn rescue(from: &Path, to: &Path) -> Result<Findings, OpenError> {
    let before = files_below(from);
    let salvage = salvage::look(from, Copied::Complete)?;
    let findings = salvage.findings().clone();
    let node = findings.marker.or(findings.witness.map(|witness| witness.node)).unwrap_or(1);
    let low = findings.witness.map(|witness| witness.low).or(findings.low).unwrap_or(Lsn::FIRST);
    let mut new = Rebuild::create(to, node, findings.epoch, low)?;
    salvage.each(|item| match item {
        Item::Record(lsn, payload) => {
            assert_eq!(new.next(), lsn, "no number is left out");
            Ok::<_, OpenError>(new.push(payload)?)
        }
        Item::Missing(first, last) => {
            (first.get()..=last.get()).try_for_each(|_| new.push(NOTHING)).map_err(OpenError::from)
        }
    })?;
    new.finish()?;
    assert!(files_below(from) == before, "nothing was changed");
    Ok(findings)
}

/// What the new log holds, when a node opens it.
fn rescued(from: &Path) -> (Findings, Records) {
    let to = tempfile::tempdir().unwrap();
    let findings = rescue(from, to.path()).unwrap();
    (findings, start(to.path()).1)
}

/// A log of several starts, with long records and with retired ones. Its records that count.
async fn a_log(directory: &Path) -> Records {
    let mut records = Records::new();
    for epoch in 1..=3_u64 {
        let (wal, _) = start(directory);
        for n in 1..=30 {
            let bytes = payload(epoch * 1000 + n, if n == 7 { 150_000 } else { 300 });
            let lsn = wal.append(bytes.clone(), ()).await.unwrap().lsn().unwrap();
            records.push((lsn, bytes));
        }
        if epoch == 2 {
            wal.retire(lsn(20)).await.unwrap();
            records.retain(|(at, _)| *at >= lsn(20));
        }
        wal.close().await.unwrap();
    }
    records
}

/// Flips a bit in every copy of these bytes.
fn damage(directory: &Path, pattern: &[u8]) -> usize {
    ["store/db", "ring"].iter().map(|file| flip(&directory.join(file), pattern)).sum()
}

#[tokio::test]
async fn a_sound_log_is_rescued_whole_and_goes_on_under_its_own_numbers() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let records = a_log(from.path()).await;
    let findings = rescue(from.path(), to.path()).unwrap();
    assert!(findings.is_whole() && !findings.is_ring_foreign, "{findings:?}");
    assert_eq!((findings.records, findings.epoch), (records.len() as u64, 3));
    let (wal, found) = start(to.path());
    assert!(found == records);
    assert_eq!((wal.epoch(), wal.node()), (4, findings.marker.unwrap()));
    assert_eq!(wal.append(payload(9, 9), ()).await.unwrap().lsn(), Some(lsn(91)));
    wal.close().await.unwrap();
    assert_eq!(start(to.path()).1.len(), records.len() + 1);
}

#[tokio::test]
async fn a_damaged_record_is_missing_and_every_other_one_is_rescued() {
    let from = tempfile::tempdir().unwrap();
    let mut records = a_log(from.path()).await;
    assert!(damage(from.path(), b"payload-00002022-") > 0);
    let at = records.iter().position(|(_, bytes)| bytes.starts_with(b"payload-00002022-")).unwrap();
    records[at].1 = NOTHING.to_vec();
    let (findings, found) = rescued(from.path());
    assert!(found == records);
    assert_eq!(findings.missing.len(), 1);
    let missing = &findings.missing[0];
    assert_eq!((missing.first, missing.last), (records[at].0, records[at].0));
    let remains = &missing.remains[0];
    assert_eq!(
        (remains.file.to_str(), remains.records),
        (Some("store/db"), Some((missing.first, missing.last)))
    );
    assert!(!findings.is_whole() && findings.is_end_known());
}

#[tokio::test]
async fn a_damaged_record_costs_none_of_those_that_were_committed_with_it() {
    let from = tempfile::tempdir().unwrap();
    let (wal, _) = start(from.path());
    let mut records = Records::new();
    for round in 0..4 {
        // Nobody waits for the first seven, so that they go with the eighth.
        let mut lazy = Vec::new();
        for n in 1..8 {
            lazy.push(wal.append_lazily(payload(round * 8 + n, 200), ()).await.unwrap().1);
        }
        let last = wal.append(payload(round * 8 + 8, 200), ()).await.unwrap().lsn().unwrap();
        for (n, synced) in (1..).zip(lazy) {
            records.push((synced.await.unwrap(), payload(round * 8 + n, 200)));
        }
        records.push((last, payload(round * 8 + 8, 200)));
    }
    wal.close().await.unwrap();
    let lost = records.iter_mut().find(|(_, bytes)| bytes.starts_with(b"payload-00000013-")).unwrap();
    assert!(damage(from.path(), b"payload-00000013-") > 1, "in both copies");
    lost.1 = NOTHING.to_vec();
    let gap = (lost.0, lost.0);
    let (findings, found) = rescued(from.path());
    assert!(found == records);
    assert_eq!(findings.missing.iter().map(|gap| (gap.first, gap.last)).collect::<Vec<_>>(), [gap]);
    // Of them all, what was committed with it was in one block.
    let of_it = findings.missing[0].remains[0].records.unwrap();
    assert!(of_it.0 < of_it.1, "{of_it:?}");
}

#[tokio::test]
async fn without_a_witness_the_beginning_is_known_only_where_the_first_record_of_all_is_there() {
    let from = tempfile::tempdir().unwrap();
    let (wal, _) = start(from.path());
    for n in 1..=3 {
        wal.append(payload(n, 100), ()).await.unwrap();
    }
    wal.close().await.unwrap();
    assert!(
        salvage::look(from.path(), Copied::Complete).unwrap().findings().is_beginning_known(),
        "the witness knows it"
    );
    std::fs::remove_file(from.path().join("witness")).unwrap();
    assert!(salvage::look(from.path(), Copied::Complete).unwrap().findings().is_beginning_known());
    for file in ["store/db", "ring"] {
        let mut bytes = std::fs::read(from.path().join(file)).unwrap();
        let pattern = b"payload-00000001-";
        let places: Vec<usize> =
            (0..bytes.len() - pattern.len()).filter(|at| bytes[*at..].starts_with(pattern)).collect();
        // Nothing is left of its block, header and all.
        for at in places {
            bytes[at - 50..at + 17].fill(0);
        }
        std::fs::write(from.path().join(file), bytes).unwrap();
    }
    let findings = salvage::look(from.path(), Copied::Complete).unwrap().findings().clone();
    assert_eq!((findings.low, findings.is_beginning_known()), (Some(lsn(2)), false));
}

#[tokio::test]
async fn a_long_record_of_which_a_part_is_damaged_is_missing_as_a_whole() {
    let from = tempfile::tempdir().unwrap();
    let (wal, _) = start(from.path());
    wal.append(payload(1, 10), ()).await.unwrap();
    let mut long = payload(2, PAYLOAD_MAX);
    long[1_000_000..1_000_016].copy_from_slice(b"in one part only");
    wal.append(long, ()).await.unwrap();
    wal.append(payload(3, 10), ()).await.unwrap();
    wal.close().await.unwrap();
    assert!(damage(from.path(), b"in one part only") > 0);
    let (findings, found) = rescued(from.path());
    assert_eq!(found, [(lsn(1), payload(1, 10)), (lsn(2), NOTHING.to_vec()), (lsn(3), payload(3, 10))]);
    assert_eq!((findings.missing[0].first, findings.missing[0].last), (lsn(2), lsn(2)));
}

#[tokio::test]
async fn either_copy_of_a_record_is_enough() {
    let from = tempfile::tempdir().unwrap();
    let records = a_log(from.path()).await;
    assert!(flip(&from.path().join("store/db"), b"payload-00003022-") > 0);
    assert!(flip(&from.path().join("ring"), b"payload-00003023-") > 0);
    let (findings, found) = rescued(from.path());
    assert!(findings.is_whole() && found == records, "{findings:?}");
    std::fs::remove_file(from.path().join("ring")).unwrap();
    assert_eq!(rescued(from.path()).0.missing.len(), 1);
}

#[tokio::test]
async fn nothing_of_the_engine_is_needed() {
    let from = tempfile::tempdir().unwrap();
    let records = a_log(from.path()).await;
    std::fs::remove_file(from.path().join("ring")).unwrap();
    // The header of its first segment, its settings, its snapshots.
    let data = from.path().join("store/db");
    let mut bytes = std::fs::read(&data).unwrap();
    bytes[..20].fill(0xa5);
    std::fs::write(&data, bytes).unwrap();
    for entry in std::fs::read_dir(from.path().join("store")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.ends_with("db") {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert!(try_read(from.path(), Options::default()).is_err(), "it cannot be opened");
    let (findings, found) = rescued(from.path());
    assert!(findings.is_whole() && found == records, "{findings:?}");
}

#[tokio::test]
async fn a_lost_end_is_known_by_the_witness_and_unknown_without_it() {
    let from = tempfile::tempdir().unwrap();
    let mut records = a_log(from.path()).await;
    assert!(damage(from.path(), b"payload-00003030-") > 0);
    records.last_mut().unwrap().1 = NOTHING.to_vec();
    let (findings, found) = rescued(from.path());
    assert!(found == records && !findings.is_end_known());
    assert_eq!((findings.missing[0].first, findings.missing[0].last), (lsn(90), lsn(90)));
    std::fs::remove_file(from.path().join("witness")).unwrap();
    let (findings, found) = rescued(from.path());
    assert!(!findings.is_end_known());
    // Without it nobody knows either what was retired, and some of that is still in the files.
    let kept: Records = found.into_iter().filter(|(at, _)| *at >= lsn(20)).collect();
    assert!(kept == records[..records.len() - 1]);
}

#[tokio::test]
async fn what_was_given_up_and_written_over_is_left_out_and_said() {
    let from = tempfile::tempdir().unwrap();
    let (wal, _) = start(from.path());
    for n in 1..=20 {
        wal.append(payload(1000 + n, 300), ()).await.unwrap();
    }
    wal.close().await.unwrap();
    assert!(damage(from.path(), b"payload-00001015-") > 0);
    let accept = Options { accept_damage: true, ..Options::default() };
    let (readable, mut records) = try_read(from.path(), accept).unwrap();
    assert_eq!(records.len(), 14);
    let wal = readable.start().unwrap();
    for n in 1..=4 {
        let at = wal.append(payload(2000 + n, 300), ()).await.unwrap().lsn().unwrap();
        records.push((at, payload(2000 + n, 300)));
    }
    wal.close().await.unwrap();
    let (findings, found) = rescued(from.path());
    assert!(found == records, "what the second start wrote counts");
    assert!(findings.contradictions.is_empty() && findings.missing.is_empty(), "{findings:?}");
    let left_out: Vec<_> = findings.superseded.iter().filter_map(|spot| spot.records).collect();
    assert_eq!(left_out, [(lsn(19), lsn(19)), (lsn(20), lsn(20))], "which the ring has still");
}

#[tokio::test]
async fn a_witness_from_an_older_copy_does_not_know_the_end() {
    let from = tempfile::tempdir().unwrap();
    a_log(from.path()).await;
    let older = std::fs::read(from.path().join("witness")).unwrap();
    let (wal, _) = start(from.path());
    wal.append(payload(4001, 300), ()).await.unwrap();
    wal.append(payload(4002, 300), ()).await.unwrap();
    wal.close().await.unwrap();
    std::fs::write(from.path().join("witness"), older).unwrap();
    assert!(damage(from.path(), b"payload-00004002-") > 0);
    let (findings, _) = rescued(from.path());
    assert_eq!(findings.high, Some(lsn(91)), "more than it knows of");
    assert!(!findings.is_end_known() && !findings.is_whole(), "{findings:?}");
}

#[tokio::test]
async fn how_often_the_node_was_started_is_known_without_the_witness() {
    let from = tempfile::tempdir().unwrap();
    a_log(from.path()).await;
    for _ in 0..4 {
        start(from.path()).0.close().await.unwrap();
    }
    std::fs::remove_file(from.path().join("witness")).unwrap();
    assert_eq!(salvage::look(from.path(), Copied::Complete).unwrap().findings().epoch, 7, "start-7 says so");
    let copied = tempfile::tempdir().unwrap();
    copy_tree(from.path(), copied.path());
    let look = |copied_as| salvage::look(copied.path(), copied_as).unwrap().findings().clone();
    assert_eq!((look(Copied::Complete).epoch, look(Copied::Complete).moved), (7, None));
    let (older, moved) = (look(Copied::Outdated), look(Copied::Refuse).moved);
    assert!(older.epoch > 1_000_000 && !older.is_end_known() && moved.is_some(), "{older:?}");
}

#[tokio::test]
async fn a_witness_of_another_log_does_not_say_where_this_one_ends() {
    let (from, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let records = a_log(from.path()).await;
    // It was started as often, and holds less.
    for n in 1..=3 {
        let (wal, _) = start(other.path());
        wal.append(payload(n, 10), ()).await.unwrap();
        wal.close().await.unwrap();
    }
    std::fs::copy(other.path().join("witness"), from.path().join("witness")).unwrap();
    let (findings, found) = rescued(from.path());
    // Those that were retired are there as well, because nobody knows that they were.
    assert!(found.ends_with(&records) && !findings.is_end_known(), "{findings:?}");
}

#[tokio::test]
async fn a_copy_of_a_rescued_log_is_known_for_one_before_its_first_start() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    a_log(from.path()).await;
    rescue(from.path(), to.path()).unwrap();
    let copied = tempfile::tempdir().unwrap();
    copy_tree(to.path(), copied.path());
    let refused = try_read(copied.path(), Options::default()).unwrap_err();
    assert!(refused.contains("is a copy"), "{refused}");
    assert_eq!(salvage::look(to.path(), Copied::Refuse).unwrap().findings().moved, None);
    start(to.path());
}

#[tokio::test]
async fn a_ring_of_another_log_speaks_against_nothing() {
    let (from, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let records = a_log(from.path()).await;
    let (wal, _) = start(other.path());
    for n in 1..=10 {
        wal.append(payload(9000 + n, 300), ()).await.unwrap();
    }
    wal.close().await.unwrap();
    std::fs::copy(other.path().join("ring"), from.path().join("ring")).unwrap();
    let (findings, found) = rescued(from.path());
    assert!(findings.is_ring_foreign && findings.is_whole() && found == records, "{findings:?}");
}

/// The last block before the end of the file goes on at its beginning.
#[tokio::test]
async fn a_block_that_goes_round_the_end_of_the_ring_is_whole() {
    let from = tempfile::tempdir().unwrap();
    let (wal, _) = start(from.path());
    let mut records = Records::new();
    for n in 1..=130 {
        let bytes = payload(n, 56_000);
        let at = wal.append(bytes.clone(), ()).await.unwrap().lsn().unwrap();
        records.push((at, bytes));
    }
    wal.close().await.unwrap();
    std::fs::remove_file(from.path().join("store/db")).unwrap();
    let (findings, found) = rescued(from.path());
    assert_eq!((findings.missing.len(), findings.high), (1, Some(lsn(130))), "{:?}", findings.missing);
    let left = found.iter().filter(|(_, bytes)| bytes != NOTHING).count();
    assert!(left > 60 && found.ends_with(&records[records.len() - left..]), "{left}");
}

#[tokio::test]
async fn marker_and_witness_may_both_be_gone() {
    let from = tempfile::tempdir().unwrap();
    let records = a_log(from.path()).await;
    for name in ["INIT", "witness", "LOCK"] {
        std::fs::remove_file(from.path().join(name)).unwrap();
    }
    let (findings, found) = rescued(from.path());
    assert_eq!((findings.marker, findings.witness, findings.epoch), (None, None, 3));
    assert!(found.ends_with(&records) && !findings.is_whole());
}

#[tokio::test]
async fn a_node_that_runs_is_left_alone_also_where_its_lock_is_gone() {
    let from = tempfile::tempdir().unwrap();
    let (wal, _) = start(from.path());
    assert!(matches!(salvage::look(from.path(), Copied::Complete), Err(OpenError::Locked { .. })));
    std::fs::remove_file(from.path().join("LOCK")).unwrap();
    assert!(matches!(salvage::look(from.path(), Copied::Complete), Err(OpenError::Locked { .. })));
    wal.close().await.unwrap();
    let salvage = salvage::look(from.path(), Copied::Complete).unwrap();
    assert!(salvage.findings().is_whole());
    let other = tempfile::tempdir().unwrap();
    start(other.path()).0.close().await.unwrap();
    let salvage = salvage::look(other.path(), Copied::Complete).unwrap();
    let refused = unanimous_wal::open(other.path(), Options::default());
    assert!(matches!(refused, Err(OpenError::Locked { .. })), "and no node begins meanwhile");
    drop(salvage);
    assert!(matches!(
        salvage::look(&other.path().join("nowhere"), Copied::Complete),
        Err(OpenError::Absent { .. })
    ));
}

#[tokio::test]
async fn a_new_log_is_made_only_where_nothing_is_and_counts_only_when_it_is_whole() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    a_log(from.path()).await;
    std::fs::write(to.path().join("thesis.txt"), b"years of work").unwrap();
    let refused = rescue(from.path(), to.path()).unwrap_err();
    assert!(
        matches!(&refused, OpenError::NotEmpty { stranger, .. } if stranger == "thesis.txt"),
        "{refused}"
    );
    assert_eq!(files_below(to.path()).len(), 1);
    let half = to.path().join("half");
    let mut new = Rebuild::create(&half, 7, 1, lsn(5)).unwrap();
    (0..200).try_for_each(|n| new.push(&payload(n, 10_000))).unwrap();
    drop(new);
    for half in [&half, &to.path().join("hardly begun")] {
        if !half.exists() {
            // Nothing of it is on the disk yet, and it is no empty directory for a new log.
            drop(Rebuild::create(half, 7, 1, lsn(5)).unwrap());
        }
        for options in [Options::default(), Options { accept_damage: true, ..Options::default() }] {
            let refused = try_read(half, options).unwrap_err();
            assert!(refused.contains("was interrupted"), "{refused}");
        }
        let refused = rescue(from.path(), half).unwrap_err();
        assert!(matches!(refused, OpenError::Unfinished { .. }), "{refused}");
        assert!(matches!(unanimous_wal::verify::verify(half), Err(OpenError::Unfinished { .. })));
    }
}

#[tokio::test]
async fn a_newer_block_is_no_damage_and_nothing_is_made_of_the_log() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copy_tree(from.path(), to.path());
    let mut block = vec![0; 60];
    block[..4].copy_from_slice(b"UWAL");
    block[4] = 2;
    block[20] = 20;
    let sum = crc32fast::hash(&[&block[..36], &block[40..]].concat());
    block[36..40].copy_from_slice(&sum.to_le_bytes());
    std::fs::create_dir(from.path().join("store")).unwrap();
    std::fs::write(from.path().join("store/db"), block).unwrap();
    assert!(matches!(salvage::look(from.path(), Copied::Complete), Err(OpenError::NewerVersion(_))));
}

/// A block of the log with other fields in its header, and checksums that are right: a body that somebody sent can hold it.
fn sent(directory: &Path, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let data = std::fs::read(directory.join("store/db")).unwrap();
    let at = data.windows(4).position(|bytes| bytes == b"UWAL").unwrap();
    let filled = u32::from_le_bytes(data[at + 20..at + 24].try_into().unwrap());
    let mut block = data[at..at + 40 + filled as usize].to_vec();
    change(&mut block);
    let sum = crc32fast::hash(&[&block[..36], &block[40..]].concat());
    block[36..40].copy_from_slice(&sum.to_le_bytes());
    block
}

#[tokio::test]
async fn what_a_client_can_send_to_be_in_a_record_stops_no_rescue() {
    let from = tempfile::tempdir().unwrap();
    let records = a_log(from.path()).await;
    let number = |block: &mut [u8], at: usize, number: u64| {
        block[at..at + 8].copy_from_slice(&number.to_le_bytes());
    };
    let bodies = [
        sent(from.path(), |block| block[4] = 2),
        // Every number before it would be missing.
        sent(from.path(), |block| {
            number(block, 8, 1_000_000_000_000_000_000);
            number(block, 24, 3);
        }),
        // A start of which the witness does not know.
        sent(from.path(), |block| {
            number(block, 8, 95);
            number(block, 24, 4);
        }),
    ];
    // As what is left of a block that was written over in part.
    std::fs::write(from.path().join("store/left"), bodies.concat()).unwrap();
    let (findings, found) = rescued(from.path());
    assert!(found == records);
    assert_eq!((findings.newer.len(), findings.impossible.len()), (1, 2), "{findings:?}");
    assert!(findings.is_end_known() && findings.missing.is_empty(), "{findings:?}");
}
