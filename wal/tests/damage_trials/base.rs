//! Logs with known content, each with an older copy of itself.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::Path;

use tempfile::TempDir;
use unanimous_wal::block::{self, BLOCK_MAX};
use unanimous_wal::{Options, Wal};

use crate::common::{at_home, copy_tree, in_memory, lsn, payload, start, try_read};

/// A log that was closed.
pub(crate) struct Base {
    pub(crate) name: &'static str,
    directory: TempDir,
    older: TempDir,
    /// What it holds.
    pub(crate) records: BTreeMap<u64, Vec<u8>>,
    /// What the older copy holds.
    pub(crate) old_records: BTreeMap<u64, Vec<u8>>,
    /// All that was ever acknowledged.
    written: HashSet<(u64, Vec<u8>)>,
    /// Every place in the data where a block lies of which records count.
    blocks: Vec<Seen>,
    data: Vec<u8>,
}

/// Place, length, first record, how many, and which part.
type Seen = (usize, usize, u64, u32, u16);

/// The logs.
pub(crate) fn bases() -> Vec<Base> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        vec![
            Base::make("small records", 3, 40, async |wal, epoch, n| one(wal, epoch, n, 100 + n * 7).await)
                .await,
            Base::make("long records", 2, 12, async |wal, epoch, n| {
                let len = if n % 4 == 0 { 160_000 } else { 2_000 };
                one(wal, epoch, n, len).await
            })
            .await,
            Base::make("many at once", 3, 8, many).await,
            Base::make("many segments", 2, 200, async |wal, epoch, n| one(wal, epoch, n, 45_000).await).await,
        ]
    })
}

type Written = Vec<(u64, Vec<u8>)>;

async fn one(wal: &Wal, epoch: u64, n: u64, len: u64) -> Written {
    let bytes = payload(epoch * 100_000 + n, usize::try_from(len).unwrap());
    let lsn = wal.append(bytes.clone(), ()).await.unwrap().lsn().unwrap();
    vec![(lsn.get(), bytes)]
}

/// Records that share a block.
async fn many(wal: &Wal, epoch: u64, n: u64) -> Written {
    let mut written = Written::new();
    let (mut lazy, mut payloads) = (Vec::new(), Vec::new());
    for k in 0..20 {
        let bytes = payload(epoch * 100_000 + n * 100 + k, usize::try_from(50 + k * 31).unwrap());
        lazy.push(wal.append_lazily(bytes.clone(), ()).await.unwrap().1);
        payloads.push(bytes);
    }
    written.extend(one(wal, epoch, n * 100 + 99, 80).await);
    for (synced, bytes) in lazy.into_iter().zip(payloads) {
        written.push((synced.await.unwrap().get(), bytes));
    }
    written
}

impl Base {
    /// Some starts with some commits each. What comes before the last start, and part of it, is retired as in life; the
    /// older copy is from before that.
    async fn make(
        name: &'static str,
        starts: u64,
        commits: u64,
        commit: impl AsyncFn(&Wal, u64, u64) -> Written,
    ) -> Self {
        let (directory, older) = (in_memory(), in_memory());
        let (mut records, mut written) = (BTreeMap::new(), HashSet::new());
        let mut old_records = BTreeMap::new();
        for epoch in 1..=starts {
            if epoch == starts {
                copy_tree(directory.path(), older.path());
                old_records.clone_from(&records);
            }
            let (wal, _) = start(directory.path());
            for n in 1..=commits {
                let done = commit(&wal, epoch, n).await;
                written.extend(done.iter().cloned());
                records.extend(done);
                if n == commits / 2 {
                    let below = wal.high().unwrap().get() / 3 + 1;
                    wal.retire(lsn(below)).await.unwrap();
                    records.retain(|at, _| *at >= wal.low().get());
                }
            }
            wal.close().await.unwrap();
        }
        for place in [directory.path(), older.path()] {
            // It is given up where the disk is full, and would only be copied again and again.
            fs::write(place.join("ballast"), []).unwrap();
        }
        let data = fs::read(directory.path().join("store/db")).unwrap();
        let blocks = blocks_of(&data, *records.keys().next().unwrap());
        let base = Self { name, directory, older, records, old_records, written, blocks, data };
        base.is_as_it_should_be();
        base
    }

    /// The trials stand on this: what is said to be in the log is in it, and found by its bytes alone.
    fn is_as_it_should_be(&self) {
        let copy = in_memory();
        self.copy_to(copy.path());
        assert_eq!(self.whole_records(copy.path()).len(), self.records.len(), "{}", self.name);
        let (_, found) = try_read(copy.path(), Options::default()).unwrap();
        assert!(
            found.into_iter().map(|(lsn, bytes)| (lsn.get(), bytes)).eq(self.records.clone()),
            "{}",
            self.name
        );
    }

    pub(crate) fn copy_to(&self, directory: &Path) {
        copy_tree(self.directory.path(), directory);
        at_home(directory);
    }

    pub(crate) fn older(&self) -> &Path {
        self.older.path()
    }

    /// Whether this record was ever acknowledged under this number.
    pub(crate) fn was_written(&self, lsn: u64, payload: &[u8]) -> bool {
        self.written.contains(&(lsn, payload.to_vec()))
    }

    /// The records that are in the data as they were: all their blocks are, or they are in what is left of one.
    pub(crate) fn whole_records(&self, directory: &Path) -> BTreeSet<u64> {
        let data = fs::read(directory.join("store/db")).unwrap_or_default();
        let mut parts: BTreeMap<(u64, u16), u32> = BTreeMap::new();
        for (at, len, first, count, part) in &self.blocks {
            if data.get(*at..at + len) == Some(&self.data[*at..at + len]) {
                parts.insert((*first, *part), *count);
            }
        }
        let is_whole = |lsn: u64| {
            let wanted: BTreeSet<u16> = self
                .blocks
                .iter()
                .filter(|(_, _, first, count, _)| *first <= lsn && lsn < first + u64::from(*count))
                .map(|(.., part)| *part)
                .collect();
            let held = |part: &u16| {
                parts
                    .range(..=(lsn, *part))
                    .rev()
                    .find(|((_, of), _)| of == part)
                    .is_some_and(|((first, _), count)| lsn < first + u64::from(*count))
            };
            !wanted.is_empty() && wanted.iter().all(held)
        };
        let fragments = self.whole_fragments(&data);
        self.records.keys().copied().filter(|lsn| is_whole(*lsn) || fragments.contains(lsn)).collect()
    }

    /// The records that are as they were in a block that is not, where its header and the beginnings of all its frames are, and the
    /// blocks before and behind it.
    fn whole_fragments(&self, data: &[u8]) -> BTreeSet<u64> {
        let is_whole = |at: usize, len: usize| data.get(at..at + len) == Some(&self.data[at..at + len]);
        let is_block_whole = |(at, len, ..): &Seen| is_whole(*at, *len);
        let mut whole = BTreeSet::new();
        for block in self.blocks.iter().filter(|block| !is_block_whole(block)) {
            let (at, len, first, count, _) = *block;
            let next = first + u64::from(count);
            let before = self.blocks.iter().find(|(_, _, from, count, _)| from + u64::from(*count) == first);
            let behind = self.blocks.iter().find(|(_, _, from, ..)| *from == next);
            let are_anchors = [before, behind].into_iter().all(|block| block.is_some_and(is_block_whole));
            let frames = frames_of(&self.data[at..at + len]);
            let are_heads = frames.iter().all(|(offset, _)| is_whole(at + offset, 10));
            let is_of_whole = frames.iter().all(|(offset, _)| self.data[at + offset + 5] == 1);
            if are_anchors
                && are_heads
                && is_of_whole
                && is_whole(at, 40)
                && frames.len() as u64 == u64::from(count)
            {
                let left = (first..).zip(frames).filter(|(_, (offset, len))| is_whole(at + offset, *len));
                whole.extend(left.map(|(lsn, _)| lsn));
            }
        }
        whole
    }
}

/// Offset and length of each frame in a block.
fn frames_of(block: &[u8]) -> Vec<(usize, usize)> {
    let (mut frames, mut at) = (Vec::new(), 40);
    while at < block.len() {
        let len = u32::from_le_bytes(block[at..at + 4].try_into().unwrap());
        frames.push((at, 10 + usize::try_from(len).unwrap()));
        at += 10 + usize::try_from(len).unwrap();
    }
    frames
}

/// Every whole block in the data that holds a record from `low` on: looked for by their first bytes, as plainly as can be.
fn blocks_of(data: &[u8], low: u64) -> Vec<Seen> {
    let mut blocks = Vec::new();
    for at in 0..data.len().saturating_sub(40) {
        if !data[at..].starts_with(b"UWAL") {
            continue;
        }
        let length = u32::from_le_bytes(data[at + 20..at + 24].try_into().unwrap());
        let len = 40 + usize::try_from(length).unwrap();
        if len > BLOCK_MAX {
            continue;
        }
        let Some(Ok(block)) = data.get(at..at + len).map(block::decode) else { continue };
        let header = block.header;
        if header.key.first.get() >= low {
            blocks.push((at, len, header.key.first.get(), header.count, header.key.part));
        }
    }
    blocks
}
