//! Files of a log, copied and damaged.
#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

/// Copies a directory and all that is in it.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Flips a bit of these bytes wherever they are in either copy of a log.
pub(crate) fn damage(directory: &Path, wanted: &[u8]) {
    for file in ["store/db", "ring"].map(|file| directory.join(file)) {
        let mut bytes = fs::read(&file).unwrap();
        let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(wanted)).collect();
        assert!(!places.is_empty(), "it is in {}", file.display());
        for place in places {
            bytes[place] ^= 1;
        }
        fs::write(file, bytes).unwrap();
    }
}
