//! Parts that take something from earlier answers, through real sockets; and what ends early.

mod gateway_support;

use gateway_support::*;

const ACCOUNT: &str = r#"{ service = "a", path = "/a/{id}", as = "account" }"#;

fn then(rest: &str) -> String {
    format!("{ACCOUNT}, {{ service = \"b\", {rest} }}")
}

/// What the second service was asked after the first answered `account`, and the answer of the whole.
async fn asked(account: &str, rest: &str) -> (String, String) {
    let ((a, _), (b, saw)) = (recorder(json(account)).await, recorder(json("2")).await);
    let answer = get(gateway(&merging(&[a, b], "", &then(rest))).await, "/m/7", &[]).await;
    (seen(&saw).pop().unwrap_or_default(), answer)
}

fn first_line(request: &str) -> &str {
    request.lines().next().unwrap_or_default()
}

#[tokio::test]
async fn an_earlier_answer_feeds_a_later_path_and_query() {
    let rest = r#"path = "/rates/{account/currency}/{id}?day={account/days/0}&x=1", as = "rate""#;
    let (asked, answer) = asked(r#"{"currency":"EUR","days":[12345678901234567890]}"#, rest).await;
    assert_eq!(first_line(&asked), "GET /rates/EUR/7?day=12345678901234567890&x=1 HTTP/1.1");
    assert_eq!(status(&answer), "200");
    assert_eq!(body(&answer), r#"{"account":{"currency":"EUR","days":[12345678901234567890]},"rate":2}"#);
}

#[tokio::test]
async fn whatever_is_in_a_value_it_stays_one_segment_and_one_value() {
    let rest = r#"path = "/r/{account/v}/s?q={account/v}&t=1", as = "rate""#;
    for (value, line) in [
        (
            r#""a/b?c#d&e=f%2e""#,
            "GET /r/a%2Fb%3Fc%23d%26e%3Df%252e/s?q=a%2Fb%3Fc%23d%26e%3Df%252e&t=1 HTTP/1.1",
        ),
        (r#""a b\u00e9""#, "GET /r/a%20b%C3%A9/s?q=a%20b%C3%A9&t=1 HTTP/1.1"),
        ("1E+2", "GET /r/1E%2B2/s?q=1E%2B2&t=1 HTTP/1.1"),
        ("-1.10", "GET /r/-1.10/s?q=-1.10&t=1 HTTP/1.1"),
        ("true", "GET /r/true/s?q=true&t=1 HTTP/1.1"),
    ] {
        let (asked, answer) = asked(&format!(r#"{{"v":{value}}}"#), rest).await;
        assert_eq!((first_line(&asked), status(&answer)), (line, "200"), "{value}");
    }
}

#[tokio::test]
async fn a_value_that_would_be_another_path_is_never_sent() {
    let rest = r#"path = "/r/{account/v}/s", as = "rate""#;
    let long = format!("\"{}\"", "x".repeat(1025));
    for value in [
        "\"..\"",
        "\".\"",
        "\"../admin\"",
        "\"a/../b\"",
        "\"a\\\\b\"",
        "\"a\\u0000b\"",
        "\"a\\r\\nb\"",
        "\"\"",
        "[1]",
        "{}",
        &long,
    ] {
        let (asked, answer) = asked(&format!(r#"{{"v":{value}}}"#), rest).await;
        assert_eq!((asked.as_str(), status(&answer)), ("", "502"), "{value}");
        let errors = r#""errors":[{"part":"rate","service":"b","kind":"bad_value","value":"account/v"}]"#;
        assert!(body(&answer).contains(errors), "{value}: {answer}");
    }
}

#[tokio::test]
async fn a_value_that_is_not_there_makes_the_part_missing() {
    let required = r#"path = "/r/{account/v}", as = "rate""#;
    for account in ["{}", r#"{"v":null}"#, "[1]", "1"] {
        let (asked, answer) = asked(account, required).await;
        assert_eq!((asked.as_str(), status(&answer)), ("", "502"), "{account}");
        assert!(body(&answer).contains(r#""code":"part_failed""#), "{answer}");
        assert!(body(&answer).contains(r#""kind":"missing_value","value":"account/v""#), "{answer}");
    }
    let (_, answer) = asked("{}", &format!("{required}, required = false, fallback = \"none\"")).await;
    assert_eq!((status(&answer), body(&answer)), ("200", r#"{"account":{},"rate":"none"}"#));
    assert!(has_line(&answer, "x-gateway-completed: false"), "{answer}");
}

#[tokio::test]
async fn the_first_failure_stops_what_depends_on_it_and_nothing_else() {
    let refusal = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let ((a, _), (b, saw)) = (recorder(refusal).await, recorder(json(r#"{"x":1}"#)).await);
    let parts = r#"{ service = "a", path = "/a", as = "one" },
        { service = "b", path = "/two/{one/x}", as = "two" },
        { service = "b", path = "/three/{two/x}", as = "three" },
        { service = "b", path = "/four", as = "four" }"#;
    let answer = get(gateway(&merging(&[a, b], "", parts)).await, "/m/7", &[]).await;
    assert_eq!(status(&answer), "502");
    let errors = r#""errors":[{"part":"one","service":"a","kind":"refused","status":404},{"part":"two","service":"b","kind":"needs_missing_part"},{"part":"three","service":"b","kind":"needs_missing_part"}]"#;
    assert!(body(&answer).contains(errors), "{answer}");
    let asked: Vec<_> = seen(&saw).iter().map(|request| first_line(request).to_owned()).collect();
    assert_eq!(asked, ["GET /four HTTP/1.1"]);
}

#[tokio::test]
async fn what_only_waited_for_a_late_part_does_not_hide_that_it_was_late() {
    let ((hanging, a), (b, _)) = (listener().await, recorder(json("1")).await);
    let config =
        merging(&[a, b], "", &then(r#"path = "/r/{account/v}", as = "rate""#)).replace("5s", "200ms");
    let answer = get(gateway(&config).await, "/m/7", &[]).await;
    drop(hanging);
    assert_eq!(status(&answer), "504");
    assert!(body(&answer).contains(r#""code":"part_late""#), "{answer}");
}

#[tokio::test]
async fn a_part_that_only_reads_is_asked_with_a_body_made_of_earlier_answers() {
    let rest = r#"path = "/search", as = "rate", method = "POST", reads_only = true,
        body = { query = "{ rate { day } }", variables = { id = "{id}", ids = "{account/ids}", sum = "{account/sum}" } }"#;
    let (asked, answer) = asked(r#"{"ids":[1, 2],"sum":1.10}"#, &rest.replace('\n', " ")).await;
    assert_eq!((first_line(&asked), status(&answer)), ("POST /search HTTP/1.1", "200"));
    assert!(has_line(&asked, "content-type: application/json"), "{asked}");
    assert!(!asked.to_lowercase().contains("transfer-encoding"), "{asked}");
    assert_eq!(
        body(&asked),
        r#"{"query":"{ rate { day } }","variables":{"id":"7","ids":[1, 2],"sum":1.10}}"#
    );
}

#[tokio::test]
async fn a_hidden_member_can_still_feed_a_later_part() {
    let ((a, _), (b, saw)) =
        (recorder(json(r#"{"secret":"s-1","name":"x"}"#)).await, recorder(json("2")).await);
    let parts = r#"{ service = "a", path = "/a", name = "account", deny = ["secret"] }, { service = "b", path = "/r/{account/secret}", as = "rate" }"#;
    let answer = get(gateway(&merging(&[a, b], "", parts)).await, "/m/7", &[]).await;
    assert_eq!(body(&answer), r#"{"name":"x","rate":2}"#);
    assert_eq!(first_line(&seen(&saw)[0]), "GET /r/s-1 HTTP/1.1");
}

#[tokio::test]
async fn parts_that_need_nothing_do_not_wait_for_those_that_do() {
    let ((one, a), (two, b)) = (listener().await, listener().await);
    let parts = format!(
        "{}, {{ service = \"b\", path = \"/free\", as = \"free\" }}",
        then(r#"path = "/r/{account/v}", as = "rate""#)
    );
    let gateway = gateway(&merging(&[a, b], "", &parts)).await;
    let services = async {
        // The part that is declared last is asked while the first has not answered.
        let mut free = accept(&two).await;
        assert!(read_until(&mut free, "\r\n\r\n").await.starts_with("GET /free "));
        send(&mut free, json("3")).await;
        let mut account = accept(&one).await;
        read_until(&mut account, "\r\n\r\n").await;
        send(&mut account, json(r#"{"v":1}"#)).await;
        let mut rate = accept(&two).await;
        assert!(read_until(&mut rate, "\r\n\r\n").await.starts_with("GET /r/1 "));
        send(&mut rate, json("2")).await;
    };
    let (answer, ()) = tokio::join!(get(gateway, "/m/7", &[]), services);
    assert_eq!(body(&answer), r#"{"account":{"v":1},"rate":2,"free":3}"#);
}
