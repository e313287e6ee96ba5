//! The sections of services as text, each a configuration of its own: what has to outlive the file that it was in.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Table, Value};

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
