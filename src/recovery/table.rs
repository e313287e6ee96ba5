//! What recovery does with what it finds: the table, as data.
//!
//! | block and frame | sequence | encoding | replay | then |
//! |---|---|---|---|---|
//! | whole | no gap | known | legal, undecided | log `decided: abort (restarted)`, tell every branch |
//! | whole | no gap | known | legal, decided | tell every branch that has not confirmed |
//! | whole | no gap | known | legal, finished | nothing |
//! | whole | no gap | known | illegal order | park it, keep its bytes, tell the operator |
//! | whole | no gap | newer | - | refuse to start: a newer program wrote this |
//! | whole | gap | - | - | refuse to start, name the gap |
//! | damaged | - | - | - | the same: it may be the commit that was already sent |

/// What the bytes of a block and its frames say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bytes {
    /// Every checksum holds.
    Whole,
    /// One does not.
    Damaged,
}

/// Whether every record and block follows the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// It does.
    NoGap,
    /// A number is missing, or a block does not continue the chain.
    Gap,
}

/// Whether the program knows the format of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// It does.
    Known,
    /// A newer program wrote it.
    Newer,
}

/// What the records of a transaction leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// A transaction without a decision.
    Undecided,
    /// A decision that some branch has not confirmed.
    Decided,
    /// A transaction that ended.
    Finished,
    /// Steps that no run can have written in this order.
    Illegal,
}

/// All that is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// Blocks and frames.
    pub bytes: Bytes,
    /// Their order.
    pub sequence: Sequence,
    /// Their format.
    pub encoding: Encoding,
    /// What they leave.
    pub replayed: Replayed,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Log the abort, tell every branch.
    Abort,
    /// Tell every branch that has not confirmed.
    Tell,
    /// Nothing.
    Nothing,
    /// Set it aside and tell the operator.
    Park,
    /// Refuse to start: a newer program wrote this.
    RefuseNewer,
    /// Refuse to start: name the damage.
    RefuseDamage,
}

/// One row; `None` is a dash: whatever it is.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    bytes: Bytes,
    sequence: Option<Sequence>,
    encoding: Option<Encoding>,
    replayed: Option<Replayed>,
    then: Verdict,
}

/// The table. Every finding fits exactly one row.
pub const TABLE: [Row; 7] = [
    Row::readable(Replayed::Undecided, Verdict::Abort),
    Row::readable(Replayed::Decided, Verdict::Tell),
    Row::readable(Replayed::Finished, Verdict::Nothing),
    Row::readable(Replayed::Illegal, Verdict::Park),
    Row {
        bytes: Bytes::Whole,
        sequence: Some(Sequence::NoGap),
        encoding: Some(Encoding::Newer),
        replayed: None,
        then: Verdict::RefuseNewer,
    },
    Row {
        bytes: Bytes::Whole,
        sequence: Some(Sequence::Gap),
        encoding: None,
        replayed: None,
        then: Verdict::RefuseDamage,
    },
    Row {
        bytes: Bytes::Damaged,
        sequence: None,
        encoding: None,
        replayed: None,
        then: Verdict::RefuseDamage,
    },
];

/// What is done with a finding.
#[must_use]
pub fn verdict(finding: Finding) -> Verdict {
    let row = TABLE.iter().find(|row| row.fits(finding));
    row.expect("every finding fits a row, as a test shows for all of them").then
}

impl Finding {
    /// A log that could be read, with a transaction that ended.
    pub const READABLE: Self = Self {
        bytes: Bytes::Whole,
        sequence: Sequence::NoGap,
        encoding: Encoding::Known,
        replayed: Replayed::Finished,
    };
}

impl Row {
    const fn readable(replayed: Replayed, then: Verdict) -> Self {
        Self {
            bytes: Bytes::Whole,
            sequence: Some(Sequence::NoGap),
            encoding: Some(Encoding::Known),
            replayed: Some(replayed),
            then,
        }
    }

    fn fits(self, finding: Finding) -> bool {
        self.bytes == finding.bytes
            && self.sequence.is_none_or(|sequence| sequence == finding.sequence)
            && self.encoding.is_none_or(|encoding| encoding == finding.encoding)
            && self.replayed.is_none_or(|replayed| replayed == finding.replayed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Finding> {
        let mut findings = Vec::new();
        for bytes in [Bytes::Whole, Bytes::Damaged] {
            for sequence in [Sequence::NoGap, Sequence::Gap] {
                for encoding in [Encoding::Known, Encoding::Newer] {
                    let replays =
                        [Replayed::Undecided, Replayed::Decided, Replayed::Finished, Replayed::Illegal];
                    findings.extend(replays.map(|replayed| Finding { bytes, sequence, encoding, replayed }));
                }
            }
        }
        findings
    }

    #[test]
    fn every_finding_fits_exactly_one_row() {
        let findings = all();
        assert_eq!(findings.len(), 32);
        for finding in findings {
            let rows = TABLE.iter().filter(|row| row.fits(finding)).count();
            assert_eq!(rows, 1, "{finding:?}");
        }
    }

    #[test]
    fn nothing_is_resumed_from_a_log_that_is_not_whole() {
        let doubtful = |finding: &Finding| {
            finding.bytes == Bytes::Damaged
                || finding.sequence == Sequence::Gap
                || finding.encoding == Encoding::Newer
        };
        for finding in all().into_iter().filter(doubtful) {
            let refused = [Verdict::RefuseNewer, Verdict::RefuseDamage].contains(&verdict(finding));
            assert!(refused, "{finding:?}");
        }
    }
}
