//! Lays the records of one commit out in blocks.

use crate::block::{self, BLOCK_MAX, BODY_MAX, BlockKey, Checksum, HEADER_LEN, Header};
use crate::frame::{self, Kind};
use crate::lsn::Lsn;

/// Where the log ends: what the next block needs to know of all those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The number of the next record.
    pub(crate) next: Lsn,
    /// The checksum of the last block; 0 if there never was one.
    pub(crate) checksum: Checksum,
}

/// A block, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) key: BlockKey,
    pub(crate) bytes: Vec<u8>,
}

/// Fills blocks one after the other.
#[derive(Debug)]
pub(crate) struct Packer {
    tail: Tail,
    epoch: u64,
    frames: Vec<u8>,
    count: u32,
    done: Vec<Packed>,
}

impl Packer {
    /// Goes on where `tail` says; every block is from `epoch`.
    pub(crate) fn new(tail: Tail, epoch: u64) -> Self {
        Self { tail, epoch, frames: Vec::new(), count: 0, done: Vec::new() }
    }

    /// Adds a record and gives the number it will have.
    pub(crate) fn push(&mut self, payload: &[u8]) -> Lsn {
        if payload.len() > BODY_MAX {
            return self.push_in_parts(payload);
        }
        if HEADER_LEN + self.frames.len() + frame::HEADER_LEN + payload.len() > BLOCK_MAX {
            self.seal();
        }
        frame::encode(Kind::Whole, payload, &mut self.frames);
        let lsn = self.tail.next.plus(self.count.into());
        self.count += 1;
        lsn
    }

    /// The blocks, and where the log ends once they are stored.
    pub(crate) fn finish(mut self) -> (Vec<Packed>, Tail) {
        (self.take(), self.tail)
    }

    /// The blocks so far; what is added from now on goes to others.
    pub(crate) fn take(&mut self) -> Vec<Packed> {
        self.seal();
        std::mem::take(&mut self.done)
    }

    fn seal(&mut self) {
        if self.count == 0 {
            return;
        }
        let (count, first) = (self.count, self.tail.next);
        let frames = std::mem::take(&mut self.frames);
        self.emit(BlockKey::of(first), count, &frames);
        self.count = 0;
        self.tail.next = first.plus(count.into());
    }

    /// Every part is a block of its own under the same number, so that one record has one number.
    fn push_in_parts(&mut self, payload: &[u8]) -> Lsn {
        self.seal();
        let lsn = self.tail.next;
        let last = payload.len().div_ceil(BODY_MAX) - 1;
        for (index, piece) in payload.chunks(BODY_MAX).enumerate() {
            let kind = match index {
                0 => Kind::First,
                _ if index == last => Kind::Last,
                _ => Kind::Middle,
            };
            let part = u16::try_from(index).expect("the longest payload has fewer than 65536 parts");
            let mut frames = Vec::with_capacity(frame::HEADER_LEN + piece.len());
            frame::encode(kind, piece, &mut frames);
            self.emit(BlockKey { first: lsn, part }, 1, &frames);
        }
        self.tail.next = lsn.next();
        lsn
    }

    fn emit(&mut self, key: BlockKey, count: u32, frames: &[u8]) {
        let header = Header { key, count, epoch: self.epoch, previous: self.tail.checksum };
        let (bytes, checksum) = block::encode(&header, frames);
        self.tail.checksum = checksum;
        self.done.push(Packed { key, bytes });
    }
}
