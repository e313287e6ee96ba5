//! Where services are looked for: what the file can say, and the mistakes in it.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

mod config_support;

use std::time::Duration;

use config_support::said_of;
use unanimous::cli::check::{Args, Format, run};
use unanimous::config::{self, Config};
use unanimous::discovery::consul::{Health, TokenPlace};
use unanimous::discovery::dns::Family;
use unanimous::discovery::{Source, Spec};

fn config(text: &str, env: &[(&str, &str)]) -> Config {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    config::parse("gateway.toml", text, env).expect("a good configuration")
}

fn said_with(text: &str, env: &[(&str, &str)]) -> String {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    config::parse("gateway.toml", text, env).expect_err("the configuration has a mistake").to_string()
}

fn spec(text: &str) -> Spec {
    config(text, &[]).services["a"].spec.clone()
}

#[test]
fn every_source_is_read_with_all_its_keys() {
    let spec = spec(
        "[services.a]\noptional = true\nkeep = \"5s\"\n\
         dns = { name = \"a.internal.\", port = 9001, family = \"ipv4\", server = \"127.0.0.1:5353\", refresh_min = \"2s\", \
         refresh_max = \"30s\" }\n",
    );
    assert!(spec.is_optional && spec.keep == Duration::from_secs(5));
    let Source::Dns(dns) = spec.source else { panic!("{spec:?}") };
    assert_eq!((dns.name.as_str(), dns.port.get(), dns.family), ("a.internal.", 9001, Family::Ipv4));
    assert_eq!((dns.refresh.least.as_secs(), dns.refresh.most.as_secs()), (2, 30));
    assert_eq!(dns.server, "127.0.0.1:5353".parse().ok());

    let Source::Srv(srv) =
        self::spec("[services.a]\nsrv = { name = \"_http._tcp.a\", server = \"::1\" }\n").source
    else {
        panic!("no srv")
    };
    assert_eq!((srv.name.as_str(), srv.server), ("_http._tcp.a", "[::1]:53".parse().ok()));

    let Source::File(path) = self::spec("[services.a]\nfile = \"/etc/a.toml\"\n").source else {
        panic!("no file")
    };
    assert_eq!(path, std::path::Path::new("/etc/a.toml"));

    let spec = self::spec(
        "[consul]\nagent = \"http://10.0.0.1:8500/\"\ntoken_env = \"TOKEN\"\n[services.a]\nconsul = { service = \"x\", \
         datacenter = \"dc2\", tag = \"v1\", health = \"warning\", stale = \"10s\", wait = \"2m\" }\n",
    );
    let Source::Consul(consul) = spec.source else { panic!("{spec:?}") };
    assert_eq!((consul.agent.url.as_str(), consul.service.as_str()), ("http://10.0.0.1:8500", "x"));
    assert_eq!(consul.agent.token, Some(TokenPlace::Variable("TOKEN".to_owned())));
    assert_eq!((consul.datacenter.as_deref(), consul.tag.as_deref()), (Some("dc2"), Some("v1")));
    assert_eq!(
        (consul.health, consul.stale, consul.wait.as_secs()),
        (Health::Warning, Some(Duration::from_secs(10)), 120)
    );
}

#[test]
fn the_variables_that_users_of_consul_know_are_read_and_the_file_counts_more() {
    let text = "[services.a]\nconsul = { service = \"a\" }\n[services.b]\nconsul = { service = \"b\", agent = \"http://h\" }\n";
    let agent = |config: &Config, name: &str| match &config.services[name].spec.source {
        Source::Consul(consul) => consul.agent.clone(),
        other => panic!("{other:?}"),
    };
    let found = config(text, &[]);
    assert_eq!((agent(&found, "a").url.as_str(), agent(&found, "a").token), ("http://127.0.0.1:8500", None));
    let env = [
        ("CONSUL_HTTP_ADDR", "10.0.0.1:8500"),
        ("CONSUL_HTTP_TOKEN", "the-secret"),
        ("CONSUL_HTTP_TOKEN_FILE", "/t"),
    ];
    let found = config(text, &env);
    assert_eq!(agent(&found, "a").url, "http://10.0.0.1:8500");
    assert_eq!(agent(&found, "b").url, "http://h");
    assert_eq!(agent(&found, "a").token, Some(TokenPlace::Variable("CONSUL_HTTP_TOKEN".to_owned())));
    assert!(!format!("{found:?}").contains("the-secret"), "a secret is in no configuration");
    let found = config(&format!("[consul]\nagent = \"http://g\"\ntoken_file = \"/f\"\n{text}"), &env);
    assert_eq!(agent(&found, "a").url, "http://g");
    assert_eq!(agent(&found, "a").token, Some(TokenPlace::File("/f".into())));
    // Nobody who does not ask Consul cares.
    let env = [("CONSUL_HTTP_ADDR", "nonsense://"), ("CONSUL_HTTP_SSL", "true")];
    config("[services.a]\nendpoints = [\"http://h\"]\n", &env);
    let said = said_with(text, &env);
    assert!(said.starts_with("gateway.toml:2:10: CONSUL_HTTP_ADDR: `nonsense://` is not"), "{said}");
    let said = said_with(text, &[("CONSUL_HTTP_ADDR", "10.0.0.1:8501"), ("CONSUL_HTTP_SSL", "true")]);
    assert!(said.contains("is https, which is not spoken to Consul yet"), "{said}");
}

#[test]
fn a_key_of_the_environment_goes_where_the_file_has_none() {
    let env = [
        ("UNANIMOUS__SERVICES__A__DNS__NAME", "b.internal."),
        ("UNANIMOUS__SERVICES__A__KEEP", "7s"),
        ("UNANIMOUS__SERVICES__A__FAILOVER", "b, c"),
    ];
    let text = "[services.a]\ndns = { name = \"a.internal.\", port = 1 }\n[services.b]\nendpoints = [\"http://b\"]\n\
                [services.c]\nendpoints = [\"http://c\"]\n";
    let spec = config(text, &env).services["a"].spec.clone();
    assert_eq!((spec.keep.as_secs(), spec.stand_ins.to_vec()), (7, vec!["b".to_owned(), "c".to_owned()]));
}

#[test]
fn a_service_says_once_where_it_is() {
    assert_eq!(
        said_of("[services.a]\n"),
        "gateway.toml:1:11: the service `a` does not say where it is; add one of `endpoints`, `dns`, `srv`, `file` and `consul`"
    );
    let said = said_of("[services.a]\nendpoints = [\"http://h\"]\nfile = \"a.toml\"\n");
    assert!(
        said.starts_with("gateway.toml:1:11: the service `a` says in more than one way where it is"),
        "{said}"
    );
}

#[test]
fn what_is_listed_has_no_keys_of_what_is_looked_for() {
    let said = said_of("[services.a]\nendpoints = [\"http://h\"]\nkeep = \"1s\"\noptional = false\n");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].starts_with("gateway.toml:3:8: `keep` is for instances that are looked for"), "{said}");
    assert!(lines[1].starts_with("gateway.toml:4:12: `optional` is for instances"), "{said}");
}

#[test]
fn a_mistake_in_a_source_is_said_with_its_place() {
    let cases = [
        ("dns = { name = \"10.0.0.1\", port = 1 }", ":2:16: `10.0.0.1` is an address and no name"),
        ("dns = { name = \"a..b\", port = 1 }", ":2:16: `a..b` is not a name of DNS"),
        ("dns = { name = \"a b\", port = 1 }", ":2:16: `a b` is not a name of DNS"),
        (
            "dns = { name = \"a\", port = 0 }",
            ":2:28: bad port: there is no such port; write a number from 1 to 65535",
        ),
        ("dns = { name = \"a\", port = 65536 }", ":2:28: bad port"),
        ("dns = { name = \"a\" }", ":2:7: the key `port` is missing here"),
        ("dns = { name = \"a\", port = 1, family = \"v4\" }", "unknown value `v4`; did you mean"),
        (
            "dns = { name = \"a\", port = 1, server = \"ns\" }",
            ":2:40: bad name server: `ns` is not an address",
        ),
        (
            "dns = { name = \"a\", port = 1, refresh_min = \"0s\" }",
            "0s is out of bounds; write a duration from 1s",
        ),
        (
            "dns = { name = \"a\", port = 1, refresh_max = \"2s\", refresh_min = \"3s\" }",
            "shorter than `refresh_min`",
        ),
        ("srv = { name = \"a\", port = 1 }", "unknown key `port`"),
        ("file = \"/etc/accounts\"", ":2:8: `/etc/accounts` is neither TOML nor JSON by its name"),
        ("consul = { }", ":2:10: the key `service` is missing here"),
        ("consul = { service = \"a b\" }", ":2:22: `a b` cannot be the name of a service in Consul"),
        ("consul = { service = \"a\", tag = \"x\\\"y\" }", ":2:33: `x\"y` cannot be a tag"),
        (
            "consul = { service = \"a\", wait = \"11m\" }",
            ":2:34: 11m is out of bounds; write a duration from 1s to 10m",
        ),
        ("consul = { service = \"a\", health = \"any\" }", "unknown value `any`; did you mean"),
        ("consul = { service = \"a\", agent = \"https://h\" }", ":2:35: bad agent: `https://h` is https"),
        (
            "consul = { service = \"a\", agent = \"http://u:p@h\" }",
            "an ACL token goes by `token_env` or `token_file`",
        ),
        ("consul = { service = \"a\" }\nkeep = \"2h\"", ":3:8: 2h is out of bounds"),
    ];
    for (source, expected) in cases {
        let said = said_of(&format!("[services.a]\n{source}\n"));
        assert!(said.contains(expected), "{source}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_token_in_the_file_itself_or_in_two_places_is_refused() {
    let said = said_of("[consul]\ntoken = \"secret\"\n");
    assert!(said.contains("unknown key `token`") && said.contains("token_env, token_file"), "{said}");
    let said = said_of("[consul]\ntoken_env = \"A\"\ntoken_file = \"b\"\n");
    assert_eq!(said, "gateway.toml:3:14: the token is in `token_env` and in `token_file`; keep one of them");
}

#[test]
fn a_failover_that_leads_nowhere_or_in_a_circle_is_refused() {
    let services = |failovers: &[(&str, &str)]| -> String {
        let service = |(name, failover): &(&str, &str)| {
            format!("[services.{name}]\nendpoints = [\"http://{name}\"]\nfailover = {failover}\n")
        };
        failovers.iter().map(service).collect()
    };
    let end = "[services.end]\nendpoints = [\"http://end\"]\n";
    config(&(services(&[("a", "[\"b\", \"end\"]"), ("b", "\"end\"")]) + end), &[]);
    let said = said_of(&(services(&[("a", "\"ent\"")]) + end));
    assert!(
        said.starts_with("gateway.toml:3:12: there is no service `ent`; write `end` or declare it"),
        "{said}"
    );
    let said = said_of(&services(&[("a", "\"a\"")]));
    assert!(said.contains("`failover` leads from `a` to `a` back to where it began"), "{said}");
    let said = said_of(&services(&[("a", "[\"b\"]"), ("b", "[\"c\"]"), ("c", "[\"a\"]")]));
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.contains("from `a` to `b` to `c` to `a` back"), "{said}");
    let said = said_of(&(services(&[("a", "[\"end\", \"end\"]")]) + end));
    assert!(said.contains("names a service twice"), "{said}");
    let said = said_of(&services(&[("a", "[]")]));
    assert!(said.contains("names 0 services; name 1 to 8"), "{said}");
    let said = said_of(&services(&[("a", "7")]));
    assert!(said.contains("wrong type") && said.contains("a name or a list of names"), "{said}");
}

#[test]
fn an_entry_of_the_node_in_consul_has_what_the_file_says_or_else_what_is_advertised() {
    let entry = config("[consul.register]\nname = \"gateway\"\n", &[]).register.expect("an entry");
    let at = |advertised: &str| entry.clone().of_node(advertised, "http://127.0.0.1:8001/readyz".into(), "1");
    let far = at("http://gw.example.com:8000");
    assert_eq!(
        (far.id.as_str(), far.address.as_deref(), far.port),
        ("gateway-gw.example.com-8000", Some("gw.example.com"), 8000)
    );
    let near = at("http://127.0.0.1:8000");
    assert_eq!((near.id.as_str(), near.address, near.port), ("gateway-127.0.0.1-8000", None, 8000));
    let six = at("http://[2001:db8::1]");
    assert_eq!(
        (six.id.as_str(), six.address.as_deref(), six.port),
        ("gateway-2001-db8--1-80", Some("2001:db8::1"), 80)
    );
    let entry = config(
        "[consul.register]\nname = \"g\"\nid = \"i\"\naddress = \"10.0.0.5\"\nport = 80\ncheck = \"http://10.0.0.5:8001/readyz\"\n\
         gone_after = \"2h\"\ntags = [\"a\"]\nmeta = { version = \"mine\" }\n",
        &[],
    );
    let set = entry.register.expect("an entry").of_node("http://127.0.0.1:8000", String::new(), "1");
    assert_eq!((set.id.as_str(), set.address.as_deref(), set.port), ("i", Some("10.0.0.5"), 80));
    assert_eq!((set.check.as_str(), set.entry.gone_after.as_secs()), ("http://10.0.0.5:8001/readyz", 7200));
    assert_eq!((set.entry.tags, set.entry.meta["version"].as_str()), (vec!["a".to_owned()], "mine"));
}

#[test]
fn a_mistake_in_the_entry_of_the_node_is_said_with_its_place() {
    let cases = [
        ("", ":1:1: the key `name` is missing here"),
        ("name = \"a b\"", ":2:8: `a b` cannot be the name of a service in Consul"),
        ("name = \"a\"\nport = 0", ":3:8: bad port"),
        ("name = \"a\"\ncheck = \"readyz\"", ":3:9: bad check: `readyz` is not a URL"),
        ("name = \"a\"\ngone_after = \"10s\"", ":3:14: 10s is out of bounds; write a duration from 1m to"),
        ("name = \"a\"\ninterval = \"1ms\"", ":3:12: 1ms is out of bounds"),
        ("name = \"a\"\ntags = [\"a b\"]", ":3:9: `a b` cannot be a tag"),
    ];
    for (keys, expected) in cases {
        let said = said_of(&format!("[consul.register]\n{keys}\n"));
        assert!(said.contains(expected), "{keys}: {said}");
    }
}

#[test]
fn a_token_that_is_not_there_is_no_mistake_but_check_warns_of_it() {
    let warned = |place: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "[consul]\n{place}\n[services.a]\nconsul = {{ service = \"a\" }}\n[services.b]\nconsul = {{ service = \"b\" }}\n"
        );
        std::fs::write(file.path(), text).unwrap();
        let args = Args { config: file.path().to_owned(), format: Format::Table };
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        run(&args, &mut out, &mut notes).unwrap();
        String::from_utf8(notes).unwrap()
    };
    let said = warned("token_env = \"NO_SUCH_VARIABLE\"");
    assert!(
        said.ends_with(": there is no token for Consul: the environment has no variable NO_SUCH_VARIABLE\n"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(warned("token_file = \"/no/such/token\"").contains("/no/such/token: No such file"));
    assert_eq!(warned("token_env = \"PATH\""), "");
}

/// What is kept of a service for transactions that are in doubt is read alone, when the file may have neither `[consul]` nor
/// the other services any more.
#[test]
fn the_section_of_a_service_says_alone_where_it_is() {
    let text = "[consul]\nagent = \"http://10.0.0.1:8500\"\ntoken_file = \"/run/token\"\n[services.a]\nfailover = \"b\"\nkeep = \"7s\"\n\
                consul = { service = \"x\", tag = \"v1\" }\n[services.b]\nendpoints = [\"http://b\"]\n";
    let whole = config(text, &[("CONSUL_HTTP_ADDR", "10.0.0.2:8500")]);
    let alone = config(&whole.services["a"].section, &[]);
    let (of_whole, of_alone) = (&whole.services["a"].spec, &alone.services["a"].spec);
    assert_eq!((&of_whole.source, of_whole.keep), (&of_alone.source, of_alone.keep));
    assert_eq!((of_whole.stand_ins.len(), of_alone.stand_ins.len()), (1, 0));
    let by_variable = text.replace("token_file = \"/run/token\"", "token_env = \"TOKEN\"");
    let alone = config(&config(&by_variable, &[]).services["a"].section, &[]);
    let Source::Consul(consul) = &alone.services["a"].spec.source else { panic!("no consul") };
    assert_eq!(consul.agent.token, Some(TokenPlace::Variable("TOKEN".to_owned())));
    assert_eq!(config(&whole.services["b"].section, &[]).services["b"].instances().len(), 1);
}
