//! Variables of the environment that stand for keys of the file: `UNANIMOUS__NODE__LISTEN` is
//! `node.listen`, whatever the case. Services go by their name, routes by their id.
//!
//! A name is matched without regard to case, and `-` and `.` in it to `_`, because the names of
//! variables cannot have them.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::findings::{Findings, nearest};

const PREFIX: &str = "UNANIMOUS__";

/// What a variable's text becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A string.
    Text,
    /// A number or a truth value, written as in TOML.
    Literal,
    /// A list of strings, with commas between them.
    List,
}

/// Every key that a variable can stand for; `*` is the name of a service or the id of a route.
const KEYS: &[(&str, Kind)] = &[
    ("node.data_dir", Kind::Text),
    ("node.listen", Kind::Text),
    ("node.admin", Kind::Text),
    ("node.advertise", Kind::Text),
    ("node.trusted_proxies", Kind::List),
    ("node.access_log", Kind::Literal),
    ("node.drain", Kind::Text),
    ("node.finish", Kind::Text),
    ("node.header_timeout", Kind::Text),
    ("node.body_timeout", Kind::Text),
    ("node.body_rate_min", Kind::Literal),
    ("node.answer_timeout", Kind::Text),
    ("node.header_max", Kind::Literal),
    ("node.connections_max", Kind::Literal),
    ("node.body_max", Kind::Literal),
    ("node.body_budget", Kind::Literal),
    ("node.connect_timeout", Kind::Text),
    ("node.pool_idle", Kind::Text),
    ("node.tunnel_idle", Kind::Text),
    ("node.answer_max", Kind::Literal),
    ("node.open_transactions_max", Kind::Literal),
    ("node.answer_kept_max", Kind::Literal),
    ("log.sync", Kind::Text),
    ("log.retention", Kind::Text),
    ("log.accept_damage", Kind::Literal),
    ("log.accept_copy", Kind::Text),
    ("log.room_min", Kind::Literal),
    ("consul.agent", Kind::Text),
    ("consul.token_env", Kind::Text),
    ("consul.token_file", Kind::Text),
    ("consul.register.name", Kind::Text),
    ("consul.register.id", Kind::Text),
    ("consul.register.address", Kind::Text),
    ("consul.register.port", Kind::Literal),
    ("consul.register.tags", Kind::List),
    ("consul.register.check", Kind::Text),
    ("consul.register.interval", Kind::Text),
    ("consul.register.gone_after", Kind::Text),
    ("services.*.endpoints", Kind::List),
    ("services.*.dns.name", Kind::Text),
    ("services.*.dns.port", Kind::Literal),
    ("services.*.dns.family", Kind::Text),
    ("services.*.dns.server", Kind::Text),
    ("services.*.dns.refresh_min", Kind::Text),
    ("services.*.dns.refresh_max", Kind::Text),
    ("services.*.srv.name", Kind::Text),
    ("services.*.srv.family", Kind::Text),
    ("services.*.srv.server", Kind::Text),
    ("services.*.srv.refresh_min", Kind::Text),
    ("services.*.srv.refresh_max", Kind::Text),
    ("services.*.file", Kind::Text),
    ("services.*.consul.service", Kind::Text),
    ("services.*.consul.agent", Kind::Text),
    ("services.*.consul.token_env", Kind::Text),
    ("services.*.consul.token_file", Kind::Text),
    ("services.*.consul.datacenter", Kind::Text),
    ("services.*.consul.tag", Kind::Text),
    ("services.*.consul.health", Kind::Text),
    ("services.*.consul.stale", Kind::Text),
    ("services.*.consul.wait", Kind::Text),
    ("services.*.optional", Kind::Literal),
    ("services.*.keep", Kind::Text),
    ("services.*.failover", Kind::List),
    ("services.*.balance.panic_percent", Kind::Literal),
    ("services.*.balance.policy", Kind::Text),
    ("services.*.balance.slow_start", Kind::Text),
    ("services.*.breaker.error_percent", Kind::Literal),
    ("services.*.breaker.open", Kind::Text),
    ("services.*.breaker.open_max", Kind::Text),
    ("services.*.breaker.ramp", Kind::Text),
    ("services.*.breaker.requests_min", Kind::Literal),
    ("services.*.breaker.window", Kind::Text),
    ("services.*.health.healthy", Kind::Literal),
    ("services.*.health.interval", Kind::Text),
    ("services.*.health.path", Kind::Text),
    ("services.*.health.timeout", Kind::Text),
    ("services.*.health.unhealthy", Kind::Literal),
    ("services.*.idempotent", Kind::Literal),
    ("services.*.limit.initial", Kind::Literal),
    ("services.*.limit.max", Kind::Literal),
    ("services.*.limit.min", Kind::Literal),
    ("services.*.outlier.base_time", Kind::Text),
    ("services.*.outlier.consecutive", Kind::Literal),
    ("services.*.outlier.error_percent", Kind::Literal),
    ("services.*.outlier.max_percent", Kind::Literal),
    ("services.*.outlier.max_time", Kind::Text),
    ("services.*.outlier.requests_min", Kind::Literal),
    ("services.*.outlier.window", Kind::Text),
    ("services.*.protocol", Kind::Text),
    ("services.*.retries.per_second", Kind::Literal),
    ("services.*.retries.percent", Kind::Literal),
    ("services.*.transaction.prepare", Kind::Text),
    ("services.*.transaction.commit", Kind::Text),
    ("services.*.transaction.abort", Kind::Text),
    ("services.*.transaction.body", Kind::Text),
    ("services.*.transaction.timeout", Kind::Text),
    ("services.*.transaction.calls_max", Kind::Literal),
    ("services.*.transaction.retry.initial", Kind::Text),
    ("services.*.transaction.retry.max", Kind::Text),
    ("services.*.transaction.retry.jitter", Kind::Literal),
    ("routes.*.match.path", Kind::Text),
    ("routes.*.match.methods", Kind::List),
    ("routes.*.match.host", Kind::Text),
    ("routes.*.priority", Kind::Literal),
    ("routes.*.forward.service", Kind::Text),
    ("routes.*.forward.path", Kind::Text),
    ("routes.*.forward.host", Kind::Text),
    ("routes.*.forward.timeout", Kind::Text),
    ("routes.*.forward.try_timeout", Kind::Text),
    ("routes.*.forward.body_rate_min", Kind::Literal),
    ("routes.*.redirect.to", Kind::Text),
    ("routes.*.redirect.status", Kind::Literal),
    ("routes.*.redirect.keep_query", Kind::Literal),
    ("routes.*.respond.status", Kind::Literal),
    ("routes.*.respond.body", Kind::Text),
    ("routes.*.respond.content_type", Kind::Text),
    ("routes.*.merge.timeout", Kind::Text),
    ("routes.*.merge.on_conflict", Kind::Text),
    ("routes.*.merge.status", Kind::Literal),
    ("routes.*.merge.list_missing", Kind::Text),
    ("routes.*.transaction.timeout", Kind::Text),
    ("routes.*.transaction.reply_within", Kind::Text),
];

/// A variable that is meant for this program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Variable {
    name: String,
    /// The parts of its name after the prefix, in lower case.
    parts: Vec<String>,
    text: String,
}

impl Variable {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The key it stands for, if there is one.
    fn key(&self) -> Option<(Vec<&'static str>, Kind)> {
        let split = |(key, kind): &(&'static str, Kind)| (key.split('.').collect::<Vec<_>>(), *kind);
        KEYS.iter().map(split).find(|(key, _)| self.is(key))
    }

    fn is(&self, key: &[&str]) -> bool {
        let same = |(part, given): (&&str, &String)| *part == "*" || *part == given;
        key.len() == self.parts.len() && key.iter().zip(&self.parts).all(same)
    }

    fn value(&self, kind: Kind, at: &Range<usize>) -> DeValue<'_> {
        let string = |text| DeValue::String(Cow::Borrowed(text));
        match kind {
            Kind::Text => string(&self.text),
            Kind::Literal => literal(&self.text).unwrap_or_else(|| string(&self.text)),
            Kind::List => {
                let items = self.text.split(',').map(|item| Spanned::new(at.clone(), string(item.trim())));
                DeValue::Array(items.collect())
            }
        }
    }
}

/// The variables that are meant for this program, in the order of their names.
pub(super) fn collect(env: impl Iterator<Item = (String, String)>) -> Vec<Variable> {
    let mut variables: Vec<_> = env
        .filter_map(|(name, text)| {
            let path = name.to_lowercase().strip_prefix(&PREFIX.to_lowercase())?.to_owned();
            let parts = path.split("__").map(str::to_owned).collect();
            Some(Variable { name, parts, text })
        })
        .collect();
    variables.sort();
    variables
}

/// Puts what the variables say into the tree of the file.
pub(super) fn apply<'t>(tree: &mut DeTable<'t>, variables: &'t [Variable], findings: &mut Findings<'_>) {
    for (number, variable) in variables.iter().enumerate() {
        let at = findings.source().of_variable(number);
        let Some((key, kind)) = variable.key() else {
            findings.add(&at, unknown(variable));
            continue;
        };
        let value = Spanned::new(at.clone(), variable.value(kind, &at));
        if let Err(message) = set(tree, &key, &variable.parts, value) {
            findings.add(&at, message);
        }
    }
}

/// Sets `key` below `table`. A part of the tree that is no table where one belongs is left as it is: the
/// reading of the tree will say so, with its place.
fn set<'t>(
    table: &mut DeTable<'t>,
    key: &[&'static str],
    parts: &[String],
    value: Spanned<DeValue<'t>>,
) -> Result<(), String> {
    match (key, parts) {
        ([last], _) => {
            table.insert(Spanned::new(value.span(), Cow::Borrowed(*last)), value);
            Ok(())
        }
        ([collection, "*", key @ ..], [_, name, parts @ ..]) => {
            let named = table.get_mut(*collection).and_then(|found| find(found.get_mut(), name));
            let table = named
                .ok_or_else(|| format!("the file has no `{name}` under `{collection}`; declare it there"))?;
            set_in(table, key, parts, value)
        }
        ([section, key @ ..], [_, parts @ ..]) => {
            let name = Spanned::new(value.span(), Cow::Borrowed(*section));
            let empty = || Spanned::new(value.span(), DeValue::Table(DeTable::new()));
            let found = table.entry(name).or_insert_with(empty);
            set_in(found.get_mut(), key, parts, value)
        }
        ([], _) | (_, []) => Ok(()),
    }
}

fn set_in<'t>(
    found: &mut DeValue<'t>,
    key: &[&'static str],
    parts: &[String],
    value: Spanned<DeValue<'t>>,
) -> Result<(), String> {
    if let DeValue::Table(table) = found { set(table, key, parts, value) } else { Ok(()) }
}

/// The entry of a table by its key, or of a list of tables by their `id`.
fn find<'a, 't>(collection: &'a mut DeValue<'t>, name: &str) -> Option<&'a mut DeValue<'t>> {
    match collection {
        DeValue::Table(table) => {
            let entry = table.iter_mut().find(|(key, _)| same_name(key.get_ref(), name));
            entry.map(|(_, value)| value.get_mut())
        }
        DeValue::Array(items) => {
            let is =
                |item: &&mut Spanned<DeValue<'t>>| id(item.get_ref()).is_some_and(|id| same_name(id, name));
            items.iter_mut().find(is).map(Spanned::get_mut)
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => None,
    }
}

fn id<'a>(item: &'a DeValue<'_>) -> Option<&'a str> {
    item.as_table()?.get("id")?.get_ref().as_str()
}

fn same_name(name: &str, given: &str) -> bool {
    name.to_lowercase().replace(['-', '.'], "_") == given
}

/// A number or a truth value; anything else is left to be a string, which the reading will refuse.
fn literal(text: &str) -> Option<DeValue<'_>> {
    let value = DeValue::parse(text.trim()).ok()?.into_inner();
    (value.is_integer() || value.is_bool()).then_some(value)
}

fn unknown(variable: &Variable) -> String {
    let given = variable.parts.join(".");
    let nearest = nearest(&given, KEYS.iter().map(|(key, _)| *key)).unwrap_or_default();
    let nearest = nearest.to_uppercase().replace('.', "__").replace('*', "<NAME>");
    format!("no key goes by this name; did you mean {PREFIX}{nearest}?")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The keys that the reader knows in a table, by what it says of one that it does not.
    fn known(table: &str) -> BTreeSet<String> {
        let text = format!("{table}\nzzz = 1\n");
        let said = crate::config::parse("f", &text, std::iter::empty()).unwrap_err().to_string();
        let (_, list) = said.split_once("Known here: ").unwrap();
        list.split(", ").map(str::to_owned).collect()
    }

    fn listed(table: &str) -> BTreeSet<String> {
        KEYS.iter()
            .filter_map(|(key, _)| key.strip_prefix(table)?.strip_prefix('.'))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn every_key_of_the_file_that_is_one_value_has_its_variable() {
        assert_eq!(known("[node]"), listed("node"));
        assert_eq!(known("[log]"), listed("log"));
        for table in ["dns", "srv", "consul"] {
            assert_eq!(known(&format!("[services.s.{table}]")), listed(&format!("services.*.{table}")));
        }
        let only_tables = |known: BTreeSet<String>, listed: BTreeSet<String>| -> Vec<String> {
            known.difference(&listed).cloned().collect()
        };
        assert_eq!(
            only_tables(known("[services.s]"), listed("services.*")),
            [
                "balance",
                "breaker",
                "consul",
                "dns",
                "health",
                "limit",
                "outlier",
                "retries",
                "srv",
                "transaction"
            ]
        );
        assert_eq!(only_tables(known("[consul]"), listed("consul")), ["register"]);
        assert_eq!(only_tables(known("[consul.register]"), listed("consul.register")), ["meta"]);
        let retry = known("[services.s.transaction.retry]");
        assert_eq!(retry, listed("services.*.transaction.retry"));
        let transaction: BTreeSet<_> =
            listed("services.*.transaction").into_iter().filter(|key| !key.contains('.')).collect();
        let known = known("[services.s.transaction]");
        assert_eq!(known.difference(&transaction).collect::<Vec<_>>(), ["retry"]);
    }
}
