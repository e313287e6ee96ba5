//! Disks that fail, hang, are slow, or cannot be written: nobody was told what is not so, the node stops with 74, and a disk
//! that is well again is enough (G5).
//!
//! The power is cut each time too: what was never synced is gone before the next start.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "what a test could not do is said")]

mod kit;
mod sick_disk;

use std::sync::Arc;
use std::time::Duration;

use fuser::Errno;
use futures_util::future::join_all;
use kit::{Asked, Node, Stub};
use sick_disk::{Call, Illness, SickDisk};
use unanimous::clock::SystemClock;
use unanimous::journal::Journal;
use unanimous::journal::options::LogOptions;

/// Clients at once while the disk is sick.
const CLIENTS: usize = 4;

/// A node on a disk that works, and what its clients were told.
struct Story {
    // Dropped first: the directory of the node cannot be removed while something is mounted in it.
    disk: SickDisk,
    node: Node,
    participants: [Stub; 2],
    asked: Vec<Asked>,
}

impl Story {
    async fn begin() -> Option<Self> {
        let participants = [Stub::start().await, Stub::start().await];
        let branches = kit::two_branches(&participants[0], &participants[1]);
        let node = Node::with_section("drain = \"0s\"", &branches);
        let disk = SickDisk::mount(&node.data_dir())?;
        let mut story = Self { disk, node, participants, asked: Vec::new() };
        story.node.start().await;
        for number in 0..5 {
            story.ask(&format!("well-{number}")).await;
        }
        Some(story)
    }

    /// A request that is done.
    async fn ask(&mut self, key: &str) {
        let asked = Asked::ask(&self.node, key).await;
        assert_eq!(asked.status(), 200, "{asked:?}");
        self.asked.push(asked);
    }

    /// Clients ask until each of them is told that something is wrong.
    async fn ask_until_it_fails(&mut self) {
        let clients = (0..CLIENTS).map(|client| kit::ask_until_one_fails(&self.node, client));
        let asked: Vec<Asked> = join_all(clients).await.into_iter().flatten().collect();
        let failed = asked.iter().filter(|asked| asked.status() != 200).count();
        assert_eq!(failed, CLIENTS, "each of them was told: {asked:#?}");
        self.asked.extend(asked);
    }

    /// The node has ended, or does so now, and has said why.
    async fn stopped_with_74(&mut self, words: &str) {
        assert_eq!(self.node.wait().await.code(), Some(74), "{}", self.node.stderr());
        assert!(self.node.stderr().contains(words), "{words}: {}", self.node.stderr());
    }

    /// The disk is well, and holds what was synced: everything that anybody was told is so.
    async fn everything_is_true_on_a_well_disk(mut self) {
        self.disk.heal();
        self.disk.cut_power();
        self.node.start().await;
        self.node.settled().await;
        for asked in &self.asked {
            asked.is_true(&self.node).await;
        }
        let [accounts, ledger] = &self.participants;
        kit::calls_are_true(&self.node, &[accounts, ledger]).await;
        assert_eq!(self.node.terminate().await.code(), Some(0), "{}", self.node.stderr());
        let verified = self.node.cli(&["verify", "--data-dir", self.node.data_dir().to_str().unwrap()]).await;
        assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_fail() {
    let Some(mut story) = Story::begin().await else { return };
    story.disk.be(Illness::Writes(Errno::EIO));
    story.ask_until_it_fails().await;
    story.stopped_with_74("unanimous: the log failed: could not").await;
    story.node.spawn();
    story.stopped_with_74("Input/output error").await;
    story.everything_is_true_on_a_well_disk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn syncs_that_fail_for_ever() {
    let Some(mut story) = Story::begin().await else { return };
    story.disk.be(Illness::Syncs);
    story.ask_until_it_fails().await;
    story.stopped_with_74("unanimous: the log failed: could not sync the log: Input/output error").await;
    story.node.spawn();
    story.stopped_with_74("Input/output error").await;
    story.everything_is_true_on_a_well_disk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_once_and_takes_its_data_with_it() {
    let Some(mut story) = Story::begin().await else { return };
    story.disk.be(Illness::OneSync);
    story.ask_until_it_fails().await;
    story.stopped_with_74("Input/output error").await;
    story.everything_is_true_on_a_well_disk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_became_read_only() {
    let Some(mut story) = Story::begin().await else { return };
    story.disk.be(Illness::ReadOnly);
    story.ask_until_it_fails().await;
    story.stopped_with_74("(the file system is mounted read-only)").await;
    let said = story.node.stderr().len();
    story.node.spawn();
    assert_eq!(story.node.wait().await.code(), Some(74));
    assert!(story.node.stderr()[said..].contains("(the file system is mounted read-only)"));
    story.everything_is_true_on_a_well_disk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_the_disk_does_not_tell_of_leaves_the_reserve_for_the_next_start() {
    let Some(mut story) = Story::begin().await else { return };
    assert!(story.node.data_dir().join("ballast").exists());
    story.disk.be(Illness::Quota(story.disk.used()));
    story.ask_until_it_fails().await;
    story.stopped_with_74("(make room on the disk)").await;
    // sled needs room to open. It gets that of the reserve, and the node goes on.
    story.node.start().await;
    assert!(!story.node.data_dir().join("ballast").exists());
    story.node.settled().await;
    story.ask("in the room of the reserve").await;
    story.node.kill().await;
    story.everything_is_true_on_a_well_disk().await;
}

/// At once, because there is nothing to do meanwhile but to wait for the node's 5 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_answers_late_or_never() {
    tokio::join!(
        syncs_that_are_slow_are_waited_for(),
        syncs_that_take_over_five_seconds_are_failures(),
        calls_that_hang(Call::Sync),
        calls_that_hang(Call::Write),
        a_disk_that_hangs_while_a_node_is_stopped(),
    );
}

async fn syncs_that_are_slow_are_waited_for() {
    let Some(mut story) = Story::begin().await else { return };
    story.disk.be(Illness::SlowSyncs(Duration::from_millis(500)));
    let began = tokio::time::Instant::now();
    story.ask("slow").await;
    assert!(began.elapsed() >= Duration::from_millis(1500), "three records, and a sync for each");
    story.node.kill().await;
    story.everything_is_true_on_a_well_disk().await;
}

async fn syncs_that_take_over_five_seconds_are_failures() {
    let Some(mut story) = Story::begin().await else { return };
    story.disk.be(Illness::SlowSyncs(Duration::from_secs(6)));
    story.ask_until_it_fails().await;
    story.stopped_with_74("a call has not come back from the disk within 5 s").await;
    story.everything_is_true_on_a_well_disk().await;
}

/// A process cannot end while one of its threads is in the kernel for ever, so that the exit code is seen only once the
/// disk answers. Before that its last words are heard, and nobody is served any more.
async fn calls_that_hang(call: Call) {
    let Some(mut story) = Story::begin().await else { return };
    story.disk.be(Illness::Hangs(call));
    story.ask_until_it_fails().await;
    let words = "unanimous: the log failed: a call has not come back from the disk within 5 s";
    kit::until("the node says that it ends", async || story.node.stderr().contains(words)).await;
    assert!(story.disk.hangs());
    story.disk.heal();
    story.stopped_with_74(words).await;
    story.everything_is_true_on_a_well_disk().await;
}

async fn a_disk_that_hangs_while_a_node_is_stopped() {
    let Some(mut story) = Story::begin().await else { return };
    story.disk.be(Illness::Hangs(Call::Sync));
    story.node.signal("TERM").await;
    kit::until("the end hangs", async || story.disk.hangs()).await;
    let words = "a call has not come back from the disk within 5 s";
    kit::until("the node says that it ends", async || story.node.stderr().contains(words)).await;
    story.disk.heal();
    story.stopped_with_74(words).await;
    story.everything_is_true_on_a_well_disk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_while_the_log_is_opened() {
    let Some(mut story) = Story::begin().await else { return };
    story.node.kill().await;
    story.disk.be(Illness::Hangs(Call::Read));
    let options = LogOptions { stall_max: Duration::from_millis(300), ..LogOptions::default() };
    let opening = Journal::open(&story.node.data_dir(), &options, Arc::new(SystemClock), "test").await;
    let refused = opening.err().unwrap().to_string();
    assert!(refused.contains("has not answered for 0.3 s while the log in "), "{refused}");
    assert!(story.disk.hangs());
}
