//! Mistakes in the file, the node and the services: each is said with its place and with what to do.

mod config_support;

use config_support::{route, said_of, said_of_routes};
use unanimous::config;

#[test]
fn an_unknown_key_comes_with_line_column_and_the_nearest_known_key() {
    let said = said_of("[node]\ndata_dir = \"d\"\nlisten_ = \"127.0.0.1:1\"\n");
    assert!(said.starts_with("gateway.toml:3:1: unknown key `listen_`; did you mean `listen`?"), "{said}");
    let said = said_of_routes(&route("match = { path = \"/\", method = [\"GET\"] }"));
    assert!(said.starts_with("gateway.toml:12:23: unknown key `method`; did you mean `methods`?"), "{said}");
    let said = said_of("[nod]\n");
    assert!(said.contains("unknown key `nod`; did you mean `node`?"), "{said}");
}

#[test]
fn a_wrong_type_says_what_belongs_there() {
    let said = said_of("[node]\nlisten = 8000\n");
    assert_eq!(said, "gateway.toml:2:10: wrong type: this is an integer `8000`, but a string belongs here");
    let said = said_of("[node]\nconnections_max = -1\n");
    assert!(
        said.contains("2:19: wrong type: this is an integer `-1`, but a number that is not negative"),
        "{said}"
    );
    let said = said_of("node = 1\n");
    assert!(said.contains("but a table belongs here"), "{said}");
}

#[test]
fn no_more_is_kept_for_a_key_than_fits_into_the_log() {
    let said = said_of("[node]\nanswer_kept_max = 524289\n");
    assert!(said.contains("gateway.toml:2:19: ") && said.contains("524288"), "{said}");
}

#[test]
fn a_broken_file_says_where_it_broke() {
    assert!(said_of("[node\n").starts_with("gateway.toml:1:6: "), "{}", said_of("[node\n"));
    let said = said_of("[node]\ndrain = \"1s\"\ndrain = \"2s\"\n");
    assert!(said.starts_with("gateway.toml:3:1: duplicate key"), "{said}");
}

#[test]
fn a_missing_key_is_named() {
    let said =
        said_of("[services.a]\nendpoints = [\"http://h\"]\n[services.a.transaction]\ncommit = \"/c\"\n");
    assert!(said.contains("the key `abort` is missing here"), "{said}");
}

#[test]
fn a_duration_needs_a_unit_and_sense() {
    let said = said_of("[node]\ndrain = 2\n");
    assert!(said.starts_with("gateway.toml:2:9: a duration needs a unit, as in \"2s\""), "{said}");
    let said = said_of("[node]\ndrain = 2.5\n");
    assert!(said.starts_with("gateway.toml:2:9: a duration needs a unit, as in \"2s\""), "{said}");
    let said = said_of("[log]\nretention = \"soon\"\n");
    assert!(said.starts_with("gateway.toml:2:13: bad duration \"soon\": "), "{said}");
    assert!(said.ends_with("write it like \"250ms\" or \"2s\""), "{said}");
    let said = said_of("[node]\nheader_timeout = \"0s\"\n");
    assert!(said.contains("2:18: 0s is out of bounds; write a duration from 1ms to 1h"), "{said}");
}

#[test]
fn a_number_out_of_bounds_says_the_bounds() {
    let said = said_of("[node]\nbody_max = 0\n");
    assert!(said.contains("2:12: 0 is out of bounds; write a number from 1 to "), "{said}");
}

#[test]
fn a_bad_listen_address_is_told_how_to_write_one() {
    let said = said_of("[node]\nlisten = \"localhost\"\n");
    assert_eq!(
        said,
        "gateway.toml:2:10: `localhost` is not an address to listen on; write IP and port, as in \
         \"127.0.0.1:8000\" or \"0.0.0.0:8000\""
    );
    let said = said_of("[node]\nlisten = \"127.0.0.1:8001\"\n");
    assert!(said.contains("`listen` and `admin` are both 127.0.0.1:8001; give one another port"), "{said}");
}

#[test]
fn a_proxy_that_is_no_range_of_addresses_is_refused() {
    let said =
        said_of("[node]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\", \"proxy.internal\", \"10.0.0.0/33\"]\n");
    assert!(
        said.starts_with("gateway.toml:2:41: `proxy.internal` is no range of addresses; write one like"),
        "{said}"
    );
    assert!(said.lines().count() == 2 && said.contains("`10.0.0.0/33`"), "{said}");
}

#[test]
fn a_bad_advertised_url_is_refused() {
    for url in ["gateway:8000", "ftp://h", "http://u@h", "http://h/?q", "http://h/#f", ""] {
        let said = said_of(&format!("[node]\nadvertise = \"{url}\"\n"));
        assert!(said.contains("is not a URL that participants can call"), "{url}: {said}");
    }
}

#[test]
fn a_bad_endpoint_says_what_is_bad_about_it() {
    let cases = [
        ("127.0.0.1:9001", "is not a URL"),
        ("https://h", "is https"),
        ("ftp://h", "is not an http URL"),
        ("http://h/api", "has a path"),
        ("http://h?q=1", "has a query"),
        ("http://h#f", "has a query or a fragment"),
        ("http://u:p@h", "has a user name"),
        ("http://h:99999", "is not a URL"),
        ("http://", "is not a URL"),
    ];
    for (endpoint, blame) in cases {
        let said = said_of(&format!("[services.a]\nendpoints = [\"{endpoint}\"]\n"));
        assert!(said.starts_with("gateway.toml:2:14: bad endpoint: "), "{said}");
        assert!(said.contains(blame), "{endpoint}: {said}");
        assert!(said.contains("http://127.0.0.1:9001"), "{said}");
    }
}

#[test]
fn a_service_without_endpoints_is_refused() {
    let said = said_of("[services.a]\nendpoints = []\n");
    assert!(said.starts_with("gateway.toml:2:13: the service `a` has 0 endpoints; list 1 to 1024"), "{said}");
}

#[test]
fn a_service_name_that_answers_cannot_carry_is_refused() {
    let said = said_of("[services.\"a#1\"]\nendpoints = [\"http://h\"]\n");
    assert!(said.starts_with("gateway.toml:1:11: `a#1` cannot be the name of a service"), "{said}");
}

#[test]
fn a_call_path_with_parameters_is_refused() {
    let said = said_of(
        "[services.a]\nendpoints = [\"http://h\"]\ntransaction = { commit = \"/c/{id}\", abort = \"x\" }\n",
    );
    assert!(said.contains("3:26: bad `commit` path: it cannot have parameters"), "{said}");
    assert!(said.contains("3:45: bad `abort` path: the path has to begin with a slash"), "{said}");
}

#[test]
fn a_retry_that_shrinks_is_refused() {
    let said = said_of(
        "[services.a]\nendpoints = [\"http://h\"]\n[services.a.transaction]\ncommit = \"/c\"\nabort = \"/a\"\n\
         retry = { initial = \"2s\", max = \"1s\" }\n",
    );
    assert!(said.starts_with("gateway.toml:6:33: the longest wait is shorter than the first one"), "{said}");
}

#[test]
fn all_mistakes_are_said_at_once_in_the_order_of_the_file() {
    let said = said_of_routes(&format!(
        "{}{}",
        route("match = { path = \"x\" }\nforward = { service = \"nobody\" }"),
        "[node]\nlisten = \"x\"\nbody_max = 0\n"
    ));
    let lines: Vec<_> = said.lines().map(|line| line.split(": ").next().unwrap_or_default()).collect();
    assert_eq!(
        lines,
        ["gateway.toml:12:18", "gateway.toml:13:23", "gateway.toml:15:10", "gateway.toml:16:12"]
    );
}

#[test]
fn nesting_without_end_is_a_mistake_and_no_crash() {
    for text in [format!("a = {}", "[".repeat(100_000)), format!("{} = 1", vec!["a"; 100_000].join("."))] {
        assert!(said_of(&text).starts_with("gateway.toml:1:"));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error =
        config::load("no/such/file.toml".as_ref(), std::iter::empty()).expect_err("there is no such file");
    assert!(error.to_string().starts_with("the configuration no/such/file.toml cannot be read: "), "{error}");
}

#[test]
fn a_budget_in_which_no_whole_body_has_room_is_refused() {
    let said = said_of("[node]\nbody_max = 1000\nbody_budget = 1999\n");
    assert!(
        said.starts_with("gateway.toml:3:15: calls to one service may hold half of `body_budget`"),
        "{said}"
    );
}

#[test]
fn an_endpoint_that_could_not_be_meant_is_refused() {
    let with = |listen: &str, endpoints: &str| {
        let text = format!("[node]\nlisten = \"{listen}\"\n[services.a]\nendpoints = [{endpoints}]\n");
        config::parse("gateway.toml", &text, std::iter::empty())
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let said = |listen: &str, endpoints: &str| with(listen, endpoints).expect_err(endpoints);
    let here = "127.0.0.1:8000";
    assert!(said(here, "\"http://x:0\"").contains("4:14: bad endpoint: `http://x:0` has the port 0"));
    assert_eq!(
        said(here, "\"http://x:1\", { url = \"http://X:1/\", weight = 2 }"),
        "gateway.toml:4:28: the endpoint http://x:1 is listed twice; keep one, with a `weight` if it is to get more"
    );
    let own = "4:14: this is the node's own `listen`, and what it sends there is a loop; write the address of the service";
    for (listen, endpoint) in [
        (here, "http://127.0.0.1:8000"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("[::]:8000", "http://[::1]:8000"),
        ("127.0.0.1:80", "http://127.0.0.1"),
    ] {
        let said = said(listen, &format!("\"{endpoint}\""));
        assert!(said.contains(own), "{listen} {endpoint}: {said}");
    }
    for (listen, endpoint) in [
        (here, "http://127.0.0.1:8001"),
        (here, "http://127.0.0.2:8000"),
        ("0.0.0.0:8000", "http://10.0.0.1:8000"),
        ("127.0.0.1:0", "http://127.0.0.1:8000"),
    ] {
        assert_eq!(with(listen, &format!("\"{endpoint}\"")), Ok(()), "{listen} {endpoint}");
    }
}
