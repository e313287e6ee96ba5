//! The `[[routes]]` sections: each by itself, then all of them together.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;

use super::file::{RouteFile, Text};
use super::findings::{Findings, Noted};
use super::services::Known;
use crate::gateway::{Pattern, Route, RouteTable};

/// The id is a label of metrics.
const ID_BYTES_MAX: usize = 100;

/// Where the node says what became of a transaction (contract section 4).
pub(crate) const OF_THE_NODE: &str = "/v1/transactions/";

/// What the parts of one route are read with. Where its methods find a mistake they note it.
pub(super) struct Reader<'a, 'f, 's> {
    pub(super) id: &'a str,
    pub(super) known: &'a Known<'a>,
    /// The pattern of the route; `None`: it is a mistake, and what depends on it cannot be judged.
    pub(super) pattern: Option<&'a Pattern>,
    pub(super) findings: &'f mut Findings<'s>,
}

/// The table of all routes; `None` where two cannot be told apart.
pub(super) fn routes(
    files: &[RouteFile],
    known: &Known<'_>,
    findings: &mut Findings<'_>,
) -> Option<RouteTable> {
    check_ids(files, findings);
    let mut routes = Vec::new();
    let mut places = Vec::new();
    for file in files {
        if let Ok(route) = route(file, known, findings) {
            routes.push(route);
            places.push(&file.id);
        }
    }
    let ambiguous = match RouteTable::new(routes) {
        Ok(table) => return Some(table),
        Err(ambiguous) => ambiguous,
    };
    for pair in ambiguous {
        if let (Some(first), Some(second)) = (places.get(pair.first), places.get(pair.second)) {
            findings.add(&second.span(), apart(first, second, findings));
        }
    }
    None
}

fn route(file: &RouteFile, known: &Known<'_>, findings: &mut Findings<'_>) -> Result<Route, Noted> {
    let path = &file.matches.path;
    let pattern = findings.keep(&path.span(), "bad path pattern", Pattern::parse(path.get_ref()));
    if pattern.as_ref().is_ok_and(|pattern| pattern.to_string().starts_with(OF_THE_NODE)) {
        let message = format!(
            "the node itself answers below {OF_THE_NODE}, so that this route would never get a request; give it \
             another path"
        );
        return findings.refuse(&path.span(), message);
    }
    let id = file.id.get_ref().as_str();
    let mut reader = Reader { id, known, pattern: pattern.as_ref().ok(), findings };
    let action = reader.action(file);
    let matches = reader.matcher(file);
    let priority = file.priority.unwrap_or_default();
    Ok(Route { id: id.to_owned(), matches: matches?, priority, action: action? })
}

fn apart(first: &Text, second: &Text, findings: &Findings<'_>) -> String {
    let (one, two) = (first.get_ref(), second.get_ref());
    let there = findings.source().mention(first.span().start);
    format!(
        "the routes `{one}` ({there}) and `{two}` cannot be told apart: a request can match both, and \
         neither is more specific; change the path of one, or give it a method, host, header or query \
         parameter of its own, or say which comes first: `priority = 1`"
    )
}

fn check_ids(files: &[RouteFile], findings: &mut Findings<'_>) {
    let mut seen: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    for file in files {
        let id = file.id.get_ref().as_str();
        if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
            let message = format!("a route's id has 1 to {ID_BYTES_MAX} bytes and no control characters");
            findings.add(&file.id.span(), message);
        }
        if let Some(first) = seen.insert(id, file.id.span()) {
            let there = findings.source().mention(first.start);
            let message = format!("the route `{id}` is already declared ({there}); give one another id");
            findings.add(&file.id.span(), message);
        }
    }
}

impl Reader<'_, '_, '_> {
    /// Notes a mistake.
    pub(super) fn refuse<T, V>(&mut self, at: &Spanned<V>, message: impl Into<String>) -> Result<T, Noted> {
        self.findings.refuse(&at.span(), message)
    }

    /// Notes that a field is named twice; case does not count.
    pub(super) fn twice<T>(&mut self, name: &Text) -> Result<T, Noted> {
        let field = name.get_ref().to_lowercase();
        self.refuse(name, format!("the field `{field}` stands here twice; keep one"))
    }
}
