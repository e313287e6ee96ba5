//! Whether the directory of a log is where it was: a copy, and a directory that was restored, are noticed.
//!
//! An older copy is sound in itself. What tells it from the log that it was copied from is a file that cannot be copied: each
//! start makes `start-N` anew, where N counts the starts, and writes into it which file it is for the file system, its number
//! and the time of its birth. No tool for copying sets those, and moving a disk to another machine keeps them.
//!
//! ```text
//! witness says N starts     start-N is the file that it names itself    the log is where it was
//!                           start-N names another file                  a copy
//!                           there is none                               a copy, if the witness knows that there was one
//!                           there is start-M, and M > N                 older files were restored over newer ones
//! ```
//!
//! While the log grows, the file takes another name now and then, `start-N.1`, `start-N.2` and so on: its turns. The witness
//! counts those too, so that also files of the same start are known to be older.
//!
//! Whether something is missing from a copy nobody can tell who does not have the original. So whoever starts it has to say that.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FsWord, StatxFlags, fstatfs, statx};

use super::files::{Files, absent_is_fine, sync_file};
use crate::error::OpenError;
use crate::witness::Witness;

pub(crate) const START: &str = "start-";
pub(crate) const START_UNFINISHED: &str = "start.new";

/// FUSE, SMB and 9p often give files new numbers whenever they are mounted: there nothing can be told (magic numbers of statfs(2)).
const CHANGING: [FsWord; 4] = [0x6573_5546, 0xFF53_4D42, 0xFE53_4D42, 0x0102_1997];

/// How often a file is looked for that a node may be renaming.
const LOOKS: u32 = 10;

/// The directory is not where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moved {
    /// In words that go into a sentence after "because".
    pub(crate) why: String,
    /// It is certain that later starts are missing from it.
    pub(crate) is_older: bool,
    /// The last start that is known of.
    pub(crate) epoch: u64,
}

/// A start of the node, and how often its file was renamed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Start {
    pub(crate) epoch: u64,
    pub(crate) turn: u32,
}

/// What a file is for its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    inode: u64,
    /// Since the Unix epoch; `None` where the file system does not know it.
    born: Option<Duration>,
}

impl Files {
    /// Whether the directory is where the last start of the node left it.
    pub(crate) fn moved(&self, witness: Option<&Witness>) -> Result<Option<Moved>, OpenError> {
        for _ in 0..LOOKS {
            match self.look_where(witness) {
                // A node that runs has renamed it between the two looks.
                Err(OpenError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {}
                looked => return looked,
            }
        }
        self.look_where(witness)
    }

    fn look_where(&self, witness: Option<&Witness>) -> Result<Option<Moved>, OpenError> {
        let epoch = witness.map_or(0, |witness| witness.epoch);
        let Some(last) = self.last_start()? else {
            let is_known = witness.is_some_and(|witness| witness.keeps_start);
            let why = "the file `start-N`, which cannot be copied, is missing".to_owned();
            return Ok(is_known.then_some(Moved { why, is_older: false, epoch }));
        };
        if let Some(known) = witness.map(Start::of)
            && last > known
        {
            let why = format!("there is `{last}`, and the witness knows of nothing after `{known}`");
            return Ok(Some(Moved { why, is_older: true, epoch: last.epoch }));
        }
        let path = self.start(last);
        let file = File::open(&path).map_err(OpenError::io("open", &path))?;
        let text = match io::read_to_string(&file) {
            // It is damaged, and says nothing.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
            text => text.map_err(OpenError::io("read", &path))?,
        };
        let own = Identity::of(&file).map_err(OpenError::io("look at", &path))?;
        let why = match (Identity::parse(&text), own) {
            (Some(named), Some(own)) if own.may_be(named) => return Ok(None),
            // Nothing can be told here.
            (_, None) => return Ok(None),
            (Some(named), Some(own)) => format!("`{last}` was {named} when it was written, and is {own}"),
            (None, Some(_)) => format!("`{last}` cannot be read"),
        };
        Ok(Some(Moved { why, is_older: false, epoch }))
    }

    /// Notes that this start has found the directory here, and gives what its file is, where that can be told. The witness
    /// knows of the start already.
    pub(crate) fn settle(&self, epoch: u64) -> Result<Option<Identity>, OpenError> {
        let own = Start { epoch, turn: 0 };
        let (unfinished, path) = (self.root.join(START_UNFINISHED), self.start(own));
        let io = OpenError::io("write", &path);
        absent_is_fine(fs::remove_file(&unfinished)).map_err(&io)?;
        let mut file = File::create_new(&unfinished).map_err(&io)?;
        let identity = Identity::of(&file).map_err(&io)?;
        file.write_all(Identity::text(identity).as_bytes()).and_then(|()| file.sync_all()).map_err(&io)?;
        fs::rename(&unfinished, &path).map_err(&io)?;
        self.sync_directories()?;
        for start in self.starts()?.into_iter().filter(|start| *start != own) {
            let path = self.start(start);
            absent_is_fine(fs::remove_file(&path)).map_err(OpenError::io("remove", &path))?;
        }
        Ok(identity)
    }

    /// Gives the file of the start that runs its next name, which the witness knows already; `false` where that file is not
    /// there: somebody has moved or removed the directory, and another log may be in its place, of which nothing is touched.
    pub(crate) fn turn(&self, own: Identity, from: Start, next: Start) -> Result<bool, OpenError> {
        let path = self.start(from);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file.map_err(OpenError::io("open", &path))?,
        };
        if Identity::of(&file).map_err(OpenError::io("look at", &path))? != Some(own) {
            return Ok(false);
        }
        fs::rename(&path, self.start(next)).map_err(OpenError::io("rename", &path))?;
        sync_file(&self.root).map_err(OpenError::io("sync", &self.root))?;
        Ok(true)
    }

    /// The last start that a file tells of.
    pub(crate) fn last_start(&self) -> Result<Option<Start>, OpenError> {
        Ok(self.starts()?.into_iter().max())
    }

    fn start(&self, start: Start) -> PathBuf {
        self.root.join(start.to_string())
    }

    fn starts(&self) -> Result<Vec<Start>, OpenError> {
        let io = OpenError::io("list", &self.root);
        let mut starts = Vec::new();
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(starts),
            entries => entries.map_err(&io)?,
        };
        for entry in entries {
            let name = entry.map_err(&io)?.file_name();
            starts.extend(name.to_str().and_then(Start::parse));
        }
        Ok(starts)
    }
}

impl Start {
    /// The one that the witness knows of.
    pub(crate) const fn of(witness: &Witness) -> Self {
        Self { epoch: witness.epoch, turn: witness.turn }
    }

    fn parse(name: &str) -> Option<Self> {
        let name = name.strip_prefix(START)?;
        let (epoch, turn) = name.split_once('.').unwrap_or((name, "0"));
        let start = Self { epoch: epoch.parse().ok()?, turn: turn.parse().ok()? };
        // No start of ours writes it in another way.
        start.to_string().strip_prefix(START).is_some_and(|own| own == name).then_some(start)
    }
}

impl std::fmt::Display for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{START}{}", self.epoch)?;
        if self.turn > 0 { write!(f, ".{}", self.turn) } else { Ok(()) }
    }
}

impl Identity {
    /// `None` where the file system gives files other numbers whenever it likes.
    fn of(file: &File) -> io::Result<Option<Self>> {
        if CHANGING.contains(&fstatfs(file)?.f_type) {
            return Ok(None);
        }
        let stat = statx(file, Path::new(""), AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::BTIME)?;
        let knows_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let seconds = u64::try_from(stat.stx_btime.tv_sec).ok().filter(|_| knows_birth);
        let born = seconds.map(|seconds| Duration::new(seconds, stat.stx_btime.tv_nsec));
        Ok(Some(Self { inode: stat.stx_ino, born }))
    }

    /// A kernel that knows no birth today may know it tomorrow.
    fn may_be(self, named: Self) -> bool {
        let is_born_then = self.born.zip(named.born).is_none_or(|(own, named)| own == named);
        self.inode == named.inode && is_born_then
    }

    fn text(identity: Option<Self>) -> String {
        let (inode, born) = identity
            .map_or((0, 0), |identity| (identity.inode, identity.born.map_or(0, |born| born.as_nanos())));
        let text =
            format!("where the log of this directory is at home, do not edit\ninode {inode}\nborn {born}\n");
        format!("{text}checksum {:08x}\n", crc32fast::hash(text.as_bytes()))
    }

    fn parse(text: &str) -> Option<Self> {
        let (body, sum) = text.rsplit_once("checksum ")?;
        if u32::from_str_radix(sum.trim_end(), 16) != Ok(crc32fast::hash(body.as_bytes())) {
            return None;
        }
        let field = |name| body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let nanos: u128 = field("born")?.parse().ok()?;
        let born = Duration::new(
            u64::try_from(nanos / 1_000_000_000).ok()?,
            u32::try_from(nanos % 1_000_000_000).expect("less than a second"),
        );
        Some(Self { inode: field("inode")?.parse().ok()?, born: Some(born).filter(|born| !born.is_zero()) })
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "file {}", self.inode)?;
        match self.born {
            Some(born) => write!(f, ", born {}.{:09}", born.as_secs(), born.subsec_nanos()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
    use std::thread;

    use super::*;

    #[test]
    fn starts_are_ordered_by_their_turns_and_other_names_are_none() {
        let names = [
            "start-9",
            "start-10",
            "start-10.1",
            "start-10.12",
            "start-x",
            "start-",
            "start-1.x",
            "start-05",
            "start-5.0",
            "start-+5",
            "start.new",
            "INIT",
        ];
        let starts: Vec<_> = names.into_iter().filter_map(Start::parse).collect();
        assert!(starts.is_sorted(), "{starts:?}");
        assert_eq!(starts.iter().map(Start::to_string).collect::<Vec<_>>(), names[..4]);
    }

    #[test]
    fn what_cannot_be_listed_is_an_error_and_what_is_not_there_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let (file, absent) = (directory.path().join("file"), directory.path().join("absent"));
        fs::write(&file, b"").unwrap();
        assert!(Files::new(&file).last_start().is_err());
        assert_eq!(Files::new(&absent).last_start().unwrap(), None);
    }

    /// The one thread gives the file another name only when the other has looked once more.
    #[test]
    fn a_file_that_is_renamed_while_somebody_looks_is_where_it_was() {
        const TURNS: u32 = 60;
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path());
        files.settle(1).unwrap();
        let mut looked = Vec::new();
        let (looks, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 0..TURNS {
                    let (from, to) = (Start { epoch: 1, turn }, Start { epoch: 1, turn: turn + 1 });
                    fs::rename(files.start(from), files.start(to)).unwrap();
                    let seen = looks.load(Relaxed);
                    while looks.load(Relaxed) == seen {
                        thread::yield_now();
                    }
                    // Sooner or later within the next look.
                    assert!((0..turn % 20).all(|_| directory.path().exists()));
                }
                is_over.store(true, Relaxed);
            });
            while !is_over.load(Relaxed) {
                looked.push(files.moved(None).map_err(|error| error.to_string()));
                looks.fetch_add(1, Relaxed);
            }
        });
        assert_eq!(looked.iter().find(|moved| **moved != Ok(None)), None);
    }

    /// As those of `/proc`.
    #[test]
    fn a_file_whose_birth_the_system_does_not_know_has_none() {
        let born = |path: &str| Identity::of(&File::open(path).unwrap()).unwrap().unwrap().born;
        assert_eq!(born("/proc/version"), None);
    }

    #[test]
    fn a_file_names_itself_and_nothing_damaged_is_taken_for_a_name() {
        let file = tempfile::tempfile().unwrap();
        let identity = Identity::of(&file).unwrap();
        let text = Identity::text(identity);
        assert_eq!(Identity::parse(&text), identity);
        for byte in 0..text.len() - 1 {
            let mut bytes = text.clone().into_bytes();
            bytes[byte] ^= 1;
            let parsed = String::from_utf8(bytes).ok().and_then(|text| Identity::parse(&text));
            assert_eq!(parsed, None, "byte {byte}");
        }
    }

    #[test]
    fn another_number_or_another_birth_is_another_file_and_an_unknown_birth_may_be_any() {
        let born = |nanos| Some(Duration::from_nanos(nanos));
        let own = Identity { inode: 7, born: born(5) };
        assert!(own.may_be(own) && own.may_be(Identity { born: None, ..own }));
        assert!(!own.may_be(Identity { inode: 8, ..own }) && !own.may_be(Identity { born: born(6), ..own }));
    }
}
