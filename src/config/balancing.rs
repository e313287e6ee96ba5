//! Balancing and failure: what the sections `balance`, `health`, `outlier`, `breaker`, `limit` and `retries` of a service mean,
//! and `retry` and `try_timeout` of a route.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, Method};
use toml::Spanned;

use super::balancing_file::{
    BalanceFile, BreakerFile, ChoiceFile, EndpointFile, HashFile, HealthFile, LimitFile, OutlierFile,
    RetriesFile, WordOrStatus,
};
use super::file::{ForwardFile, MatchFile, ServiceFile, Text};
use super::findings::{Findings, Noted, nearest};
use super::resolve::WAIT;
use super::services::{call_path, endpoint};
use crate::balance::{
    BreakerPolicy, Choice, HashOn, HealthPolicy, LimitPolicy, OutlierPolicy, Policy, RetryBudgetPolicy,
    RetryRule, is_harmless,
};
use crate::discovery::Instance;
use crate::gateway::{Route, RouteTable};

const PERCENT: RangeInclusive<usize> = 1..=100;
const PERCENT_OR_NONE: RangeInclusive<usize> = 0..=100;
/// How many in a row, or how often: more than this is not waited for.
const TIMES: RangeInclusive<usize> = 1..=1000;
/// Requests of a window, or calls in flight.
const REQUESTS: RangeInclusive<usize> = 1..=1_000_000;
const WEIGHTS: RangeInclusive<usize> = 1..=u16::MAX as usize;
/// Each try is a request more; ten for one are an attack on the service.
const TRIES: RangeInclusive<usize> = 2..=10;
const TRIES_DEFAULT: usize = 2;
/// A check that is made more often than this is a load of its own.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_hours(1);

/// An instance with its weight.
pub(super) fn instance(file: &Spanned<EndpointFile>, findings: &mut Findings<'_>) -> Result<Instance, Noted> {
    let (url, weight) = (&file.get_ref().url, file.get_ref().weight.as_ref());
    let endpoint = findings.keep(&file.span(), "bad endpoint", endpoint(url));
    let weight = u16::try_from(findings.number(weight, 1, WEIGHTS)).ok().and_then(NonZeroU16::new);
    Ok(Instance { endpoint: endpoint?, weight: weight.ok_or(Noted)? })
}

/// How a service is called.
pub(super) fn policy(file: &ServiceFile, findings: &mut Findings<'_>) -> Result<Policy, Noted> {
    let balance = &file.balance;
    let choice = choice(balance, findings);
    let slow_start = balance.slow_start.as_ref();
    if let (Some(slow), Ok(Choice::Hash(_))) = (slow_start, &choice) {
        let message = "a hash has no slow start, because its keys would move twice; take `slow_start` out, or choose \
                       another policy";
        findings.add(&slow.span(), message);
    }
    let slow_start = slow_start.map(|time| findings.time(Some(time), Duration::ZERO, WAIT));
    let panic_percent = percent(balance.panic_percent.as_ref(), 0, PERCENT_OR_NONE, findings);
    if let Some(given) = &balance.panic_percent
        && file.health.is_none()
        && file.outlier.is_none()
    {
        let message = "nothing says that an instance is not usable, so there is no panic; add `health` or `outlier`, \
                       or take `panic_percent` out";
        findings.add(&given.span(), message);
    }
    let health = file.health.as_ref().map(|health| self::health(health, findings)).transpose();
    Ok(Policy {
        speaks: super::services::speaks(file),
        choice: choice?,
        slow_start,
        panic_percent,
        idempotent: file.idempotent.unwrap_or_default(),
        health: health?,
        outlier: file.outlier.as_ref().map(|outlier| self::outlier(outlier, findings)),
        breaker: file.breaker.as_ref().map(|breaker| self::breaker(breaker, findings)),
        limit: file.limit.as_ref().map(|limit| self::limit(limit, findings)),
        retries: retries(&file.retries, findings),
    })
}

fn choice(file: &BalanceFile, findings: &mut Findings<'_>) -> Result<Choice, Noted> {
    let given = file.policy.as_ref().map(|policy| *policy.get_ref());
    match (given, &file.hash) {
        (Some(ChoiceFile::Hash), Some(on)) => hash_on(on, findings).map(Choice::Hash),
        (Some(ChoiceFile::Hash), None) => {
            let at = file.policy.as_ref().map_or(0..0, Spanned::span);
            let message = "a hash of what? Add what says where a request goes, as in `hash = { header = \"x-user\" }`, \
                           `{ cookie = \"sid\" }` or `{ path = \"id\" }`";
            findings.refuse(&at, message)
        }
        (Some(ChoiceFile::RoundRobin | ChoiceFile::LeastRequest | ChoiceFile::Latency) | None, Some(on)) => {
            let message = "`hash` counts only with `policy = \"hash\"`; write that, or take `hash` out";
            findings.refuse(&on.span(), message)
        }
        (Some(ChoiceFile::RoundRobin) | None, None) => Ok(Choice::RoundRobin),
        (Some(ChoiceFile::LeastRequest), None) => Ok(Choice::LeastRequest),
        (Some(ChoiceFile::Latency), None) => Ok(Choice::Latency),
    }
}

fn hash_on(file: &Spanned<HashFile>, findings: &mut Findings<'_>) -> Result<HashOn, Noted> {
    let HashFile { header, cookie, path } = file.get_ref();
    match (header, cookie, path) {
        (Some(name), None, None) => {
            let known = HeaderName::try_from(name.get_ref().as_str());
            let known = findings.keep(&name.span(), "bad header name", known)?;
            Ok(HashOn::Header(known.as_str().to_owned()))
        }
        (None, Some(name), None) => plain(name, "a cookie", findings).map(HashOn::Cookie),
        (None, None, Some(name)) => plain(name, "a path parameter", findings).map(HashOn::Path),
        (_, _, _) => findings
            .refuse(&file.span(), "a hash goes by one value; keep one of `header`, `cookie` and `path`"),
    }
}

fn plain(name: &Text, what: &str, findings: &mut Findings<'_>) -> Result<String, Noted> {
    let text = name.get_ref();
    let is_fine = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if text.is_empty() || !text.chars().all(is_fine) {
        let message = format!(
            "`{text}` cannot be the name of {what}; write it as the request has it, of letters, digits, `-`, `_` and `.`"
        );
        return findings.refuse(&name.span(), message);
    }
    Ok(text.clone())
}

fn health(file: &HealthFile, findings: &mut Findings<'_>) -> Result<HealthPolicy, Noted> {
    let path = call_path("health", &file.path, findings);
    let default = HealthPolicy::of(String::new());
    let interval = findings.time(file.interval.as_ref(), default.interval, INTERVAL);
    let timeout = findings.time(file.timeout.as_ref(), default.timeout.min(interval), WAIT);
    if let Some(given) = file.timeout.as_ref().filter(|_| timeout > interval) {
        let message = "a check would not be over when the next is due; make `timeout` at most `interval`";
        findings.add(&given.span(), message);
    }
    let expect = file.expect.as_ref().map(|list| expected(list, findings)).transpose();
    Ok(HealthPolicy {
        path: path?,
        interval,
        timeout,
        healthy: small(file.healthy.as_ref(), default.healthy, findings),
        unhealthy: small(file.unhealthy.as_ref(), default.unhealthy, findings),
        expect: expect?.unwrap_or(default.expect),
    })
}

/// `[200, "3xx"]`.
fn expected(
    list: &Spanned<Vec<Spanned<WordOrStatus>>>,
    findings: &mut Findings<'_>,
) -> Result<Vec<RangeInclusive<u16>>, Noted> {
    if list.get_ref().is_empty() {
        return findings.refuse(&list.span(), "no answer would be good; list statuses, as in [200, \"3xx\"]");
    }
    let range = |item: &Spanned<WordOrStatus>| match item.get_ref() {
        WordOrStatus::Status(status) => u16::try_from(*status)
            .ok()
            .filter(|status| (200..=599).contains(status))
            .map(|status| status..=status),
        WordOrStatus::Word(word) => {
            let class = ["2xx", "3xx", "4xx", "5xx"].iter().position(|class| class == word)?;
            let first = u16::try_from(class).ok()? * 100 + 200;
            Some(first..=first + 99)
        }
    };
    let mut ranges = Vec::new();
    for item in list.get_ref() {
        match range(item) {
            Some(range) => ranges.push(range),
            None => findings
                .add(&item.span(), "this is no status; write one from 200 to 599, or a class like \"2xx\""),
        }
    }
    Ok(ranges)
}

fn outlier(file: &OutlierFile, findings: &mut Findings<'_>) -> OutlierPolicy {
    let default = OutlierPolicy::default();
    let base_time = findings.time(file.base_time.as_ref(), default.base_time, WAIT);
    let max_time = findings.time(file.max_time.as_ref(), default.max_time, WAIT);
    findings.growing(
        (file.base_time.as_ref(), base_time, "base_time"),
        (file.max_time.as_ref(), max_time, "max_time"),
    );
    let error_percent = file.error_percent.as_ref();
    if let Some(given) = file.requests_min.as_ref().filter(|_| error_percent.is_none()) {
        let message = "`requests_min` counts only with `error_percent`; add that, or take this out";
        findings.add(&given.span(), message);
    }
    OutlierPolicy {
        consecutive: count(file.consecutive.as_ref(), default.consecutive, TIMES, findings),
        error_percent: error_percent.map(|given| percent(Some(given), 0, PERCENT, findings)),
        requests_min: count(file.requests_min.as_ref(), default.requests_min, REQUESTS, findings),
        window: findings.time(file.window.as_ref(), default.window, WAIT),
        base_time,
        max_time,
        max_percent: percent(file.max_percent.as_ref(), default.max_percent, PERCENT, findings),
    }
}

fn breaker(file: &BreakerFile, findings: &mut Findings<'_>) -> BreakerPolicy {
    let default = BreakerPolicy::default();
    let open = findings.time(file.open.as_ref(), default.open, WAIT);
    let open_max = findings.time(file.open_max.as_ref(), default.open_max, WAIT);
    findings.growing((file.open.as_ref(), open, "open"), (file.open_max.as_ref(), open_max, "open_max"));
    BreakerPolicy {
        error_percent: percent(file.error_percent.as_ref(), default.error_percent, PERCENT, findings),
        requests_min: count(file.requests_min.as_ref(), default.requests_min, REQUESTS, findings),
        window: findings.time(file.window.as_ref(), default.window, WAIT),
        open,
        open_max,
        ramp: findings.time(file.ramp.as_ref(), default.ramp, WAIT),
    }
}

fn limit(file: &LimitFile, findings: &mut Findings<'_>) -> LimitPolicy {
    let default = LimitPolicy::default();
    let min = count(file.min.as_ref(), default.min, REQUESTS, findings);
    let max = count(file.max.as_ref(), default.max.max(min), REQUESTS, findings);
    let initial = count(file.initial.as_ref(), default.initial.clamp(min, max.max(min)), REQUESTS, findings);
    if min > max {
        let at = file.max.as_ref().or(file.min.as_ref()).map_or(0..0, Spanned::span);
        findings.add(
            &at,
            format!("the limit cannot be at least {min} and at most {max}; make `max` at least `min`"),
        );
    } else if let Some(given) = file.initial.as_ref().filter(|_| !(min..=max).contains(&initial)) {
        findings.add(&given.span(), format!("`initial` is out of the bounds {min} to {max} of this limit"));
    }
    LimitPolicy { initial, min, max }
}

fn retries(file: &RetriesFile, findings: &mut Findings<'_>) -> RetryBudgetPolicy {
    let default = RetryBudgetPolicy::default();
    RetryBudgetPolicy {
        percent: percent(file.percent.as_ref(), default.percent, PERCENT_OR_NONE, findings),
        per_second: count(file.per_second.as_ref(), default.per_second, 0..=10_000, findings),
    }
}

/// What of a service and the node a route has to fit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retryable<'a> {
    pub(super) service: &'a str,
    pub(super) is_idempotent: bool,
    pub(super) connect_timeout: Duration,
}

/// The longest that one try may take.
pub(super) fn try_timeout(
    file: &ForwardFile,
    timeout: Duration,
    of: Retryable<'_>,
    findings: &mut Findings<'_>,
) -> Option<Duration> {
    let given = file.try_timeout.as_ref()?;
    let try_timeout = findings.time(Some(given), timeout, WAIT);
    if try_timeout >= timeout {
        let message = "one try may take as long as all together, so this changes nothing; make `try_timeout` shorter than \
                       `timeout`, or take it out";
        findings.add(&given.span(), message);
    } else if try_timeout <= of.connect_timeout {
        let message = format!(
            "a try would be over before it is known whether a connection comes about, and so never go to another endpoint; make \
             `try_timeout` longer than `node.connect_timeout` ({})",
            humantime::format_duration(of.connect_timeout)
        );
        findings.add(&given.span(), message);
    }
    Some(try_timeout)
}

/// When a request of a route with these conditions is tried again.
pub(super) fn retry(
    file: &ForwardFile,
    matches: &MatchFile,
    of: Retryable<'_>,
    findings: &mut Findings<'_>,
) -> Option<RetryRule> {
    let retry = file.retry.as_ref()?;
    let tries = findings.number(retry.get_ref().tries.as_ref(), TRIES_DEFAULT, TRIES);
    let mut rule = RetryRule {
        broken: false,
        late: false,
        statuses: Vec::new(),
        tries: u8::try_from(tries).unwrap_or(2),
    };
    let on = &retry.get_ref().on;
    if on.get_ref().is_empty() {
        findings.add(
            &on.span(),
            "nothing would be tried again; list \"broken\", \"late\" or statuses, or take `retry` out",
        );
    }
    for item in on.get_ref() {
        retry_on(item, &mut rule, findings);
    }
    if rule.late && file.try_timeout.is_none() {
        let message =
            "a try is only late before all is over where it has a timeout of its own; add `try_timeout`";
        findings.add(&on.span(), message);
    }
    let may_be_sent_twice = |name: &Text| {
        // A method that is none is refused elsewhere.
        let method = Method::from_bytes(name.get_ref().as_bytes());
        method.is_ok_and(|method| is_harmless(&method, of.is_idempotent))
    };
    if matches.methods.as_ref().is_some_and(|methods| !methods.get_ref().iter().any(may_be_sent_twice)) {
        let service = of.service;
        let message = format!(
            "none of the methods of this route is ever sent twice, since that might do it twice; take `retry` out, or, if \
             `{service}` does a request with the same Idempotency-Key once, say `idempotent = true` in [services.{service}]"
        );
        findings.add(&retry.span(), message);
    }
    Some(rule)
}

fn retry_on(item: &Spanned<WordOrStatus>, rule: &mut RetryRule, findings: &mut Findings<'_>) {
    match item.get_ref() {
        WordOrStatus::Word(word) if word == "broken" => rule.broken = true,
        WordOrStatus::Word(word) if word == "late" => rule.late = true,
        WordOrStatus::Word(word) => {
            let nearest = nearest(word, ["broken", "late"]).unwrap_or_default();
            let message = format!(
                "`{word}` is nothing to try again after; did you mean `{nearest}`? Known here: broken, late, and statuses from \
                 400 to 599"
            );
            findings.add(&item.span(), message);
        }
        WordOrStatus::Status(status) => match u16::try_from(*status) {
            Ok(status) if (400..=599).contains(&status) => rule.statuses.push(status),
            Ok(_) | Err(_) => {
                let message =
                    format!("{status} is no status to try again after; write statuses from 400 to 599");
                findings.add(&item.span(), message);
            }
        },
    }
}

/// A hash of a parameter that no route to the service binds would never have a value.
pub(super) fn check_hashes(
    files: &BTreeMap<Text, ServiceFile>,
    routes: &RouteTable,
    findings: &mut Findings<'_>,
) {
    for (service, file) in files {
        let hash = file.balance.hash.as_ref();
        let Some(name) = hash.and_then(|hash| hash.get_ref().path.as_ref()) else { continue };
        let mut reaching =
            routes.iter().filter(|route| route.services().contains(&service.get_ref().as_str())).peekable();
        let binds = |route: &Route| route.matches.path.params().any(|known| known == name.get_ref());
        if reaching.peek().is_some() && !reaching.any(binds) {
            let (parameter, service) = (name.get_ref(), service.get_ref());
            let message = format!(
                "no path of a route to `{service}` binds `{{{parameter}}}`, so that no request has a value for this hash; write the name \
                 as a route has it"
            );
            findings.add(&name.span(), message);
        }
    }
}

fn percent(
    given: Option<&Spanned<u64>>,
    default: u8,
    bounds: RangeInclusive<usize>,
    findings: &mut Findings<'_>,
) -> u8 {
    u8::try_from(findings.number(given, default.into(), bounds)).unwrap_or(default)
}

fn small(given: Option<&Spanned<u64>>, default: u16, findings: &mut Findings<'_>) -> u16 {
    u16::try_from(findings.number(given, default.into(), TIMES)).unwrap_or(default)
}

fn count(
    given: Option<&Spanned<u64>>,
    default: u32,
    bounds: RangeInclusive<usize>,
    findings: &mut Findings<'_>,
) -> u32 {
    let default_number = usize::try_from(default).unwrap_or_default();
    u32::try_from(findings.number(given, default_number, bounds)).unwrap_or(default)
}
