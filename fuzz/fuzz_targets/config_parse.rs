//! Whatever is in the file and in the environment: a configuration, or mistakes that say where they are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unanimous::config::{self, ConfigError};

fuzz_target!(|input: (&str, Option<(&str, &str)>)| {
    let (text, variable) = input;
    let variable = variable.map(|(name, value)| (format!("UNANIMOUS__{name}"), value.to_owned()));
    match config::parse("gateway.toml", text, variable.into_iter()) {
        Ok(config) => assert!(config.services.values().all(|service| !service.endpoints.is_empty())),
        Err(ConfigError::Mistakes(mistakes)) => assert!(!mistakes.is_empty(), "a refusal says why"),
        Err(error @ ConfigError::Unreadable { .. }) => panic!("no file is read here: {error}"),
    }
});
