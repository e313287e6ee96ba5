//! Whatever is in the file and in the environment: a configuration, or mistakes that say where they are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unanimous::config::{self, ConfigError, Service};
use unanimous::discovery::Source;

fuzz_target!(|input: (&str, Option<(&str, &str)>)| {
    let (text, variable) = input;
    let variable = variable.map(|(name, value)| (format!("UNANIMOUS__{name}"), value.to_owned()));
    match config::parse("gateway.toml", text, variable.into_iter()) {
        Ok(config) => assert!(config.services.values().all(is_somewhere)),
        Err(ConfigError::Mistakes(mistakes)) => assert!(!mistakes.is_empty(), "a refusal says why"),
        Err(error @ ConfigError::Unreadable { .. }) => panic!("no file is read here: {error}"),
    }
});

/// A service that is listed has an instance; any other is looked for.
fn is_somewhere(service: &Service) -> bool {
    match &service.spec.source {
        Source::Fixed(instances) => !instances.is_empty(),
        Source::Dns(_) | Source::Srv(_) | Source::File(_) | Source::Consul(_) => true,
    }
}
