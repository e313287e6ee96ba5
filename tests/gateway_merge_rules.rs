//! What a merge route can say of its parts, through real sockets: shapes, conflicts, fallbacks, status, header fields.

mod gateway_support;

use gateway_support::*;

/// What comes of merging these answers.
async fn merged(answers: &[&'static str], keys: &str, parts: &str) -> String {
    let mut services = Vec::new();
    for answer in answers {
        services.push(recorder(answer).await.0);
    }
    get(gateway(&merging(&services, keys, parts)).await, "/m/7", &[]).await
}

const A_AND_B: &str = r#"{ service = "a", path = "/a" }, { service = "b", path = "/b" }"#;

#[tokio::test]
async fn a_part_without_a_name_gives_its_members_in_the_shape_that_is_declared() {
    let parts = r#"{ service = "a", path = "/a", target = "/data", allow = ["name", "mail", "/tags", "/more"], deny = ["/tags/internal"],
        rename = { mail = "email" }, move = { "/more/deep" = "/depth" }, append = { "/all" = ["/more/one", "/more/two"] } },
        { service = "b", path = "/b", as = "b" }"#;
    let profile = r#"{"data":{"name":"x","mail":"m@x","age":1.10,"tags":[{"id":12345678901234567890,"internal":1}],"more":{"deep":1e400,"one":[1.0],"two":[2]}}}"#;
    let answer = merged(&[json(profile), json("{ }")], "", parts).await;
    assert_eq!(status(&answer), "200");
    assert_eq!(
        body(&answer),
        r#"{"name":"x","email":"m@x","tags":[{"id":12345678901234567890}],"more":{},"depth":1e400,"all":[1.0,2],"b":{ }}"#
    );
}

#[tokio::test]
async fn a_member_that_two_parts_give_fails_the_answer_and_is_named() {
    let answer = merged(&[json(r#"{"x":1}"#), json(r#"{"y":1,"x":2}"#)], "", A_AND_B).await;
    assert_eq!(status(&answer), "502");
    assert!(has_line(&answer, "content-type: application/problem+json"), "{answer}");
    assert!(body(&answer).contains(r#""code":"merge_conflict","member":"/x","parts":["a","b"]"#), "{answer}");
}

#[tokio::test]
async fn arrays_under_one_name_are_joined_in_declared_order() {
    let parts =
        r#"{ service = "a", path = "/a", as = "entries" }, { service = "b", path = "/b", as = "entries" }"#;
    let answer = merged(&[json("[1.10]"), json("[2, 3]")], "on_conflict = \"concat\"", parts).await;
    assert_eq!(body(&answer), r#"{"entries":[1.10,2, 3]}"#);
}

#[tokio::test]
async fn the_order_is_the_declared_one_whichever_part_comes_first() {
    let ((slow, a), (b, _)) = (listener().await, recorder(json(r#"{"x":"b","y":2}"#)).await);
    let gateway = gateway(&merging(&[a, b], "on_conflict = \"first\"", A_AND_B)).await;
    let answer_late = async {
        let mut stream = accept(&slow).await;
        read_until(&mut stream, "\r\n\r\n").await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        send(&mut stream, json(r#"{"z":0,"x":"a"}"#)).await;
    };
    let (answer, ()) = tokio::join!(get(gateway, "/m/7", &[]), answer_late);
    assert_eq!(body(&answer), r#"{"z":0,"x":"a","y":2}"#);
}

#[tokio::test]
async fn a_fallback_stands_in_for_an_optional_part() {
    let parts = r#"{ service = "a", path = "/a", as = "a" }, { service = "b", path = "/b", as = "b", required = false, fallback = [] }"#;
    let refusal = answering("500 Internal Server Error", &[], "");
    let said = merged(&[json("1"), refusal], "list_missing = \"missing\"", parts).await;
    assert_eq!(status(&said), "200");
    assert!(has_line(&said, "x-gateway-completed: false"), "{said}");
    assert_eq!(
        body(&said),
        r#"{"a":1,"b":[],"missing":[{"part":"b","service":"b","kind":"refused","status":500}]}"#
    );
}

#[tokio::test]
async fn a_key_that_occurs_twice_is_refused_wherever_an_answer_is_merged() {
    let twice = json(r#"{"list":[{"role":"user","r\u006fle":"admin"}]}"#);
    for parts in [A_AND_B.to_owned(), A_AND_B.replace("path = \"/a\"", "path = \"/a\", as = \"grouped\"")] {
        let answer = merged(&[twice, json("{}")], "", &parts).await;
        assert_eq!(status(&answer), "502", "{parts}");
        assert!(body(&answer).contains(r#""kind":"duplicate_key""#), "{answer}");
    }
    let deep = json(Box::leak(format!("{}{}", "[".repeat(129), "]".repeat(129)).into_boxed_str()));
    let answer =
        merged(&[deep, json("{}")], "", &A_AND_B.replace("path = \"/a\"", "path = \"/a\", as = \"a\"")).await;
    assert!(body(&answer).contains(r#""kind":"too_deep""#), "{answer}");
}

#[tokio::test]
async fn an_answer_that_is_no_object_cannot_give_its_members() {
    for (answer, kind) in [
        (json("[1]"), "no_object"),
        (json("{broken"), "not_json"),
        (answering("200 OK", &["Content-Type: text/plain"], "{}"), "not_json"),
        (answering("204 No Content", &[], ""), "no_object"),
    ] {
        let said = merged(&[answer, json("{}")], "", A_AND_B).await;
        assert_eq!(status(&said), "502");
        assert!(body(&said).contains(&format!(r#"{{"part":"a","service":"a","kind":"{kind}"}}"#)), "{said}");
    }
}

#[tokio::test]
async fn a_packed_answer_is_never_unpacked() {
    // The gzip of 14 bytes of JSON; it could as well be that of 10 GB.
    let packed = "\u{1f}\u{8b}..";
    let gzip = answering("200 OK", &["Content-Type: application/json", "Content-Encoding: gzip"], packed);
    let parts = r#"{ service = "a", path = "/a", as = "a" }, { service = "b", path = "/b" }"#;
    let said = merged(&[gzip, json("{}")], "", parts).await;
    assert_eq!(status(&said), "502");
    assert!(body(&said).contains(r#"{"part":"a","service":"a","kind":"encoded_answer"}"#), "{said}");
    let plain = answering("200 OK", &["Content-Type: application/json", "Content-Encoding: identity"], "1");
    assert_eq!(status(&merged(&[plain, json("{}")], "", parts).await), "200");
}

#[tokio::test]
async fn the_status_is_that_of_the_parts_where_the_route_says_so() {
    let created = answering("201 Created", &["Content-Type: application/json"], r#"{"a":1}"#);
    let unknown = answering("404 Not Found", &[], "");
    let optional = r#"{ service = "a", path = "/a" }, { service = "b", path = "/b", required = false }"#;
    for (keys, expected) in
        [("", "200"), ("status = 203", "203"), ("status = \"first\"", "201"), ("status = \"worst\"", "404")]
    {
        let said = merged(&[created, unknown], keys, optional).await;
        assert_eq!((status(&said), body(&said)), (expected, r#"{"a":1}"#), "{keys}");
    }
    for (keys, expected) in
        [("", "502"), ("status = 203", "502"), ("status = \"first\"", "502"), ("status = \"worst\"", "404")]
    {
        let said = merged(&[created, unknown], keys, A_AND_B).await;
        assert_eq!(status(&said), expected, "{keys}");
        assert!(body(&said).contains(r#""code":"part_failed""#), "{said}");
    }
}

#[tokio::test]
async fn only_the_fields_that_are_listed_come_to_the_client() {
    let parts = r#"{ service = "a", path = "/a", as = "a", headers = ["cache-control", "set-cookie", "x-one"] },
        { service = "b", path = "/b", as = "b", headers = ["Cache-Control", "Set-Cookie"] }"#;
    let a = answering(
        "200 OK",
        &[
            "Cache-Control: max-age=1",
            "Set-Cookie: a=1",
            "Set-Cookie: b=2",
            "X-One: 1",
            "X-Two: 2",
            "ETag: \"a\"",
        ],
        "1",
    );
    let b = answering("200 OK", &["Cache-Control: max-age=2", "Set-Cookie: c=3", "X-One: of b"], "2");
    let said = merged(&[a, b], "", parts).await;
    assert_eq!(status(&said), "200");
    for there in
        ["cache-control: max-age=2", "set-cookie: a=1", "set-cookie: b=2", "set-cookie: c=3", "x-one: 1"]
    {
        assert!(has_line(&said, there), "{there}: {said}");
    }
    for gone in ["max-age=1", "x-two", "etag", "of b"] {
        assert!(!said.to_lowercase().contains(gone), "{gone}: {said}");
    }
}

#[tokio::test]
async fn a_field_of_one_connection_stays_on_it_even_where_it_is_listed() {
    let parts = r#"{ service = "a", path = "/a", as = "a", headers = ["x-hop"] }"#;
    let a = "HTTP/1.1 200 OK\r\nX-Hop: 1\r\nConnection: close, X-Hop\r\nContent-Length: 1\r\n\r\n1";
    let said = merged(&[a], "", parts).await;
    assert_eq!(status(&said), "200");
    assert!(!said.to_lowercase().contains("x-hop"), "{said}");
}

#[tokio::test]
async fn a_refusal_that_is_passed_on_has_the_fields_that_belong_to_it() {
    let parts = r#"{ service = "a", path = "/a", as = "a", headers = ["www-authenticate"] }"#;
    let a = answering("401 Unauthorized", &["WWW-Authenticate: Bearer"], "");
    let said = merged(&[a], "status = \"worst\"", parts).await;
    assert_eq!(status(&said), "401");
    assert!(has_line(&said, "www-authenticate: Bearer"), "{said}");
    assert!(has_line(&said, "content-type: application/problem+json"), "{said}");
    assert!(!merged(&[a], "", parts).await.to_lowercase().contains("www-authenticate"));
    let left_out = parts.replace("as = \"a\"", "as = \"a\", required = false");
    assert!(has_line(&merged(&[a], "status = \"worst\"", &left_out).await, "www-authenticate: Bearer"));
    assert!(
        !merged(&[a], "", &left_out).await.to_lowercase().contains("www-authenticate"),
        "it is not in the answer"
    );
}

#[tokio::test]
async fn a_part_has_a_limit_and_a_timeout_of_its_own() {
    let parts = r#"{ service = "a", path = "/a", as = "a", answer_max = 3 }, { service = "b", path = "/b", as = "b" }"#;
    let said = merged(&[json("[12]"), json("[12]")], "", parts).await;
    assert!(
        body(&said).contains(r#""errors":[{"part":"a","service":"a","kind":"answer_too_large"}]"#),
        "{said}"
    );
    let ((hanging, a), (b, _)) = (listener().await, recorder(json("2")).await);
    let parts = parts.replace("answer_max = 3", "timeout = \"200ms\"");
    let said = get(gateway(&merging(&[a, b], "", &parts)).await, "/m/7", &[]).await;
    drop(hanging);
    assert_eq!(status(&said), "504");
    assert!(body(&said).contains(r#""errors":[{"part":"a","service":"a","kind":"late"}]"#), "{said}");
}

#[tokio::test]
async fn head_has_the_fields_and_the_status_of_get() {
    let (a, saw) = recorder(answering("201 Created", &["X-One: 1"], "[1]")).await;
    let parts = r#"{ service = "a", path = "/a", as = "a", headers = ["x-one"] }"#;
    let gateway = gateway(&merging(&[a], "status = \"first\"", parts)).await;
    let said = raw(gateway, "HEAD /m/7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!((status(&said), body(&said)), ("201", ""));
    assert!(has_line(&said, "x-one: 1") && has_line(&said, "content-length: 9"), "{said}");
    assert!(seen(&saw)[0].starts_with("GET /a "));
}
