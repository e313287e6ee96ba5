//! What is on the disk for certain at a moment, and what may or may not be.
//!
//! | asked of the disk | certain from the return of |
//! |---|---|
//! | bytes and length of a file | a sync of the file that began after the call had returned |
//! | a name that is made, renamed or removed | such a sync of the directory it is in |
//!
//! Nothing else is certain. A sync of a file does not make its name certain, although with ext4 it does.

use std::collections::{BTreeMap, BTreeSet};

use crate::image::Image;
use crate::judge::Promises;
use crate::recording::{Kind, Node, Op, Place, ROOT, Recording};

/// The disk at a moment of a recording.
pub(crate) struct World<'a> {
    recording: &'a Recording,
    /// When which call began (`false`) and returned (`true`), in order; those to come.
    events: std::vec::IntoIter<(u64, bool, usize)>,
    pub(crate) files: BTreeMap<Node, Image>,
    pub(crate) names: BTreeMap<Place, Node>,
    pub(crate) directories: BTreeSet<Node>,
    /// What may or may not be on the disk, in the order in which it was asked for.
    pub(crate) writes: Vec<&'a Op>,
    /// The same for names, each with the file or directory that it was about.
    pub(crate) renames: Vec<(&'a Op, Node)>,
    pub(crate) promises: Promises,
    /// The names as the process sees them.
    seen: BTreeMap<Place, Node>,
}

impl<'a> World<'a> {
    /// The moment before everything.
    pub(crate) fn new(recording: &'a Recording) -> Self {
        let ops = recording.ops.iter().enumerate();
        let mut events: Vec<_> = ops.flat_map(|(n, op)| [(op.begin, false, n), (op.end, true, n)]).collect();
        events.sort_unstable();
        Self {
            recording,
            events: events.into_iter(),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            directories: BTreeSet::from([ROOT]),
            writes: Vec::new(),
            renames: Vec::new(),
            promises: Promises::default(),
            seen: BTreeMap::new(),
        }
    }

    /// Goes on to the next moment at which a power cut may leave something else than at the one before.
    pub(crate) fn advance(&mut self) -> Option<u64> {
        loop {
            let (moment, is_return, n) = self.events.next()?;
            let op = &self.recording.ops[n];
            let is_other = if is_return { self.returned(op) } else { self.began(op) };
            if is_other && moment >= self.recording.first {
                return Some(moment);
            }
        }
    }

    /// The moment of that number.
    pub(crate) fn at(recording: &'a Recording, moment: u64) -> Self {
        let mut world = Self::new(recording);
        while world.advance().is_some_and(|now| now < moment) {}
        world
    }

    /// The path by which the process knows a file or directory.
    pub(crate) fn name_of(&self, node: Node) -> Option<String> {
        if node == ROOT {
            return Some(String::new());
        }
        let ((directory, name), _) = self.seen.iter().find(|(_, seen)| **seen == node)?;
        let directory = self.name_of(*directory)?;
        Some(if directory.is_empty() { name.clone() } else { format!("{directory}/{name}") })
    }

    /// From the moment on when it is asked for it may be on the disk; whether something may be there then.
    fn began(&mut self, op: &'a Op) -> bool {
        let node = match &op.kind {
            Kind::Write { .. } | Kind::Length { .. } | Kind::Reserve { .. } => {
                self.writes.push(op);
                return true;
            }
            Kind::Said(words) => {
                self.promises.hear(words);
                return true;
            }
            Kind::Sync { .. } => return false,
            Kind::Make { place, node, is_directory } => {
                if *is_directory {
                    self.directories.insert(*node);
                }
                self.seen.insert(place.clone(), *node);
                *node
            }
            Kind::Rename { from, to } => {
                let node = self.seen.remove(from).expect("a name that is renamed was there");
                self.seen.insert(to.clone(), node);
                node
            }
            Kind::Remove { place } => self.seen.remove(place).expect("a name that is removed was there"),
        };
        self.renames.push((op, node));
        true
    }

    /// What had returned before a sync began is certain when the sync returns; whether there is such a thing.
    fn returned(&mut self, op: &Op) -> bool {
        let Kind::Sync { node } = &op.kind else { return false };
        let before = self.writes.len() + self.renames.len();
        let (certain, open): (Vec<_>, Vec<_>) =
            self.writes.drain(..).partition(|write| file_of(&write.kind) == *node && write.end < op.begin);
        self.writes = open;
        for write in certain {
            change(self.files.entry(*node).or_default(), &write.kind);
        }
        let (certain, open): (Vec<_>, Vec<_>) = self
            .renames
            .drain(..)
            .partition(|(rename, _)| is_in(&rename.kind, *node) && rename.end < op.begin);
        self.renames = open;
        for (rename, node) in certain {
            rename_in(&mut self.names, &rename.kind, node);
        }
        self.writes.len() + self.renames.len() < before
    }
}

/// The file whose bytes or length are concerned.
pub(crate) fn file_of(kind: &Kind) -> Node {
    match kind {
        Kind::Write { node, .. } | Kind::Length { node, .. } | Kind::Reserve { node, .. } => *node,
        Kind::Sync { .. } | Kind::Make { .. } | Kind::Rename { .. } | Kind::Remove { .. } | Kind::Said(_) => {
            unreachable!("only what changes a file is asked here")
        }
    }
}

/// Changes a file as it was asked for.
pub(crate) fn change(image: &mut Image, kind: &Kind) {
    if let Kind::Write { at, bytes, .. } = kind {
        image.write(*at, bytes);
    }
    image.set_len(len_after(image.len(), kind));
}

pub(crate) fn len_after(before: u64, kind: &Kind) -> u64 {
    match kind {
        Kind::Write { at, bytes, .. } => before.max(at + bytes.len() as u64),
        Kind::Reserve { len, .. } => before.max(*len),
        Kind::Length { len, .. } => *len,
        Kind::Sync { .. } | Kind::Make { .. } | Kind::Rename { .. } | Kind::Remove { .. } | Kind::Said(_) => {
            before
        }
    }
}

/// Whether all names that are concerned are in this directory.
fn is_in(kind: &Kind, directory: Node) -> bool {
    match kind {
        Kind::Make { place, .. } | Kind::Remove { place } => place.0 == directory,
        Kind::Rename { from, to } => from.0 == directory && to.0 == directory,
        Kind::Write { .. }
        | Kind::Length { .. }
        | Kind::Reserve { .. }
        | Kind::Sync { .. }
        | Kind::Said(_) => false,
    }
}

/// Changes names as it was asked for, although something before may not have happened.
pub(crate) fn rename_in(names: &mut BTreeMap<Place, Node>, kind: &Kind, node: Node) {
    let (gone, there) = match kind {
        Kind::Make { place, .. } => (None, Some(place)),
        Kind::Rename { from, to } => (Some(from), Some(to)),
        Kind::Remove { place } => (Some(place), None),
        Kind::Write { .. }
        | Kind::Length { .. }
        | Kind::Reserve { .. }
        | Kind::Sync { .. }
        | Kind::Said(_) => (None, None),
    };
    if let Some(place) = gone
        && names.get(place) == Some(&node)
    {
        names.remove(place);
    }
    if let Some(place) = there {
        names.insert(place.clone(), node);
    }
}
