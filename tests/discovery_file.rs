//! A watched file as a source, swapped in the ways in which people swap files.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod discovery_support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use discovery_support::{known, status};
use tempfile::TempDir;
use unanimous::discovery::{Pace, Source, Sources, Spec};

/// Far below the ten seconds after which the file is looked at without an event.
const PATIENCE: Duration = Duration::from_secs(5);

fn follow(path: &Path) -> Sources {
    discovery_support::follow(Source::File(path.to_owned()), Duration::from_millis(300))
}

async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, asking).await.is_ok(), "waited in vain for this: {what}");
}

async fn until_known(sources: &Sources, expected: &[&str]) {
    until(&format!("{expected:?}"), async || known(sources) == expected).await;
}

fn listing(known: &str) -> String {
    format!("[[instances]]\nurl = \"{}\"\n", url(known))
}

fn url(known: &str) -> &str {
    known.strip_suffix(" 1").unwrap()
}

const ONE: &str = "http://10.0.0.1:9001 1";
const TWO: &str = "http://10.0.0.2:9001 1";

async fn watched() -> (TempDir, std::path::PathBuf, Sources) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("accounts.toml");
    fs::write(&path, listing(ONE)).unwrap();
    let sources = follow(&path);
    until_known(&sources, &[ONE]).await;
    (directory, path, sources)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_over_is_read_again() {
    let (_directory, path, sources) = watched().await;
    fs::write(&path, listing(TWO)).unwrap();
    until_known(&sources, &[TWO]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_by_a_rename_is_read_again() {
    let (directory, path, sources) = watched().await;
    for endpoint in [TWO, ONE, TWO] {
        let new = directory.path().join(".accounts.toml.new");
        fs::write(&new, listing(endpoint)).unwrap();
        fs::rename(&new, &path).unwrap();
        until_known(&sources, &[endpoint]).await;
    }
}

/// A mounted `ConfigMap`: the file is a link to `..data/accounts.toml`, and `..data` a link that is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_that_is_swapped_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let publish = |version: &str, endpoint: &str| {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("accounts.toml"), listing(endpoint)).unwrap();
        symlink(version, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    publish("..2026_11_23", ONE);
    symlink("..data/accounts.toml", at("accounts.toml")).unwrap();
    let sources = follow(&at("accounts.toml"));
    until_known(&sources, &[ONE]).await;
    publish("..2026_11_24", TWO);
    fs::remove_dir_all(at("..2026_11_23")).unwrap();
    until_known(&sources, &[TWO]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_damaged_half_written_or_gone_changes_nothing() {
    let (_directory, path, sources) = watched().await;
    let long = " ".repeat(8 * 1024 * 1024 + 1);
    for text in ["", "[[instances]]\nurl = \"http://10.0", "instances = 7", &long] {
        let failures = status(&sources).failures;
        fs::write(&path, text).unwrap();
        until("a failure", async || status(&sources).failures > failures).await;
        assert_eq!(known(&sources), [ONE]);
    }
    fs::remove_file(&path).unwrap();
    let failures = status(&sources).failures;
    until("a failure", async || status(&sources).failures > failures + 1).await;
    assert_eq!((known(&sources), status(&sources).is_up), (vec![ONE.to_owned()], false));
    fs::write(&path, listing(TWO)).unwrap();
    until_known(&sources, &[TWO]).await;
    assert!(status(&sources).is_up);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_comes_later_and_is_made_anew_is_watched() {
    let directory = tempfile::tempdir().unwrap();
    let (inner, path) = (directory.path().join("inner"), directory.path().join("inner/accounts.json"));
    let sources = follow(&path);
    until("a failure", async || status(&sources).failures > 0).await;
    assert_eq!(sources.missing().len(), 1);
    for endpoint in [ONE, TWO] {
        fs::create_dir(&inner).unwrap();
        fs::write(&path, format!("[{{\"url\":\"{}\"}}]", url(endpoint))).unwrap();
        until_known(&sources, &[endpoint]).await;
        let failures = status(&sources).failures;
        fs::remove_dir_all(&inner).unwrap();
        until("a failure", async || status(&sources).failures > failures).await;
    }
    assert!(sources.missing().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_not_there_is_found_soon_although_a_registry_would_be_left_alone_for_longer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("accounts.toml");
    let retry = Pace { least: 6 * PATIENCE, most: 6 * PATIENCE };
    let spec = Spec { retry, ..Spec::new(Source::File(path.clone())) };
    let sources = Sources::new([("accounts".to_owned(), spec)], None);
    until("a failure", async || status(&sources).failures > 0).await;
    fs::write(&path, listing(ONE)).unwrap();
    until_known(&sources, &[ONE]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_empty_counts_when_it_still_is_a_while_later() {
    let (_directory, path, sources) = watched().await;
    fs::write(&path, "instances = []").unwrap();
    let emptied = tokio::time::Instant::now();
    until_known(&sources, &[]).await;
    assert!(emptied.elapsed() >= Duration::from_millis(300));
}
