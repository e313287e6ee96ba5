//! A source of the instances of `accounts`, and what the tests want to know of it, whatever kind it is.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "each test file is a crate of its own, and this a module in it")]

use std::time::Duration;

use unanimous::discovery::{Discovery as _, Pace, Source, Sources, Spec, Status};

/// What fails is tried again soon, and what is said to be gone is believed after `keep`.
pub fn spec(source: Source, keep: Duration) -> Spec {
    let retry = Pace { least: Duration::from_millis(10), most: Duration::from_millis(50) };
    Spec { retry, keep, ..Spec::new(source) }
}

pub fn follow(source: Source, keep: Duration) -> Sources {
    Sources::new([("accounts".to_owned(), spec(source, keep))], None)
}

/// The instances, as `endpoint weight`.
pub fn known(sources: &Sources) -> Vec<String> {
    let instances = sources.instances("accounts");
    instances.iter().map(|instance| format!("{} {}", instance.endpoint, instance.weight)).collect()
}

pub fn status(sources: &Sources) -> Status {
    sources.statuses().remove(0)
}
