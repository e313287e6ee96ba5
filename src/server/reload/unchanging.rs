//! The keys that are read at a start and never again: listeners, the log, and the limits that are built into both.

use crate::coordinator::options::CoordinatorOptions;
use crate::discovery::consul::register::Entry;
use crate::gateway::GatewayOptions;
use crate::journal::options::LogOptions;
use crate::server::node::Setup;
use crate::server::options::NodeOptions;

/// What a running node cannot change.
#[derive(Debug, Clone)]
pub(in crate::server) struct Unchanging {
    node: NodeOptions,
    log: LogOptions,
    coordinator: CoordinatorOptions,
    gateway: GatewayOptions,
    register: Option<Entry>,
}

impl Unchanging {
    pub(in crate::server) fn of(setup: &Setup) -> Self {
        let Setup { node, log, coordinator, gateway, register, .. } = setup;
        let (node, register) = (node.clone(), register.clone());
        Self { node, log: *log, coordinator: *coordinator, gateway: *gateway, register }
    }

    /// The keys in which `other` differs.
    pub(super) fn differ(&self, other: &Self) -> Vec<&'static str> {
        // Taken apart whole, so that a new option cannot be forgotten here.
        let NodeOptions {
            data_dir,
            listen,
            admin,
            advertise,
            trusted_proxies,
            access_log,
            drain,
            finish,
            header_timeout,
            answer_timeout,
            header_max,
            connections_max,
            body_max,
            body_budget,
        } = &self.node;
        // What is accepted is accepted by a start; whoever takes it out of the file again has not to start for that.
        let LogOptions { sync, retention, accept_damage: _, accept_copy: _, room_min, stall_max: _ } =
            self.log;
        let CoordinatorOptions { open_transactions_max, answer_kept_max } = self.coordinator;
        let GatewayOptions {
            body_timeout,
            body_rate_min,
            connect_timeout,
            pool_idle,
            tunnel_idle,
            answer_max,
        } = self.gateway;
        let (node, log, coordinator, gateway) = (&other.node, other.log, other.coordinator, other.gateway);
        let differ = [
            ("node.data_dir", *data_dir != node.data_dir),
            ("node.listen", *listen != node.listen),
            ("node.admin", *admin != node.admin),
            ("node.advertise", *advertise != node.advertise),
            ("node.trusted_proxies", *trusted_proxies != node.trusted_proxies),
            ("node.access_log", *access_log != node.access_log),
            ("node.drain", *drain != node.drain),
            ("node.finish", *finish != node.finish),
            ("node.header_timeout", *header_timeout != node.header_timeout),
            ("node.body_timeout", body_timeout != gateway.body_timeout),
            ("node.body_rate_min", body_rate_min != gateway.body_rate_min),
            ("node.answer_timeout", *answer_timeout != node.answer_timeout),
            ("node.header_max", *header_max != node.header_max),
            ("node.connections_max", *connections_max != node.connections_max),
            ("node.body_max", *body_max != node.body_max),
            ("node.body_budget", *body_budget != node.body_budget),
            ("log.sync", sync != log.sync),
            ("log.retention", retention != log.retention),
            ("log.room_min", room_min != log.room_min),
            ("node.open_transactions_max", open_transactions_max != coordinator.open_transactions_max),
            ("node.answer_kept_max", answer_kept_max != coordinator.answer_kept_max),
            ("node.connect_timeout", connect_timeout != gateway.connect_timeout),
            ("node.pool_idle", pool_idle != gateway.pool_idle),
            ("node.tunnel_idle", tunnel_idle != gateway.tunnel_idle),
            ("node.answer_max", answer_max != gateway.answer_max),
            ("consul.register", self.register != other.register),
        ];
        differ.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }
}
