//! Which route takes a request: the order of precedence, and what cannot be told apart.

use std::fmt::Write as _;

use http::Request;
use unanimous::config;
use unanimous::gateway::{RouteTable, Routed};

/// A table of these routes: id and `match`. An id that begins with `m` merges, one that begins with `t`
/// is a transaction, all others forward.
fn table(routes: &[(&str, &str)]) -> RouteTable {
    config::parse("test", &text(routes), std::iter::empty()).expect("a good configuration").routes
}

fn text(routes: &[(&str, &str)]) -> String {
    let mut text =
        "[services.s]\nendpoints = [\"http://h\"]\ntransaction = { commit = \"/c\", abort = \"/a\" }\n"
            .to_owned();
    for (id, matches) in routes {
        let action = match id.chars().next() {
            Some('m') => "merge = { parts = [{ service = \"s\", path = \"/\", as = \"s\" }] }",
            Some('t') => "transaction = { branches = [{ service = \"s\", path = \"/\" }] }",
            _ => "forward = { service = \"s\" }",
        };
        writeln!(text, "[[routes]]\nid = \"{id}\"\nmatch = {{ {matches} }}\n{action}")
            .expect("a string takes all");
    }
    text
}

fn is_ambiguous(one: &str, two: &str) -> bool {
    let text = text(&[("one", one), ("other", two)]);
    config::parse("test", &text, std::iter::empty())
        .is_err_and(|error| error.to_string().contains("cannot be told apart"))
}

/// Which route takes a request that is written `METHOD TARGET NAME:VALUE..`.
fn asked(table: &RouteTable, request: &str) -> String {
    let mut words = request.split(' ');
    let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
    let request = Request::builder().method(method).uri(target);
    let fields = words.map(|word| word.split_once(':').expect("a name and a value"));
    let request = fields.fold(request, |request, (name, value)| request.header(name, value));
    let routed = table.route(&request.body(()).expect("a request").into_parts().0);
    if let Some(id) = routed.id() {
        return id.to_owned();
    }
    if let Routed::MethodNotAllowed(allow) = routed {
        return format!("405 {allow:?}");
    }
    if let Routed::Options(allow) = routed {
        return format!("204 {allow:?}");
    }
    assert_eq!(routed, Routed::NotFound);
    "404".to_owned()
}

#[test]
fn the_more_literal_path_wins_whatever_the_order_of_the_file() {
    let table = table(&[
        ("any", "path = \"/{*rest}\""),
        ("rest", "path = \"/a/{*rest}\""),
        ("param", "path = \"/a/{x}\""),
        ("literal", "path = \"/a/b\""),
        ("mixed", "path = \"/{x}/b\""),
    ]);
    assert_eq!(asked(&table, "GET /a/b"), "literal");
    assert_eq!(asked(&table, "GET /a/c"), "param");
    assert_eq!(asked(&table, "GET /a/c/d"), "rest");
    assert_eq!(asked(&table, "GET /x/b"), "mixed");
    assert_eq!(asked(&table, "GET /x"), "any");
    assert_eq!(asked(&table, "GET /"), "any");
}

#[test]
fn a_host_counts_more_than_a_path() {
    let table =
        table(&[("path", "path = \"/a\""), ("host", "host = \"API.example.com\", path = \"/{*rest}\"")]);
    assert_eq!(asked(&table, "GET http://api.example.com/a"), "host");
    assert_eq!(asked(&table, "GET http://other.example.com/a"), "path");
    assert_eq!(asked(&table, "GET /a"), "path");
}

#[test]
fn a_name_counts_more_than_a_long_wildcard_and_that_more_than_a_short_one() {
    let table = table(&[
        ("any", "path = \"/\""),
        ("short", "path = \"/\", host = \"*.com\""),
        ("long", "path = \"/\", host = \"*.Example.com\""),
        ("name", "path = \"/\", host = \"api.example.com\""),
    ]);
    assert_eq!(asked(&table, "GET http://api.example.com/"), "name");
    assert_eq!(asked(&table, "GET http://www.example.com/"), "long");
    assert_eq!(asked(&table, "GET http://v2.api.example.com/"), "long");
    assert_eq!(asked(&table, "GET http://example.com/"), "short");
    assert_eq!(asked(&table, "GET http://example.org/"), "any");
    assert_eq!(asked(&table, "GET /"), "any");
}

#[test]
fn a_route_with_several_hosts_has_the_rank_of_the_one_that_is_asked_for() {
    let table = table(&[
        ("both", "path = \"/{*rest}\", host = [\"example.com\", \"*.example.com\"]"),
        ("api", "path = \"/a\", host = [\"*.example.com\", \"*.example.org\"]"),
    ]);
    assert_eq!(asked(&table, "GET http://example.com/a"), "both");
    assert_eq!(asked(&table, "GET http://www.example.com/a"), "api");
    assert_eq!(asked(&table, "GET http://www.example.com/b"), "both");
    assert_eq!(asked(&table, "GET http://www.example.org/b"), "404");
}

#[test]
fn priority_decides_between_routes_that_are_as_specific_as_each_other() {
    let by_header = |one: &str, two: &str| {
        let x = format!("path = \"/a\", headers = {{ x = \"1\" }} }}\npriority = {one}\n#");
        let y = format!("path = \"/a\", headers = {{ y = \"1\" }} }}\npriority = {two}\n#");
        asked(&table(&[("x", &x), ("y", &y)]), "GET /a x:1 y:1")
    };
    assert_eq!(by_header("1", "0"), "x");
    assert_eq!(by_header("-1", "0"), "y");
    assert_eq!(by_header("1", "2"), "y");
}

#[test]
fn priority_does_not_raise_a_route_above_a_more_specific_one() {
    let table = table(&[
        ("any", "path = \"/{*rest}\" }\npriority = 1000\n#"),
        ("literal", "path = \"/a\" }\npriority = -1000\n#"),
    ]);
    assert_eq!(asked(&table, "GET /a"), "literal");
    assert_eq!(asked(&table, "GET /b"), "any");
}

#[test]
fn a_route_that_names_head_takes_it_whatever_the_priority_of_the_one_for_get() {
    let table = table(&[
        ("get", "path = \"/a\", methods = [\"GET\"] }\npriority = 5\n#"),
        ("head", "path = \"/a\", methods = [\"HEAD\"]"),
    ]);
    assert_eq!(asked(&table, "HEAD /a"), "head");
}

#[test]
fn options_that_no_route_wants_is_answered_with_what_the_path_takes() {
    let table = table(&[
        ("get", "path = \"/a\", methods = [\"GET\"], headers = { x = \"1\" }"),
        ("put", "path = \"/a\", methods = [\"PUT\"]"),
        ("t", "path = \"/{x}\", methods = [\"POST\"]"),
        ("elsewhere", "path = \"/a\", host = \"h\", methods = [\"DELETE\"]"),
    ]);
    assert_eq!(asked(&table, "OPTIONS /a"), "204 [GET, HEAD, PUT, POST, OPTIONS]");
    assert_eq!(asked(&table, "OPTIONS /b"), "204 [POST, OPTIONS]");
    assert_eq!(asked(&table, "OPTIONS /a/b"), "404");
}

#[test]
fn options_goes_to_a_route_that_names_it_or_takes_any_method() {
    let table = table(&[
        ("named", "path = \"/a\", methods = [\"OPTIONS\", \"GET\"]"),
        ("any", "path = \"/b\""),
        ("get", "path = \"/b\", methods = [\"GET\"]"),
    ]);
    assert_eq!(asked(&table, "OPTIONS /a"), "named");
    assert_eq!(asked(&table, "OPTIONS /b"), "any");
}

#[test]
fn methods_count_more_than_headers_and_those_more_than_parameters() {
    let table = table(&[
        ("plain", "path = \"/a\""),
        ("query", "path = \"/a\", query = { q = \"1\", r = \"1\" }"),
        ("header", "path = \"/a\", headers = { x = \"1\" }"),
        ("method", "path = \"/a\", methods = [\"GET\"]"),
    ]);
    assert_eq!(asked(&table, "GET /a?q=1&r=1 x:1"), "method");
    assert_eq!(asked(&table, "PUT /a?q=1&r=1 x:1"), "header");
    assert_eq!(asked(&table, "PUT /a?q=1&r=1"), "query");
    assert_eq!(asked(&table, "PUT /a?q=1"), "plain");
}

#[test]
fn a_header_or_parameter_given_twice_matches_nothing() {
    let table = table(&[
        ("q", "path = \"/a\", query = { q = \"1\" }"),
        ("h", "path = \"/b\", headers = { x = \"1\" }"),
    ]);
    assert_eq!(asked(&table, "GET /a?q=1"), "q");
    assert_eq!(asked(&table, "GET /a?q=1&q=2"), "404");
    assert_eq!(asked(&table, "GET /b x:1"), "h");
    assert_eq!(asked(&table, "GET /b x:1 x:2"), "404");
}

#[test]
fn head_falls_back_to_get_unless_a_route_names_it() {
    let got = table(&[("get", "path = \"/a\", methods = [\"GET\"]"), ("any", "path = \"/{*rest}\"")]);
    assert_eq!(asked(&got, "HEAD /a"), "get");
    let both = table(&[
        ("get", "path = \"/a\", methods = [\"GET\"]"),
        ("head", "path = \"/a\", methods = [\"HEAD\"]"),
    ]);
    assert_eq!(asked(&both, "HEAD /a"), "head");
    assert_eq!(asked(&both, "GET /a"), "get");
}

#[test]
fn head_never_begins_a_transaction() {
    let table = table(&[("t", "path = \"/a\", methods = [\"GET\", \"POST\"]")]);
    assert_eq!(asked(&table, "HEAD /a"), "405 [GET, POST, OPTIONS]");
    assert_eq!(asked(&table, "POST /a"), "t");
}

#[test]
fn methods_left_out_depend_on_what_the_route_does() {
    let table =
        table(&[("forward", "path = \"/f\""), ("merge", "path = \"/m\""), ("transaction", "path = \"/t\"")]);
    assert_eq!(asked(&table, "PROPFIND /f"), "forward");
    assert_eq!(asked(&table, "POST /m"), "405 [GET, HEAD, OPTIONS]");
    assert_eq!(asked(&table, "GET /t"), "405 [POST, PUT, PATCH, DELETE, OPTIONS]");
}

#[test]
fn the_methods_that_are_allowed_are_those_of_all_routes_that_fit() {
    let table = table(&[
        ("get", "path = \"/a/{x}\", methods = [\"GET\"]"),
        ("put", "path = \"/{x}/b\", methods = [\"PUT\"]"),
        ("other", "path = \"/c\", methods = [\"POST\"]"),
    ]);
    assert_eq!(asked(&table, "DELETE /a/b"), "405 [GET, HEAD, PUT, OPTIONS]");
    assert_eq!(asked(&table, "PUT /a/b"), "put");
    assert_eq!(asked(&table, "DELETE /d"), "404");
}

#[test]
fn routes_that_one_request_could_fit_alike_are_ambiguous() {
    assert!(is_ambiguous("path = \"/a\"", "path = \"/a\""));
    assert!(is_ambiguous("path = \"/a\"", "path = \"/%61\""));
    assert!(is_ambiguous("path = \"/{x}\"", "path = \"/{y}\""));
    assert!(is_ambiguous("path = \"/{*x}\"", "path = \"/{*y}\""));
    assert!(is_ambiguous("path = \"/a\", host = \"H\"", "path = \"/a\", host = \"h\""));
    assert!(is_ambiguous("path = \"/a\", host = \"*.h\"", "path = \"/a\", host = [\"x\", \"*.H\"]"));
    assert!(is_ambiguous("path = \"/a\" }\npriority = 1\n#", "path = \"/a\" }\npriority = 1\n#"));
    assert!(is_ambiguous(
        "path = \"/a\", methods = [\"GET\", \"PUT\"]",
        "path = \"/a\", methods = [\"PUT\"]"
    ));
    assert!(is_ambiguous("path = \"/a\", headers = { x = \"1\" }", "path = \"/a\", headers = { y = \"1\" }"));
    assert!(is_ambiguous("path = \"/a\", query = { x = \"1\" }", "path = \"/a\", query = { y = \"1\" }"));
}

#[test]
fn routes_that_no_request_fits_both_of_are_not_ambiguous() {
    assert!(!is_ambiguous("path = \"/a\"", "path = \"/b\""));
    assert!(!is_ambiguous("path = \"/a/{x}\"", "path = \"/b/{x}\""));
    assert!(!is_ambiguous("path = \"/{x}/a\"", "path = \"/{x}/b\""));
    assert!(!is_ambiguous("path = \"/a\", host = \"h\"", "path = \"/a\", host = \"i\""));
    assert!(!is_ambiguous("path = \"/a\", host = \"*.h\"", "path = \"/a\", host = \"*.i\""));
    assert!(!is_ambiguous("path = \"/a\", host = \"h\"", "path = \"/a\", host = \"*.h\""));
    assert!(!is_ambiguous("path = \"/a\", methods = [\"GET\"]", "path = \"/a\", methods = [\"PUT\"]"));
    assert!(!is_ambiguous(
        "path = \"/a\", headers = { X = \"1\" }",
        "path = \"/a\", headers = { x = \"2\" }"
    ));
    assert!(!is_ambiguous("path = \"/a\", query = { x = \"1\" }", "path = \"/a\", query = { x = \"2\" }"));
}

#[test]
fn where_one_route_is_more_specific_nothing_is_ambiguous() {
    assert!(!is_ambiguous("path = \"/a\"", "path = \"/{x}\""));
    assert!(!is_ambiguous("path = \"/a\" }\npriority = 1\n#", "path = \"/a\""));
    assert!(!is_ambiguous("path = \"/a\"", "path = \"/a\", methods = [\"GET\"]"));
    assert!(!is_ambiguous("path = \"/a\", headers = { x = \"1\" }", "path = \"/a\", query = { x = \"1\" }"));
}
