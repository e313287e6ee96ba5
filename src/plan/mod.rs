//! What a transaction was asked to do: who takes part, where each is called, and with what.
//!
//! The machine in [`crate::txn`] needs only numbers; this is what those numbers stand for. It is
//! written to the log with `begun` and never changes, so that a restarted node can go on telling
//! the branches although the client and its request are long gone.

mod id;
#[cfg(test)]
pub(crate) mod made;

pub use crate::trace::Trace;
pub use id::{Issuer, Origin, TransactionId};

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::txn::branch::NoSuchBranch;
use crate::txn::{Branch, Branches, Operation, Shape};

/// Who takes part and what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The id of the route that the request matched.
    pub route: String,
    /// When an undecided transaction is aborted.
    pub deadline: Timestamp,
    /// The branches, by number.
    pub branches: Vec<PlannedBranch>,
    /// Bodies that prepare, commit and abort carry again; branches that share one name the same.
    pub bodies: Vec<Body>,
    /// The client's `Idempotency-Key`, where it sent one.
    pub key: Option<ClientKey>,
    /// The trace that every call of this transaction belongs to, also after a restart.
    pub trace: Trace,
}

/// One branch: the service and where its four calls go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedBranch {
    /// The service's name in the configuration.
    pub service: String,
    /// Method of the work call.
    pub method: String,
    /// Path and query of the work call.
    pub work: String,
    /// Path of the prepare call; `None`: the answer to the work call is the vote.
    pub prepare: Option<String>,
    /// Path of the commit call.
    pub commit: String,
    /// Path of the abort call.
    pub abort: String,
    /// Which of [`Plan::bodies`] prepare, commit and abort carry; `None`: the envelope.
    pub body: Option<u8>,
}

/// A request body.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Body {
    /// Its `Content-Type`, where it has one.
    pub content_type: Option<String>,
    /// The bytes as they came.
    pub bytes: Bytes,
}

/// A participant's answer as it is handed on to the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`, where there was one.
    pub content_type: Option<String>,
    /// The body as it came.
    pub body: Bytes,
}

/// A client's idempotency key and what it was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientKey {
    /// The key as the client sent it, without quotes.
    pub key: String,
    /// SHA-256 of method, path, query and body of the request.
    pub fingerprint: [u8; 32],
}

impl Plan {
    /// The same as numbers, for the machine.
    pub fn shape(&self) -> Result<Shape, NoSuchBranch> {
        let asked = self.branches.iter().enumerate().filter(|(_, branch)| branch.prepare.is_some());
        let prepare = asked.map(|(number, _)| Branch::new(number)).collect::<Result<Branches, _>>()?;
        Shape::new(self.branches.len(), prepare, self.deadline)
    }

    /// The bytes of all that is in it and can be of any length.
    #[must_use]
    pub fn logged_len(&self) -> usize {
        let of_branch = |branch: &PlannedBranch| {
            let PlannedBranch { service, method, work, prepare, commit, abort, body: _ } = branch;
            let prepare = prepare.as_ref().map_or(0, String::len);
            service.len() + method.len() + work.len() + prepare + commit.len() + abort.len()
        };
        let of_body = |body: &Body| body.bytes.len() + body.content_type.as_ref().map_or(0, String::len);
        let branches: usize = self.branches.iter().map(of_branch).sum();
        let bodies: usize = self.bodies.iter().map(of_body).sum();
        self.route.len() + branches + bodies + self.key.as_ref().map_or(0, |key| key.key.len())
    }

    /// The plan of one branch. A branch comes from the plan's own shape, so it is there.
    #[must_use]
    pub fn branch(&self, branch: Branch) -> &PlannedBranch {
        self.branches.get(branch.index()).expect("a branch number comes from the plan's own shape")
    }

    /// The services of these branches, each once.
    #[must_use]
    pub fn services_of(&self, branches: Branches) -> BTreeSet<&str> {
        branches.iter().map(|branch| self.branch(branch).service.as_str()).collect()
    }

    /// What `prepare`, `commit` and `abort` of this branch carry again; `None`: the envelope.
    #[must_use]
    pub fn body(&self, branch: Branch) -> Option<&Body> {
        self.branch(branch).body.and_then(|number| self.bodies.get(usize::from(number)))
    }

    /// The member of `response` that holds this branch's answer: its service, with `#1`, `#2` ..
    /// where the service takes part more than once.
    #[must_use]
    pub fn label(&self, branch: Branch) -> String {
        let service = &self.branch(branch).service;
        let namesakes = |to: usize| self.branches.iter().take(to).filter(|b| b.service == *service).count();
        match namesakes(self.branches.len()) {
            0 | 1 => service.clone(),
            _ => format!("{service}#{}", namesakes(branch.index() + 1)),
        }
    }
}

impl PlannedBranch {
    /// The path that this call goes to.
    #[must_use]
    pub fn path(&self, operation: Operation) -> &str {
        match operation {
            Operation::Work => &self.work,
            Operation::Prepare => self.prepare.as_deref().unwrap_or_default(),
            Operation::Commit => &self.commit,
            Operation::Abort => &self.abort,
        }
    }
}
