//! The files of a [`SickDisk`](super::SickDisk), as they are and as they would be without what was not synced.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use fuser::Errno;

use super::Illness;

pub(super) const ROOT: u64 = 1;

pub(super) type Result<T> = std::result::Result<T, Errno>;

/// Every file and directory, by number. Numbers are never used again, and what was removed can still be read by
/// whoever has it open.
pub(super) struct Memory {
    nodes: BTreeMap<u64, Node>,
    pub(super) illness: Illness,
}

pub(super) enum Node {
    Directory(BTreeMap<OsString, u64>),
    File(Contents),
}

#[derive(Default)]
pub(super) struct Contents {
    bytes: Vec<u8>,
    unsynced: Vec<Write>,
    is_removed: bool,
}

/// What was there before a write, or before the file was cut off at this place.
struct Write {
    at: usize,
    bytes: Vec<u8>,
    len: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Directory(BTreeMap::new()))]), illness: Illness::None }
    }
}

impl Memory {
    pub(super) fn node(&self, number: u64) -> Result<&Node> {
        self.nodes.get(&number).ok_or(Errno::ENOENT)
    }

    pub(super) fn lookup(&self, parent: u64, name: &OsStr) -> Result<u64> {
        match self.node(parent)? {
            Node::Directory(entries) => entries.get(name).copied().ok_or(Errno::ENOENT),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn make(&mut self, parent: u64, name: &OsStr, node: Node) -> Result<u64> {
        self.may_change()?;
        if self.lookup(parent, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let number = self.nodes.last_key_value().map_or(ROOT, |(last, _)| last + 1);
        self.entries(parent)?.insert(name.to_owned(), number);
        self.nodes.insert(number, node);
        Ok(number)
    }

    pub(super) fn remove(&mut self, parent: u64, name: &OsStr) -> Result<()> {
        self.may_change()?;
        let number = self.entries(parent)?.remove(name).ok_or(Errno::ENOENT)?;
        if let Some(Node::File(file)) = self.nodes.get_mut(&number) {
            file.is_removed = true;
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<()> {
        let number = self.lookup(from.0, from.1)?;
        if self.lookup(to.0, to.1).is_ok() {
            self.remove(to.0, to.1)?;
        }
        self.may_change()?;
        self.entries(from.0)?.remove(from.1);
        self.entries(to.0)?.insert(to.1.to_owned(), number);
        Ok(())
    }

    pub(super) fn read(&self, number: u64, at: u64, len: u32) -> Result<&[u8]> {
        let Node::File(Contents { bytes, .. }) = self.node(number)? else { return Err(Errno::EISDIR) };
        let from = place(at)?.min(bytes.len());
        Ok(&bytes[from..(from + len as usize).min(bytes.len())])
    }

    pub(super) fn write(&mut self, number: u64, at: u64, data: &[u8]) -> Result<()> {
        self.may_change()?;
        if let Illness::Writes(errno) = self.illness {
            return Err(errno);
        }
        self.may_grow(number, at + data.len() as u64)?;
        let (file, at) = (self.file(number)?, place(at)?);
        let len = file.bytes.len();
        file.bytes.resize(len.max(at + data.len()), 0);
        let place = &mut file.bytes[at..at + data.len()];
        file.unsynced.push(Write { at, bytes: place.to_vec(), len });
        place.copy_from_slice(data);
        Ok(())
    }

    /// As little durable as a write, until it is synced.
    pub(super) fn set_len(&mut self, number: u64, len: u64) -> Result<()> {
        self.may_change()?;
        self.may_grow(number, len)?;
        let (file, wanted) = (self.file(number)?, place(len)?);
        let len = file.bytes.len();
        let at = wanted.min(len);
        file.unsynced.push(Write { at, bytes: file.bytes[at..].to_vec(), len });
        file.bytes.resize(wanted, 0);
        Ok(())
    }

    /// Makes room up to here; a file that is longer stays so.
    pub(super) fn reserve(&mut self, number: u64, end: u64) -> Result<()> {
        let len = self.file(number)?.len();
        self.set_len(number, len.max(end))
    }

    pub(super) fn sync(&mut self, number: u64) -> Result<()> {
        let fails = matches!(self.illness, Illness::Syncs | Illness::OneSync);
        if matches!(self.illness, Illness::OneSync) {
            self.illness = Illness::None;
        }
        let file = self.file(number)?;
        if fails {
            file.lose_unsynced();
            return Err(Errno::EIO);
        }
        file.unsynced.clear();
        Ok(())
    }

    pub(super) fn lose_unsynced(&mut self) {
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node {
                file.lose_unsynced();
            }
        }
    }

    /// Bytes of all files that have a name.
    pub(super) fn used(&self) -> u64 {
        let files = self.nodes.values().filter_map(|node| match node {
            Node::File(file) if !file.is_removed => Some(file.len()),
            Node::File(_) | Node::Directory(_) => None,
        });
        files.sum()
    }

    fn may_change(&self) -> Result<()> {
        if matches!(self.illness, Illness::ReadOnly) { Err(Errno::EROFS) } else { Ok(()) }
    }

    fn may_grow(&self, number: u64, len: u64) -> Result<()> {
        let Illness::Quota(bytes_max) = self.illness else { return Ok(()) };
        let Node::File(file) = self.node(number)? else { return Ok(()) };
        let more = len.saturating_sub(file.len());
        if more > 0 && self.used() + more > bytes_max { Err(Errno::EDQUOT) } else { Ok(()) }
    }

    fn entries(&mut self, number: u64) -> Result<&mut BTreeMap<OsString, u64>> {
        match self.nodes.get_mut(&number).ok_or(Errno::ENOENT)? {
            Node::Directory(entries) => Ok(entries),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn file(&mut self, number: u64) -> Result<&mut Contents> {
        match self.nodes.get_mut(&number).ok_or(Errno::ENOENT)? {
            Node::File(file) => Ok(file),
            Node::Directory(_) => Err(Errno::EISDIR),
        }
    }
}

impl Contents {
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn lose_unsynced(&mut self) {
        while let Some(Write { at, bytes, len }) = self.unsynced.pop() {
            self.bytes.resize(len.max(self.bytes.len()), 0);
            self.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
            self.bytes.truncate(len);
        }
    }
}

fn place(at: u64) -> Result<usize> {
    usize::try_from(at).map_err(|_| Errno::EFBIG)
}
