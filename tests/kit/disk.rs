//! A small disk of its own for a node, a tmpfs or an ext4 in a file: only root can mount either.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// A file system, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    root: PathBuf,
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
            println!("SKIPPED: only root can mount a file system");
            return None;
        }
        fs::create_dir_all(root).unwrap();
        let mounted = match kind {
            Kind::Tmpfs => {
                let size = format!("size={bytes}");
                Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(root).output()
            }
            Kind::Ext4 => {
                let image = root.with_extension("ext4");
                File::create(&image).and_then(|file| file.set_len(bytes)).unwrap();
                // Without blocks that only root may use: the tests are root, and say what is free for everybody.
                let made = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).output();
                made.and_then(|_| {
                    Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&image).arg(root).output()
                })
            }
        };
        match mounted {
            Ok(output) if output.status.success() => Some(Self { root: root.to_owned() }),
            why => {
                println!("SKIPPED: no file system could be mounted: {why:?}");
                None
            }
        }
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
