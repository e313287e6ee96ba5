//! `unanimous route explain`: which route a request would take, what would be sent, and why each other route lost.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table, presets};
use http::header::HOST;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde_json::{Map, Value, json};

use super::check::Format;
use crate::config::{self, Config, ConfigError};
use crate::gateway::guard::preflight_of;
use crate::gateway::{Call, CleanPath, Explained, Lost, Problem, Routed};

/// Look into the routes of a configuration.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Say which route a request takes, what would be sent to whom, and why each other route does not get it. Exit
    /// code 1 where no route takes it.
    Explain(Args),
}

/// The request that is asked about.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The method, such as GET.
    pub method: String,
    /// A path with its query, or a URL, whose host is then asked for.
    pub url: String,
    /// A header field of the request; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// How to print it; json is one object a line: first what becomes of the request, then each other route.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Why nothing could be explained.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The configuration cannot be used; exit code 78.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No client could send such a request; exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The answer could not be printed.
    #[error("the result cannot be printed: {0}")]
    Output(#[from] io::Error),
}

/// What becomes of the request, and what there is to say about it.
struct Verdict<'a> {
    /// The whole, as a sentence.
    says: String,
    route: Option<String>,
    does: &'static str,
    status: Option<u16>,
    code: Option<&'static str>,
    location: Option<String>,
    allow: Vec<String>,
    calls: Vec<Call<'a>>,
}

/// Explains what becomes of a request, to `out`.
pub fn run(command: &Command, out: &mut dyn Write) -> Result<ExitCode, RouteError> {
    let Command::Explain(args) = command;
    let request = request(args)?;
    let config = config::load(&args.config, config::process_env())?;
    let preflight = preflight(&request, &config);
    let explained = config.routes.explain(preflight.as_ref().unwrap_or(&request));
    let verdict = match &preflight {
        Some(asked) => preflighted(&request, asked, &explained),
        None => verdict(&request, &explained),
    };
    match args.format {
        Format::Table => write!(out, "{}", text(&verdict, &explained))?,
        Format::Json => {
            writeln!(out, "{}", verdict.to_json(&request, &explained))?;
            for lost in &explained.lost {
                let line = json!({ "order": lost.order, "route": lost.route.id, "lost": lost.because });
                writeln!(out, "{line}")?;
            }
        }
    }
    Ok(if verdict.route.is_some() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The request as a client would send it: the path in the request line, the host in its field.
fn request(args: &Args) -> Result<Parts, RouteError> {
    let usage = |message: String| RouteError::Usage(message);
    let method = Method::from_bytes(args.method.as_bytes()).ok();
    let method = method.filter(|_| args.method == args.method.to_uppercase());
    let method = method.ok_or_else(|| {
        usage(format!("`{}` is not a method; write one in upper case, like GET", args.method))
    })?;
    let no_url = || {
        let given = &args.url;
        usage(format!(
            "`{given}` is not what a request could ask for; write a path like /accounts/7?full=1, or a URL like \
             http://api.example.com/accounts/7, with %20 for a space and no `#`"
        ))
    };
    let uri: Uri = args.url.parse().ok().filter(|_| !args.url.contains('#')).ok_or_else(no_url)?;
    let in_the_line = uri.path_and_query().map(ToString::to_string).ok_or_else(no_url)?;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    parts.uri = in_the_line.parse().map_err(|_| no_url())?;
    for field in &args.headers {
        let pair = field.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
        let pair = pair.and_then(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
        let (name, value): (HeaderName, HeaderValue) = pair
            .ok_or_else(|| usage(format!("`{field}` is not a header field; write it like \"x-api: 2\"")))?;
        parts.headers.append(name, value);
    }
    if let Some(host) = uri.authority() {
        let host = HeaderValue::from_str(host.as_str()).map_err(|_| no_url())?;
        // A field that says otherwise stays beside it, and the request is refused as it would be.
        if parts.headers.get(HOST) != Some(&host) {
            parts.headers.append(HOST, host);
        }
    }
    Ok(parts)
}

/// The request that a browser asks about, where `request` is a preflight that the gateway itself answers.
fn preflight(request: &Parts, config: &Config) -> Option<Parts> {
    let mut asked = request.clone();
    asked.method = preflight_of(request)?;
    let guards = config.guards.get(config.routes.route(&asked).id()?);
    let has_cors = guards.is_some_and(|guards| guards.cors.is_some());
    (has_cors && !is_of_the_node(request)).then_some(asked)
}

fn preflighted<'a>(request: &Parts, asked: &Parts, explained: &Explained<'a>) -> Verdict<'a> {
    let (subject, method) = (subject(request, explained), &asked.method);
    let route = explained.routed.id().unwrap_or_default();
    Verdict {
        says: format!(
            "{subject} is a preflight for {method}, which takes the route `{route}`: the gateway itself answers it, by `cors`."
        ),
        route: Some(route.to_owned()),
        status: Some(200),
        ..Verdict::nothing("preflight")
    }
}

fn is_of_the_node(request: &Parts) -> bool {
    CleanPath::parse(request.uri.path()).is_ok_and(|path| path.as_str().starts_with(config::OF_THE_NODE))
}

fn verdict<'a>(request: &Parts, explained: &Explained<'a>) -> Verdict<'a> {
    let asks = subject(request, explained);
    let takes = |does| Verdict {
        says: format!("{asks} takes the route `{}`: {does}.", explained.routed.id().unwrap_or_default()),
        route: explained.routed.id().map(str::to_owned),
        calls: explained.routed.calls(request),
        ..Verdict::nothing(does)
    };
    let refused = |problem: &Problem| Verdict {
        says: format!(
            "{asks} takes no route: {} {}, {}.",
            problem.status.as_u16(),
            problem.code,
            problem.detail
        ),
        status: Some(problem.status.as_u16()),
        code: Some(problem.code),
        ..Verdict::nothing("refuse")
    };
    if matches!(request.method, Method::CONNECT | Method::TRACE) {
        return refused(&Problem::not_implemented(&request.method));
    }
    if is_of_the_node(request) {
        let says = format!("{asks} is answered by the node itself, before any route.");
        return Verdict { says, ..Verdict::nothing("node") };
    }
    match &explained.routed {
        Routed::Forward(_) => takes("forward"),
        Routed::Merge(_) => takes("merge"),
        Routed::Transaction(_) => takes("transaction"),
        Routed::Redirect(matched) => {
            let query = request.uri.query();
            let location = matched.route.location(&matched.params, explained.host.as_deref(), query);
            let status = Some(matched.route.status.as_u16());
            match location {
                Ok(location) => Verdict { status, location: Some(location), ..takes("redirect") },
                Err(reason) => Verdict {
                    says: format!("{} But {reason}: 400.", takes("redirect").says),
                    ..takes("redirect")
                },
            }
        }
        Routed::Respond(matched) => {
            Verdict { status: Some(matched.route.status.as_u16()), ..takes("respond") }
        }
        Routed::NotFound => refused(&Problem::not_found()),
        Routed::MethodNotAllowed(allow) => {
            Verdict { allow: names(allow), ..refused(&Problem::method_not_allowed(allow)) }
        }
        Routed::BadRequest(problem) => refused(problem),
        Routed::Options(allow) => Verdict {
            says: format!(
                "{asks} takes no route: the gateway answers 204, Allow: {}.",
                names(allow).join(", ")
            ),
            status: Some(204),
            allow: names(allow),
            ..Verdict::nothing("options")
        },
    }
}

/// `GET /a/7 at api.example.com`.
fn subject(request: &Parts, explained: &Explained<'_>) -> String {
    let path = explained.path.as_ref().map_or(request.uri.path(), |path| path.as_str());
    let host = explained.host.as_ref().map(|host| format!(" at {host}")).unwrap_or_default();
    format!("{} {path}{host}", request.method)
}

fn names(methods: &[Method]) -> Vec<String> {
    methods.iter().map(ToString::to_string).collect()
}

impl Verdict<'_> {
    fn nothing(does: &'static str) -> Self {
        let (says, allow, calls) = (String::new(), Vec::new(), Vec::new());
        Self { says, route: None, does, status: None, code: None, location: None, allow, calls }
    }

    fn to_json(&self, request: &Parts, explained: &Explained<'_>) -> Value {
        let path = explained.path.as_ref().map(CleanPath::as_str);
        let mut members = Map::new();
        let mut add = |name: &str, value: Value| members.insert(name.to_owned(), value);
        add("route", json!(self.route));
        add("does", json!(self.does));
        add("method", json!(request.method.as_str()));
        add("host", json!(explained.host));
        add("path", json!(path));
        add(
            "params",
            explained
                .params()
                .map(|(name, text)| (name.to_owned(), json!(text)))
                .collect::<Map<_, _>>()
                .into(),
        );
        add("calls", self.calls.iter().map(call_json).collect());
        let optional = [
            ("status", json!(self.status)),
            ("code", json!(self.code)),
            ("location", json!(self.location)),
            ("allow", if self.allow.is_empty() { Value::Null } else { json!(self.allow) }),
        ];
        for (name, value) in optional.into_iter().filter(|(_, value)| !value.is_null()) {
            add(name, value);
        }
        Value::Object(members)
    }
}

fn call_json(call: &Call<'_>) -> Value {
    let Call { service, percent, method, target } = call;
    match target {
        Ok(target) => {
            json!({ "service": service, "percent": percent, "method": method.as_str(), "target": target })
        }
        Err(reason) => json!({ "service": service, "percent": percent, "refused": reason.to_string() }),
    }
}

fn text(verdict: &Verdict<'_>, explained: &Explained<'_>) -> String {
    let mut text = format!("{}\n", verdict.says);
    let bound: Vec<_> =
        explained.params().map(|(name, text)| ["bound".to_owned(), format!("{name} = {text}")]).collect();
    let calls = verdict.calls.iter().map(|call| ["asks".to_owned(), call_text(call)]);
    let location = verdict.location.iter().map(|to| ["leads to".to_owned(), to.clone()]);
    let rows: Vec<_> = bound.into_iter().chain(calls).chain(location).collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&lines(Table::new().add_rows(rows)));
    }
    if !explained.lost.is_empty() {
        text.push('\n');
        let row = |lost: &Lost<'_>| [lost.order.to_string(), lost.route.id.clone(), lost.because.clone()];
        let mut table = Table::new();
        table.set_header(["order", "route", "lost because"]).add_rows(explained.lost.iter().map(row));
        text.push_str(&lines(&mut table));
    }
    text
}

fn call_text(call: &Call<'_>) -> String {
    let Call { service, percent, method, target } = call;
    let share = if *percent == 100 { String::new() } else { format!(" ({percent}%)") };
    match target {
        Ok(target) => format!("{service}{share}: {method} {target}"),
        Err(reason) => format!("{service}{share}: nothing, because {reason}: 400"),
    }
}

fn lines(table: &mut Table) -> String {
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let mut text = String::new();
    for line in table.lines() {
        writeln!(text, "{}", line.trim()).expect("writing to a string cannot fail");
    }
    text
}
