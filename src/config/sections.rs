//! The sections of services as text, each a configuration of its own: what has to outlive the file that it was in.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Table, Value};

use crate::discovery::consul::{AgentAddress, TokenPlace};
use crate::discovery::{Source, Spec};

/// Every `[services.NAME]` of the tree, by name.
pub(super) fn of(tree: &DeTable<'_>) -> BTreeMap<String, String> {
    let services = tree.get("services").and_then(|services| services.get_ref().as_table());
    let text = |(name, section): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let name = AsRef::<str>::as_ref(name.get_ref()).to_owned();
        let section = Value::deserialize(ValueDeserializer::from(section.clone())).ok()?;
        let services = Table::from_iter([(name.clone(), section)]);
        let text = toml::to_string(&Table::from_iter([("services".to_owned(), services.into())])).ok()?;
        Some((name, text))
    };
    services.into_iter().flatten().filter_map(text).collect()
}

/// The section without what stands elsewhere in the file: who stands in for the service, which for transactions nobody does,
/// and how to speak to Consul, which is put in.
pub(super) fn alone(section: &str, spec: &Spec) -> String {
    let Ok(mut table) = toml::from_str::<Table>(section) else { return section.to_owned() };
    let services = table.get_mut("services").and_then(Value::as_table_mut);
    for service in services.into_iter().flat_map(|services| services.iter_mut()) {
        let Some(service) = service.1.as_table_mut() else { continue };
        service.remove("failover");
        let consul = service.get_mut("consul").and_then(Value::as_table_mut);
        if let (Some(consul), Source::Consul(source)) = (consul, &spec.source) {
            put_in(consul, &source.agent);
        }
    }
    toml::to_string(&table).unwrap_or_else(|_| section.to_owned())
}

fn put_in(consul: &mut Table, agent: &AgentAddress) {
    consul.insert("agent".to_owned(), agent.url.clone().into());
    let (key, place) = match &agent.token {
        None => return,
        Some(TokenPlace::Variable(name)) => ("token_env", name.clone()),
        Some(TokenPlace::File(path)) => ("token_file", path.display().to_string()),
    };
    consul.insert(key.to_owned(), place.into());
}
