//! What `/metrics` shows of discovery: how the source of each service does.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType::{Counter, Gauge};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::on_read::{OnRead, family};
use crate::discovery::Status;

impl Collector for OnRead<Vec<Status>> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let statuses = self.read();
        let mut gauge = |name, help, read: fn(&Status) -> f64| {
            let series = statuses.iter().map(|status| (labels(status), ConstGauge::new(read(status))));
            family(&mut encoder, (name, help, Gauge), series)
        };
        gauge("discovery_up", "1 while the source of a service answers", |status| status.is_up.into())?;
        gauge("discovery_instances", "Instances of a service that are known", |status| {
            u32::try_from(status.instances).unwrap_or(u32::MAX).into()
        })?;
        let help = "When the source of a service last answered; 0 before the first time";
        gauge("discovery_last_success_timestamp_seconds", help, seconds)?;
        let help = "How often the source of a service did not answer";
        let failures = statuses.iter().map(|status| (labels(status), ConstCounter::new(status.failures)));
        family(&mut encoder, ("discovery_failures", help, Counter), failures)
    }
}

fn labels(status: &Status) -> [(&str, &str); 2] {
    [("service", status.service.as_str()), ("source", status.source)]
}

#[expect(clippy::cast_precision_loss, reason = "no time of day in milliseconds comes near 2^52")]
fn seconds(status: &Status) -> f64 {
    status.last_success.map_or(0.0, |time| time.0 as f64 / 1000.0)
}
