//! What was matched is what is sent: properties of paths, for any path that anyone may think of.

mod gateway_support;

use gateway_support::*;
use proptest::prelude::*;
use reqwest::Url;
use unanimous::gateway::{CleanPath, Pattern, Template};

/// Paths made of the pieces that have fooled gateways, and of anything else.
fn nasty_path() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "/", "//", ".", "..", "%2e", "%2E%2e", "%2f", "%2F", "%5c", "\\", ";", ";a=b", "%00", "%25", "%252e",
        "%", "%4", "a", "B", "~", "%7e", "{", "}", "\"", "|", "^", "`", "<", ">", "#", "?", "%23", "%3F",
        "@", ":", "+", "%20", " ", "\u{e9}", "%c3%a9", "%ff", "\t", "'", "*", "!", "&", "=",
    ]);
    let any = prop_oneof![9 => pieces.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    prop::collection::vec(any, 0..8).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// The path that the client library puts on the wire.
fn sent(path: &str) -> String {
    Url::parse(&format!("http://127.0.0.1:9{path}")).expect("a URL").path().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_clean_path_is_sent_as_it_is(raw in nasty_path()) {
        if let Ok(path) = CleanPath::parse(&raw) {
            prop_assert_eq!(sent(path.as_str()), path.as_str());
            let again = CleanPath::parse(path.as_str());
            prop_assert_eq!(again.as_ref().map(CleanPath::as_str), Ok(path.as_str()));
        }
    }

    #[test]
    fn a_parameter_never_leaves_its_segment(raw in nasty_path()) {
        let Ok(path) = CleanPath::parse(&raw) else { return Ok(()) };
        let Some(params) = Pattern::parse("/{id}").unwrap().matches(&path) else { return Ok(()) };
        let target = Template::parse("/before/{id}/after?id={id}").unwrap().fill(&params).unwrap();
        let expected = format!("/before{path}/after");
        prop_assert_eq!(target.path.as_str(), &expected);
        let url = Url::parse(&format!("http://127.0.0.1:9{}", target.with_query(None))).unwrap();
        prop_assert_eq!(url.path(), &expected);
        prop_assert_eq!(url.path_segments().unwrap().count(), 3);
        prop_assert_eq!(url.query_pairs().count(), 1);
    }

    #[test]
    fn what_a_filled_template_gives_is_sent_as_it_is(raw in nasty_path()) {
        let Ok(path) = CleanPath::parse(&raw) else { return Ok(()) };
        let params = Pattern::parse("/{*rest}").unwrap().matches(&path).unwrap();
        for template in ["/x/{rest}", "/x/{rest}/y", "/.{rest}", "/x{rest}.y"] {
            if let Ok(target) = Template::parse(template).unwrap().fill(&params) {
                prop_assert_eq!(sent(target.path.as_str()), target.path.as_str());
                prop_assert!(!target.path.as_str().split('/').any(|segment| matches!(segment, "." | "..")));
            }
        }
    }

    #[test]
    fn neither_a_pattern_nor_a_template_panics(text in ".*") {
        let _ = Pattern::parse(&text);
        let _ = Template::parse(&text);
    }
}

/// What a backend gets of `GET raw` is what `expected` makes of its path, or it gets nothing and the client a 400.
fn what_is_received_is(route: &str, expected: impl Fn(&CleanPath) -> Option<String>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let (gateway, record) = runtime.block_on(async {
        let (backend, record) =
            recorder("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        (gateway(&config(&[backend], route)).await, record)
    });
    let on_the_wire =
        nasty_path().prop_filter("a request line has no space", |path| !path.contains(char::is_whitespace));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let outcome = runner.run(&on_the_wire, |raw| {
        let before = seen(&record).len();
        let answer = runtime.block_on(get(gateway, &raw, &[]));
        let received =
            seen(&record).get(before).map(|request| request.split(' ').nth(1).unwrap_or_default().to_owned());
        let path = raw.split(['?', '#']).next().unwrap_or_default();
        match CleanPath::parse(path).ok().and_then(|path| expected(&path)) {
            Some(expected) if status(&answer) == "200" => {
                let received = received.unwrap_or_default();
                prop_assert_eq!(received.split('?').next().unwrap_or_default(), expected);
            }
            // hyper has its own idea of some, and refuses them before anyone sees them.
            Some(_) | None => {
                prop_assert_eq!(status(&answer), "400");
                prop_assert_eq!(received, None);
            }
        }
        Ok(())
    });
    outcome.expect("what was matched is what was received");
}

#[test]
fn what_the_backend_receives_is_what_was_rewritten() {
    let route = "[[routes]]\nid = \"r\"\nmatch = { path = \"/{*rest}\" }\n\
                 forward = { service = \"s\", path = \"/x/.{rest}\" }\n";
    // What the template would make of the path, to the letter, unless that is no path in normal form.
    what_is_received_is(route, |path| {
        let made = format!("/x/.{}", path.as_str().strip_prefix('/').unwrap_or_default());
        CleanPath::parse(&made).ok().filter(|path| path.as_str() == made).map(|_| made)
    });
}

#[test]
fn what_the_backend_receives_is_what_was_matched() {
    let route = "[[routes]]\nid = \"all\"\nmatch = { path = \"/{*rest}\" }\nforward = { service = \"s\" }\n";
    what_is_received_is(route, |path| Some(path.as_str().to_owned()));
}
