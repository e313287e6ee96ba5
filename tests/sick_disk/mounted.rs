//! What the kernel asks of a [`SickDisk`](super::SickDisk), and how it is answered.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::memory::{Contents, Memory, Node, Result};
use super::{Call, Illness, SIZE, Shared, lock};

const BLOCK: u32 = 4096;

/// The kernel remembers nothing: what a failed sync takes back it must not go on to show.
const NO_CACHE: (Duration, FopenFlags) = (Duration::ZERO, FopenFlags::FOPEN_DIRECT_IO);

pub(super) struct Mounted(pub(super) Arc<Shared>);

impl Mounted {
    fn with<T>(&self, run: impl FnOnce(&mut Memory) -> Result<T>) -> Result<T> {
        run(&mut lock(&self.0.memory))
    }

    /// Answers now, later, or not before the disk is well again.
    fn answer(&self, call: Call, answer: impl FnOnce(&Shared) + Send + 'static) {
        let (shared, illness) = (self.0.clone(), lock(&self.0.memory).illness);
        match illness {
            Illness::Hangs(hanging) if hanging == call => {
                lock(&self.0.held).push(Box::new(move || answer(&shared)));
            }
            Illness::SlowSyncs(time) if call == Call::Sync => {
                thread::spawn(move || {
                    thread::sleep(time);
                    answer(&shared);
                });
            }
            Illness::None
            | Illness::Writes(_)
            | Illness::Syncs
            | Illness::OneSync
            | Illness::ReadOnly
            | Illness::Quota(_)
            | Illness::SlowSyncs(_)
            | Illness::Hangs(_) => answer(&shared),
        }
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.with(|memory| attributes(memory, memory.lookup(parent.0, name)?)));
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attr(reply, self.with(|memory| attributes(memory, number.0)));
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        len: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = |memory: &mut Memory| {
            len.map_or(Ok(()), |len| memory.set_len(number.0, len))?;
            attributes(memory, number.0)
        };
        attr(reply, self.with(set));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let make = |memory: &mut Memory| {
            let number = memory.make(parent.0, name, Node::Directory(BTreeMap::new()))?;
            attributes(memory, number)
        };
        entry(reply, self.with(make));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.with(|memory| memory.remove(parent.0, name)));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.with(|memory| memory.remove(parent.0, name)));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.with(|memory| memory.rename((parent.0, name), (new_parent.0, new_name))));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), NO_CACHE.1);
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        let make = |memory: &mut Memory| {
            let number = memory.make(parent.0, name, Node::File(Contents::default()))?;
            attributes(memory, number)
        };
        match self.with(make) {
            Ok(attr) => reply.created(&NO_CACHE.0, &attr, Generation(0), FileHandle(0), NO_CACHE.1),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        at: u64,
        len: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.answer(Call::Read, move |shared| match lock(&shared.memory).read(number.0, at, len) {
            Ok(bytes) => reply.data(bytes),
            Err(errno) => reply.error(errno),
        });
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        at: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = data.to_vec();
        self.answer(Call::Write, move |shared| {
            let written = lock(&shared.memory).write(number.0, at, &data);
            match written {
                Ok(()) => reply.written(u32::try_from(data.len()).expect("a write of the kernel")),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.answer(Call::Sync, move |shared| {
            let synced = lock(&shared.memory).sync(number.0);
            empty(reply, synced);
        });
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, from: u64, mut reply: ReplyDirectory) {
        let listed = self.with(|memory| {
            let Node::Directory(entries) = memory.node(number.0)? else { return Err(Errno::ENOTDIR) };
            for (place, (name, number)) in
                (1..).zip(entries).skip(usize::try_from(from).unwrap_or(usize::MAX))
            {
                let kind = attributes(memory, *number)?.kind;
                if reply.add(INodeNo(*number), place, kind, name) {
                    break;
                }
            }
            Ok(())
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (blocks, used) = (SIZE / u64::from(BLOCK), lock(&self.0.memory).used());
        let free = blocks.saturating_sub(used.div_ceil(u64::from(BLOCK)));
        reply.statfs(blocks, free, free, 1000, 1000, BLOCK, 255, BLOCK);
    }

    fn fallocate(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        at: u64,
        len: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.with(|memory| memory.reserve(number.0, at + len)));
    }
}

fn attributes(memory: &Memory, number: u64) -> Result<FileAttr> {
    let (kind, perm, len) = match memory.node(number)? {
        Node::Directory(_) => (FileType::Directory, 0o755, 0),
        Node::File(file) => (FileType::RegularFile, 0o644, file.len()),
    };
    let time = UNIX_EPOCH;
    Ok(FileAttr {
        ino: INodeNo(number),
        size: len,
        blocks: len.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    })
}

fn entry(reply: ReplyEntry, found: Result<FileAttr>) {
    match found {
        Ok(attr) => reply.entry(&NO_CACHE.0, &attr, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn attr(reply: ReplyAttr, found: Result<FileAttr>) {
    match found {
        Ok(attr) => reply.attr(&NO_CACHE.0, &attr),
        Err(errno) => reply.error(errno),
    }
}

fn empty(reply: ReplyEmpty, done: Result<()>) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}
