//! Which services stand in for others.

use std::collections::{BTreeMap, BTreeSet};

use super::file::{ServiceFile, Text};
use super::findings::Findings;
use super::services::Known;

/// More of them would be asked one after the other at every request.
const STAND_INS_MAX: usize = 8;

/// The stand-ins of each service that has any, in order. A mistake is noted, and the name left out.
pub(super) fn failovers(
    files: &BTreeMap<Text, ServiceFile>,
    known: &Known<'_>,
    findings: &mut Findings<'_>,
) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for (name, file) in files {
        let Some(given) = &file.failover else { continue };
        let (name, at, names) = (name.get_ref(), given.span(), &given.get_ref().0);
        if names.is_empty() || names.len() > STAND_INS_MAX {
            let message = format!(
                "`failover` of `{name}` names {} services; name 1 to {STAND_INS_MAX}, or leave it out",
                names.len()
            );
            findings.add(&at, message);
        }
        if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
            findings.add(&at, format!("`failover` of `{name}` names a service twice; name each once"));
        }
        let names: Vec<_> = names.iter().filter_map(|given| known.named(given, &at, findings).ok()).collect();
        all.insert(name.clone(), names);
    }
    for (name, file) in files {
        if let (Some(given), Some(way)) = (&file.failover, way_back(name.get_ref(), &all)) {
            let message = format!(
                "`failover` leads from {} back to where it began; take one of them out, so that it ends somewhere",
                way.join(" to ")
            );
            findings.add(&given.span(), message);
        }
    }
    all
}

/// The way from a service over its stand-ins, and theirs, back to itself.
fn way_back(start: &str, all: &BTreeMap<String, Vec<String>>) -> Option<Vec<String>> {
    let of = |name: &str| all.get(name).into_iter().flatten();
    let mut seen = BTreeSet::new();
    let mut ways: Vec<Vec<&String>> = of(start).map(|first| vec![first]).collect();
    while let Some(way) = ways.pop() {
        let Some(last) = way.last() else { continue };
        if last.as_str() == start {
            let way = way.into_iter().map(|name| format!("`{name}`"));
            return Some(std::iter::once(format!("`{start}`")).chain(way).collect());
        }
        if seen.insert(last.as_str()) {
            ways.extend(of(last).map(|next| way.iter().copied().chain([next]).collect()));
        }
    }
    None
}
