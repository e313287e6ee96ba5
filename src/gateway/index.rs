//! Which routes can take a request at all, by its host and path: a few of a thousand.
//!
//! ```text
//!  host ─► tree of that name ───┐
//!          trees of its parents ├─► /a ─► /{} ─► /b ─► places in the table, in order of precedence
//!          tree of any host ────┘     └─► {*}
//! ```
//!
//! It decides nothing. It gives every entry of the table whose host and path fit, in the order in which a look
//! at all entries would meet them, and the table looks at those alone. So it can make a lookup faster and cannot
//! change its meaning (Caddy's CVE-2026-27588 was a fast path that did); a property test of the table holds that.
//!
//! `matchit` and its like give the one best path; here a path may fit and its headers not, and the next
//! best has to be found.

use std::collections::HashMap;

use super::host::{HostPattern, parents};
use super::path::CleanPath;
use super::pattern::{Pattern, Step, split_first};

/// Places in the table, by host and path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Index {
    exact: HashMap<String, Tree>,
    below: HashMap<String, Tree>,
    any: Tree,
}

/// The patterns that begin alike, by the segment that comes next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Tree {
    literals: HashMap<String, Tree>,
    param: Option<Box<Tree>>,
    /// The places of patterns that end here.
    ends: Vec<usize>,
    /// The places of patterns that take all that follows.
    rest: Vec<usize>,
}

impl Index {
    /// Adds an entry of the table, which is at `place`.
    pub(super) fn add(&mut self, place: usize, host: Option<&HostPattern>, path: &Pattern) {
        let tree = match host {
            Some(HostPattern::Exact(name)) => self.exact.entry(name.clone()).or_default(),
            Some(HostPattern::Below(name)) => self.below.entry(name.clone()).or_default(),
            None => &mut self.any,
        };
        tree.add(place, path);
    }

    /// The places of all entries whose host and path fit, in ascending order.
    pub(super) fn candidates(&self, host: Option<&str>, path: &CleanPath) -> Vec<usize> {
        let mut found = Vec::new();
        let exact = host.and_then(|host| self.exact.get(host));
        // Most tables have no wildcard: then there is no parent to look for.
        let below = host.into_iter().filter(|_| !self.below.is_empty()).flat_map(parents);
        let below = below.filter_map(|parent| self.below.get(parent));
        for tree in exact.into_iter().chain(below).chain([&self.any]) {
            tree.collect(Some(path.segments()), &mut found);
        }
        found.sort_unstable();
        found
    }
}

impl Tree {
    fn add(&mut self, place: usize, path: &Pattern) {
        let mut tree = self;
        for step in path.steps() {
            tree = match step {
                Step::Literal(text) => tree.literals.entry(text.clone()).or_default(),
                Step::Param(_) => tree.param.get_or_insert_default(),
                Step::Rest(_) => return tree.rest.push(place),
            };
        }
        tree.ends.push(place);
    }

    /// No deeper than the longest pattern of the configuration, and each node once, whatever the path.
    fn collect(&self, left: Option<&str>, found: &mut Vec<usize>) {
        let Some(left) = left else { return found.extend(&self.ends) };
        found.extend(&self.rest);
        let (head, tail) = split_first(left);
        if let Some(next) = self.literals.get(head) {
            next.collect(tail, found);
        }
        if let Some(next) = self.param.as_ref().filter(|_| !head.is_empty()) {
            next.collect(tail, found);
        }
    }
}
