//! One state that a power cut could have left, and how it is written down: `moment:data:names`.
//!
//! The disk gets a file in pieces of one sector (512 bytes) or one page (4 KiB). Whatever is not certain, each
//! piece holds what it held at some moment: nothing else can come of a page cache that writes out pages when it likes.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::image::{Image, digest_of};
use crate::recording::{Kind, Node, Op, ROOT};
use crate::world::{World, file_of, len_after, rename_in};

/// Which state, of all that are possible at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Spec {
    pub(crate) moment: u64,
    pub(crate) data: Data,
    pub(crate) names: Names,
}

/// What is there of the writes that are not certain. They are counted from 0 in the order in which they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Data {
    Dropped,
    Kept,
    /// The files are as long as if all were kept, and nothing else is.
    Lengths,
    /// The first so many, and of the next one the first pieces, or the last, or any: by the seed.
    Torn {
        kept: usize,
        piece: u64,
        seed: u64,
    },
    /// All but this one, and but what came later to the same pages.
    Without {
        write: usize,
    },
    /// Those to this file and no other.
    Only {
        node: Node,
    },
    /// Those to all files but this one.
    Except {
        node: Node,
    },
    /// Every piece is as it was at a moment of its own, and so is each length.
    Scattered {
        piece: u64,
        seed: u64,
    },
}

/// What is there of the names that are not certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Names {
    /// The first so many, in order: as with a journal.
    First(usize),
    /// Any of them.
    Any { seed: u64 },
}

/// All that is on the disk in a state.
pub(crate) struct Tree {
    directories: Vec<PathBuf>,
    files: Vec<(PathBuf, Image)>,
    fates: Vec<String>,
}

impl Tree {
    pub(crate) fn digest(&self) -> u64 {
        let files: Vec<_> = self.files.iter().map(|(path, image)| (path, image.digest())).collect();
        digest_of(&(&self.directories, files))
    }

    /// Makes it below an empty directory.
    pub(crate) fn save(&self, below: &Path) {
        for directory in &self.directories {
            fs::create_dir(below.join(directory)).unwrap();
        }
        for (path, image) in &self.files {
            image.save(&below.join(path)).unwrap();
        }
    }

    /// What became of everything that was not certain.
    pub(crate) fn fates(&self) -> &[String] {
        &self.fates
    }
}

impl Spec {
    pub(crate) fn build(&self, world: &World<'_>, with_fates: bool) -> Tree {
        let mut fates = Vec::new();
        let mut files = world.files.clone();
        self.data.change(world, &mut files, &mut fates);
        let mut names = world.names.clone();
        for (n, (op, node)) in world.renames.iter().enumerate() {
            let is_kept = match self.names {
                Names::First(kept) => n < kept,
                Names::Any { seed } => chance(&("name", seed, n), 2) == 0,
            };
            if is_kept {
                rename_in(&mut names, &op.kind, *node);
            }
            fates.push((op.begin, if is_kept { "kept   " } else { "dropped" }.to_owned(), *op));
        }
        let mut tree = Tree { directories: Vec::new(), files: Vec::new(), fates: Vec::new() };
        let mut below = vec![(ROOT, PathBuf::new())];
        while let Some((directory, path)) = below.pop() {
            for ((_, name), node) in names.range((directory, String::new())..(directory + 1, String::new())) {
                let path = path.join(name);
                if world.directories.contains(node) {
                    tree.directories.push(path.clone());
                    below.push((*node, path));
                } else {
                    tree.files.push((path, files.get(node).cloned().unwrap_or_default()));
                }
            }
        }
        if with_fates {
            fates.sort_by_key(|(begin, ..)| *begin);
            tree.fates = fates.iter().map(|(_, fate, op)| format!("{fate}  {}", line(op, world))).collect();
        }
        tree
    }
}

type Fates<'a> = Vec<(u64, String, &'a Op)>;

impl Data {
    /// Changes the files as far as the writes are there.
    fn change<'a>(self, world: &World<'a>, files: &mut BTreeMap<Node, Image>, fates: &mut Fates<'a>) {
        let count = world.writes.len();
        // Pieces in which a write is missing, so that nothing later can be there either.
        let mut missing = HashSet::new();
        let mut lengths: BTreeMap<Node, u64> = BTreeMap::new();
        for (n, op) in world.writes.iter().enumerate() {
            let node = file_of(&op.kind);
            let image = files.entry(node).or_default();
            let len = lengths.entry(node).or_insert(image.len());
            let (at, end) = extent(&op.kind, image);
            let piece = self.piece();
            let pieces = at / piece..end.div_ceil(piece);
            let (mut kept, total) = (0, pieces.end - pieces.start);
            for index in pieces {
                let is_kept = self.keeps(n, count, node, (index - at / piece, total), index);
                if !is_kept || missing.contains(&(node, index)) {
                    if matches!(self, Self::Without { .. }) {
                        missing.insert((node, index));
                    }
                    continue;
                }
                kept += 1;
                let (from, to) = (at.max(index * piece), end.min((index + 1) * piece));
                if let Kind::Write { at, bytes, .. } = &op.kind {
                    let range = usize::try_from(from - at).unwrap()..usize::try_from(to - at).unwrap();
                    image.write(from, &bytes[range]);
                    if matches!(self, Self::Torn { .. }) {
                        *len = to.max(*len);
                    }
                } else {
                    image.zero(from, to - from);
                }
            }
            let keeps_length = self.keeps_length(n, count, node);
            if keeps_length {
                *len = len_after(*len, &op.kind);
            }
            fates.push((op.begin, fate(kept, total, piece, keeps_length), op));
        }
        for (node, len) in lengths {
            files.entry(node).or_default().set_len(len);
        }
    }

    const fn piece(self) -> u64 {
        match self {
            Self::Torn { piece, .. } | Self::Scattered { piece, .. } => piece,
            // As large as may be, because it makes no difference.
            Self::Dropped | Self::Kept | Self::Lengths | Self::Only { .. } | Self::Except { .. } => 1 << 40,
            Self::Without { .. } => 4096,
        }
    }

    /// Whether a write is there in a piece, which is so many-th of so many that it goes to.
    fn keeps(self, n: usize, count: usize, to: Node, (nth, total): (u64, u64), index: u64) -> bool {
        match self {
            Self::Kept => true,
            Self::Dropped | Self::Lengths => false,
            Self::Torn { kept, seed, .. } if n == kept => {
                // Somewhere in it: 0 is before it, the last one behind it.
                let edge = chance(&("edge", seed), total + 1);
                match seed % 3 {
                    0 => nth < edge,
                    1 => nth >= edge,
                    _ => chance(&("hole", seed, nth), 2) == 0,
                }
            }
            Self::Torn { kept, .. } => n < kept,
            Self::Without { write } => n != write,
            Self::Only { node } => node == to,
            Self::Except { node } => node != to,
            Self::Scattered { seed, .. } => {
                (n as u64) < chance(&("piece", seed, to, index), count as u64 + 1)
            }
        }
    }

    fn keeps_length(self, n: usize, count: usize, of: Node) -> bool {
        match self {
            Self::Kept | Self::Lengths => true,
            Self::Dropped => false,
            Self::Torn { kept, .. } => n < kept,
            Self::Without { write } => n != write,
            Self::Only { node } => node == of,
            Self::Except { node } => node != of,
            Self::Scattered { seed, .. } => (n as u64) < chance(&("length", seed, of), count as u64 + 1),
        }
    }
}

/// Where the bytes are that an operation changes.
fn extent(kind: &Kind, image: &Image) -> (u64, u64) {
    match kind {
        Kind::Write { at, bytes, .. } => (*at, at + bytes.len() as u64),
        Kind::Length { len, .. } => (*len, image.end().max(*len)),
        Kind::Reserve { .. }
        | Kind::Sync { .. }
        | Kind::Make { .. }
        | Kind::Rename { .. }
        | Kind::Remove { .. }
        | Kind::Said(_) => (0, 0),
    }
}

fn fate(kept: u64, total: u64, piece: u64, keeps_length: bool) -> String {
    let length = if keeps_length { "" } else { ", its length dropped" };
    match kept {
        0 if !keeps_length => "dropped".to_owned(),
        0 if total > 0 => "dropped, its length kept".to_owned(),
        _ if kept == total => format!("kept   {length}"),
        _ => format!("torn: {kept} of {total} pieces of {piece} bytes{length}"),
    }
}

/// A number below `below` that depends on nothing but `what`.
pub(crate) fn chance(what: &impl Hash, below: u64) -> u64 {
    digest_of(what) % below
}

/// An operation, for people.
fn line(op: &Op, world: &World<'_>) -> String {
    let name = |node: &Node| {
        world.name_of(*node).unwrap_or_else(|| format!("the file of number {node}, which is removed"))
    };
    let path = |(directory, file): &(Node, String)| {
        let directory = world.name_of(*directory).unwrap_or_default();
        format!("{directory}{}{file}", if directory.is_empty() { "" } else { "/" })
    };
    let what = match &op.kind {
        Kind::Write { node, at, bytes } => format!("write {} bytes at {at} of {}", bytes.len(), name(node)),
        Kind::Length { node, len } => format!("set the length of {} to {len}", name(node)),
        Kind::Reserve { node, len } => format!("reserve {} up to {len}", name(node)),
        Kind::Sync { node } => format!("sync {}", name(node)),
        Kind::Make { place, .. } => format!("make {}", path(place)),
        Kind::Rename { from, to } => format!("rename {} to {}", path(from), path(to)),
        Kind::Remove { place } => format!("remove {}", path(place)),
        Kind::Said(words) => format!("promise: {words}"),
    };
    format!("{:>6}  {what}", op.begin)
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.moment)?;
        match self.data {
            Data::Dropped => write!(f, "dropped"),
            Data::Kept => write!(f, "kept"),
            Data::Lengths => write!(f, "lengths"),
            Data::Torn { kept, piece, seed } => write!(f, "torn-{kept}-{piece}-{seed}"),
            Data::Without { write } => write!(f, "without-{write}"),
            Data::Only { node } => write!(f, "only-{node}"),
            Data::Except { node } => write!(f, "except-{node}"),
            Data::Scattered { piece, seed } => write!(f, "scattered-{piece}-{seed}"),
        }?;
        match self.names {
            Names::First(kept) => write!(f, ":first-{kept}"),
            Names::Any { seed } => write!(f, ":any-{seed}"),
        }
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no = || format!("`{text}` is no state: moment, data and names, with colons between");
        let [moment, data, names] = text.split(':').collect::<Vec<_>>()[..] else { return Err(no()) };
        let numbers = |text: &str| {
            let numbers = text.split('-').skip(1).map(str::parse).collect::<Result<Vec<u64>, _>>();
            numbers.map_err(|error| format!("{}: {error}", no()))
        };
        let index = |number: u64| usize::try_from(number).map_err(|error| error.to_string());
        let data = match (data.split('-').next().unwrap_or_default(), &numbers(data)?[..]) {
            ("dropped", []) => Data::Dropped,
            ("kept", []) => Data::Kept,
            ("lengths", []) => Data::Lengths,
            ("torn", [kept, piece, seed]) => Data::Torn { kept: index(*kept)?, piece: *piece, seed: *seed },
            ("without", [write]) => Data::Without { write: index(*write)? },
            ("only", [node]) => Data::Only { node: *node },
            ("except", [node]) => Data::Except { node: *node },
            ("scattered", [piece, seed]) => Data::Scattered { piece: *piece, seed: *seed },
            _ => return Err(no()),
        };
        let names = match (names.split('-').next().unwrap_or_default(), &numbers(names)?[..]) {
            ("first", [kept]) => Names::First(index(*kept)?),
            ("any", [seed]) => Names::Any { seed: *seed },
            _ => return Err(no()),
        };
        Ok(Self { moment: moment.parse().map_err(|_| no())?, data, names })
    }
}
