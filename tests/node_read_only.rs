//! A real ext4 on which the kernel finds an error, and which nobody may write to from then on: nobody was told what is not so, the
//! node stops with 74, and a file system that was checked and mounted again is enough (G5).

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use futures_util::future::join_all;
use kit::{Asked, Kind, Node, SmallDisk, Stub};

const CLIENTS: usize = 8;

/// The disk fails after so many transactions: more than can be under way at once.
const ENOUGH: usize = 3 * CLIENTS;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_becomes_read_only_under_load_makes_nobody_a_liar() {
    let (accounts, ledger) = (Stub::start().await, Stub::start().await);
    let mut node = Node::new(&kit::two_branches(&accounts, &ledger));
    let Some(disk) = SmallDisk::mount(&node.data_dir(), Kind::Ext4, 256 << 20) else { return };
    node.start().await;
    let clients = join_all((0..CLIENTS).map(|client| kit::ask_until_one_fails(&node, client)));
    let fails = async {
        ledger.wait_for("/tx/commit", ENOUGH).await;
        if disk.fail() {
            std::future::pending::<()>().await;
        }
    };
    let asked = tokio::select! {
        asked = clients => asked,
        () = fails => return,
    };
    let asked: Vec<Asked> = asked.into_iter().flatten().collect();
    let failed = asked.iter().filter(|asked| asked.status() != 200).count();
    assert_eq!(failed, CLIENTS, "each of them was told: {asked:#?}");
    assert!(asked.len() >= ENOUGH, "nothing was done before: {asked:#?}");
    assert_eq!(node.wait().await.code(), Some(74), "{}", node.stderr());
    let said = node.stderr().len();
    node.spawn();
    assert_eq!(node.wait().await.code(), Some(74), "{}", node.stderr());
    // The error itself is one of I/O or the read-only file system, whichever the thread that writes meets first.
    assert!(node.stderr()[..said].contains("unanimous: the log failed: could not"), "{}", node.stderr());
    let again = &node.stderr()[said..];
    assert!(again.contains("(the file system is mounted read-only)"), "{again}");

    disk.repair();
    node.start().await;
    node.settled().await;
    for asked in &asked {
        asked.is_true(&node).await;
    }
    kit::calls_are_true(&node, &[&accounts, &ledger]).await;
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.stderr());
    let verified = node.cli(&["verify", "--data-dir", node.data_dir().to_str().unwrap()]).await;
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
}
