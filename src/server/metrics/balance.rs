//! What `/metrics` shows of balancing: how the services stand, and what was retried or refused for them.
//!
//! Addresses of instances are labels here and nowhere else: only operators see this listener. Of a service with very many
//! instances only the first have series of their own; the counts are of all.

use std::fmt::{self, Debug};
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::balance::{BreakerState, Reason};
use crate::gateway::{Reading, Standing};

/// So many instances of a service have series of their own; a registry may name thousands.
const INSTANCES_MAX: usize = 64;

/// Reads what is to be seen of the services.
pub(super) type ReadPools = Box<dyn Fn() -> Vec<Reading> + Send + Sync>;

/// The series of balancing.
pub(super) struct Balance(pub(super) Arc<OnceLock<ReadPools>>);

impl Collector for Balance {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let services = self.0.get().map(|read| read()).unwrap_or_default();
        instances(&mut encoder, &services)?;
        states(&mut encoder, &services)?;
        counts(&mut encoder, &services)
    }
}

fn instances(encoder: &mut DescriptorEncoder, services: &[Reading]) -> fmt::Result {
    let help = "Instances of a service, by whether they get requests";
    let mut family = encoder.encode_descriptor("service_instances", help, None, MetricType::Gauge)?;
    for service in services {
        for (standing, name) in STANDINGS {
            let labels = [("service", service.service.as_str()), ("standing", name)];
            let count = service.instances.iter().filter(|one| one.standing == standing).count();
            gauge(count).encode(family.encode_family(&labels)?)?;
        }
    }
    let shown = || {
        let of = |service: &'_ Reading| service.instances.len().min(INSTANCES_MAX);
        services.iter().flat_map(move |service| {
            service.instances.iter().take(of(service)).map(move |one| (service, one))
        })
    };
    let help = "1 while an instance gets requests";
    let mut family = encoder.encode_descriptor("instance_usable", help, None, MetricType::Gauge)?;
    for (service, one) in shown() {
        let labels = [("service", service.service.as_str()), ("instance", one.endpoint.as_str())];
        gauge(usize::from(one.standing == Standing::Usable)).encode(family.encode_family(&labels)?)?;
    }
    let help = "Requests that are with an instance";
    let mut family = encoder.encode_descriptor("instance_requests", help, None, MetricType::Gauge)?;
    for (service, one) in shown() {
        let labels = [("service", service.service.as_str()), ("instance", one.endpoint.as_str())];
        gauge(one.busy).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn states(encoder: &mut DescriptorEncoder, services: &[Reading]) -> fmt::Result {
    let help = "1 while so few instances are usable that all are used";
    let mut family = encoder.encode_descriptor("service_panic", help, None, MetricType::Gauge)?;
    for service in services {
        let labels = [("service", service.service.as_str())];
        gauge(service.is_panic.into()).encode(family.encode_family(&labels)?)?;
    }
    let help = "What the breaker of a service does: 0 all pass, 1 a growing share, 2 none";
    let mut family = encoder.encode_descriptor("breaker_state", help, None, MetricType::Gauge)?;
    for service in services {
        let state = match service.breaker {
            BreakerState::Closed => 0,
            BreakerState::Ramping => 1,
            BreakerState::Open => 2,
        };
        let labels = [("service", service.service.as_str())];
        gauge(state).encode(family.encode_family(&labels)?)?;
    }
    let help = "Calls that a service may have in flight, where that is limited";
    let mut family = encoder.encode_descriptor("concurrency_limit", help, None, MetricType::Gauge)?;
    for (service, limit) in services.iter().filter_map(|service| Some((service, service.limit?))) {
        let labels = [("service", service.service.as_str())];
        ConstGauge::new(i64::from(limit)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn counts(encoder: &mut DescriptorEncoder, services: &[Reading]) -> fmt::Result {
    let help = "Tries beyond the first, by what the one before ended with";
    let mut family = encoder.encode_descriptor("retries", help, None, MetricType::Counter)?;
    for service in services {
        for (reason, count) in Reason::ALL.iter().zip(service.retries) {
            let labels = [("service", service.service.as_str()), ("reason", reason.name())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "Requests that were refused for a service, by what refused them";
    let mut family = encoder.encode_descriptor("shed", help, None, MetricType::Counter)?;
    for service in services {
        for (reason, count) in [("breaker", service.shed_by_breaker), ("limit", service.shed_by_limit)] {
            let labels = [("service", service.service.as_str()), ("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

const STANDINGS: [(Standing, &str); 3] =
    [(Standing::Usable, "usable"), (Standing::Unhealthy, "unhealthy"), (Standing::Ejected, "ejected")];

fn gauge(value: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

impl Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance").finish_non_exhaustive()
    }
}
