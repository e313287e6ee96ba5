//! The table of answers: what came, and what it means.

use super::*;

const ONE: &str = r#"[{"Node":{"Address":"10.1.10.12"},"Service":{"Address":"10.0.0.1","Port":8000,
    "Weights":{"Passing":10,"Warning":1}},"Checks":[{"Status":"passing"}]}]"#;

fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
    given.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
}

fn asked(before: u64, index: &str, body: &str) -> Result<Meaning, Trouble> {
    let headers = headers(&[("x-consul-index", index)]);
    meaning(Index::new(before), Health::Passing, None, StatusCode::OK, &headers, body.as_bytes())
}

fn next(before: u64, index: &str) -> Option<u64> {
    match asked(before, index, ONE) {
        Ok(Meaning::Known { next, .. }) => next.get(),
        other => panic!("{other:?}"),
    }
}

fn found(health: Health, body: &str) -> Found {
    let headers = headers(&[("x-consul-index", "7")]);
    match meaning(Index::NONE, health, None, StatusCode::OK, &headers, body.as_bytes()) {
        Ok(Meaning::Known { found, .. }) => found,
        other => panic!("{other:?}"),
    }
}

/// Instances as `endpoint weight`, and how many entries were not let in.
fn shown(health: Health, body: &str) -> (Vec<String>, usize) {
    let found = found(health, body);
    let show = |instance: &crate::discovery::Instance| format!("{} {}", instance.endpoint, instance.weight);
    (found.instances.iter().map(show).collect(), found.refused.values().sum())
}

#[test]
fn the_index_goes_forward_begins_anew_where_it_goes_back_and_is_never_zero() {
    assert_eq!(next(0, "5"), Some(5));
    assert_eq!(next(5, "9"), Some(9));
    assert_eq!(next(5, "5"), Some(5));
    assert_eq!(next(5, "4"), None, "back: ask without an index");
    assert_eq!(next(0, "0"), Some(1), "0 would not block");
    assert_eq!(next(1, "0"), None);
    assert_eq!(next(u64::MAX, &u64::MAX.to_string()), Some(u64::MAX));
}

#[test]
fn an_answer_without_a_sound_index_is_none_of_an_agent() {
    for index in ["", "x", "-1", "1.5", "18446744073709551616"] {
        assert!(matches!(asked(5, index, ONE), Err(Trouble::Unreadable(_))), "{index}");
    }
    let bare = meaning(Index::NONE, Health::Passing, None, StatusCode::OK, &HeaderMap::new(), b"[]");
    assert!(matches!(bare, Err(Trouble::Unreadable(_))), "{bare:?}");
}

#[test]
fn a_status_other_than_200_says_nothing_of_instances() {
    let status = |code| {
        let headers = headers(&[("x-consul-index", "9")]);
        meaning(Index::new(5), Health::Passing, None, StatusCode::from_u16(code).unwrap(), &headers, b"[]")
    };
    assert_eq!(status(403), Err(Trouble::Denied));
    assert_eq!(status(429), Err(Trouble::Limited));
    for code in [204, 301, 400, 404, 500, 503] {
        assert_eq!(status(code), Err(Trouble::Status(code)));
    }
}

#[test]
fn a_body_that_is_cut_or_no_list_says_nothing() {
    for body in ["", "[", &ONE[..ONE.len() - 1], "{}", "<html>", "7", "\"rate limit\""] {
        assert!(matches!(asked(5, "6", body), Err(Trouble::Unreadable(_))), "{body}");
    }
}

#[test]
fn an_empty_list_is_an_answer() {
    for body in ["[]", "null", " [ ] "] {
        assert_eq!(found(Health::Passing, body), Found::default(), "{body}");
    }
}

#[test]
fn an_instance_has_the_address_of_its_service_or_else_of_its_node() {
    assert_eq!(shown(Health::Passing, ONE).0, ["http://10.0.0.1:8000 10"]);
    let of_node = ["http://10.1.10.12:8000 10"];
    assert_eq!(shown(Health::Passing, &ONE.replace("10.0.0.1", "")).0, of_node);
    assert_eq!(shown(Health::Passing, &ONE.replace("\"10.0.0.1\"", "null")).0, of_node);
    let none = ONE.replace("10.0.0.1", "").replace("10.1.10.12", "");
    assert_eq!(shown(Health::Passing, &none), (vec![], 1));
}

#[test]
fn one_bad_entry_is_left_out_alone() {
    let good = ONE.trim_matches(['[', ']']);
    let bad = [
        r#"{"Node":{"Address":"10.0.0.2"}}"#,
        r#"{"Node":{"Address":"10.0.0.2"},"Service":null}"#,
        r#"{"Node":null,"Service":{"Port":1}}"#,
        r#"{"Service":{"Address":"10.0.0.2"}}"#,
        r#"{"Service":{"Address":"10.0.0.2","Port":0}}"#,
        r#"{"Service":{"Address":"10.0.0.2","Port":65536}}"#,
        r#"{"Service":{"Address":"10.0.0.2","Port":-1}}"#,
        r#"{"Service":{"Address":"169.254.169.254","Port":80}}"#,
        r#"{"Service":{"Address":["10.0.0.2"],"Port":80}}"#,
        "null",
        "7",
        "[]",
    ];
    for bad in bad {
        let said = shown(Health::Passing, &format!("[{bad},{good},{bad}]"));
        assert_eq!(said, (vec!["http://10.0.0.1:8000 10".to_owned()], 2), "{bad}");
    }
}

#[test]
fn what_is_not_read_may_be_null_or_anything() {
    let body = r#"[{"Node":{"Address":"10.0.0.1","Meta":null,"TaggedAddresses":7},"Service":{"Port":1,"Meta":null,
        "Tags":null,"Weights":null,"Proxy":{}},"Checks":null,"More":[1]}]"#;
    assert_eq!(shown(Health::Passing, body), (vec!["http://10.0.0.1:1 1".to_owned()], 0));
}

#[test]
fn a_warning_counts_where_it_is_asked_for_and_with_its_own_weight() {
    let warning = ONE.replace("\"passing\"}", "\"passing\"},{\"Status\":\"warning\"}");
    assert_eq!(shown(Health::Passing, &warning), (vec![], 0));
    assert_eq!(shown(Health::Warning, &warning), (vec!["http://10.0.0.1:8000 1".to_owned()], 0));
    assert_eq!(shown(Health::Warning, ONE).0, ["http://10.0.0.1:8000 10"]);
    let without_weight = warning.replace("\"Warning\":1", "\"Warning\":0");
    assert_eq!(shown(Health::Warning, &without_weight), (vec![], 0));
}

#[test]
fn critical_in_maintenance_or_unknown_never_counts() {
    for status in ["critical", "maintenance", "", "PASSING"] {
        let body = ONE.replace("\"passing\"}", &format!("\"passing\"}},{{\"Status\":\"{status}\"}}"));
        assert_eq!(shown(Health::Warning, &body), (vec![], 0), "{status}");
    }
}

#[test]
fn weights_that_were_never_set_are_1() {
    let body = ONE.replace(r#""Passing":10,"Warning":1"#, r#""Passing":0,"Warning":0"#);
    assert_eq!(shown(Health::Passing, &body).0, ["http://10.0.0.1:8000 1"]);
    let body = ONE.replace(r#""Passing":10,"Warning":1"#, "");
    assert_eq!(shown(Health::Passing, &body).0, ["http://10.0.0.1:8000 1"]);
}

#[test]
fn addresses_of_ipv6_stand_in_brackets_and_the_same_twice_is_once() {
    let body = ONE.replace("10.0.0.1", "2001:db8::1");
    assert_eq!(shown(Health::Passing, &body).0, ["http://[2001:db8::1]:8000 10"]);
    let good = ONE.trim_matches(['[', ']']);
    assert_eq!(shown(Health::Passing, &format!("[{good},{good}]")).0.len(), 1);
}

#[test]
fn what_is_older_than_it_may_be_is_not_taken() {
    let aged = |age: &str, leader: &str, age_max| {
        let headers = headers(&[
            ("x-consul-index", "9"),
            ("x-consul-lastcontact", age),
            ("x-consul-knownleader", leader),
        ]);
        let meaning = meaning(Index::new(5), Health::Passing, age_max, StatusCode::OK, &headers, b"[]");
        meaning.unwrap() == Meaning::TooOld
    };
    let ten = Some(Duration::from_secs(10));
    assert!(!aged("0", "true", ten) && !aged("10000", "true", ten) && aged("10001", "true", ten));
    assert!(aged("0", "false", ten));
    assert!(!aged("99999999", "false", None), "the leader's answer is as old as it is");
    assert!(!aged("soon", "maybe", ten));
}
