//! `unanimous check`: reads the configuration as `serve` would, and prints the routes it makes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use comfy_table::{ContentArrangement, Table, presets};
use http::Method;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::{self, Config, ConfigError, Service};
use crate::discovery::Source;
use crate::gateway::{Action, HostPattern, Route};

/// Validate a configuration and print the resolved route table, in order of precedence.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// How to print the routes; json is one object a line.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How to print the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
}

/// Why the check did not end well.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The configuration cannot be used; exit code 78.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The answer could not be printed.
    #[error("the result cannot be printed: {0}")]
    Output(#[from] io::Error),
}

/// One route as it is printed.
#[derive(Serialize)]
struct Row<'a> {
    /// Its place in the order of precedence, from 1.
    order: usize,
    route: &'a str,
    /// `None`: any method.
    methods: Option<Vec<&'a str>>,
    /// `None`: any host; one by itself, several as a list.
    host: Option<Hosts>,
    path: String,
    headers: Map<String, Value>,
    query: Map<String, Value>,
    priority: i32,
    does: &'static str,
    services: Vec<&'a str>,
    /// Where several share the requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Vec<u32>>,
    /// Of an answer that asks no service.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip)]
    said: String,
}

/// What a route does, as it is printed.
#[derive(Default)]
struct Done {
    does: &'static str,
    /// For people.
    said: String,
    weights: Option<Vec<u32>>,
    status: Option<u16>,
    to: Option<String>,
}

/// As the configuration has them.
#[derive(Serialize)]
#[serde(untagged)]
enum Hosts {
    One(String),
    Several(Vec<String>),
}

/// Reads the configuration, with the variables of the environment, and prints its routes to `out`.
///
/// What is not there yet, and may be when the node starts, is no mistake of the configuration, and goes to `notes`.
pub fn run(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<(), CheckError> {
    let config = config::load(&args.config, config::process_env())?;
    for missing in missing_tokens(&config) {
        writeln!(notes, "warning: {}: there is no token for Consul: {missing}", args.config.display())?;
    }
    let rows: Vec<_> =
        config.routes.iter().enumerate().map(|(place, route)| Row::of(place + 1, route)).collect();
    match args.format {
        Format::Table => {
            writeln!(out, "{} is fine: {}.", args.config.display(), contents(&config))?;
            if !rows.is_empty() {
                writeln!(out, "\n{}", table(&rows))?;
            }
        }
        Format::Json => {
            for row in &rows {
                writeln!(out, "{}", serde_json::to_string(row).map_err(io::Error::from)?)?;
            }
        }
    }
    Ok(())
}

/// Why there is no token, for each place where one should be.
fn missing_tokens(config: &Config) -> BTreeSet<String> {
    let of_service = |service: &Service| match &service.spec.source {
        Source::Consul(consul) => consul.agent.token.clone(),
        Source::Fixed(_) | Source::Dns(_) | Source::Srv(_) | Source::File(_) => None,
    };
    let of_services = config.services.values().filter_map(of_service);
    let of_entry = config.register.iter().filter_map(|entry| entry.agent.token.clone());
    of_services.chain(of_entry).filter_map(|token| token.missing()).collect()
}

impl<'a> Row<'a> {
    fn of(order: usize, route: &'a Route) -> Self {
        let values = |(name, value): (&String, &String)| (name.clone(), Value::from(value.as_str()));
        let matches = &route.matches;
        let Done { does, said, weights, status, to } = Done::of(route);
        Self {
            order,
            route: &route.id,
            methods: matches.methods.as_ref().map(|methods| methods.iter().map(Method::as_str).collect()),
            host: Hosts::of(&matches.hosts),
            path: matches.path.to_string(),
            headers: matches.headers.iter().map(values).collect(),
            query: matches.query.iter().map(values).collect(),
            priority: route.priority,
            does,
            services: route.services(),
            weights,
            status,
            to,
            said,
        }
    }

    fn cells(&self) -> [String; 7] {
        [
            self.order.to_string(),
            self.route.to_owned(),
            self.methods.as_ref().map_or_else(|| "any".to_owned(), |methods| methods.join(" ")),
            self.host.as_ref().map_or_else(|| "any".to_owned(), Hosts::to_text),
            self.path.clone(),
            self.conditions(),
            format!("{}: {}", self.does, self.said),
        ]
    }

    /// `?full=1 x-api: 2`, what has to hold beside method, host and path.
    fn conditions(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let query = self.query.iter().map(|(name, value)| format!("?{name}={}", text(value)));
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {}", text(value)));
        let priority = (self.priority != 0).then(|| format!("priority {}", self.priority));
        query.chain(headers).chain(priority).collect::<Vec<_>>().join(", ")
    }
}

impl Hosts {
    fn of(hosts: &[HostPattern]) -> Option<Self> {
        match hosts {
            [] => None,
            [host] => Some(Self::One(host.to_string())),
            hosts => Some(Self::Several(hosts.iter().map(ToString::to_string).collect())),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::One(host) => host.clone(),
            Self::Several(hosts) => hosts.join(" "),
        }
    }
}

impl Done {
    fn of(route: &Route) -> Self {
        let asks = |does| Self { does, said: route.services().join(", "), ..Self::default() };
        match &route.action {
            Action::Forward(forward) if forward.to.shares().count() > 1 => {
                let shares = || forward.to.shares();
                let said =
                    shares().map(|(service, weight)| format!("{service} {}%", forward.to.percent(weight)));
                let weights = Some(shares().map(|(_, weight)| weight).collect());
                Self { said: said.collect::<Vec<_>>().join(", "), weights, ..asks("forward") }
            }
            Action::Forward(_) => asks("forward"),
            Action::Merge(_) => asks("merge"),
            Action::Transaction(_) => asks("transaction"),
            Action::Redirect(redirect) => {
                let (status, to) = (redirect.status.as_u16(), redirect.to.to_string());
                let said = format!("{status} {to}");
                Self { said, status: Some(status), to: Some(to), ..asks("redirect") }
            }
            Action::Respond(respond) => {
                let status = respond.status.as_u16();
                Self { said: status.to_string(), status: Some(status), ..asks("respond") }
            }
        }
    }
}

fn contents(config: &Config) -> String {
    let count = |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    let (routes, services) = (config.routes.iter().count(), config.services.len());
    format!("{}, {}", count(routes, "route"), count(services, "service"))
}

fn table(rows: &[Row<'_>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["order", "route", "methods", "host", "path", "matches", "does"]);
    table.add_rows(rows.iter().map(Row::cells));
    let mut text = String::new();
    for line in table.lines() {
        writeln!(text, "{}", line.trim()).expect("writing to a string cannot fail");
    }
    text.trim_end().to_owned()
}
