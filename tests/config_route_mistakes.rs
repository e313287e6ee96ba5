//! Mistakes in routes: each is said with its place and with what to do.

mod config_support;

use config_support::{SERVICES, route, said_of_routes};
use unanimous::config;

fn transaction(branches: &str) -> String {
    route(&format!("match = {{ path = \"/t/{{id}}\" }}\ntransaction = {{ branches = [{branches}] }}"))
}

#[test]
fn a_route_to_a_service_that_is_not_there_is_refused() {
    let said = said_of_routes(&route("match = { path = \"/\" }\nforward = { service = \"ledgr\" }"));
    assert_eq!(
        said,
        "gateway.toml:13:23: there is no service `ledgr`; write `ledger` or declare it as [services.ledgr]"
    );
}

#[test]
fn the_same_route_twice_is_refused_with_both_places() {
    let one = route("match = { path = \"/a\" }\nforward = { service = \"ledger\" }");
    let two = route("match = { path = \"/b\" }\nforward = { service = \"ledger\" }");
    let said = said_of_routes(&format!("{one}{two}"));
    assert_eq!(said, "gateway.toml:15:6: the route `r` is already declared (line 11); give one another id");
}

#[test]
fn two_routes_that_cannot_be_told_apart_are_named_with_their_lines() {
    let said = said_of_routes(
        "[[routes]]\nid = \"one\"\nmatch = { path = \"/a/{x}\" }\nforward = { service = \"ledger\" }\n\
         [[routes]]\nid = \"two\"\nmatch = { path = \"/a/{y}\" }\nforward = { service = \"accounts\" }\n",
    );
    assert!(
        said.starts_with("gateway.toml:15:6: the routes `one` (line 11) and `two` cannot be told apart"),
        "{said}"
    );
    assert!(said.ends_with("or say which comes first: `priority = 1`"), "{said}");
}

#[test]
fn of_many_routes_that_are_alike_each_is_named_once() {
    let alike = (0..50).map(|nth| {
        format!(
            "[[routes]]\nid = \"r{nth}\"\nmatch = {{ path = \"/a/{{x}}\" }}\nforward = {{ service = \"ledger\" }}\n"
        )
    });
    let said = said_of_routes(&alike.collect::<String>());
    assert_eq!(said.lines().filter(|line| line.contains("cannot be told apart")).count(), 49, "{said}");
    assert!(said.contains("the routes `r0` (line 11) and `r49` cannot be told apart"), "{said}");
}

#[test]
fn a_route_where_the_node_itself_answers_is_refused() {
    for path in ["/v1/transactions/{id}", "/v1/transactions/", "/v1/%74ransactions/{*rest}"] {
        let said = said_of_routes(&route(&format!(
            "match = {{ path = \"{path}\" }}\nforward = {{ service = \"ledger\" }}"
        )));
        let expected = "gateway.toml:12:18: the node itself answers below /v1/transactions/";
        assert!(said.starts_with(expected), "{path}: {said}");
    }
    let beside = route("match = { path = \"/v1/transactions\" }\nforward = { service = \"ledger\" }");
    assert!(config::parse("gateway.toml", &format!("{SERVICES}{beside}"), std::iter::empty()).is_ok());
}

#[test]
fn merging_with_post_is_told_to_declare_a_transaction() {
    let said = said_of_routes(&route(
        "match = { path = \"/\", methods = [\"GET\", \"POST\"] }\n\
         merge = { parts = [{ service = \"ledger\", path = \"/\", as = \"l\" }] }",
    ));
    assert!(said.starts_with("gateway.toml:12:41: the route `r` merges answers"), "{said}");
    assert!(said.contains("declare a transaction: [routes.transaction]"), "{said}");
}

#[test]
fn a_branch_of_a_service_that_cannot_commit_is_refused() {
    let said = said_of_routes(&transaction("{ service = \"ledger\", path = \"/x\" }"));
    assert!(
        said.starts_with("gateway.toml:13:41: the service `ledger` does not say how to commit"),
        "{said}"
    );
    assert!(said.contains("add [services.ledger.transaction] with `commit` and `abort`"), "{said}");
}

#[test]
fn a_transaction_has_1_to_64_branches() {
    let branch = "{ service = \"accounts\", path = \"/x\" },";
    let said = said_of_routes(&transaction(""));
    assert!(said.contains("the route `r` has 0 branches; write 1 to 64"), "{said}");
    let said = said_of_routes(&transaction(&branch.repeat(65)));
    assert!(said.contains("the route `r` has 65 branches; write 1 to 64"), "{said}");
    let most = format!("{SERVICES}{}", transaction(&branch.repeat(64)));
    assert!(config::parse("gateway.toml", &most, std::iter::empty()).is_ok());
}

#[test]
fn a_bad_reply_within_is_refused() {
    let with = |value: &str| {
        route(&format!(
            "match = {{ path = \"/\" }}\n[routes.transaction]\nreply_within = {value}\n\
             branches = [{{ service = \"accounts\", path = \"/x\" }}]"
        ))
    };
    assert!(said_of_routes(&with("5")).contains("14:16: a duration needs a unit"));
    assert!(
        said_of_routes(&with("\"2h\""))
            .contains("14:16: 2h is out of bounds; write a duration from 0s to 1h")
    );
}

#[test]
fn a_bad_json_pointer_is_refused() {
    let said = said_of_routes(&transaction("{ service = \"accounts\", path = \"/x\", body = \"to\" }"));
    assert!(said.contains("bad JSON Pointer: a JSON Pointer begins with a slash"), "{said}");
}

#[test]
fn a_bad_method_is_refused() {
    let with = |method: &str| {
        said_of_routes(&route(&format!(
            "match = {{ path = \"/\", methods = [\"{method}\"] }}\nforward = {{ service = \"ledger\" }}"
        )))
    };
    assert!(with("post").contains("12:34: methods are upper case: write `POST`"), "{}", with("post"));
    assert!(with("G T").contains("`G T` is not a method"));
    assert!(with("CONNECT").contains("never passed on"));
    let none = route("match = { path = \"/\", methods = [] }\nforward = { service = \"ledger\" }");
    assert!(said_of_routes(&none).contains("no method is listed"));
}

#[test]
fn a_bad_path_pattern_is_refused() {
    let with = |path: &str| {
        said_of_routes(&route(&format!(
            "match = {{ path = \"{path}\" }}\nforward = {{ service = \"ledger\" }}"
        )))
    };
    let cases = [
        ("a", "has to begin with a slash"),
        ("/a//b", "an empty segment"),
        ("/a/../b", "a dot segment"),
        ("/x{id}", "a parameter takes a whole segment"),
        ("/{id}/{id}", "occurs twice"),
        ("/{*rest}/x", "has to be the last segment"),
        ("/{}", "is not a parameter name"),
        ("/%zz", "not followed by two hex digits"),
    ];
    for (path, blame) in cases {
        let said = with(path);
        assert!(said.starts_with("gateway.toml:12:18: bad path pattern: "), "{said}");
        assert!(said.contains(blame), "{path}: {said}");
    }
}

#[test]
fn a_parameter_that_nothing_binds_is_refused_wherever_it_is_used() {
    let expected = "`{x}` comes from nowhere: the path `/t/{id}` of the route binds only `{id}`";
    let said = said_of_routes(&transaction("{ service = \"accounts\", path = \"/{x}\" }"));
    assert!(said.contains(expected), "{said}");
    let said = said_of_routes(&route(
        "match = { path = \"/t/{id}\" }\nforward = { service = \"ledger\", path = \"/{x}\" }",
    ));
    assert!(said.contains(expected), "{said}");
    let said = said_of_routes(&route(
        "match = { path = \"/t/{id}\" }\nmerge = { parts = [{ service = \"ledger\", path = \"/?q={x}\", as = \"l\" }] }",
    ));
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_route_says_exactly_once_what_becomes_of_its_requests() {
    let said = said_of_routes(&route("match = { path = \"/\" }"));
    assert!(
        said.starts_with("gateway.toml:11:6: the route `r` does not say what becomes of its requests"),
        "{said}"
    );
    let said = said_of_routes(&route(
        "match = { path = \"/\" }\nforward = { service = \"ledger\" }\n\
         merge = { parts = [{ service = \"ledger\", path = \"/\", as = \"l\" }] }",
    ));
    assert!(said.starts_with("gateway.toml:11:6: the route `r` says twice"), "{said}");
}

#[test]
fn a_condition_that_could_never_hold_is_refused() {
    let with = |condition: &str| {
        said_of_routes(&route(&format!(
            "match = {{ path = \"/\", {condition} }}\nforward = {{ service = \"ledger\" }}"
        )))
    };
    assert!(with("host = \"http://h\"").contains("is not a host; write a name"));
    assert!(with("host = \"h:80\"").contains("without scheme and port"));
    assert!(with("host = \"*\"").contains("12:30: `*` alone is any host; leave `host` out"));
    assert!(with("host = \"a.*\"").contains("a `*` stands for whole labels at the left"));
    assert!(with("host = \"m\u{fc}nchen.de\"").contains("write its ASCII form"));
    assert!(with("host = []").contains("no host is listed"));
    assert!(with("host = [\"a\", \"A.\"]").contains("12:36: the host `a` is listed twice"));
    assert!(with("host = [\"a\", 1]").contains("wrong type"));
    assert!(
        with("host = 1").contains("12:30: wrong type: this is an integer `1`, but a host or a list of hosts")
    );
    assert!(with("headers = { \"x y\" = \"1\" }").contains("is not the name of a header field"));
    assert!(with("headers = { x = \"a\\nb\" }").contains("no header field can have this value"));
    assert!(with("headers = { X = \"1\", x = \"2\" }").contains("the field `x` stands here twice; keep one"));
}

#[test]
fn a_path_as_other_gateways_write_it_is_told_our_spelling() {
    let with = |path: &str| {
        let text = format!("match = {{ path = \"{path}\" }}\nforward = {{ service = \"ledger\" }}");
        config::parse("gateway.toml", &format!("{SERVICES}{}", route(&text)), std::iter::empty())
    };
    for (path, said) in [
        (
            "/lit/:id",
            "`:id` would be this very text; write a parameter as `{id}`, and a colon that is meant as `%3A`",
        ),
        (
            "/r/*",
            "`*` would be this very text; write `{*rest}` for all that follows, and a star that is meant as `%2A`",
        ),
        ("/r/**", "write `{*rest}` for all that follows"),
        ("/static/*.js", "`*.js` would be this very text"),
        (
            "/r/[0-9]+",
            "`[0-9]+` would be this very text, and there are no regular expressions; write a parameter",
        ),
        ("/r/(a|b)", "there are no regular expressions"),
        ("/r/^a$", "there are no regular expressions"),
        ("/r/.*", "write `{*rest}` for all that follows"),
    ] {
        let found = with(path).expect_err(path).to_string();
        assert!(
            found.starts_with("gateway.toml:12:18: bad path pattern: ") && found.contains(said),
            "{path}: {found}"
        );
    }
    for fine in ["/lit/%3Aid", "/r/%2A", "/a:b", "/odata/Books(1)/$value", "/a+b", "/12:30", "/:"] {
        assert!(with(fine).is_ok(), "{fine}");
    }
}

#[test]
fn a_redirect_to_its_own_path_is_a_loop() {
    let with = |matches: &str, redirect: &str| {
        let text = format!(
            "match = {{ path = \"/r/{{id}}\"{matches} }}\nredirect = {{ to = \"/r/{{id}}{redirect} }}"
        );
        config::parse("gateway.toml", &format!("{SERVICES}{}", route(&text)), std::iter::empty())
    };
    let said = with("", "\"").expect_err("a loop").to_string();
    assert!(
        said.contains(":13:19: this leads back to the path of the route itself, again and again"),
        "{said}"
    );
    assert!(with(", methods = [\"POST\"]", "\"").is_err());
    assert!(with("", "\", keep_query = false").is_err());
    // It may be another request that comes back.
    assert!(with(", methods = [\"POST\"]", "\", status = 303").is_ok());
    assert!(with("", "?seen=1\"").is_ok());
    assert!(with(", query = { old = \"1\" }", "\", keep_query = false").is_ok());
    assert!(with(", headers = { x = \"1\" }", "\"").is_ok());
}

/// A route that forwards, with these guards on the line after it.
fn guarded(guards: &str) -> String {
    said_of_routes(&route(&format!(
        "match = {{ path = \"/\" }}\nforward = {{ service = \"ledger\" }}\n{guards}"
    )))
}

#[test]
fn a_guard_that_could_not_work_is_refused_with_what_to_write() {
    for (guards, said) in [
        ("allow = [\"10.0.0\"]", "14:10: `10.0.0` is no range of addresses; write one like \"10.0.0.0/8\""),
        (
            "allow = []",
            "14:9: nobody is listed, and nobody could come; list addresses, or leave `allow` out to let everybody in",
        ),
        ("rate_limits = []", "14:15: here are 0 limits; list 1 to 4"),
        (
            "rate_limits = [{ requests = 0, per = \"1s\" }]",
            "14:29: 0 is out of bounds; write a number from 1",
        ),
        ("rate_limits = [{ requests = 1, per = \"0s\" }]", "14:38: 0s is out of bounds"),
        ("rate_limits = [{ requests = 1, per = \"1s\", by = \"header\" }]", "14:49: by which field? Name it"),
        (
            "rate_limits = [{ requests = 1, per = \"1s\", by = \"route\", header = \"x\" }]",
            "14:67: `header` goes with",
        ),
        (
            "rate_limits = [{ requests = 1, per = \"1s\", header = \"a b\" }]",
            "14:53: bad name of a header field",
        ),
        ("body_max = 0", "14:12: 0 is out of bounds"),
        ("cors = { origins = [] }", "14:20: no origin is listed"),
        (
            "cors = { origins = [\"*\"], methods = [] }",
            "14:37: no method is listed; list some, or leave `methods` out for GET, HEAD and POST",
        ),
        (
            "cors = { origins = [\"https://*.a.example\"] }",
            "14:21: no browser sends an origin with a `*`, so `https://*.a.example` could never match; list each origin, or \
             \"*\" alone for all",
        ),
        ("cors = { origins = [\"*\", \"https://a.example\"] }", "14:20: \"*\" is all origins"),
        (
            "cors = { origins = [\"https://a.example/\"] }",
            "14:21: `https://a.example/` is no origin as a browser sends it: write `https://a.example`",
        ),
        (
            "cors = { origins = [\"a.example\"] }",
            "14:21: `a.example` is no origin as a browser sends it, like",
        ),
        (
            "cors = { origins = [\"*\"], credentials = true }",
            "14:41: no browser sends credentials where every origin",
        ),
        ("cors = { origins = [\"*\"], methods = [\"get\"] }", "14:38: `get` is no method"),
    ] {
        let found = guarded(guards);
        assert!(found.contains(said), "{guards}: {found}");
    }
}

#[test]
fn a_priority_is_a_whole_number() {
    let with = |priority: &str| {
        said_of_routes(&route(&format!(
            "priority = {priority}\nmatch = {{ path = \"/\" }}\nforward = {{ service = \"ledger\" }}"
        )))
    };
    assert!(
        with("\"high\"")
            .contains("12:12: wrong type: this is a string \"high\", but a whole number belongs here")
    );
    assert!(with("1.5").contains("but a whole number belongs here"));
    assert!(with("99999999999").contains("but a whole number belongs here"));
}
