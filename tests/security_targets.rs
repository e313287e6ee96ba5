//! What is asked for, in whose name: paths, hosts and fields that gateways and backends have read differently.
//!
//! Each case says what the backend really received. CVE numbers are of gateways that got it wrong.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod kit;
mod security;

use kit::Node;
use security::{Backend, node, send, statuses};

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

/// Two backends: `/admin/..` leads to one of them, all else to the other.
async fn two() -> (Backend, Backend, Node) {
    let (guarded, open) = (Backend::start().await, Backend::start().await);
    let config = format!(
        "[services.guarded]\nendpoints = [\"http://{}\"]\n[services.open]\nendpoints = [\"http://{}\"]\n\
         [[routes]]\nid = \"admin\"\nmatch = {{ path = \"/admin/{{*rest}}\" }}\nforward = {{ service = \"guarded\" }}\ndeny = [\"0.0.0.0/0\"]\n\
         [[routes]]\nid = \"item\"\nmatch = {{ path = \"/items/{{id}}\" }}\nforward = {{ service = \"open\", path = \"/store/{{id}}\" }}\n\
         [[routes]]\nid = \"all\"\nmatch = {{ path = \"/{{*rest}}\" }}\nforward = {{ service = \"open\" }}\n",
        guarded.address, open.address
    );
    let mut node = Node::new(&config);
    node.start().await;
    (guarded, open, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_leads_around_the_route_that_guards_it() {
    // CVE-2026-48020, -40912, CVE-2025-66490, -32431, CVE-2021-29492, -43557, CVE-2019-9901: routed as one path, served as another.
    let (guarded, open, node) = two().await;
    for target in [
        "/admin/x",
        "//admin/x",
        "/./admin/x",
        "/open/../admin/x",
        "/open/%2e%2e/admin/x",
        "/open/.%2E/admin/x",
        "/open/..;/admin/x",
        "/open/..%3b/admin/x",
        "/open\\..\\admin\\x",
        "/open%5c..%5cadmin/x",
        "/%61dmin/x",
        "/admin%2Fx",
        "/admin\u{0}/x",
        "/admin%00/x",
        "/admin%20/x",
        "/admin;v=1/x",
        "/admin/x#y",
        "/x#/../admin/x",
        "http://x/admin/x",
        "/items/..%2f..%2fadmin%2fx",
        "/items/%2e%2e",
        "/items/..",
        "/items/a%2f..%2f..%2fadmin",
    ] {
        let before = open.all().len();
        let answer = send(&node, get(target, "")).await;
        assert_eq!(guarded.all(), "", "{target}: the guard was passed");
        let seen = open.all()[before..].to_owned();
        match statuses(&answer)[..] {
            // Refused, or kept out by the guard.
            [400 | 403 | 404] => assert_eq!(seen, "", "{target}"),
            // Whatever reached the other one reads as nothing that is guarded, decoded once or twice.
            [200] => {
                let path = seen.split(' ').nth(1).unwrap().to_owned();
                for plain in ["/..", "\\", "%5c", "%2e", "//", "#"] {
                    assert!(!path.to_lowercase().contains(plain), "{target}: {path}");
                }
                assert!(!path.starts_with("/admin/"), "{target}: {path}");
            }
            _ => panic!("{target}: {answer}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_slash_stays_one_segment_as_it_was_written() {
    // traefik#12395: refusing %2F broke many; decoding it is CVE-2025-66490.
    let (_, open, node) = two().await;
    assert_eq!(statuses(&send(&node, get("/items/a%2Fb%3Fc%23d", "")).await), [200]);
    assert_eq!(open.request_lines(), ["GET /store/a%2Fb%3Fc%23d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_above_ascii_are_encoded_on_the_way() {
    // No request line may have them (RFC 9112, 3.2): HAProxy refuses them, and others read them in the one or other way.
    let (_, open, node) = two().await;
    let bytes = b"GET /caf\xc3\xa9?name=caf\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(statuses(&send(&node, bytes).await), [200]);
    assert_eq!(open.request_lines(), ["GET /caf%C3%A9?name=caf%C3%A9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_never_becomes_the_host_that_is_called() {
    // SSRF: what a client sends chooses a path, never where it goes.
    let (_, open, node) = two().await;
    for target in [
        "/items/@evil.example",
        "/items/evil.example:80",
        "//evil.example/x",
        "/items/%2f%2fevil.example",
        "/http://evil.example/x",
    ] {
        let answer = send(&node, get(target, "")).await;
        assert!(matches!(statuses(&answer)[..], [200 | 400]), "{target}: {answer}");
    }
    let hosts = open
        .all()
        .to_lowercase()
        .split("\r\n")
        .filter(|line| line.starts_with("host: "))
        .map(str::to_owned)
        .collect::<Vec<_>>();
    assert!(hosts.iter().all(|host| *host == format!("host: {}", open.address)), "{hosts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_in_the_gateways_name_by_another_spelling() {
    // CVE-2026-39858, CVE-2025-64484: `X_Forwarded_Proto` is the same to WSGI and PHP. CVE-2025-41235: from peers nobody trusts.
    let backend = Backend::start().await;
    let node = node(&backend, "", "").await;
    let forged = [
        "X-Forwarded-For: 6.6.6.6",
        "X_Forwarded_For: 6.6.6.6",
        "x_forwarded-proto: forged",
        "X-Forwarded-Host: forged",
        "X-Forwarded-Prefix: forged",
        "X-Real-IP: 6.6.6.6",
        "X_Real_IP: 6.6.6.6",
        "X.Forwarded.For: 6.6.6.6",
        "X~Real+IP: 6.6.6.6",
        "Proxy: http://forged",
        "Forwarded: for=6.6.6.6",
        "Transaction-Id: forged",
        "Transaction_Vote: forged",
        "Transaction-Epoch: forged",
    ];
    let fields: String = forged.iter().flat_map(|line| [line, "\r\n"]).collect();
    assert_eq!(statuses(&send(&node, get("/x", &fields)).await), [200]);
    let seen = backend.all();
    assert!(!seen.contains("6.6.6.6") && !seen.contains("forged"), "{seen}");
    assert_eq!(backend.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_cannot_take_away_what_the_gateway_adds() {
    // CVE-2024-45410, CVE-2025-48865.
    let backend = Backend::start().await;
    let node = node(&backend, "", "").await;
    let fields = "Connection: close, X-Forwarded-For, X-Real-Ip, X-Forwarded-Host, Forwarded, Via, X-Request-Id, Host, X-Own\r\nX-Own: 1\r\n";
    assert_eq!(statuses(&send(&node, get("/x", fields)).await), [200]);
    for name in
        ["x-forwarded-for", "x-real-ip", "x-forwarded-host", "forwarded", "via", "x-request-id", "host"]
    {
        assert!(backend.field(name).is_some(), "{name}: {}", backend.all());
    }
    assert_eq!(backend.field("x-own"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_compared_without_regard_to_case_however_many_there_are() {
    // CVE-2026-27588: case counted above a hundred hosts.
    let backend = Backend::start().await;
    let routes: Vec<_> = (0..200)
        .map(|number| {
            format!(
                "[[routes]]\nid = \"{number}\"\nmatch = {{ path = \"/x\", host = \"h{number}.example.com\" }}\n\
                 forward = {{ service = \"s\", path = \"/of/{number}\" }}\n"
            )
        })
        .collect();
    let node = node(&backend, "", &routes.concat()).await;
    for host in ["H150.Example.COM", "h150.example.com:8000", "h150.EXAMPLE.com."] {
        let answer = send(&node, format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(statuses(&answer), [200], "{host}");
    }
    assert_eq!(backend.request_lines(), ["GET /of/150"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_of_anything_has_its_status() {
    // CVE-2021-40346: names longer than a length field; slow and big heads.
    let backend = Backend::start().await;
    let node = node(&backend, "header_max = 16384", "").await;
    let long = "x".repeat(70_000);
    for (name, bytes, expected) in [
        ("a long name", get("/x", &format!("{long}: y\r\n")), 431),
        ("a long value", get("/x", &format!("x: {long}\r\n")), 431),
        ("many fields", get("/x", &"x: y\r\n".repeat(2_000)), 431),
        ("a long target", get(&format!("/{long}"), ""), 414),
        ("a long query", get(&format!("/x?{long}"), ""), 414),
    ] {
        let answer = send(&node, bytes).await;
        assert!(
            statuses(&answer).iter().all(|status| *status == expected || *status == 431),
            "{name}: {answer}"
        );
        assert_eq!(backend.all(), "", "{name}");
    }
    assert_eq!(statuses(&send(&node, get("/fine", "")).await), [200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_web_page_and_no_route_reaches_what_only_operators_may_do() {
    // Caddy 2.11.1: cross-site requests to the admin API. CVE-2022-24112: the admin API through a route.
    let backend = Backend::start().await;
    let node = node(&backend, "", "").await;
    for path in ["/v1/reload", "/v1/transactions/01a22c63-1ea2-7000-92ed-c668849a1399/retry"] {
        let admin = node.admin_url("");
        let host = admin.strip_prefix("http://").unwrap();
        for origin in ["https://evil.example", "null", &format!("http://{host}")] {
            let reply = node
                .send(http::Method::POST, &node.admin_url(path), &[("origin", origin)], None)
                .await
                .expect(403);
            assert_eq!(reply.json()["code"], "from_a_web_page");
        }
    }
    // DNS rebinding: the page's own name points at this machine.
    for (host, expected) in
        [("evil.example:80", 421), ("localhost:1", 200), ("[::1]", 200), ("app.localhost", 200)]
    {
        let url = node.admin_url("/v1/transactions");
        node.send(http::Method::GET, &url, &[("host", host)], None).await.expect(expected);
    }
    // The public listener has none of it.
    node.post("/v1/reload", &serde_json::json!({})).await.expect(200);
    assert_eq!(backend.request_lines(), ["POST /v1/reload"], "it is a path like any other there");
}
