//! What a run is about: the services, the requests, how the node is configured, how its lives end.

use std::time::Duration;

use unanimous::coordinator::options::CoordinatorOptions;
use unanimous::journal::options::{LogOptions, Sync};
use unanimous::participant::options::Retry;
use unanimous::plan::TransactionId;
use unanimous::txn::Decision;

use super::chance::Chance;
use super::participant::Service;

/// How a node is configured.
pub struct Settings {
    pub log: LogOptions,
    pub coordinator: CoordinatorOptions,
    /// The longest one call may take.
    pub call_timeout: Duration,
    pub retry: Retry,
    pub calls_max: usize,
    /// From the request to the decision.
    pub deadline: Duration,
    /// How long a client is kept waiting for confirmations.
    pub reply_within: Duration,
    /// Services ask what became of what they hold. With `log.sync = "decisions"` they have to; else being told is enough.
    pub services_ask: bool,
}

/// What a client wants.
#[derive(Debug, Clone)]
pub struct Request {
    /// When it is sent first, in milliseconds.
    pub at: u64,
    /// Which service each branch is at.
    pub branches: Vec<usize>,
    /// The scope of its key.
    pub route: &'static str,
    pub key: Option<String>,
    /// Which of the requests that its key stands for.
    pub fingerprint: u8,
    /// Bytes that commit and abort carry again, and the log with them.
    pub body: usize,
    /// How often it is sent at most.
    pub tries: u32,
    pub told: Option<Decision>,
    /// How long it took from when it was taken until its outcome was there.
    pub took: Option<Duration>,
    /// The transaction that it began, or found begun.
    pub id: Option<TransactionId>,
}

/// How a life of the node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// It does not.
    Never,
    /// At a time, in milliseconds.
    At(u64),
    /// Right after a change on the disk: a block written, a sync, a mark of the witness.
    AfterChange(u64),
    /// As a call is sent: before or after it is on the wire.
    AtCall(u64, bool),
    /// As a client is told.
    AtAnswer(u64),
}

impl Settings {
    pub fn any(chance: &mut Chance) -> Self {
        let sync = chance.one_of(&[Sync::EveryTransition, Sync::EveryTransition, Sync::Decisions]);
        let retention = Duration::from_secs(chance.one_of(&[3, 20, 86_400]));
        let open_transactions_max = chance.one_of(&[4, 20_000, 20_000]);
        Self {
            log: LogOptions { sync, retention, ..LogOptions::default() },
            coordinator: CoordinatorOptions { open_transactions_max, answer_kept_max: 64 },
            call_timeout: Duration::from_millis(chance.one_of(&[300, 2_000])),
            retry: Retry {
                initial: Duration::from_millis(chance.one_of(&[10, 50])),
                max: Duration::from_millis(chance.one_of(&[500, 4_000])),
                jitter: true,
            },
            calls_max: usize::try_from(chance.one_of(&[1, 2, 256])).expect("it is small"),
            deadline: Duration::from_millis(chance.one_of(&[1_000, 5_000, 10_000])),
            reply_within: Duration::from_millis(chance.one_of(&[0, 100, 5_000])),
            services_ask: sync == Sync::Decisions || chance.hits(500),
        }
    }
}

impl Request {
    pub fn any(number: u64, until: u64, services: &[Service], chance: &mut Chance) -> Self {
        let branches = (0..chance.within(1..5)).map(|_| index(chance, services.len())).collect();
        let with_key = chance.hits(600);
        // Few keys for many requests, so that some share one; and now and then one is used for something else.
        let key = with_key.then(|| format!("key-{}", chance.within(0..number / 2 + 1)));
        Self {
            at: chance.within(0..until),
            branches,
            route: chance.one_of(&["transfer", "transfer", "order"]),
            key,
            fingerprint: u8::from(chance.hits(100)),
            body: if chance.hits(60) { 150_000 } else { 0 },
            tries: if with_key { 12 } else { 1 },
            told: None,
            took: None,
            id: None,
        }
    }

    /// One that avoids `dead`, and is sent at `at`.
    pub fn without(dead: usize, at: u64, services: &[Service], chance: &mut Chance) -> Self {
        let mut request = Self::any(1, 1, services, chance);
        for service in &mut request.branches {
            *service = (dead + 1 + index(chance, services.len() - 1)) % services.len();
        }
        // The three of them can crowd a service that takes one call at a time; they are told so, and ask again.
        Self { at, key: None, tries: 4, ..request }
    }
}

impl Crash {
    /// Some time within `longest`, or so many things before it that others can notice.
    pub fn any(chance: &mut Chance, longest: u64) -> Self {
        match chance.within(0..4) {
            0 => Self::At(chance.within(0..longest / 2)),
            1 => Self::AfterChange(chance.within(1..longest / 150)),
            2 => Self::AtCall(chance.within(1..longest / 300), chance.hits(500)),
            _ => Self::AtAnswer(chance.within(1..longest / 1_500)),
        }
    }
}

fn index(chance: &mut Chance, len: usize) -> usize {
    usize::try_from(chance.within(0..len as u64)).expect("it is an index")
}
