//! What a file holds, in pages that are shared between states as long as they are the same.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

pub(crate) const PAGE: usize = 4096;

/// Length and content of a file. Pages of nothing but zeros are not there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
    /// Of all pages together, in any order.
    digest: u64,
}

#[derive(Debug)]
struct Page {
    bytes: [u8; PAGE],
    digest: u64,
}

impl Image {
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Gives the file another length. What was beyond is zero if the file grows again.
    pub(crate) fn set_len(&mut self, len: u64) {
        let end = self.end();
        self.zero(len, end.saturating_sub(len));
        self.len = len;
    }

    /// Where the last page ends that holds anything.
    pub(crate) fn end(&self) -> u64 {
        self.pages.last_key_value().map_or(0, |(index, _)| (index + 1) * PAGE as u64)
    }

    /// Changes the content, not the length.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = at + done as u64;
            let within = usize::try_from(at % PAGE as u64).unwrap();
            let len = (PAGE - within).min(bytes.len() - done);
            self.write_page(at / PAGE as u64, within, &bytes[done..done + len]);
            done += len;
        }
    }

    /// As [`write`](Self::write), with zeros.
    pub(crate) fn zero(&mut self, at: u64, len: u64) {
        let (first, last) = (at / PAGE as u64, (at + len) / PAGE as u64);
        let there: Vec<u64> = self.pages.range(first..=last).map(|(index, _)| *index).collect();
        for index in there {
            let begin = index * PAGE as u64;
            let from = at.max(begin) - begin;
            let to = (at + len).min(begin + PAGE as u64) - begin;
            let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
            self.write_page(index, from, &vec![0; to - from]);
        }
    }

    fn write_page(&mut self, index: u64, within: usize, bytes: &[u8]) {
        let old = self.pages.get(&index);
        let mut page = old.map_or([0; PAGE], |old| old.bytes);
        if page[within..within + bytes.len()] == *bytes {
            return;
        }
        page[within..within + bytes.len()].copy_from_slice(bytes);
        self.digest ^= old.map_or(0, |old| old.digest);
        if page.iter().all(|byte| *byte == 0) {
            self.pages.remove(&index);
            return;
        }
        let digest = digest_of(&(index, &page));
        self.digest ^= digest;
        self.pages.insert(index, Arc::new(Page { bytes: page, digest }));
    }

    pub(crate) const fn digest(&self) -> (u64, u64) {
        (self.len, self.digest)
    }

    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(self.len)?;
        for (index, page) in &self.pages {
            let begin = index * PAGE as u64;
            let len = usize::try_from((self.len - begin).min(PAGE as u64)).unwrap();
            file.write_all_at(&page.bytes[..len], begin)?;
        }
        Ok(())
    }
}

pub(crate) fn digest_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
