//! What `/metrics` shows, in the Prometheus text format.
//!
//! Labels come from the configuration or from fixed words: never a path, a key or an id, so that the
//! number of series is known beforehand.

mod balance;
mod discovery;
mod on_read;
mod readings;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::{self, Debug};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use self::on_read::OnRead;
pub use self::readings::Live;
use crate::clock::Timestamp;
use crate::coordinator::Phase;
use crate::discovery::Status;
use crate::gateway::Reading;
use crate::participant::http::Attempt;
use crate::txn::{Decision, Operation};

/// The counters of a node.
pub struct Metrics {
    registry: Registry,
    transactions: Family<Labels<1>, Counter>,
    phases: Family<Labels<1>, Histogram>,
    calls: Family<Labels<3>, Counter>,
    call_durations: Family<Labels<2>, Histogram>,
    requests: Family<Labels<2>, Counter>,
    request_durations: Family<Labels<1>, Histogram>,
    in_flight: Gauge,
    broken_off: Family<Labels<1>, Counter>,
    kept_out: Family<Labels<2>, Counter>,
    reloads: Family<Labels<1>, Counter>,
    last_reload: LastReload,
    live: OnRead<Live>,
    pools: OnRead<Vec<Reading>>,
    sources: OnRead<Vec<Status>>,
}

/// Each label and its value.
type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];

/// How the last reading of the configuration went, and when one last went well.
#[derive(Debug, Clone, Default)]
struct LastReload {
    successful: Gauge,
    success_seconds: Gauge<f64, AtomicU64>,
}

/// From a millisecond, a call on loopback, to the longest timeouts people set.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

const OPERATIONS: [Operation; 4] = [Operation::Work, Operation::Prepare, Operation::Commit, Operation::Abort];

/// How a call to a participant can end ([`Attempt`]).
const CALL_RESULTS: [&str; 6] = ["ok", "no", "error", "never_sent", "broken", "late"];

impl Metrics {
    /// Counters that are all zero, with a series for each outcome.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("unanimous");
        let seconds = || Histogram::new(SECONDS);
        let (transactions, calls, requests) = (Family::default(), Family::default(), Family::default());
        let phases = Family::new_with_constructor(seconds as fn() -> Histogram);
        let call_durations = Family::new_with_constructor(seconds as fn() -> Histogram);
        registry.register("transactions", "Transactions that ended, by outcome", transactions.clone());
        registry.register_with_unit(
            "phase_duration",
            "How long transactions were in a state",
            Unit::Seconds,
            phases.clone(),
        );
        registry.register("participant_calls", "Calls to participants, by result", calls.clone());
        registry.register_with_unit(
            "participant_call_duration",
            "How long calls to participants took",
            Unit::Seconds,
            call_durations.clone(),
        );
        registry.register("http_requests", "Requests answered on the public listener", requests.clone());
        let request_durations = Family::new_with_constructor(seconds as fn() -> Histogram);
        registry.register_with_unit(
            "http_request_duration",
            "From the head of a request to the last byte of its answer",
            Unit::Seconds,
            request_durations.clone(),
        );
        let in_flight = Gauge::default();
        registry.register("http_requests_in_flight", "Requests that are not answered yet", in_flight.clone());
        let (broken_off, kept_out) = (Family::default(), Family::default());
        let help = "Answers that broke off on their way from a backend";
        registry.register("http_answers_broken_off", help, broken_off.clone());
        let help = "Requests that what stands before their route kept out";
        registry.register("http_requests_kept_out", help, kept_out.clone());
        let (reloads, last_reload) = (Family::default(), LastReload::default());
        registry.register("config_reloads", "Times the configuration was read again", reloads.clone());
        last_reload.register(&mut registry);
        let (live, pools, sources) = (OnRead::default(), OnRead::default(), OnRead::default());
        registry.register_collector(Box::new(live.clone()));
        registry.register_collector(Box::new(pools.clone()));
        registry.register_collector(Box::new(sources.clone()));
        let metrics = Self {
            registry,
            transactions,
            phases,
            calls,
            call_durations,
            requests,
            request_durations,
            in_flight,
            broken_off,
            kept_out,
            reloads,
            last_reload,
            live,
            pools,
            sources,
        };
        for decision in [Decision::Commit, Decision::Abort] {
            drop(metrics.transactions.get_or_create(&outcome(decision)));
        }
        for phase in ["working", "preparing", "committing", "aborting"] {
            drop(metrics.phases.get_or_create(&[("phase", phase.into())]));
        }
        for result in ["success", "failure"] {
            drop(metrics.reloads.get_or_create(&[("result", result.into())]));
        }
        metrics
    }

    /// From here on `live` is asked whenever somebody reads the metrics.
    pub fn watch(&self, live: impl Fn() -> Live + Send + Sync + 'static) {
        self.live.set(live);
    }

    /// And `pools` for how the services stand.
    pub fn watch_pools(&self, pools: impl Fn() -> Vec<Reading> + Send + Sync + 'static) {
        self.pools.set(pools);
    }

    /// And `statuses` for how the sources of instances do.
    pub fn watch_discovery(&self, statuses: impl Fn() -> Vec<Status> + Send + Sync + 'static) {
        self.sources.set(statuses);
    }

    /// A phase of a transaction is over.
    pub fn phase(&self, phase: &Phase) {
        self.phases.get_or_create(&[("phase", phase.name.into())]).observe(phase.took.as_secs_f64());
        if let Some(decision) = phase.ended {
            self.transactions.get_or_create(&outcome(decision)).inc();
        }
    }

    /// A call to a participant is over.
    pub fn call(&self, attempt: &Attempt<'_>) {
        let (service, operation) = (label("service", attempt.service), attempt.operation.name());
        let labels = [service.clone(), ("operation", operation.into()), ("result", attempt.result.into())];
        self.calls.get_or_create(&labels).inc();
        let labels = [service, ("operation", operation.into())];
        self.call_durations.get_or_create(&labels).observe(attempt.took.as_secs_f64());
    }

    /// A request was answered; `route` is empty where none matched.
    pub fn request(&self, route: &str, status: StatusCode) {
        let code = match status.as_u16() {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&[label("route", route), ("code", code.into())]).inc();
    }

    /// A client hung up before there was an answer. Otherwise a service that becomes slow would look better.
    pub fn client_gone(&self, route: &str) {
        self.requests.get_or_create(&[label("route", route), ("code", "gone".into())]).inc();
    }

    /// An answer broke off after its status had been counted.
    pub fn broke_off(&self, route: &str) {
        self.broken_off.get_or_create(&[label("route", route)]).inc();
    }

    /// The services that take part in transactions: what is counted of them begins at zero.
    pub fn participants<'a>(&self, services: impl Iterator<Item = &'a str>) {
        for (service, operation) in services.flat_map(|service| OPERATIONS.map(|one| (service, one))) {
            let (service, operation) = (label("service", service), ("operation", operation.name().into()));
            for result in CALL_RESULTS {
                let labels = [service.clone(), operation.clone(), ("result", result.into())];
                drop(self.calls.get_or_create(&labels));
            }
            drop(self.call_durations.get_or_create(&[service, operation]));
        }
    }

    /// So many more requests are in flight, or fewer.
    pub fn in_flight(&self, more: i64) {
        self.in_flight.inc_by(more);
    }

    /// What stands before a route has refused a request.
    pub fn kept_out(&self, route: &str, code: &'static str) {
        self.kept_out.get_or_create(&[label("route", route), ("code", code.into())]).inc();
    }

    /// The answer to a request was sent to its end, or nobody waits for it any more.
    pub fn request_took(&self, route: &str, took: Duration) {
        self.request_durations.get_or_create(&[label("route", route)]).observe(took.as_secs_f64());
    }

    /// The configuration was read, at the start or again.
    pub fn config_read(&self, is_good: bool, now: Timestamp) {
        self.last_reload.successful.set(is_good.into());
        if is_good {
            self.last_reload.success_seconds.set(Duration::from_millis(now.0).as_secs_f64());
        }
    }

    /// The configuration was read again.
    pub fn reloaded(&self, is_good: bool, now: Timestamp) {
        let result = if is_good { "success" } else { "failure" };
        self.reloads.get_or_create(&[("result", result.into())]).inc();
        self.config_read(is_good, now);
    }

    /// The text that every Prometheus reads (exposition format 0.0.4): there a counter has the name of its samples.
    #[must_use]
    pub fn text(&self) -> String {
        let open_metrics = self.open_metrics();
        let counter = |line| str::strip_suffix(str::strip_prefix(line, "# TYPE ")?, " counter");
        let counters: HashSet<&str> = open_metrics.lines().filter_map(counter).collect();
        let mut text = String::with_capacity(open_metrics.len());
        for line in open_metrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match *words.as_slice() {
                ["#", kind, name, said] if counters.contains(name) => {
                    text.extend(["# ", kind, " ", name, "_total ", said, "\n"]);
                }
                _ => text.extend([line, "\n"]),
            }
        }
        text
    }

    /// The same as `OpenMetrics`.
    #[must_use]
    pub fn open_metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

fn label(name: &'static str, value: &str) -> (&'static str, Cow<'static, str>) {
    (name, value.to_owned().into())
}

fn outcome(decision: Decision) -> Labels<1> {
    [("outcome", decision.outcome().into())]
}

impl LastReload {
    fn register(&self, registry: &mut Registry) {
        let successful = "1 if the configuration was good when it was last read";
        registry.register("config_last_reload_successful", successful, self.successful.clone());
        let seconds = "Unix time at which the configuration in force was read";
        let name = "config_last_reload_success_timestamp_seconds";
        registry.register(name, seconds, self.success_seconds.clone());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_plain_format_every_sample_has_a_family_of_its_name() {
        let text = Metrics::new().text();
        let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        assert!(types.contains(&"unanimous_log_syncs_total counter"), "{text}");
        for sample in text.lines().filter(|line| !line.starts_with('#')) {
            let name = sample.split(['{', ' ']).next().unwrap();
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let family = format!("{} ", of_histogram.unwrap_or(name));
            assert!(types.iter().any(|kind| kind.starts_with(&family)), "{name}: {types:?}");
        }
        assert!(!text.contains("# EOF"));
    }

    #[test]
    fn every_histogram_has_a_last_bucket_without_a_bound() {
        let text = Metrics::new().text();
        for name in ["log_sync_duration_seconds", "log_batch_records"] {
            let bucket = format!("unanimous_{name}_bucket{{le=\"+Inf\"}} 0");
            assert!(text.contains(&bucket), "{text}");
        }
    }
}
