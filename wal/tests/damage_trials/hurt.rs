//! What disks and people do to files.

use std::fs;
use std::path::Path;

use fastrand::Rng;

use crate::base::Base;
use crate::common::{copy_tree, files_below};

const PAGE: usize = 4096;

/// One thing that was done. Files are named from the directory of the log.
#[derive(Debug)]
#[expect(dead_code, reason = "read by people")]
pub(crate) enum Hurt {
    /// Bits in a row of places, each at most a page from the one before.
    Flipped(String, Vec<usize>),
    /// From, to, and what with.
    Overwritten(String, usize, usize, &'static str),
    /// Two pages changed places.
    Swapped(String, usize, usize),
    /// A page was written where another one is.
    Misdirected(String, usize, usize),
    /// A write was lost: a page is as it was in the older copy.
    OldPage(String, usize),
    Truncated(String, usize),
    Appended(String, usize),
    Emptied(String),
    Deleted(String),
    /// The file is that of the older copy.
    OldFile(String),
    /// All files are those of the older copy.
    OldDirectory,
}

/// Hurts a log in one to three ways.
pub(crate) fn hurt(directory: &Path, base: &Base, chance: &mut Rng) -> Vec<Hurt> {
    let times = [1, 1, 1, 2, 3][chance.usize(..5)];
    (0..times).map(|_| once(directory, base, chance)).collect()
}

fn once(directory: &Path, base: &Base, chance: &mut Rng) -> Hurt {
    if chance.u8(..25) == 0 {
        fs::remove_dir_all(directory).unwrap();
        copy_tree(base.older(), directory);
        return Hurt::OldDirectory;
    }
    let name = a_file(directory, chance);
    let path = directory.join(&name);
    let older = fs::read(base.older().join(&name)).ok();
    let mut bytes = fs::read(&path).unwrap_or_default();
    let hurt = if bytes.is_empty() {
        Hurt::Deleted(name)
    } else {
        change(name, &mut bytes, older.as_deref(), chance)
    };
    if matches!(hurt, Hurt::Deleted(_)) {
        let _ = fs::remove_file(&path);
    } else {
        fs::write(&path, bytes).unwrap();
    }
    hurt
}

/// Three of four times the data, which is the largest by far.
fn a_file(directory: &Path, chance: &mut Rng) -> String {
    let root = format!("{}/", directory.display());
    let names: Vec<String> = files_below(directory)
        .into_iter()
        .map(|(name, _)| name.replacen(&root, "", 1))
        .filter(|name| name != "ballast")
        .collect();
    if chance.u8(..4) > 0 || names.is_empty() {
        return "store/db".to_owned();
    }
    names[chance.usize(..names.len())].clone()
}

fn change(name: String, bytes: &mut Vec<u8>, older: Option<&[u8]>, chance: &mut Rng) -> Hurt {
    let len = bytes.len();
    let at = chance.usize(..len);
    let (page, other) = (at / PAGE * PAGE, chance.usize(..len) / PAGE * PAGE);
    match chance.u8(..18) {
        0..=3 => flip(name, bytes, 1, at, chance),
        4 | 5 => flip(name, bytes, 8, at, chance),
        6 => overwrite(name, bytes, at..at + 1, "another byte", |byte| byte ^ 0x55),
        7 => overwrite(name, bytes, at / 512 * 512..at / 512 * 512 + 512, "zeros", |_| 0),
        8 => overwrite(name, bytes, page..page + PAGE, "zeros", |_| 0),
        9 => overwrite(name, bytes, page..page + 16 * PAGE, "zeros", |_| 0),
        10 => {
            let mut garbage = Rng::with_seed(chance.u64(..));
            overwrite(name, bytes, page..page + PAGE, "garbage", |_| garbage.u8(..))
        }
        11 => {
            (0..PAGE).filter(|n| page.max(other) + n < len).for_each(|n| bytes.swap(page + n, other + n));
            Hurt::Swapped(name, page, other)
        }
        12 => {
            let copied = bytes[page..(page + PAGE).min(len)].to_vec();
            let room = copied.len().min(len - other);
            bytes[other..other + room].copy_from_slice(&copied[..room]);
            Hurt::Misdirected(name, page, other)
        }
        13 => {
            let old =
                older.and_then(|older| older.get(page..(page + PAGE).min(older.len()))).unwrap_or_default();
            let room = old.len().min(len - page);
            bytes[page..page + room].copy_from_slice(&old[..room]);
            Hurt::OldPage(name, page)
        }
        14 => {
            bytes.truncate(at);
            Hurt::Truncated(name, at)
        }
        15 => {
            let more = chance.usize(1..3 * PAGE);
            bytes.extend(std::iter::repeat_with(|| chance.u8(..)).take(more));
            Hurt::Appended(name, more)
        }
        16 if chance.bool() => {
            bytes.clear();
            Hurt::Emptied(name)
        }
        16 => Hurt::Deleted(name),
        _ => match older {
            Some(older) => {
                older.clone_into(bytes);
                Hurt::OldFile(name)
            }
            None => Hurt::Deleted(name),
        },
    }
}

fn flip(name: String, bytes: &mut [u8], times: usize, first: usize, chance: &mut Rng) -> Hurt {
    let mut places = Vec::new();
    let mut at = first;
    for _ in 0..times {
        bytes[at] ^= 1 << chance.u8(..8);
        places.push(at);
        at = (at + chance.usize(1..PAGE)) % bytes.len();
    }
    Hurt::Flipped(name, places)
}

fn overwrite(
    name: String,
    bytes: &mut [u8],
    range: std::ops::Range<usize>,
    with: &'static str,
    mut change: impl FnMut(u8) -> u8,
) -> Hurt {
    let range = range.start..range.end.min(bytes.len());
    bytes[range.clone()].iter_mut().for_each(|byte| *byte = change(*byte));
    Hurt::Overwritten(name, range.start, range.end, with)
}
