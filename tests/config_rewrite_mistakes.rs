//! Mistakes in what a route rewrites, and in the answers it has itself: each is said with its place and with what to do.

mod config_support;

use config_support::{SERVICES, route, said_of_routes};
use unanimous::config;

/// What is said of a forwarding route with this beside `service = "ledger"`, which ends in column 32 of line 13.
fn forward(keys: &str) -> String {
    said_of_routes(&route(&format!(
        "match = {{ path = \"/t/{{id}}\" }}\nforward = {{ service = \"ledger\", {keys} }}"
    )))
}

/// What is said of a route that does this, in line 13.
fn does(action: &str) -> String {
    said_of_routes(&route(&format!("match = {{ path = \"/t/{{id}}\" }}\n{action}")))
}

#[test]
fn a_field_that_only_the_gateway_may_change_is_refused_with_what_to_do() {
    for (name, blame) in [
        ("Host", "write `forward.host`"),
        ("content-length", "on which the gateway keeps it true; take it out"),
        ("Transfer-Encoding", "take it out"),
        ("connection", "take it out"),
        ("upgrade", "take it out"),
        ("x-forwarded-for", "is the gateway's own to say; give the field another name"),
        ("X_Forwarded_Proto", "is the gateway's own to say"),
        ("transaction-id", "is the gateway's own to say"),
        ("via", "is the gateway's own to say"),
    ] {
        for keys in [
            format!("request_headers = {{ remove = [\"{name}\"] }}"),
            format!("request_headers = {{ set = {{ {name} = \"x\" }} }}"),
            format!("response_headers = {{ add = {{ {name} = \"x\" }} }}"),
        ] {
            let said = forward(&keys);
            assert!(said.starts_with("gateway.toml:13:"), "{said}");
            assert!(said.contains(&format!("the field `{name}` ")) && said.contains(blame), "{said}");
        }
    }
}

#[test]
fn a_field_that_cannot_be_sent_is_refused() {
    let set = |pair: &str| forward(&format!("request_headers = {{ set = {{ {pair} }} }}"));
    assert!(set("\"a b\" = \"1\"").contains("`a b` is not the name of a header field"));
    assert!(set("a = \"1\\r\\nb: 2\"").contains("no header field can have this value"));
    assert!(set("A = \"1\", a = \"2\"").contains("the field `a` stands here twice"));
    assert!(set("a = \"{id\"").contains("bad value: `{id` has a brace that is part of no parameter"));
    assert!(
        set("a = \"{x}\"")
            .contains("`{x}` comes from nowhere: the path `/t/{id}` of the route binds only `{id}`")
    );
    assert!(forward("query = { set = { a = \"{x}\" } }").contains("`{x}` comes from nowhere"));
}

#[test]
fn a_host_that_cannot_be_sent_is_refused() {
    for host in ["", "http://h", "a b", "u@h", "h/x"] {
        let said = forward(&format!("host = \"{host}\""));
        assert!(said.contains(&format!("13:40: `{host}` is not a host to send; write \"keep\"")), "{said}");
    }
}

#[test]
fn a_route_forwards_to_one_service_or_to_a_split_of_them() {
    let split = |split: &str| does(&format!("forward = {{ split = [{split}] }}"));
    assert!(does("forward = {}").starts_with("gateway.toml:11:6: the route `r` does not say which service"));
    assert!(forward("split = []").contains("13:41: the route `r` says twice which service"));
    assert!(split("").contains("13:21: bad split: 0 services share the requests; write 1 to 64"));
    assert!(split("{ service = \"ledger\", weight = 0 }").contains("every weight is 0"));
    assert!(split("{ service = \"ledgr\", weight = 1 }").contains("there is no service `ledgr`"));
    assert!(
        split("{ service = \"ledger\", weight = -1 }").contains("a number that is not negative belongs here")
    );
    assert!(split("{ service = \"ledger\" }").contains("the key `weight` is missing here"));
    let one = "{ service = \"ledger\", weight = 1 }";
    assert!(split(&format!("{one}, {one}")).contains("`ledger` has a share already; add the weights up"));
    assert!(
        split("{ service = \"ledger\", weight = 1000001 }")
            .contains("1000001 is out of bounds; write a weight from 0 to 1000000")
    );
}

#[test]
fn a_redirect_that_could_be_made_to_lead_anywhere_is_refused() {
    let to = |to: &str| does(&format!("redirect = {{ to = \"{to}\" }}"));
    assert!(to("https://{id}/x").contains("13:19: bad redirect: `{id}` is not a host to lead to"));
    assert!(to("https://{id}.example.com/").contains("is not a host to lead to"));
    assert!(to("https://a@b/").contains("is not a host to lead to"));
    assert!(to("//evil/").contains("bad redirect: the path has an empty segment"));
    assert!(to("x").contains("a redirect leads to a path from the root"));
    assert!(to("/{x}").contains("`{x}` comes from nowhere"));
    assert!(
        to("https://{host}/").contains("13:19: `{host}` is what the client says, and this route takes any")
    );
    let named = "match = { path = \"/\", host = \"*.h\" }\nredirect = { to = \"https://{host}/\" }";
    assert!(config::parse("f", &format!("{SERVICES}{}", route(named)), std::iter::empty()).is_ok());
}

#[test]
fn a_status_that_does_not_do_what_the_route_says_is_refused() {
    let redirect = |status: &str| does(&format!("redirect = {{ to = \"/x\", status = {status} }}"));
    assert!(redirect("200").contains("13:34: 200 is no redirect; write 301 or 308"));
    assert!(redirect("304").contains("304 is no redirect"));
    assert!(redirect("\"301\"").contains("wrong type"));
    let respond = |keys: &str| does(&format!("respond = {{ {keys} }}"));
    assert!(
        respond("status = 100").contains("13:22: 100 is no status of an answer; write one from 200 to 599")
    );
    assert!(respond("status = 600").contains("600 is no status of an answer"));
    assert!(respond("body = \"x\"").contains("the key `status` is missing here"));
    assert!(
        respond("status = 204, body = \"x\"")
            .contains("an answer of 204 No Content has no body; take it out")
    );
    assert!(respond("status = 304, body = \"\"").contains("an answer of 304 Not Modified has no body"));
}

#[test]
fn an_answer_that_cannot_be_sent_is_refused() {
    let respond = |keys: &str| does(&format!("respond = {{ status = 200, {keys} }}"));
    assert!(respond("headers = { content-type = \"a\" }").contains("write `respond.content_type`"));
    assert!(respond("headers = { content-length = \"1\" }").contains("take it out"));
    assert!(
        respond("headers = { A = \"1\", a = \"2\" }").contains("the field `a` stands here twice; keep one")
    );
    assert!(respond("headers = { location = \"a\\nb\" }").contains("no header field can have this value"));
    assert!(respond("content_type = \"a\\nb\"").contains("no header field can have this value"));
    let long = "x".repeat(65_537);
    assert!(
        respond(&format!("body = \"{long}\"")).contains("the body has 65537 bytes, and 65536 is the most")
    );
}

#[test]
fn an_unknown_key_of_a_rewrite_is_refused_with_the_nearest() {
    assert!(forward("request_header = {}").contains("did you mean `request_headers`?"));
    assert!(forward("query = { delete = [] }").contains("unknown key `delete`"));
    assert!(does("redirect = { url = \"/\" }").contains("unknown key `url`"));
    assert!(does("respond = { code = 200 }").contains("unknown key `code`"));
}

#[test]
fn the_host_of_a_service_that_speaks_http_2_is_that_of_its_endpoint() {
    let config = "[services.s]\nendpoints = [\"http://h:1\"]\nprotocol = \"http2\"\n[[routes]]\nid = \"r\"\n\
                  match = { path = \"/\" }\nforward = { service = \"s\", host = \"keep\" }\n";
    let said = config::parse("gateway.toml", config, std::iter::empty()).unwrap_err().to_string();
    assert!(said.starts_with("gateway.toml:7:35: the service `s` speaks HTTP/2"), "{said}");
    let said = config::parse("gateway.toml", &config.replace("http2", "http3"), std::iter::empty());
    let said = said.unwrap_err().to_string();
    assert!(said.contains("unknown value `http3`; did you mean `http1`"), "{said}");
}
