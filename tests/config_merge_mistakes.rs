//! Mistakes in merge routes: each is said with its place and with what to do.

mod config_support;

use config_support::{SERVICES, route, said_of_routes};
use unanimous::config;
use unanimous::gateway::{Action, MergeRoute, OnConflict, StatusRule};

/// A merge route with these keys and parts; the parts begin in line 14.
fn merge(keys: &str, parts: &[&str]) -> String {
    let parts: String = parts.iter().flat_map(|part| [part, ",\n"]).collect();
    route(&format!("match = {{ path = \"/m/{{id}}\" }}\nmerge = {{ {keys}parts = [\n{parts}] }}"))
}

/// What is said of a part of the ledger that has `rest` too.
fn said_of_part(rest: &str) -> String {
    said_of_routes(&merge("", &[&format!("{{ service = \"ledger\", path = \"/\", {rest} }}")]))
}

#[expect(clippy::panic, reason = "a test may panic")]
fn fine(routes: &str) -> MergeRoute {
    let text = format!("{SERVICES}{routes}");
    let config = config::parse("gateway.toml", &text, std::iter::empty()).expect("no mistake");
    match config.routes.iter().next().expect("a route").action.clone() {
        Action::Merge(route) => route,
        other @ (Action::Forward(_) | Action::Transaction(_) | Action::Redirect(_) | Action::Respond(_)) => {
            panic!("{other:?}")
        }
    }
}

const ACCOUNT: &str = "{ service = \"accounts\", path = \"/a/{id}\", as = \"account\" }";

#[test]
fn what_is_left_out_has_the_meaning_that_it_always_had() {
    let route = fine(&merge("", &[ACCOUNT]));
    assert_eq!((route.on_conflict, route.status), (OnConflict::Error, StatusRule::Ok));
    assert_eq!(route.list_missing, None);
    let part = &route.parts[0];
    assert_eq!((part.name.as_str(), part.required, part.fallback.as_ref()), ("account", true, None));
    assert_eq!(
        (part.question.method.as_str(), part.shape.clone()),
        ("GET", unanimous::gateway::Shape::default())
    );
}

#[test]
fn every_key_is_read() {
    let route = fine(&merge(
        "timeout = \"3s\", on_conflict = \"deep\", status = 203, list_missing = \"missing\", ",
        &[
            ACCOUNT,
            "{ service = \"ledger\", path = \"/p/{id}?c={account/currency}\", name = \"rest\", required = false, \
             fallback = { a = [1, 2.5] }, target = \"/data\", allow = [\"x\", \"/y/z\"], deny = [\"w\"], \
             rename = { x = \"X\" }, move = { \"/b\" = \"/c/d\", \"/a\" = \"\" }, append = { \"/all\" = [\"/one\", \"/two\"] }, \
             headers = [\"ETag\", \"set-cookie\"], answer_max = 10, timeout = \"1s\", method = \"POST\", reads_only = true, \
             body = { id = \"{id}\", c = \"{account/currency}\" } }",
        ],
    ));
    assert_eq!(
        (route.on_conflict, route.status),
        (OnConflict::Deep, StatusRule::Fixed(http::StatusCode::NON_AUTHORITATIVE_INFORMATION))
    );
    let part = &route.parts[1];
    assert_eq!(part.fallback.as_deref(), Some("{\"a\":[1,2.5]}"));
    assert_eq!(part.waits_for().into_iter().collect::<Vec<_>>(), [0]);
    assert_eq!(part.shape.moves[0].0.to_string(), "/b", "in the order of the file");
    assert_eq!(part.fields, ["etag", "set-cookie"]);
    assert_eq!((part.answer_max, part.timeout), (Some(10), Some(std::time::Duration::from_secs(1))));
    assert_eq!(part.question.body.as_ref().unwrap().len(), 5);
}

#[test]
fn members_that_two_parts_would_give_need_a_rule() {
    let again = "{ service = \"ledger\", path = \"/\", as = \"account\" }";
    let said = said_of_routes(&merge("", &[ACCOUNT, again]));
    assert_eq!(
        said,
        "gateway.toml:15:40: two parts would both be the member `account` (line 14); give one another `as`, or say with \
         `on_conflict` what becomes of both"
    );
    assert_eq!(fine(&merge("on_conflict = \"concat\", ", &[ACCOUNT, again])).parts.len(), 2);
    let gives = |keys: &str| {
        let part = format!("{{ service = \"ledger\", path = \"/\", {keys} }}");
        said_of_routes(&merge("", &[ACCOUNT, &part]))
    };
    for keys in [
        "allow = [\"account\"]",
        "allow = [\"/account/id\"]",
        "allow = [\"x\"], rename = { x = \"account\" }",
        "rename = { x = \"account\" }",
        "rename = { \"/x\" = \"account\" }",
        "move = { \"/x\" = \"/account\" }",
        "append = { \"/account\" = [\"/x\"] }",
    ] {
        let said = gives(keys);
        assert!(
            said.contains("15:13: two parts would both be the member `account` (line 14); rename it"),
            "{keys}: {said}"
        );
    }
    for keys in [
        "allow = [\"account\"], move = { \"/account\" = \"/other\" }",
        "allow = [\"account\"], append = { \"/all\" = [\"/account\"] }",
        "rename = { x = \"account\" }, move = { \"/account\" = \"/other\" }",
        "move = { \"/x\" = \"/account\", \"/account\" = \"\" }",
        "allow = [\"y\"], rename = { x = \"account\" }",
    ] {
        let part = format!("{{ service = \"ledger\", path = \"/\", {keys} }}");
        assert_eq!(fine(&merge("", &[ACCOUNT, &part])).parts.len(), 2, "{keys}");
    }
    let listed = said_of_routes(&merge("list_missing = \"account\", on_conflict = \"first\", ", &[ACCOUNT]));
    assert!(
        listed.contains("the list of missing parts and this part would both be the member `account`"),
        "{listed}"
    );
}

#[test]
fn a_value_comes_from_an_earlier_part_only() {
    let takes = |name: &str, value: &str| {
        format!("{{ service = \"ledger\", path = \"/r/{{{value}}}\", as = \"{name}\" }}")
    };
    let said = |parts: &[&str]| said_of_routes(&merge("", parts));
    let unknown = said(&[ACCOUNT, &takes("x", "acount/id")]);
    assert!(
        unknown.starts_with("gateway.toml:15:30: `{acount/id}` is of no part; write `{NAME/POINTER}`"),
        "{unknown}"
    );
    assert!(unknown.contains("(here: `account`)"), "{unknown}");
    let later = said(&[&takes("x", "account/id"), ACCOUNT]);
    assert!(
        later.contains("is of a part that comes later") && later.contains("put `account` first"),
        "{later}"
    );
    let cycle = said(&[&takes("x", "y/id"), &takes("y", "x/id")]);
    assert!(cycle.contains("14:30: `{y/id}` is of a part that comes later"), "{cycle}");
    assert!(said(&[&takes("x", "x/id")]).contains("is of this part itself"));
    let pointer = said(&[ACCOUNT, &takes("x", "account/a~2")]);
    assert!(pointer.contains("bad JSON Pointer: in a JSON Pointer `~` is written `~0`"), "{pointer}");
    let unbound = said(&[&takes("x", "no")]);
    assert!(unbound.contains("`{no}` comes from nowhere"), "{unbound}");
    let twice = ["a", "b"].map(|name| format!("{{ service = \"ledger\", path = \"/{name}\" }}"));
    let ambiguous = said(&[&twice[0], &twice[1], &takes("x", "ledger/id")]);
    assert!(
        ambiguous.contains("could mean two parts that are both called `ledger`; give each a `name`"),
        "{ambiguous}"
    );
}

#[test]
fn a_part_that_could_change_something_is_told_to_be_a_transaction() {
    let with = |rest: &str| said_of_part(&format!("as = \"x\", {rest}"));
    let post = with("method = \"POST\", body = { a = 1 }");
    assert!(
        post.contains("a POST may change something. If this one only asks, say `reads_only = true`"),
        "{post}"
    );
    assert!(post.contains("declare a transaction: [routes.transaction]"), "{post}");
    for method in ["PUT", "PATCH", "DELETE", "PURGE"] {
        let said = with(&format!("method = \"{method}\", reads_only = true, body = {{}}"));
        assert!(said.contains(&format!("with {method}, declare a transaction")), "{said}");
    }
    assert!(with("body = {}").contains("a GET has no body; write `method = \"POST\"`"));
    assert!(with("method = \"QUERY\"").contains("a part with QUERY asks with a body; add `body`"));
    let asks =
        "{ service = \"ledger\", path = \"/\", as = \"x\", method = \"QUERY\", body = { q = \"{ user }\" } }";
    assert_eq!(fine(&merge("", &[asks])).parts[0].question.method.as_str(), "QUERY");
    assert!(with("method = \"QUERY\", body = \"{nobody}\"").contains("`{nobody}` comes from nowhere"));
    assert!(with("method = \"QUERY\", body = { d = 1979-05-27 }").contains("JSON has no dates"));
}

#[test]
fn a_fallback_has_to_be_able_to_stand_in() {
    assert!(
        said_of_part("as = \"x\", fallback = []").contains("write `required = false` beside its fallback")
    );
    let bare = said_of_part("required = false, fallback = []");
    assert!(
        bare.contains(
            "without `as` the members of the part go into the answer itself, so its fallback is a table"
        ),
        "{bare}"
    );
    assert!(
        said_of_part("as = \"x\", required = false, fallback = inf").contains("JSON has no number `inf`")
    );
}

#[test]
fn a_status_that_is_not_that_of_a_whole_answer_is_refused() {
    let with = |status: &str| said_of_routes(&merge(&format!("status = {status}, "), &[ACCOUNT]));
    for status in ["204", "206", "304", "404", "99", "-1"] {
        let said = with(status);
        assert!(
            said.contains("13:20: this cannot be the status of every answer that is whole"),
            "{status}: {said}"
        );
    }
    assert!(
        with("\"best\"")
            .contains("`best` is no rule for the status; write \"ok\", \"worst\", \"first\" or a number")
    );
    assert!(with("true").contains("13:20: wrong type"), "{}", with("true"));
    let conflict = said_of_routes(&merge("on_conflict = \"fist\", ", &[ACCOUNT]));
    assert!(conflict.contains("unknown value `fist`; did you mean `first`?"), "{conflict}");
}

#[test]
fn a_shape_that_names_no_place_is_refused() {
    let with = |rest: &str| said_of_part(&format!("as = \"x\", {rest}"));
    assert!(with("target = \"data\"").contains("bad JSON Pointer: a JSON Pointer begins with a slash"));
    assert!(with("allow = [\"\"]").contains("this names no member; write its name, or a JSON Pointer"));
    assert!(with("move = { \"\" = \"/a\" }").contains("this is the whole answer; name a place in it"));
    assert!(with("append = { \"\" = [\"/a\"] }").contains("this is the whole answer"));
    assert!(with("append = { \"/a\" = [\"b\"] }").contains("a JSON Pointer begins with a slash"));
    assert!(with("rename = { \"/a~\" = \"b\" }").contains("in a JSON Pointer `~` is written `~0`"));
}

#[test]
fn two_members_of_one_place_that_would_have_one_name_are_refused() {
    let with = |rename: &str| said_of_part(&format!("as = \"x\", rename = {{ {rename} }}"));
    let said = with("n = \"z\", \"/m\" = \"z\"");
    assert!(
        said.contains("two members of one place would both be called `z`; give one another name, or say with `on_conflict`"),
        "{said}"
    );
    let deeper = with("\"/a/n\" = \"z\", \"/a/m\" = \"z\"");
    assert!(deeper.contains("would both be called `z`"), "{deeper}");
    for (keys, rename) in
        [("", "\"/a/n\" = \"z\", \"/b/n\" = \"z\""), ("on_conflict = \"first\", ", "n = \"z\", m = \"z\"")]
    {
        let part = format!("{{ service = \"ledger\", path = \"/\", as = \"x\", rename = {{ {rename} }} }}");
        fine(&merge(keys, &[&part]));
    }
}

#[test]
fn fields_that_no_part_may_pass_on_are_refused() {
    let with = |name: &str| said_of_part(&format!("as = \"x\", headers = [\"{name}\"]"));
    for name in [
        "Content-Length",
        "content-encoding",
        "Connection",
        "transfer-encoding",
        "X-Forwarded-For",
        "Transaction-Id",
        "X-Gateway-Error",
        "via",
    ] {
        let said = with(name);
        assert!(said.contains(&format!("the header field `{name}` of a part is never passed on")), "{said}");
    }
    assert!(with("a b").contains("is not the name of a header field"));
}

#[test]
fn limits_of_a_part_have_bounds() {
    assert!(said_of_part("as = \"x\", answer_max = 0").contains("0 is out of bounds"));
    assert!(said_of_part("as = \"x\", timeout = \"2h\"").contains("2h is out of bounds"));
}
