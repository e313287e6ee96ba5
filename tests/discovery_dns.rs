//! DNS as a source, against a name server whose zone the test changes.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod discovery_support;
mod dns_server;
mod kit;

use std::num::NonZeroU16;
use std::time::Duration;

use discovery_support::{known, status};
use dns_server::Server;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use kit::until;
use unanimous::discovery::dns::{DnsSource, Family, Refresh, SrvSource};
use unanimous::discovery::{Discovery as _, Source, Sources};

const NAME: &str = "accounts.internal.";
const SERVICE: &str = "_http._tcp.accounts.internal.";

/// As often as a test can bear; the longest wait is out of its way.
const REFRESH: Refresh = Refresh { least: Duration::from_millis(50), most: Duration::from_mins(1) };

fn addresses(server: &Server) -> DnsSource {
    DnsSource {
        name: NAME.to_owned(),
        port: NonZeroU16::new(9001).unwrap(),
        family: Family::Any,
        refresh: REFRESH,
        server: Some(server.address),
    }
}

fn services(server: &Server) -> Source {
    let (name, server) = (SERVICE.to_owned(), Some(server.address));
    Source::Srv(SrvSource { name, family: Family::Ipv4, refresh: REFRESH, server })
}

fn follow(source: Source) -> Sources {
    discovery_support::follow(source, Duration::from_millis(300))
}

async fn until_known(sources: &Sources, expected: &[&str]) {
    until(&format!("{expected:?}"), async || known(sources) == expected).await;
}

const ONE: &str = "http://10.0.0.1:9001 1";
const TWO: &str = "http://10.0.0.2:9001 1";
const SIX: &str = "http://[2001:db8::1]:9001 1";

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_both_families_are_known_once_each_in_an_order_of_their_own() {
    let server = Server::start().await;
    server.addresses(NAME, 60, &["10.0.0.2", "2001:db8::1", "10.0.0.1", "10.0.0.2"]);
    let sources = follow(Source::Dns(addresses(&server)));
    until_known(&sources, &[ONE, TWO, SIX]).await;
    let only = |family| follow(Source::Dns(DnsSource { family, ..addresses(&server) }));
    until_known(&only(Family::Ipv4), &[ONE, TWO]).await;
    until_known(&only(Family::Ipv6), &[SIX]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_asked_for_again_when_its_ttl_has_passed_and_not_before() {
    let server = Server::start().await;
    server.addresses(NAME, 1, &["10.0.0.1"]);
    let begun = tokio::time::Instant::now();
    let sources = follow(Source::Dns(addresses(&server)));
    until_known(&sources, &[ONE]).await;
    server.addresses(NAME, 60, &["10.0.0.2"]);
    until_known(&sources, &[TWO]).await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.count(NAME, RecordType::A), 2);
    server.addresses(NAME, 60, &["10.0.0.1"]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((server.count(NAME, RecordType::A), known(&sources)), (2, vec![TWO.to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_of_zero_changes_nothing_but_how_often_is_asked() {
    let server = Server::start().await;
    server.addresses(NAME, 0, &["10.0.0.1", "10.0.0.2"]);
    let sources = follow(Source::Dns(addresses(&server)));
    until_known(&sources, &[ONE, TWO]).await;
    let (before, begun) = (sources.instances("accounts"), tokio::time::Instant::now());
    server.addresses(NAME, 0, &["10.0.0.2", "10.0.0.1"]);
    until("ten questions", async || server.count(NAME, RecordType::A) >= 10).await;
    assert!(begun.elapsed() >= Duration::from_millis(8 * 50), "not sooner than the shortest wait");
    assert!(std::sync::Arc::ptr_eq(&before, &sources.instances("accounts")), "another order is no change");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_refuses_or_is_silent_changes_nothing() {
    let server = Server::start().await;
    server.addresses(NAME, 0, &["10.0.0.1"]);
    let sources = follow(Source::Dns(addresses(&server)));
    until_known(&sources, &[ONE]).await;
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp] {
        let failures = status(&sources).failures;
        server.fails(Some(code));
        until(&format!("{code} twice"), async || status(&sources).failures >= failures + 2).await;
        assert_eq!(known(&sources), [ONE], "{code}");
        assert!(!status(&sources).is_up);
    }
    server.fails(None);
    server.addresses(NAME, 0, &["10.0.0.2"]);
    until_known(&sources, &[TWO]).await;
    assert!(status(&sources).is_up);
    let failures = status(&sources).failures;
    server.is_silent(true);
    until("silence", async || status(&sources).failures > failures).await;
    assert_eq!(known(&sources), [TWO]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_family_fails_nothing_is_believed_of_the_other() {
    let server = Server::start().await;
    server.addresses(NAME, 0, &["10.0.0.1", "2001:db8::1"]);
    let sources = follow(Source::Dns(addresses(&server)));
    until_known(&sources, &[ONE, SIX]).await;
    server.fails_for(&[RecordType::AAAA]);
    server.addresses(NAME, 0, &["10.0.0.2"]);
    until("a failure", async || status(&sources).failures >= 1).await;
    assert_eq!(known(&sources), [ONE, SIX]);
    server.fails_for(&[]);
    until_known(&sources, &[TWO]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_gone_is_believed_when_it_still_is_a_while_later() {
    let server = Server::start().await;
    server.addresses(NAME, 0, &["10.0.0.1"]);
    let sources = follow(Source::Dns(addresses(&server)));
    until_known(&sources, &[ONE]).await;
    server.remove(NAME);
    let gone = tokio::time::Instant::now();
    until_known(&sources, &[]).await;
    assert!(gone.elapsed() >= Duration::from_millis(300), "it was kept for a while");
    assert!(status(&sources).is_up && status(&sources).failures == 0, "{:?}", status(&sources));
    server.addresses(NAME, 0, &["10.0.0.2"]);
    until_known(&sources, &[TWO]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_never_there_is_an_answer_without_instances() {
    let server = Server::start().await;
    let sources = follow(Source::Dns(addresses(&server)));
    until("an answer", async || sources.missing().is_empty()).await;
    assert!(known(&sources).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_fit_is_asked_for_over_tcp_and_addresses_no_instance_can_have_are_left_out() {
    let server = Server::start().await;
    server.is_cut(true);
    let many: Vec<String> = (1..=200).map(|n| format!("10.0.1.{n}")).collect();
    let mut all: Vec<&str> = many.iter().map(String::as_str).collect();
    all.extend(["169.254.169.254", "0.0.0.0", "224.0.0.1", "fe80::1", "::ffff:169.254.169.254"]);
    server.addresses(NAME, 60, &all);
    let sources = follow(Source::Dns(addresses(&server)));
    until("all", async || known(&sources).len() == 200).await;
    assert!(known(&sources).iter().all(|instance| instance.starts_with("http://10.0.1.")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_has_the_hosts_ports_and_weights_of_its_lowest_priority() {
    let server = Server::start().await;
    server.services(
        SERVICE,
        0,
        &[(20, 9, 9003, "c.internal."), (10, 3, 9001, "a.internal."), (10, 0, 9002, "b.internal.")],
    );
    server.addresses("a.internal.", 0, &["10.0.0.1"]);
    server.addresses("b.internal.", 0, &["10.0.0.2", "169.254.169.254"]);
    server.addresses("c.internal.", 0, &["10.0.0.3"]);
    let sources = follow(services(&server));
    let (a, b) = ("http://10.0.0.1:9001 3", "http://10.0.0.2:9002 1");
    until_known(&sources, &[a, b]).await;

    server.remove("a.internal.");
    until_known(&sources, &[b]).await;
    server.remove("b.internal.");
    until_known(&sources, &["http://10.0.0.3:9003 9"]).await;
    server.services(SERVICE, 0, &[(10, 5, 9009, "b.internal.")]);
    server.addresses("b.internal.", 0, &["10.0.0.2"]);
    until_known(&sources, &["http://10.0.0.2:9009 5"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_come_with_a_service_are_not_asked_for_again() {
    let server = Server::start().await;
    server.services(SERVICE, 0, &[(10, 1, 9001, "a.internal."), (10, 1, 9001, "b.internal.")]);
    server.glue("a.internal.", 0, "10.0.0.1");
    server.addresses("b.internal.", 0, &["10.0.0.2"]);
    let sources = follow(services(&server));
    until_known(&sources, &[ONE, TWO]).await;
    assert_eq!(server.count("a.internal.", RecordType::A), 0);
    assert!(server.count("b.internal.", RecordType::A) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_cannot_be_looked_up_keeps_the_addresses_that_it_had() {
    let server = Server::start().await;
    server.services(SERVICE, 0, &[(10, 1, 9001, "a.internal."), (10, 1, 9001, "b.internal.")]);
    server.addresses("b.internal.", 0, &["10.0.0.2"]);
    server.addresses("a.internal.", 0, &["10.0.0.1"]);
    let sources = follow(services(&server));
    until_known(&sources, &[ONE, TWO]).await;
    server.fails_for(&[RecordType::A]);
    server.glue("b.internal.", 0, "10.0.0.9");
    until_known(&sources, &[ONE, "http://10.0.0.9:9001 1"]).await;
}
