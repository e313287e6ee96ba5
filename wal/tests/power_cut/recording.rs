//! What a process asked of the disk, in order, and what it promised meanwhile. Can be kept in a file.

use std::fs;
use std::io;
use std::path::Path;

/// Something that was asked of the disk, or promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Op {
    /// The moments when the call began and when it returned, on a clock that counts such moments.
    pub(crate) begin: u64,
    pub(crate) end: u64,
    pub(crate) kind: Kind,
}

/// A file or directory. Known by its number, because names come and go.
pub(crate) type Node = u64;

/// A directory and a name in it.
pub(crate) type Place = (Node, String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Write {
        node: Node,
        at: u64,
        bytes: Vec<u8>,
    },
    /// The file is that long from now on.
    Length {
        node: Node,
        len: u64,
    },
    /// The file is at least that long from now on.
    Reserve {
        node: Node,
        len: u64,
    },
    /// A sync of a file or directory that returned without an error.
    Sync {
        node: Node,
    },
    Make {
        place: Place,
        node: Node,
        is_directory: bool,
    },
    Rename {
        from: Place,
        to: Place,
    },
    Remove {
        place: Place,
    },
    /// Words of the process: what it promised.
    Said(String),
}

/// The directory in which everything happened. It was there before.
pub(crate) const ROOT: Node = 0;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Recording {
    /// In the order in which they began.
    pub(crate) ops: Vec<Op>,
    /// The power was on before this moment.
    pub(crate) first: u64,
}

impl Recording {
    /// The moment after the last one.
    pub(crate) fn end(&self) -> u64 {
        self.ops.iter().map(|op| op.end + 1).max().unwrap_or(0)
    }

    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let mut out = Writer(Vec::new());
        out.number(self.first);
        for op in &self.ops {
            out.number(op.begin);
            out.number(op.end);
            out.kind(&op.kind);
        }
        fs::write(path, out.0)
    }

    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        let mut from = Reader(&bytes);
        let first = from.number();
        let mut ops = Vec::new();
        while !from.0.is_empty() {
            ops.push(Op { begin: from.number(), end: from.number(), kind: from.kind() });
        }
        Ok(Self { ops, first })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn place(&mut self, (directory, name): &Place) {
        self.number(*directory);
        self.bytes(name.as_bytes());
    }

    fn numbers(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.number(*number);
        }
    }

    fn kind(&mut self, kind: &Kind) {
        match kind {
            Kind::Write { node, at, bytes } => {
                self.numbers(&[0, *node, *at]);
                self.bytes(bytes);
            }
            Kind::Length { node, len } => self.numbers(&[1, *node, *len]),
            Kind::Reserve { node, len } => self.numbers(&[2, *node, *len]),
            Kind::Sync { node } => self.numbers(&[3, *node]),
            Kind::Make { place, node, is_directory } => {
                self.numbers(&[4, *node, u64::from(*is_directory)]);
                self.place(place);
            }
            Kind::Rename { from, to } => {
                self.number(5);
                self.place(from);
                self.place(to);
            }
            Kind::Remove { place } => {
                self.number(6);
                self.place(place);
            }
            Kind::Said(words) => {
                self.number(7);
                self.bytes(words.as_bytes());
            }
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> u64 {
        let (number, rest) = self.0.split_first_chunk().unwrap();
        self.0 = rest;
        u64::from_le_bytes(*number)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = usize::try_from(self.number()).unwrap();
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes.to_vec()
    }

    fn words(&mut self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    fn place(&mut self) -> Place {
        (self.number(), self.words())
    }

    fn kind(&mut self) -> Kind {
        match self.number() {
            0 => Kind::Write { node: self.number(), at: self.number(), bytes: self.bytes() },
            1 => Kind::Length { node: self.number(), len: self.number() },
            2 => Kind::Reserve { node: self.number(), len: self.number() },
            3 => Kind::Sync { node: self.number() },
            4 => {
                let (node, is_directory) = (self.number(), self.number() == 1);
                Kind::Make { place: self.place(), node, is_directory }
            }
            5 => Kind::Rename { from: self.place(), to: self.place() },
            6 => Kind::Remove { place: self.place() },
            7 => Kind::Said(self.words()),
            other => panic!("{other} is no kind"),
        }
    }
}
