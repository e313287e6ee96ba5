//! Merging through real sockets: one object of several answers, or why not.

mod gateway_support;

use gateway_support::*;

fn typed(content_type: &str, body: &str) -> &'static str {
    answering("200 OK", &[&format!("Content-Type: {content_type}")], body)
}

const BOTH: &str =
    r#"{ service = "a", path = "/a/{id}", as = "z" }, { service = "b", path = "/b/{id}?own=1", as = "y" }"#;
const SECOND_OPTIONAL: &str =
    r#"{ service = "a", path = "/a", as = "z" }, { service = "b", path = "/b", as = "y", required = false }"#;

#[tokio::test]
async fn members_stand_in_declared_order_with_their_exact_text() {
    let (a, _) = recorder(json(r#"{"sum": 1.10, "id":12345678901234567890}"#)).await;
    let (b, _) = recorder(json("[1e2,  -0.0]")).await;
    let answer = get(gateway(&merging(&[a, b], "", BOTH)).await, "/m/7", &[]).await;
    assert_eq!(status(&answer), "200");
    assert!(has_line(&answer, "content-type: application/json"), "{answer}");
    assert!(has_line(&answer, "x-gateway-completed: true"), "{answer}");
    assert_eq!(body(&answer), r#"{"z":{"sum": 1.10, "id":12345678901234567890},"y":[1e2,  -0.0]}"#);
}

#[tokio::test]
async fn parts_get_the_clients_fields_and_query_but_never_its_conditions() {
    let ((a, a_saw), (b, b_saw)) = (recorder(json("1")).await, recorder(json("2")).await);
    let gateway = gateway(&merging(&[a, b], "", BOTH)).await;
    let fields = [
        "Authorization: Bearer x",
        "Accept-Encoding: gzip",
        "If-None-Match: x",
        "Range: bytes=0-1",
        "Transaction-Id: 1",
    ];
    get(gateway, "/m/x%2Fy?q=1", &fields).await;
    let request = &seen(&a_saw)[0];
    assert!(request.starts_with("GET /a/x%2Fy?q=1 HTTP/1.1\r\n"), "{request}");
    assert!(seen(&b_saw)[0].starts_with("GET /b/x%2Fy?own=1 HTTP/1.1\r\n"));
    assert!(has_line(request, "authorization: Bearer x"), "{request}");
    assert!(has_line(request, "x-forwarded-for: 127.0.0.1"), "{request}");
    for gone in ["accept-encoding", "if-none-match", "range", "transaction-id"] {
        assert!(!request.to_lowercase().contains(gone), "{gone}: {request}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_json_is_wrapped_with_its_type() {
    let ((a, _), (b, _)) =
        (recorder(typed("text/plain", "hi \"you\"")).await, recorder(typed("text/html", "{broken")).await);
    let answer = get(gateway(&merging(&[a, b], "", BOTH)).await, "/m/7", &[]).await;
    assert_eq!(
        body(&answer),
        r#"{"z":{"content_type":"text/plain","body":"hi \"you\""},"y":{"content_type":"text/html","body":"{broken"}}"#
    );
}

#[tokio::test]
async fn what_calls_itself_json_and_is_none_is_a_part_that_failed() {
    for broken in ["{\"n\":1,}", "\u{feff}{}", "{\"n\":", "{\"n\":NaN}"] {
        let ((a, _), (b, _)) = (recorder(json(broken)).await, recorder(json("{}")).await);
        let answer = get(gateway(&merging(&[a, b], "", BOTH)).await, "/m/7", &[]).await;
        assert_eq!(status(&answer), "502", "{answer}");
        let error = r#""errors":[{"part":"z","service":"a","kind":"not_json"}]"#;
        assert!(body(&answer).contains(error), "{answer}");
        let ((a, _), (b, _)) = (recorder(json("1")).await, recorder(json(broken)).await);
        let answer = get(gateway(&merging(&[a, b], "", SECOND_OPTIONAL)).await, "/m/7", &[]).await;
        assert_eq!(body(&answer), r#"{"z":1}"#);
    }
}

#[tokio::test]
async fn an_optional_part_that_fails_is_left_out_and_the_answer_says_so() {
    let (a, _) = recorder(json("1")).await;
    let answer = get(gateway(&merging(&[a, nobody().await], "", SECOND_OPTIONAL)).await, "/m/7", &[]).await;
    assert_eq!(status(&answer), "200");
    assert!(has_line(&answer, "x-gateway-completed: false"), "{answer}");
    assert!(has_line(&answer, "cache-control: no-store"), "{answer}");
    assert_eq!(body(&answer), r#"{"z":1}"#);
}

#[tokio::test]
async fn a_required_part_that_fails_fails_the_answer_and_is_named() {
    let refusal = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (a, _) = recorder(refusal).await;
    let gone = nobody().await;
    let answer = get(gateway(&merging(&[a, gone], "", BOTH)).await, "/m/7", &[]).await;
    assert_eq!(status(&answer), "502");
    assert!(has_line(&answer, "content-type: application/problem+json"), "{answer}");
    assert!(body(&answer).contains(r#""code":"part_failed""#), "{answer}");
    let errors = r#""errors":[{"part":"z","service":"a","kind":"refused","status":404},{"part":"y","service":"b","kind":"unreachable"}]"#;
    assert!(body(&answer).contains(errors), "{answer}");
    assert!(!answer.contains(&gone.port().to_string()), "{answer}");
}

#[tokio::test]
async fn a_required_part_that_hangs_is_late() {
    let (b, _) = recorder(json("2")).await;
    let (hanging, address) = listener().await;
    let config = merging(&[address, b], "", BOTH).replace("5s", "300ms");
    let answer = get(gateway(&config).await, "/m/7", &[]).await;
    drop(hanging);
    assert_eq!(status(&answer), "504");
    assert!(body(&answer).contains(r#""errors":[{"part":"z","service":"a","kind":"late"}]"#), "{answer}");
}

#[tokio::test]
async fn a_part_that_stops_in_the_middle_is_missing() {
    let ((a, _), (b, _)) =
        (recorder("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{").await, recorder(json("2")).await);
    let answer = get(gateway(&merging(&[a, b], "", BOTH)).await, "/m/7", &[]).await;
    assert_eq!(status(&answer), "502");
    assert!(body(&answer).contains(r#""kind":"answer_broke_off""#), "{answer}");
}

#[tokio::test]
async fn a_part_over_the_limit_is_missing() {
    let ((a, _), (b, _)) = (recorder(json("[1,2,3]")).await, recorder(json("2")).await);
    let config = format!("node = {{ answer_max = 6 }}\n{}", merging(&[a, b], "", BOTH));
    let answer = get(gateway(&config).await, "/m/7", &[]).await;
    assert_eq!(status(&answer), "502");
    assert!(
        body(&answer).contains(r#""errors":[{"part":"z","service":"a","kind":"answer_too_large"}]"#),
        "{answer}"
    );
}

#[tokio::test]
async fn a_gateway_that_holds_too_much_says_try_again() {
    let ((a, _), (b, _)) = (recorder(json("[1,2,3]")).await, recorder(json("2")).await);
    let gateway = gateway_with_budget(&merging(&[a, b], "", BOTH), 6).await;
    for _ in 0..2 {
        let answer = get(gateway, "/m/7", &[]).await;
        assert_eq!(status(&answer), "503");
        assert!(answer.contains("\r\nretry-after: "), "{answer}");
        assert!(body(&answer).contains(r#""code":"overloaded""#), "{answer}");
    }
}

#[tokio::test]
async fn what_was_held_for_one_answer_is_free_for_the_next() {
    let ((a, _), (b, _)) = (recorder(json("[1,2,3]")).await, recorder(json("2")).await);
    // As much as the answer has, of which the parts are 8.
    let gateway = gateway_with_budget(&merging(&[a, b], "", BOTH), r#"{"z":[1,2,3],"y":2}"#.len()).await;
    for _ in 0..3 {
        assert_eq!(status(&get(gateway, "/m/7", &[]).await), "200");
    }
}

#[tokio::test]
async fn what_is_not_json_counts_as_much_as_it_grows() {
    // Each byte becomes six.
    let (a, _) = recorder(typed("text/plain", "\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}")).await;
    let gateway = gateway_with_budget(&merging(&[a, nobody().await], "", SECOND_OPTIONAL), 100).await;
    let answer = get(gateway, "/m/7", &[]).await;
    assert!(body(&answer).contains(r#""code":"overloaded""#), "{answer}");
}

#[tokio::test]
async fn an_answer_counts_until_its_client_has_read_it() {
    let part: &'static str = Box::leak(format!("\"{}\"", "x".repeat(8 << 20)).into_boxed_str());
    let ((a, _), (b, _)) = (recorder(json(part)).await, recorder(json("2")).await);
    let config = format!("node = {{ answer_max = 9_000_000 }}\n{}", merging(&[a, b], "", BOTH));
    let gateway = gateway_with_budget(&config, 18_000_000).await;
    // Far more than the buffers between the two can take.
    let slow = tokio::net::TcpSocket::new_v4().unwrap();
    slow.set_recv_buffer_size(4096).unwrap();
    let mut slow = soon(slow.connect(gateway)).await.unwrap();
    send(&mut slow, "GET /m/7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    read_until(&mut slow, "\"z\":").await;
    assert_eq!(status(&get(gateway, "/m/7", &[]).await), "503", "no room for another while it is being read");
    drop(slow);
    let again = async {
        while status(&get(gateway, "/m/7", &[]).await) != "200" {
            tokio::task::yield_now().await;
        }
    };
    soon(again).await;
}

#[tokio::test]
async fn parts_are_asked_at_the_same_time() {
    let ((one, a), (two, b)) = (listener().await, listener().await);
    let gateway = gateway(&merging(&[a, b], "", BOTH)).await;
    let asked = async {
        let (first, second) = tokio::join!(one.accept(), two.accept());
        drop((first, second));
    };
    let (_, asked) = tokio::join!(get(gateway, "/m/7", &[]), tokio::time::timeout(PATIENCE, asked));
    asked.expect("neither part waits for the other");
}
