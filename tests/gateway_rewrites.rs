//! What a route changes on the way, through real sockets: what the backend really gets, and what the client does.

mod gateway_support;

use std::net::SocketAddr;

use gateway_support::*;

const PLAIN: &str = "id = \"r\"\nmatch = { path = \"/{*rest}\" }\n";

/// A gateway with one forwarding route to `backend`, which has these keys beside its service.
async fn rewriting(backend: SocketAddr, keys: &str) -> SocketAddr {
    let route = format!("[[routes]]\n{PLAIN}[routes.forward]\nservice = \"s\"\n{keys}\n");
    gateway(&config(&[backend], &route)).await
}

#[tokio::test]
async fn the_host_of_the_client_is_kept_where_the_route_says_so() {
    let (backend, record) = recorder(OK).await;
    get(rewriting(backend, "host = \"keep\"").await, "/", &[]).await;
    let request = &seen(&record)[0];
    assert!(has_line(request, "host: api.example.com"), "{request}");
    assert_eq!(request.to_lowercase().matches("\r\nhost:").count(), 1, "{request}");
}

#[tokio::test]
async fn the_host_of_the_route_is_sent_where_it_has_one() {
    let (backend, record) = recorder(OK).await;
    get(rewriting(backend, "host = \"api.internal:81\"").await, "/", &[]).await;
    let request = &seen(&record)[0];
    assert!(has_line(request, "host: api.internal:81"), "{request}");
    assert!(has_line(request, "x-forwarded-host: api.example.com"), "{request}");
}

#[tokio::test]
async fn fields_of_the_request_are_removed_set_and_added() {
    let (backend, record) = recorder(OK).await;
    let keys = "request_headers = { remove = [\"Cookie\"], set = { x-tenant = \"t {rest}\" }, add = { accept = \"b/c\" } }";
    let fields = ["Cookie: secret", "X-Tenant: mine", "X-Tenant: yours", "Accept: a/b"];
    get(rewriting(backend, keys).await, "/a%0Ab", &fields).await;
    assert!(seen(&record).is_empty(), "a parameter with the end of a line is no path");
    get(rewriting(backend, keys).await, "/a%2F%C3%A9", &fields).await;
    let request = &seen(&record)[0];
    assert!(!request.to_lowercase().contains("cookie"), "{request}");
    assert!(has_line(request, "x-tenant: t a%2F%C3%A9"), "{request}");
    assert!(!request.contains("mine") && !request.contains("yours"), "{request}");
    assert!(has_line(request, "accept: a/b") && has_line(request, "accept: b/c"), "{request}");
}

#[tokio::test]
async fn a_connection_field_cannot_take_out_what_the_route_sets() {
    let (backend, record) = recorder(OK).await;
    let gateway = rewriting(backend, "request_headers = { set = { x-tenant = \"ours\" } }").await;
    get(gateway, "/", &["Connection: x-tenant", "X-Tenant: mine"]).await;
    let request = &seen(&record)[0];
    assert!(has_line(request, "x-tenant: ours") && !request.contains("mine"), "{request}");
}

#[tokio::test]
async fn fields_of_the_answer_are_removed_set_and_added() {
    let answer =
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: old/1.0\r\nVary: a\r\nConnection: close\r\n\r\nok";
    let (backend, _) = recorder(answer).await;
    let keys = "response_headers = { remove = [\"server\"], set = { report-to = '{{\"group\":1}}' }, add = { vary = \"b\" } }";
    let answer = get(rewriting(backend, keys).await, "/", &[]).await;
    assert!(!answer.contains("old/1.0"), "{answer}");
    assert!(has_line(&answer, "report-to: {\"group\":1}"), "{answer}");
    assert!(has_line(&answer, "vary: a") && has_line(&answer, "vary: b"), "{answer}");
}

#[tokio::test]
async fn parameters_of_the_query_are_removed_and_set() {
    let (backend, record) = recorder(OK).await;
    let keys = "query = { remove = [\"debug\"], set = { tenant = \"{rest}\" } }";
    get(rewriting(backend, keys).await, "/a%26b?x=%7e;debug=1&d%65bug=1&tenant=mine", &[]).await;
    let request = &seen(&record)[0];
    assert!(request.starts_with("GET /a%26b?x=%7e%3Bdebug=1&tenant=a%26b HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn a_path_that_a_rewrite_would_make_ambiguous_is_refused_and_not_sent() {
    let (backend, record) = recorder(OK).await;
    // As in Traefik's CVE-2026-48020, where `/api../admin` without its prefix was `../admin`.
    for (pattern, path, asked) in [
        ("/api/{*rest}", "/.{rest}", "/api/./admin"),
        ("/api/{*rest}", "/.{rest}", "/api/"),
        ("/api/{*rest}", "/..{rest}", "/api/;v/admin"),
        ("/api/{*rest}", "/x/{rest}/y", "/api/"),
        ("/api/{a}", "/x/.{a}", "/api/%2Fy"),
        ("/api/{a}/{b}", "/{a}.{b}/admin", "/api/%2F/%2F"),
    ] {
        let route = format!(
            "[[routes]]\nid = \"r\"\nmatch = {{ path = \"{pattern}\" }}\n\
             forward = {{ service = \"s\", path = \"{path}\" }}\n"
        );
        let answer = get(gateway(&config(&[backend], &route)).await, asked, &[]).await;
        assert_eq!(status(&answer), "400", "{asked}: {answer}");
        assert!(answer.contains("\"code\":\"bad_path\""), "{answer}");
    }
    assert_eq!(seen(&record), Vec::<String>::new());
}

#[tokio::test]
async fn a_redirect_leads_where_the_route_says_and_keeps_the_query() {
    let route = "[[routes]]\nid = \"r\"\nmatch = { host = \"*.example.com\", path = \"/old/{id}\" }\n\
                 redirect = { to = \"https://{host}/new/{id}\" }\n\
                 [[routes]]\nid = \"s\"\nmatch = { path = \"/a/{*rest}\" }\n\
                 redirect = { to = \"/b/{rest}\", status = 303, keep_query = false }\n";
    let gateway = gateway(&config(&[nobody().await], route)).await;
    let answer = get(gateway, "/old/a%2fb?x=1&y=%0d", &[]).await;
    assert_eq!(status(&answer), "308");
    assert!(has_line(&answer, "location: https://api.example.com/new/a%2Fb?x=1&y=%0d"), "{answer}");
    assert!(has_line(&answer, "content-length: 0"), "{answer}");
    let answer = get(gateway, "/a/evil.example/?x=1", &[]).await;
    assert_eq!(status(&answer), "303");
    assert!(has_line(&answer, "location: /b/evil.example/"), "{answer}");
}

#[tokio::test]
async fn no_request_makes_a_redirect_lead_astray() {
    let route = "[[routes]]\nid = \"r\"\nmatch = { host = \"*.example.com\", path = \"/old/{*rest}\" }\n\
                 redirect = { to = \"https://{host}/{rest}\" }\n\
                 [[routes]]\nid = \"s\"\nmatch = { path = \"/a/{*rest}\" }\nredirect = { to = \"/{rest}\" }\n";
    let gateway = gateway(&config(&[nobody().await], route)).await;
    for target in [
        "/a//evil.example",
        "/a/%5Cevil.example",
        "/a/\\evil.example",
        "/a/x%0d%0aSet-Cookie:%20a=b",
        "/a/..//evil",
    ] {
        let answer = get(gateway, target, &[]).await;
        assert_eq!(status(&answer), "400", "{target}: {answer}");
        assert!(!answer.to_lowercase().contains("location:"), "{answer}");
    }
    let answer = get(gateway, "/a/%2Fevil.example", &[]).await;
    assert!(has_line(&answer, "location: /%2Fevil.example"), "{answer}");
    for host in [
        "evil.example",
        "evil.example/.example.com",
        "u@a.example.com",
        "a.example.com#.x",
        "evil\\.example.com",
    ] {
        let answer =
            raw(gateway, &format!("GET /old/x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert!(["400", "404"].contains(&status(&answer)), "{host}: {answer}");
    }
}

#[tokio::test]
async fn an_answer_of_the_configuration_needs_no_service() {
    let route = "[[routes]]\nid = \"r\"\nmatch = { path = \"/robots.txt\", methods = [\"GET\"] }\n\
                 respond = { status = 200, body = \"User-agent: *\\n\", headers = { cache-control = \"max-age=60\" } }\n\
                 [[routes]]\nid = \"gone\"\nmatch = { path = \"/{*rest}\" }\n\
                 respond = { status = 410, body = \"{}\", content_type = \"application/json\" }\n";
    let gateway = gateway(&config(&[nobody().await], route)).await;
    let answer = get(gateway, "/robots.txt", &[]).await;
    assert_eq!((status(&answer), body(&answer)), ("200", "User-agent: *\n"));
    assert!(has_line(&answer, "content-type: text/plain; charset=utf-8"), "{answer}");
    assert!(has_line(&answer, "cache-control: max-age=60"), "{answer}");
    let answer = raw(gateway, "HEAD /robots.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(has_line(&answer, "content-length: 14"), "{answer}");
    assert_eq!((status(&answer), body(&answer)), ("200", ""));
    let answer = get(gateway, "/x", &[]).await;
    assert_eq!((status(&answer), body(&answer)), ("410", "{}"));
    assert!(has_line(&answer, "content-type: application/json"), "{answer}");
}

#[tokio::test]
async fn options_is_answered_here_where_no_route_wants_it() {
    let route = "[[routes]]\nid = \"r\"\nmatch = { path = \"/a\", methods = [\"GET\", \"PUT\"] }\nforward = { service = \"s\" }\n\
                 [[routes]]\nid = \"s\"\nmatch = { path = \"/b\", methods = [\"POST\"] }\nforward = { service = \"s\" }\n";
    let (backend, record) = recorder(OK).await;
    let gateway = gateway(&config(&[backend], route)).await;
    let options = async |target: &str| {
        raw(gateway, &format!("OPTIONS {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    };
    let answer = options("/a").await;
    assert_eq!((status(&answer), body(&answer)), ("204", ""));
    assert!(has_line(&answer, "allow: GET, PUT, HEAD, OPTIONS"), "{answer}");
    let answer = options("*").await;
    assert_eq!(status(&answer), "204");
    assert!(has_line(&answer, "allow: GET, PUT, HEAD, POST, OPTIONS"), "{answer}");
    assert_eq!(status(&options("/c").await), "404");
    assert!(seen(&record).is_empty());
}

#[tokio::test]
async fn a_star_is_a_path_for_options_only() {
    let (backend, record) = recorder(OK).await;
    let gateway = forwarding_to(&[backend]).await;
    let answer = raw(gateway, "GET * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&answer), "400");
    assert!(seen(&record).is_empty());
}

#[tokio::test]
async fn requests_are_split_between_services_by_weight() {
    let ((one, of_one), (two, of_two)) = (recorder(OK).await, recorder(OK).await);
    let text = format!(
        "[services.one]\nendpoints = [\"http://{one}\"]\n[services.two]\nendpoints = [\"http://{two}\"]\n\
         [[routes]]\n{PLAIN}forward = {{ split = [{{ service = \"one\", weight = 3 }}, {{ service = \"two\", weight = 1 }}] }}\n"
    );
    let gateway = gateway(&text).await;
    for _ in 0..200 {
        assert_eq!(status(&get(gateway, "/", &[]).await), "200");
    }
    let (one, two) = (seen(&of_one).len(), seen(&of_two).len());
    assert_eq!(one + two, 200);
    // Chance is not seeded here: six standard deviations of 200 draws are 37.
    assert!((113..=187).contains(&one), "{one} and {two}");
}
