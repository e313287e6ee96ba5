//! The bank's durable state: a file of JSON lines, synced before any answer.
//!
//! Many calls share one sync: while the disk is busy with some lines, those that come are gathered, and the next
//! sync takes them all.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::book::{Book, Entry};

/// Why a bank has no book to go on with.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("the bank's journal {path} cannot be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line that is not the last, torn one cannot be understood.
    #[error("line {line} of the bank's journal {path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// A sync failed; what the disk holds is not known until the bank is started again.
    #[error("the bank's journal could not be written and is closed")]
    Closed,
}

/// The file, open for more lines.
#[derive(Debug)]
pub(super) struct Journal {
    gathered: Arc<Gathered>,
    durable: watch::Receiver<u64>,
}

#[derive(Debug, Default)]
struct Gathered {
    lines: Mutex<Lines>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    /// Not yet handed to the disk.
    bytes: Vec<u8>,
    /// How many lines there were since the start.
    count: u64,
}

/// The first line of every journal.
#[derive(Debug, Serialize, Deserialize)]
struct Opening {
    bank: String,
    accounts: usize,
    balance: i64,
}

impl Journal {
    /// Reads the book from `directory`, or begins one with so many accounts of such a balance.
    pub(super) fn open(
        directory: &Path,
        bank: &str,
        accounts: usize,
        balance: i64,
    ) -> Result<(Book, Self), JournalError> {
        let path = directory.join("journal.jsonl");
        let failed = |source| JournalError::Io { path: path.clone(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let (mut file, text) = read_whole_lines(&path).map_err(failed)?;
        if text.is_empty() {
            begin(&mut file, directory, &Opening { bank: bank.to_owned(), accounts, balance })
                .map_err(failed)?;
            return Ok((Book::new(accounts, balance), Self::over(file)));
        }
        let book = replay(&text).map_err(|line| JournalError::Damaged { path: path.clone(), line })?;
        Ok((book, Self::over(file)))
    }

    /// Gathers a line for the next sync; the number it gives is for [`Journal::synced`].
    pub(super) fn append(&self, entry: Entry) -> u64 {
        let mut lines = self.gathered.lock();
        lines.bytes.extend(line(&entry));
        lines.count += 1;
        self.gathered.more.notify_one();
        lines.count
    }

    /// The number of the newest line: an answer that rests on earlier lines must wait for them too.
    pub(super) fn newest(&self) -> u64 {
        self.gathered.lock().count
    }

    /// Waits until line `number` and all before it are on stable storage.
    pub(super) async fn synced(&self, number: u64) -> Result<(), JournalError> {
        let mut durable = self.durable.clone();
        let reached = durable.wait_for(|durable| *durable >= number).await;
        reached.map(|_| ()).map_err(|_| JournalError::Closed)
    }

    /// Returns when a sync has failed, and no more can ever be synced.
    pub(super) fn failed(&self) -> impl Future<Output = JournalError> + use<> {
        let mut durable = self.durable.clone();
        async move {
            while durable.changed().await.is_ok() {}
            JournalError::Closed
        }
    }

    fn over(file: File) -> Self {
        let gathered = Arc::new(Gathered::default());
        let (report, durable) = watch::channel(0);
        let source = Arc::clone(&gathered);
        // Ends at the first error, and with it `report`: from then on nothing is ever taken for durable.
        std::thread::spawn(move || source.write_to(file, &report));
        Self { gathered, durable }
    }
}

impl Gathered {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all that is waiting, writes it, syncs once, and says so; over and over.
    fn write_to(&self, mut file: File, report: &watch::Sender<u64>) -> io::Result<()> {
        loop {
            let (bytes, count) = self.take();
            file.write_all(&bytes)?;
            file.sync_data()?;
            report.send_replace(count);
        }
    }

    fn take(&self) -> (Vec<u8>, u64) {
        let lines = self.lock();
        let mut lines = self
            .more
            .wait_while(lines, |lines| lines.bytes.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut lines.bytes), lines.count)
    }
}

/// Opens the file and cuts a last line that a crash has torn: it was never answered for.
fn read_whole_lines(path: &Path) -> io::Result<(File, String)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    bytes.truncate(whole);
    file.set_len(bytes.len() as u64)?;
    file.sync_all()?;
    Ok((file, String::from_utf8(bytes).map_err(io::Error::other)?))
}

/// Writes the first line, and makes the name of the file durable with it.
fn begin(file: &mut File, directory: &Path, opening: &Opening) -> io::Result<()> {
    file.write_all(&line(opening))?;
    file.sync_all()?;
    File::open(directory)?.sync_all()
}

/// Applies every line; the number of the first one that cannot be understood otherwise.
fn replay(text: &str) -> Result<Book, usize> {
    let mut lines = text.lines().zip(1_usize..);
    let (first, number) = lines.next().ok_or(1_usize)?;
    let opening: Opening = serde_json::from_str(first).map_err(|_| number)?;
    let mut book = Book::new(opening.accounts, opening.balance);
    for (line, number) in lines {
        let entry = serde_json::from_str(line).map_err(|_| number)?;
        book.apply(entry).ok_or(number)?;
    }
    Ok(book)
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("names, numbers and words are always JSON");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::book::{BranchKey, Deed, Posting};
    use super::*;

    const OF: BranchKey = BranchKey { transaction: Uuid::from_u128(7), branch: 0 };
    const HELD: Entry = Entry { of: OF, did: Deed::Held(Posting { account: 1, amount: -60 }) };

    fn open(directory: &Path) -> Result<(Book, Journal), JournalError> {
        Journal::open(directory, "north", 2, 100)
    }

    #[tokio::test]
    async fn what_was_synced_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (_, journal) = open(directory.path()).unwrap();
        let number = journal.append(HELD);
        journal.synced(number).await.unwrap();

        let (book, _) = open(directory.path()).unwrap();
        assert_eq!(book.accounts()[1].held, 60);
    }

    #[tokio::test]
    async fn a_torn_last_line_is_cut_and_written_over() {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()).unwrap());
        let path = directory.path().join("journal.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(br#"{"of":{"transac"#).unwrap();

        let (book, journal) = open(directory.path()).unwrap();
        assert_eq!(book.accounts()[1].held, 0);
        journal.synced(journal.append(HELD)).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    #[tokio::test]
    async fn a_damaged_line_before_the_last_is_said_and_not_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let (_, journal) = open(directory.path()).unwrap();
        journal.synced(journal.append(HELD)).await.unwrap();
        let path = directory.path().join("journal.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("held", "hexd")).unwrap();

        let error = open(directory.path()).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { line: 2, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_repeat_waits_for_the_line_it_rests_on() {
        let directory = tempfile::tempdir().unwrap();
        let (_, journal) = open(directory.path()).unwrap();
        let number = journal.append(HELD);
        assert_eq!(journal.newest(), number);
    }
}
