//! A small disk of its own for a node, a tmpfs or an ext4 in a file: only root can mount either.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::skipped::skipped;

/// A file system, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    root: PathBuf,
    kind: Kind,
}

/// What file system it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In memory.
    Tmpfs,
    /// In a file beside the place where it is mounted.
    Ext4,
}

impl SmallDisk {
    /// Mounts one of `bytes` at `root`, which is made. `None`, with a word why, where this process may not.
    pub fn mount(root: &Path, kind: Kind, bytes: u64) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skipped("only root can mount a file system");
            return None;
        }
        fs::create_dir_all(root).unwrap();
        let disk = Self { root: root.to_owned(), kind };
        let made = match kind {
            Kind::Tmpfs => Ok(()),
            Kind::Ext4 => disk.make_ext4(bytes),
        };
        match made.and_then(|()| disk.attach(bytes)) {
            Ok(()) => Some(disk),
            Err(why) => {
                skipped(&format!("no file system could be mounted: {why}"));
                None
            }
        }
    }

    fn image(&self) -> PathBuf {
        self.root.with_extension("ext4")
    }

    fn make_ext4(&self, bytes: u64) -> io::Result<()> {
        File::create(self.image())?.set_len(bytes)?;
        // Without blocks that only root may use: the tests are root, and say what is free for everybody.
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(self.image()))
    }

    fn attach(&self, bytes: u64) -> io::Result<()> {
        let mut mount = Command::new("mount");
        match self.kind {
            Kind::Tmpfs => mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]),
            Kind::Ext4 => mount.args(["-t", "ext4", "-o", "loop,errors=remount-ro"]).arg(self.image()),
        };
        run(mount.arg(&self.root))
    }

    /// The kernel finds an error on the ext4, and lets nobody write to it any more. False, with a word why, where it cannot be
    /// told to.
    pub fn fail(&self) -> bool {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let line = mounts.lines().find(|line| line.contains(&format!(" {} ", self.root.display()))).unwrap();
        let device = line.split(' ').next().unwrap().trim_start_matches("/dev/");
        let told = fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test");
        if let Err(error) = &told {
            skipped(&format!("no error can be triggered on an ext4: {error}"));
        }
        told.is_ok()
    }

    /// The ext4 is checked and mounted again, as an administrator would.
    pub fn repair(&self) {
        run(Command::new("umount").arg(&self.root)).unwrap();
        run(Command::new("e2fsck").arg("-fy").arg(self.image())).unwrap();
        self.attach(0).unwrap();
    }

    /// Bytes that there are.
    pub fn size(&self) -> u64 {
        let disk = statvfs(&self.root).unwrap();
        disk.f_blocks * disk.f_frsize
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let disk = statvfs(&self.root).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Takes all room but `left` bytes, with a file that is nobody's.
    pub fn fill(&self, left: u64) {
        let file = File::options().create(true).append(true).open(self.filler()).unwrap();
        // An ext4 keeps a little for itself, and does not say how little.
        let mut step = self.free().saturating_sub(left);
        while step >= 4096 {
            let len = file.metadata().unwrap().len();
            if fallocate(&file, FallocateFlags::empty(), len, step).is_err() {
                step /= 2;
            }
            step = step.min(self.free().saturating_sub(left));
        }
    }

    /// Gives back what [`fill`](Self::fill) took.
    pub fn clear(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.root.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a node that is killed a moment later may still hold a file.
        let _ = Command::new("umount").arg("-l").arg(&self.root).status();
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    // What e2fsck has mended it says with 1.
    if matches!(output.status.code(), Some(0 | 1)) {
        Ok(())
    } else {
        Err(io::Error::other(format!("{command:?}: {output:?}")))
    }
}
