//! A file that somebody else writes: who waits here is told when it says something new.
//!
//! What counts is the text, not the event. The directory is watched and not the file, because a new version mostly comes by a
//! rename: an editor's, or the swap of the link `..data` by which Kubernetes changes a mounted `ConfigMap`. A file that is
//! just being written is left alone until it has been the same for a while. Where the system tells of no changes (some
//! network file systems do not), the file is read now and then instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// For so long a file has to say the same before it is believed: half a file is often a good one too.
const SETTLE: Duration = Duration::from_millis(250);

/// How often the file is read although nobody told of a change.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// More is not read: a file that people write is smaller.
const BYTES_MAX: u64 = 16 << 20;

/// One file, and what it said when it was last believed.
pub struct Watched {
    path: PathBuf,
    known: Option<Vec<u8>>,
    events: watch::Receiver<()>,
    /// Stops watching when it goes; `None` where the system cannot watch.
    _watcher: Option<RecommendedWatcher>,
}

impl Watched {
    /// Watches the file at `path`, beginning with what it says now. Not to be able to watch is no error: it is looked at
    /// every ten seconds in any case.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let (told, events) = watch::channel(());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the file is an event too, and one that we cause ourselves.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                told.send_replace(());
            }
        });
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(directory_of(path), RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(
                    path = %path.display(), %error,
                    "changes of this file cannot be watched; it is looked at every {LOOK_EVERY:?}"
                );
            })
            .ok();
        Self { path: path.to_owned(), known: read(path), events, _watcher: watcher }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the file says something new and has done so for a while. A file that is not there says nothing new.
    /// Nothing is lost where the wait is given up.
    pub async fn changed(&mut self) {
        loop {
            match timeout(LOOK_EVERY, self.events.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                // There is no watcher that could tell.
                Ok(Err(_)) => sleep(LOOK_EVERY).await,
            }
            if let Some(text) = self.settled().await {
                self.known = Some(text);
                return;
            }
        }
    }

    /// The new text, once two looks see the same; `None` where it is the known one.
    async fn settled(&self) -> Option<Vec<u8>> {
        let mut text = self.look().await;
        loop {
            if text.is_none() || text == self.known {
                return None;
            }
            sleep(SETTLE).await;
            let again = self.look().await;
            if again == text {
                return text;
            }
            text = again;
        }
    }

    /// A disk that hangs must not hold up those who run beside us.
    async fn look(&self) -> Option<Vec<u8>> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || read(&path)).await.expect("reading a file does not panic")
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let found = fs::metadata(path).ok()?;
    // Whoever opens a pipe waits for somebody who writes.
    if found.is_file() && found.len() <= BYTES_MAX { fs::read(path).ok() } else { None }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    async fn is_told(watched: &mut Watched) -> bool {
        timeout(Duration::from_secs(5), watched.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn a_file_that_is_written_again_with_the_same_text_says_nothing_new() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "one").unwrap();
        let mut watched = Watched::new(&path);
        fs::write(&path, "one").unwrap();
        assert!(timeout(SETTLE * 2, watched.changed()).await.is_err());
        fs::write(&path, "two").unwrap();
        assert!(is_told(&mut watched).await);
        assert!(timeout(SETTLE * 2, watched.changed()).await.is_err(), "it is told once");
    }

    #[tokio::test]
    async fn the_swap_of_a_config_map_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for (version, text) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(root.join(version)).unwrap();
            fs::write(root.join(version).join("f"), text).unwrap();
        }
        symlink("..1", root.join("..data")).unwrap();
        symlink("..data/f", root.join("f")).unwrap();
        let mut watched = Watched::new(&root.join("f"));
        symlink("..2", root.join("..tmp")).unwrap();
        fs::rename(root.join("..tmp"), root.join("..data")).unwrap();
        assert!(is_told(&mut watched).await);
        assert_eq!(watched.known.as_deref(), Some(&b"two"[..]));
    }

    #[tokio::test]
    async fn a_file_that_is_gone_says_nothing_new_until_it_is_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "one").unwrap();
        let mut watched = Watched::new(&path);
        fs::remove_file(&path).unwrap();
        assert!(timeout(SETTLE * 2, watched.changed()).await.is_err());
        fs::write(&path, "two").unwrap();
        assert!(is_told(&mut watched).await);
    }
}
