//! Makes a recording of a child, by way of its system calls.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::libc;

use crate::recording::{Kind, Node, Op, Place, ROOT, Recording};
use crate::tracer::{Entry, Exit, Watcher};

/// Before everything that the child promises, so that it can be told from its other words.
pub(crate) const PROMISE: &str = "promise: ";

/// Watches one child after the other work below a directory.
pub(crate) struct Recorder {
    /// The directory itself is no part of what is recorded, but a sync of it is.
    root: PathBuf,
    clock: u64,
    nodes: HashMap<FileId, Node>,
    next: Node,
    /// `None` for what has not returned, or failed.
    ops: Vec<Option<Op>>,
    first: u64,
}

/// Device and inode. An inode is used again when its file is gone, so that the latest file counts.
type FileId = (u64, u64);

/// What a call would do if it succeeds.
pub(crate) enum Asked {
    /// The bytes that it was given; it may take only the first of them.
    Write(Node, u64, Vec<u8>),
    Length(Node, u64),
    Reserve(Node, u64),
    Sync(Node),
    /// A file is opened: a new one, or one that is emptied, or neither.
    Open(PathBuf, bool, bool),
    MakeDirectory(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    Said(String),
}

/// A call that is of interest, and its place among them.
pub(crate) struct Call {
    asked: Asked,
    begin: u64,
    slot: usize,
}

impl Recorder {
    /// For children that work below `root`. What is there already is on the disk for good, and what was promised holds.
    pub(crate) fn new(root: &Path, promised: &[String]) -> Self {
        let mut recorder = Self {
            root: root.canonicalize().unwrap(),
            clock: 0,
            nodes: HashMap::new(),
            next: ROOT + 1,
            ops: Vec::new(),
            first: 0,
        };
        let root = recorder.root.clone();
        recorder.nodes.insert(id(&root).unwrap(), ROOT);
        recorder.found(&root);
        recorder.instant(Kind::Sync { node: ROOT });
        for words in promised {
            recorder.instant(Kind::Said(words.clone()));
        }
        recorder.first = recorder.clock;
        recorder
    }

    pub(crate) fn recording(&self) -> Recording {
        Recording { ops: self.ops.iter().flatten().cloned().collect(), first: self.first }
    }

    /// Puts down what is in a directory as if it had been made just now.
    fn found(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let node = self.made(&path);
            let is_directory = path.is_dir();
            self.instant(Kind::Make { place: self.place(&path), node, is_directory });
            if is_directory {
                self.found(&path);
            } else {
                let len = fs::metadata(&path).unwrap().len();
                self.instant(Kind::Length { node, len });
                if path.file_name().is_none_or(|name| name != "ballast") {
                    self.instant(Kind::Write { node, at: 0, bytes: fs::read(&path).unwrap() });
                }
            }
            self.instant(Kind::Sync { node });
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock - 1
    }

    /// Something that is done in a moment.
    fn instant(&mut self, kind: Kind) {
        let (begin, end) = (self.tick(), self.tick());
        self.ops.push(Some(Op { begin, end, kind }));
    }

    fn made(&mut self, path: &Path) -> Node {
        let node = self.next;
        self.next += 1;
        self.nodes.insert(id(path).unwrap(), node);
        node
    }

    /// The file at a path, or behind a descriptor, if it is one of ours.
    fn node(&self, path: &Path) -> Option<Node> {
        self.nodes.get(&id(path)?).copied()
    }

    fn place(&self, path: &Path) -> Place {
        let directory = self.node(path.parent().unwrap()).expect("a directory that was recorded");
        (directory, path.file_name().unwrap().to_str().unwrap().to_owned())
    }

    fn is_ours(&self, path: &Path) -> bool {
        path.starts_with(&self.root) && path != self.root
    }

    fn asked(&self, call: &Entry) -> Option<Asked> {
        let node = || self.node(&call.descriptor(0));
        let ours = |path: PathBuf| Some(path).filter(|path| self.is_ours(path));
        let rename = |from: PathBuf, to: PathBuf| ours(from).map(|from| Asked::Rename(from, to));
        match call.number {
            libc::SYS_write => match node() {
                Some(node) => Some(Asked::Write(node, call.position(0), call.bytes(1, 2))),
                None => said(call.bytes(1, 2)),
            },
            libc::SYS_pwrite64 => Some(Asked::Write(node()?, call.argument(3), call.bytes(1, 2))),
            libc::SYS_ftruncate => Some(Asked::Length(node()?, call.argument(1))),
            libc::SYS_fallocate => {
                let node = node()?;
                assert_eq!(call.argument(1), 0, "a way to reserve room that the recorder does not know");
                Some(Asked::Reserve(node, call.argument(2) + call.argument(3)))
            }
            // `sync_file_range` and `msync` promise nothing that would help after a power cut.
            libc::SYS_fsync | libc::SYS_fdatasync => Some(Asked::Sync(node()?)),
            libc::SYS_openat => {
                let path = ours(call.path(Some(0), 1))?;
                let flags = i32::try_from(call.argument(2)).unwrap();
                assert_eq!(flags & libc::O_APPEND, 0, "a way to write that the recorder does not know");
                let is_new = flags & libc::O_CREAT != 0 && !path.exists();
                Some(Asked::Open(path, is_new, flags & libc::O_TRUNC != 0))
            }
            libc::SYS_mkdirat => ours(call.path(Some(0), 1)).map(Asked::MakeDirectory),
            libc::SYS_unlinkat => ours(call.path(Some(0), 1)).map(Asked::Remove),
            libc::SYS_renameat | libc::SYS_renameat2 => rename(call.path(Some(0), 1), call.path(Some(2), 3)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_mkdir => ours(call.path(None, 0)).map(Asked::MakeDirectory),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink | libc::SYS_rmdir => ours(call.path(None, 0)).map(Asked::Remove),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => rename(call.path(None, 0), call.path(None, 1)),
            // That nothing else is used is seen by `is_complete`.
            _ => None,
        }
    }

    /// What a call that succeeded has done.
    fn done(&mut self, asked: Asked, exit: &Exit) -> Option<Kind> {
        Some(match asked {
            Asked::Write(node, at, mut bytes) => {
                bytes.truncate(usize::try_from(exit.result()).unwrap());
                Kind::Write { node, at, bytes }
            }
            Asked::Length(node, len) => Kind::Length { node, len },
            Asked::Reserve(node, len) => Kind::Reserve { node, len },
            Asked::Sync(node) => Kind::Sync { node },
            Asked::Open(path, true, _) => {
                let node = self.made(&exit.descriptor());
                Kind::Make { place: self.place(&path), node, is_directory: false }
            }
            Asked::Open(path, false, true) => Kind::Length { node: self.node(&path).unwrap(), len: 0 },
            Asked::Open(_, false, false) => return None,
            Asked::MakeDirectory(path) => {
                let node = self.made(&path);
                Kind::Make { place: self.place(&path), node, is_directory: true }
            }
            Asked::Rename(from, to) => Kind::Rename { from: self.place(&from), to: self.place(&to) },
            Asked::Remove(path) => Kind::Remove { place: self.place(&path) },
            Asked::Said(words) => Kind::Said(words),
        })
    }
}

impl Watcher for Recorder {
    type Call = Option<Call>;

    fn begins(&mut self, call: &Entry) -> Option<Call> {
        let asked = self.asked(call)?;
        self.ops.push(None);
        Some(Call { asked, begin: self.tick(), slot: self.ops.len() - 1 })
    }

    fn returns(&mut self, call: Option<Call>, exit: &Exit) {
        let Some(call) = call.filter(|_| exit.result() >= 0) else { return };
        let end = self.tick();
        if let Some(kind) = self.done(call.asked, exit) {
            self.ops[call.slot] = Some(Op { begin: call.begin, end, kind });
        }
    }
}

fn id(path: &Path) -> Option<FileId> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn said(bytes: Vec<u8>) -> Option<Asked> {
    let words = String::from_utf8(bytes).ok()?;
    words.strip_prefix(PROMISE).map(|words| Asked::Said(words.to_owned()))
}
