//! What `unanimous route explain` says, and that it says what a running gateway does.

mod gateway_support;

use std::path::Path;
use std::process::ExitCode;

use gateway_support::*;
use serde_json::Value;
use unanimous::cli::check::Format;
use unanimous::cli::route::{Args, Command, RouteError, run};

/// What is printed for a request that is written `METHOD URL NAME:VALUE..`.
fn explain(config: &Path, request: &str, format: Format) -> Result<(ExitCode, String), RouteError> {
    let mut words = request.split(' ').map(str::to_owned);
    let (method, url) = (words.next().expect("a method"), words.next().expect("a URL"));
    let args = Args { method, url, headers: words.collect(), config: config.to_owned(), format };
    let mut out = Vec::new();
    let code = run(&Command::Explain(args), &mut out)?;
    Ok((code, String::from_utf8(out).expect("text")))
}

/// A file with this configuration.
fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("writes");
    file
}

/// The first line, and why each other route lost, as `route: reason`.
fn told(config: &Path, request: &str) -> (Value, Vec<String>) {
    let (_, printed) = explain(config, request, Format::Json).expect("a request");
    let mut lines = printed.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object"));
    let first = lines.next().expect("a first line");
    let text = |line: &Value, name: &str| line[name].as_str().expect("a text").to_owned();
    (first, lines.map(|line| format!("{}: {}", text(&line, "route"), text(&line, "lost"))).collect())
}

const ROUTES: &str = r#"
[services.s]
endpoints = ["http://127.0.0.1:9"]
transaction = { commit = "/c", abort = "/a" }
[services.t]
endpoints = ["http://127.0.0.1:9"]
[[routes]]
id = "host"
match = { path = "/a/{x}", host = ["api.example.com", "*.example.org"] }
forward = { service = "s" }
[[routes]]
id = "method"
match = { path = "/a/{x}", methods = ["PUT", "POST"] }
transaction = { branches = [{ service = "s", path = "/orders/{x}", method = "PATCH" }] }
[[routes]]
id = "get"
match = { path = "/a/{x}", methods = ["GET"] }
forward = { split = [{ service = "s", weight = 9 }, { service = "t", weight = 1 }], path = "/b/{x}?y={x}" }
[[routes]]
id = "head"
match = { path = "/a/{x}", methods = ["HEAD"] }
forward = { service = "s" }
[[routes]]
id = "header"
match = { path = "/a/{x}", headers = { v = "2" } }
forward = { service = "s" }
[[routes]]
id = "query"
match = { path = "/a/{x}", query = { full = "1" } }
priority = 1
forward = { service = "s" }
[[routes]]
id = "other-query"
match = { path = "/a/{x}", query = { all = "1" } }
merge = { parts = [{ service = "s", path = "/p/{x}", as = "p" }] }
[[routes]]
id = "rest"
match = { path = "/{*rest}" }
redirect = { to = "https://www.example.com/{rest}" }
"#;

#[test]
fn each_route_that_lost_says_which_condition_failed_first() {
    let config = file(ROUTES);
    let (first, lost) = told(config.path(), "GET /a/7?full=2&all=1&all=1 V:3");
    assert_eq!(first["route"], "get");
    assert_eq!(
        lost,
        [
            "host: host: wants api.example.com or *.example.org, is not said",
            "other-query: query all: wants \"1\", is there 2 times, and once is wanted",
            "method: method: wants PUT or POST, is GET",
            "head: method: wants HEAD, is GET",
            "header: header v: wants \"2\", is \"3\"",
            "query: query full: wants \"1\", is \"2\"",
            "rest: `get` is more specific by its path",
        ]
    );
}

#[test]
fn a_route_that_fits_says_why_another_comes_first() {
    let config = file(ROUTES);
    let reason = |request: &str, route: &str| {
        let (_, lost) = told(config.path(), request);
        let line = lost.into_iter().find(|line| line.starts_with(&format!("{route}: "))).expect("a line");
        line.split_once(": ").expect("a reason").1.to_owned()
    };
    assert_eq!(reason("GET http://x.example.org/a/7", "get"), "`host` is more specific by its host");
    assert_eq!(reason("GET /a/7 v:2", "header"), "`get` is more specific by naming methods");
    assert_eq!(
        reason("DELETE /a/7?full=1 v:2", "query"),
        "`header` is more specific by asking for more headers"
    );
    assert_eq!(reason("HEAD /a/7", "get"), "`head` names HEAD, and this one takes it only as GET");
    assert_eq!(reason("DELETE /b", "host"), "host: wants api.example.com or *.example.org, is not said");
    assert_eq!(reason("DELETE http://api.example.com/b", "host"), "path: wants /a/{x}, is /b");
}

#[test]
fn what_would_be_sent_is_said_for_every_kind_of_route() {
    let config = file(ROUTES);
    let calls = |request: &str| {
        let (first, _) = told(config.path(), request);
        first["calls"].to_string()
    };
    assert_eq!(
        calls("GET /a/b%2f%63?z=1"),
        r#"[{"service":"s","percent":90,"method":"GET","target":"/b/b%2Fc?y=b%2Fc"},{"service":"t","percent":10,"method":"GET","target":"/b/b%2Fc?y=b%2Fc"}]"#
    );
    assert_eq!(
        calls("PUT /a/7?z=1"),
        r#"[{"service":"s","percent":100,"method":"PATCH","target":"/orders/7?z=1"}]"#
    );
    let (first, _) = told(config.path(), "DELETE /x/y?z=1");
    assert_eq!(
        (first["status"].clone(), first["location"].clone()),
        (308.into(), "https://www.example.com/x/y?z=1".into())
    );
    assert_eq!(first["params"].to_string(), r#"{"rest":"x/y"}"#);
}

#[test]
fn a_request_that_no_route_takes_is_told_its_answer_and_ends_with_1() {
    let config = file(
        "[services.s]\nendpoints = [\"http://h\"]\n[[routes]]\nid = \"r\"\nmatch = { path = \"/a\", methods = [\"PUT\"] }\nforward = { service = \"s\" }\n",
    );
    let said = |request: &str| {
        let (code, printed) = explain(config.path(), request, Format::Table).expect("a request");
        assert_eq!(code, ExitCode::from(1), "{printed}");
        printed.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(
        said("GET /b"),
        "GET /b takes no route: 404 no_route, no route of this gateway matches the request."
    );
    assert_eq!(
        said("GET /a"),
        "GET /a takes no route: 405 method_not_allowed, this path takes PUT, OPTIONS."
    );
    assert_eq!(
        said("TRACE /a"),
        "TRACE /a takes no route: 501 not_implemented, this gateway does not do TRACE."
    );
    assert_eq!(
        said("OPTIONS /a"),
        "OPTIONS /a takes no route: the gateway answers 204, Allow: PUT, OPTIONS."
    );
    assert_eq!(said("OPTIONS *"), "OPTIONS * takes no route: the gateway answers 204, Allow: PUT, OPTIONS.");
    assert!(said("PUT /a/%2e%2e").contains("400 bad_path, the path has a dot segment"));
    assert!(said("PUT http://h/a Host:i").contains("400 bad_host, the request has more than one Host field"));
    for request in ["GET /v1/transactions/x", "GET /v1/%74ransactions/x"] {
        assert!(said(request).ends_with("is answered by the node itself, before any route."), "{request}");
    }
    let (code, _) = explain(config.path(), "PUT /a", Format::Table).expect("a request");
    assert_eq!(code, ExitCode::SUCCESS);
}

#[test]
fn a_preflight_is_answered_by_the_gateway_where_the_route_of_what_it_asks_about_has_cors() {
    let config = file(
        "[services.s]\nendpoints = [\"http://h\"]\n\
         [[routes]]\nid = \"a\"\nmatch = { path = \"/{*rest}\" }\nforward = { service = \"s\" }\n\
         [[routes]]\nid = \"put\"\nmatch = { path = \"/a\", methods = [\"PUT\"] }\nforward = { service = \"s\" }\n\
         cors = { origins = [\"https://x.example\"], methods = [\"PUT\"] }\n",
    );
    let asks =
        |words: &str| format!("OPTIONS /a Origin:https://x.example Access-Control-Request-Method:{words}");
    let (code, printed) = explain(config.path(), &asks("PUT"), Format::Table).expect("a request");
    assert_eq!(code, ExitCode::SUCCESS);
    assert!(
        printed.starts_with(
            "OPTIONS /a is a preflight for PUT, which takes the route `put`: the gateway itself answers it, by `cors`.\n"
        ) && !printed.contains("asks"),
        "{printed}"
    );
    let (first, lost) = told(config.path(), &asks("PUT"));
    assert_eq!((&first["does"], &first["status"]), (&"preflight".into(), &200.into()));
    assert_eq!(first["calls"].to_string(), "[]");
    assert_eq!(lost, ["a: `put` is more specific by its path"]);
    // Without `cors` it is a request like any other.
    let (first, _) = told(config.path(), &asks("DELETE"));
    assert_eq!((&first["route"], &first["calls"][0]["method"]), (&"a".into(), &"OPTIONS".into()));
    let (first, _) = told(config.path(), "OPTIONS /a Origin:https://x.example");
    assert_eq!((&first["route"], &first["does"]), (&"a".into(), &"forward".into()));
}

#[test]
fn what_no_client_could_send_is_a_mistake_of_the_command() {
    let config = file(ROUTES);
    for (request, blame) in [
        ("get /a", "write one in upper case"),
        ("GET a#b", "with %20 for a space and no `#`"),
        ("GET /a x", "`x` is not a header field"),
    ] {
        let refused = explain(config.path(), request, Format::Table).expect_err("a mistake");
        assert!(matches!(&refused, RouteError::Usage(said) if said.contains(blame)), "{refused}");
    }
}

#[tokio::test]
async fn what_is_explained_is_what_the_gateway_sends() {
    let (backend, record) = recorder(OK).await;
    let routes = "[[routes]]\nid = \"a\"\nmatch = { path = \"/a/{x}\", host = \"*.example.com\" }\n\
                  [routes.forward]\nservice = \"s\"\npath = \"/b/{x}\"\nquery = { remove = [\"q\"], set = { x = \"{x}\" } }\n\
                  [[routes]]\nid = \"rest\"\nmatch = { path = \"/{*rest}\" }\nforward = { service = \"s\" }\n";
    let text = config(&[backend], routes);
    let (gateway, config) = (gateway(&text).await, file(&text));
    for target in ["/a/%7ex%2fy?q=1&z=%20", "/a/x/y?q", "/", "/caf%c3%a9?x=;y", "/a/&"] {
        get(gateway, target, &[]).await;
        let (first, _) = told(config.path(), &format!("GET {target} Host:api.example.com"));
        let sent = format!("GET {} HTTP/1.1\r\n", first["calls"][0]["target"].as_str().expect("a target"));
        let last = seen(&record).pop().expect("a request");
        assert!(last.starts_with(&sent), "{sent}{last}");
    }
}
