//! A disk that fills up: new transactions are refused, what was begun ends, and room mends everything.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::time::Duration;

use http::Method;
use kit::{Answer, Gate, Kind, Node, Reply, SmallDisk, Stub};
use serde_json::{Value, json};

/// The disk of these tests.
const DISK: u64 = 256 * MIB;
const MIB: u64 = 1024 * 1024;

/// What was begun is held up at its commit by the gate.
struct Story {
    node: Node,
    disk: SmallDisk,
    ledger: Stub,
    gate: Gate,
    _accounts: Stub,
}

impl Story {
    async fn begin(kind: Kind) -> Option<Self> {
        let (accounts, ledger) = (Stub::start().await, Stub::start().await);
        let config = kit::two_branches(&accounts, &ledger);
        let mut node = Node::new(&config.replace("reply_within = \"2s\"", "reply_within = \"200ms\""));
        let disk = SmallDisk::mount(&node.data_dir(), kind, DISK)?;
        let gate = Gate::closed();
        ledger.always("/tx/commit", Answer::ok().behind(&gate));
        node.start().await;
        Some(Self { node, disk, ledger, gate, _accounts: accounts })
    }

    async fn ask(&self, key: &str) -> Reply {
        self.node.post_with("/transfers", &[("Idempotency-Key", key)], &json!({})).await
    }

    /// A transaction that is decided, and of which the ledger has not heard.
    async fn in_doubt(&self, key: &str) -> String {
        self.ask(key).await.expect(202).transaction().to_owned()
    }

    /// An eighth of the disk, and the floor is as high.
    fn reserve(&self) -> u64 {
        self.disk.size() / 8
    }

    fn ballast(&self) -> bool {
        self.node.data_dir().join("ballast").exists()
    }

    /// What a metric says.
    async fn reading(&self, name: &str) -> f64 {
        self.node.metric(name).await.parse().unwrap()
    }

    async fn is_nearly_full(&self) {
        let ready = self.node.admin("/readyz").await.expect(503);
        assert!(ready.text.contains("the disk is nearly full") && ready.text.contains("log.room_min"));
        assert!((self.reading("disk_nearly_full").await - 1.0).abs() < 0.1);
        let refused = self.ask("\"new\"").await.expect(503);
        assert_eq!(refused.json()["code"], "disk_nearly_full");
        assert_eq!((refused.header("retry-after"), refused.transaction()), ("5", ""), "nothing was begun");
    }

    /// Waits until the node has looked at the disk again.
    async fn looked_at(&self) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    async fn unready(&self) {
        kit::until("it is not ready", async || self.node.admin("/readyz").await.status == 503).await;
    }

    async fn ready(&self) {
        kit::until("it is ready again", async || self.node.admin("/readyz").await.status == 200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_nearly_full_ends_what_was_begun_and_begins_nothing_until_there_is_room() {
    fills_up(Kind::Tmpfs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_on_ext4() {
    fills_up(Kind::Ext4).await;
}

async fn fills_up(kind: Kind) {
    let Some(story) = Story::begin(kind).await else { return };
    let (first, second) = (story.in_doubt("\"1\"").await, story.in_doubt("\"2\"").await);
    assert!(story.ballast() && (story.reading("disk_nearly_full").await).abs() < 0.1);

    // Just above the floor nothing happens, and just below it nothing new is begun.
    story.disk.fill(story.reserve() + MIB);
    story.looked_at().await;
    story.node.admin("/readyz").await.expect(200);
    story.disk.fill(story.reserve() - MIB);
    story.unready().await;
    story.is_nearly_full().await;
    assert!(story.ballast(), "it is for later");
    assert_eq!(story.ask("\"1\"").await.expect(202).transaction(), first, "its key is known as ever");

    // Somebody else takes the rest. The reserve goes, and is free for nobody but what was begun.
    story.disk.fill(MIB);
    kit::until("the reserve is given back", async || {
        !story.ballast() && story.disk.free() >= story.reserve()
    })
    .await;
    story.looked_at().await;
    assert!(story.reading("disk_reserve_bytes").await.abs() < 0.1);
    assert!(story.reading("disk_free_bytes").await < 2e6);
    story.is_nearly_full().await;
    story.gate.open();
    story.node.settled().await;
    for id in [first, second] {
        assert_eq!(story.node.state(&id).await, "committed");
    }

    story.disk.clear();
    story.ready().await;
    kit::until("the reserve is there again", async || story.ballast()).await;
    story.ask("\"new\"").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_on_a_full_disk_and_ends_what_was_begun() {
    let Some(mut story) = Story::begin(Kind::Ext4).await else { return };
    let id = story.in_doubt("\"1\"").await;
    story.node.kill().await;
    story.disk.fill(0);
    assert!(story.ballast() && story.disk.free() < MIB);
    story.gate.open();
    story.node.spawn();
    let (client, url) = (kit::client(), story.node.admin_url("/v1/transactions"));
    kit::until("the log is read", async || {
        kit::send(&client, Method::GET, &url, &[], None).await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    story.node.settled().await;
    assert_eq!(story.node.state(&id).await, "committed");
    assert!(!story.ballast());
    assert!(!story.node.stderr().contains("trying again"), "sled was opened before there was room");
    story.is_nearly_full().await;
    story.disk.clear();
    story.ready().await;
    story.ask("\"new\"").await.expect(200);
    assert!(story.ledger.count("/tx/commit") >= 2);
    assert_eq!(story.node.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_floor_a_node_works_as_long_as_it_can() {
    let Some(mut story) = Story::begin(Kind::Ext4).await else { return };
    story.node.terminate().await;
    story.disk.fill(MIB);
    story.node.env("UNANIMOUS__LOG__ROOM_MIN", "0").start().await;
    story.gate.open();
    story.ask("\"new\"").await.expect(200);
    let told: Value = story.node.admin("/v1/transactions").await.expect(200).json();
    assert_eq!(told["transactions"].as_array().map(Vec::len), Some(1));
}
