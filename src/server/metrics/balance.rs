//! What `/metrics` shows of balancing: how the services stand, and what was retried or refused for them.
//!
//! Addresses of instances are labels here and nowhere else: only operators see this listener. Of a service with very many
//! instances only the first have series of their own; the counts are of all.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType::{Counter, Gauge};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::on_read::{OnRead, family};
use crate::balance::{BreakerState, Reason};
use crate::gateway::{InstanceReading, Reading, Standing};

/// So many instances of a service have series of their own; a registry may name thousands.
const INSTANCES_MAX: usize = 64;

const STANDINGS: [(Standing, &str); 3] =
    [(Standing::Usable, "usable"), (Standing::Unhealthy, "unhealthy"), (Standing::Ejected, "ejected")];

impl Collector for OnRead<Vec<Reading>> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let services = self.read();
        instances(&mut encoder, &services)?;
        states(&mut encoder, &services)?;
        counts(&mut encoder, &services)
    }
}

fn instances(encoder: &mut DescriptorEncoder<'_>, services: &[Reading]) -> fmt::Result {
    let by_standing = services.iter().flat_map(|service| {
        STANDINGS.map(|(standing, name)| {
            let count = service.instances.iter().filter(|one| one.standing == standing).count();
            ([("service", service.service.as_str()), ("standing", name)], gauge(count))
        })
    });
    let help = "Instances of a service, by whether they get requests";
    family(encoder, ("service_instances", help, Gauge), by_standing)?;
    let mut each = |name, help, read: fn(&InstanceReading) -> usize| {
        let series = services.iter().flat_map(|service| {
            service.instances.iter().take(INSTANCES_MAX).map(move |one| {
                (
                    [("service", service.service.as_str()), ("instance", one.endpoint.as_str())],
                    gauge(read(one)),
                )
            })
        });
        family(encoder, (name, help, Gauge), series)
    };
    let help = "1 while an instance gets requests";
    each("instance_usable", help, |one| usize::from(one.standing == Standing::Usable))?;
    each("instance_requests", "Requests that are with an instance", |one| one.busy)
}

fn states(encoder: &mut DescriptorEncoder<'_>, services: &[Reading]) -> fmt::Result {
    let mut each = |name, help, read: fn(&Reading) -> Option<usize>| {
        let shown = services.iter().filter_map(|service| Some((service, read(service)?)));
        let series = shown.map(|(service, value)| ([("service", service.service.as_str())], gauge(value)));
        family(encoder, (name, help, Gauge), series)
    };
    let help = "1 while so few instances are usable that all are used";
    each("service_panic", help, |service| Some(usize::from(service.is_panic)))?;
    let help = "What the breaker of a service does: 0 all pass, 1 a growing share, 2 none";
    each("breaker_state", help, |service| match service.breaker {
        BreakerState::Closed => Some(0),
        BreakerState::Ramping => Some(1),
        BreakerState::Open => Some(2),
    })?;
    let help = "Calls that a service may have in flight, where that is limited";
    each("concurrency_limit", help, |service| service.limit.map(|limit| limit as usize))
}

fn counts(encoder: &mut DescriptorEncoder<'_>, services: &[Reading]) -> fmt::Result {
    let retries = services.iter().flat_map(|service| {
        Reason::ALL.iter().zip(service.retries).map(move |(reason, count)| {
            ([("service", service.service.as_str()), ("reason", reason.name())], ConstCounter::new(count))
        })
    });
    let help = "Tries beyond the first, by what the one before ended with";
    family(encoder, ("retries", help, Counter), retries)?;
    let shed = services.iter().flat_map(|service| {
        [("breaker", service.shed_by_breaker), ("limit", service.shed_by_limit)].map(|(reason, count)| {
            ([("service", service.service.as_str()), ("reason", reason)], ConstCounter::new(count))
        })
    });
    let help = "Requests that were refused for a service, by what refused them";
    family(encoder, ("shed", help, Counter), shed)
}

fn gauge(value: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}
