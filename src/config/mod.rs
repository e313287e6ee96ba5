//! The configuration: one TOML file and the environment, read once into a type that cannot be wrong.
//!
//! ```text
//!  file ─► TOML tree ─► variables put in ─► structs (file.rs) ─► checked, resolved ─► Config
//! ```
//!
//! Everything that could make the node fail later is found here, and every mistake is said with its
//! place and with what to do. Each layer owns the type of its options; this module only fills them.
//! It does *not* look at the world: no name is resolved, no directory opened.

mod actions;
mod answers;
mod balancing;
mod balancing_file;
mod conditions;
mod discovery;
mod env;
mod error;
mod failover;
mod file;
mod findings;
mod guards;
mod hosts;
mod merge;
mod merge_file;
mod merge_json;
mod merge_shape;
mod register;
mod resolve;
mod rewrites;
mod routes;
mod sections;
mod services;
mod source;
mod syntax;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize as _;
use toml::de::DeTable;

pub use error::{ConfigError, Mistake, Place};
pub(crate) use routes::OF_THE_NODE;
pub(crate) use services::endpoint;

use crate::balance::Policy;
use crate::coordinator::options::CoordinatorOptions;
use crate::discovery::consul::register::Entry;
use crate::discovery::{Instance, Sources, Spec};
use crate::gateway::guard::Guards;
use crate::gateway::{GatewayOptions, RouteTable};
use crate::journal::options::LogOptions;
use crate::participant::options::TransactionOptions;
use crate::server::options::NodeOptions;
use findings::Findings;
use source::Source;

/// All that the node has to know before it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Listeners, the data directory, and the limits on clients.
    pub node: NodeOptions,
    /// The log.
    pub log: LogOptions,
    /// The running of transactions.
    pub coordinator: CoordinatorOptions,
    /// Calls to backends.
    pub gateway: GatewayOptions,
    /// Backends by name.
    pub services: BTreeMap<String, Service>,
    /// The node's own entry in Consul; `None`: it makes none.
    pub register: Option<Entry>,
    /// Routes in order of precedence.
    pub routes: RouteTable,
    /// What stands before them, by the id of the route.
    pub guards: BTreeMap<String, Guards>,
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Where its instances are looked for, and who stands in for it.
    pub spec: Spec,
    /// How it is called, but for the calls of transactions.
    pub policy: Policy,
    /// How it takes part in transactions; `None`: it does not.
    pub transaction: Option<TransactionOptions>,
    /// Its section as it is written, with what variables say put in: a configuration of its own, of this service alone,
    /// without those who stand in for it.
    pub section: String,
}

impl Service {
    /// The instances that the file lists; none where they are looked for elsewhere.
    #[must_use]
    pub fn instances(&self) -> &[Instance] {
        self.spec.source.listed()
    }
}

impl Config {
    /// Where each service is looked for.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<String, Spec> {
        self.services.iter().map(|(name, service)| (name.clone(), service.spec.clone())).collect()
    }

    /// The sources of all services, for those who ask by name; inside a runtime, because looking for them begins here.
    #[must_use]
    pub fn discovery(&self) -> Sources {
        Sources::new(self.sources(), None)
    }

    /// How each service is called.
    #[must_use]
    pub fn policies(&self) -> BTreeMap<String, Policy> {
        self.services.iter().map(|(name, service)| (name.clone(), service.policy.clone())).collect()
    }
}

/// Reads the configuration at `path`; `env` are the variables of the environment, of which those that
/// begin with `UNANIMOUS__` count.
pub fn load(path: &Path, env: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&path.display().to_string(), &text, env)
}

/// The variables of this process's environment, without those that are no text.
pub fn process_env() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Reads the configuration in `text`; `name` is what mistakes call it.
pub fn parse(
    name: &str,
    text: &str,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let env: Vec<_> = env.collect();
    let usual = discovery::Usual::of(&env);
    let variables = env::collect(env.into_iter());
    let source = Source::new(name, text, &variables);
    let mut findings = Findings::new(&source);
    let tree = tree(text, &variables, &mut findings);
    let sections = tree.as_ref().map(|tree| sections::of(tree.get_ref())).unwrap_or_default();
    let file = tree.map(toml::de::Deserializer::from);
    let file = file.and_then(|tree| syntax::keep(file::File::deserialize(tree), &mut findings));
    let mut config = file.and_then(|file| resolve::resolve(&file, &usual, &mut findings));
    for (name, service) in config.iter_mut().flat_map(|config| &mut config.services) {
        service.section =
            sections.get(name).map(|section| sections::alone(section, &service.spec)).unwrap_or_default();
    }
    let mistakes = findings.into_mistakes();
    match config {
        Some(config) if mistakes.is_empty() => Ok(config),
        Some(_) | None => Err(ConfigError::Mistakes(mistakes)),
    }
}

/// The file as a tree, with the variables put in; `None` where there is no tree.
fn tree<'t>(
    text: &'t str,
    variables: &'t [env::Variable],
    findings: &mut Findings<'_>,
) -> Option<toml::Spanned<DeTable<'t>>> {
    let mut tree = syntax::keep(DeTable::parse(text), findings)?;
    env::apply(tree.get_mut(), variables, findings);
    Some(tree)
}
