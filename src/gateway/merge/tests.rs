//! The putting together of parts, held against examples and against a slow reading of the same rules.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use proptest::prelude::*;
use serde_json::value::RawValue;

use super::document::{Document, Refused, Text, document};
use super::missing::{self, Missing};
use super::tree::Clash;
use super::*;
use crate::gateway::pointer::Pointer;
use crate::gateway::template::Template;

fn pointer(text: &str) -> Pointer {
    Pointer::parse(text).unwrap()
}

fn labels(text: &str) -> Vec<Label> {
    pointer(text).tokens().iter().map(|token| Label::new(token)).collect()
}

fn filter(pointers: &[&str]) -> Filter {
    let mut filter = Filter::default();
    for text in pointers {
        filter.add(pointer(text).tokens());
    }
    filter
}

fn renames(names: &[(&str, &str)]) -> Renames {
    let mut renames = Renames::default();
    for (from, to) in names {
        renames.add(pointer(from).tokens(), Label::new(to));
    }
    renames
}

fn part(name: &str, member: Option<&str>, shape: Shape) -> Part {
    Part {
        service: name.to_owned(),
        path: Template::parse("/").unwrap(),
        question: Question::get(),
        references: BTreeMap::new(),
        name: name.to_owned(),
        member: member.map(Label::new),
        required: true,
        fallback: None,
        shape,
        fields: Vec::new(),
        answer_max: None,
        timeout: None,
    }
}

fn route(on_conflict: OnConflict, parts: Vec<Part>) -> MergeRoute {
    let timeout = Duration::from_secs(1);
    MergeRoute { parts, timeout, on_conflict, status: StatusRule::Ok, list_missing: None }
}

/// Parts without a name or shape, one for each answer.
fn into_one(on_conflict: OnConflict, answers: &[&str]) -> Result<String, Refused> {
    let parts = ["a", "b", "c"].into_iter().zip(answers).map(|(name, _)| part(name, None, Shape::default()));
    let route = route(on_conflict, parts.collect());
    text(document(&route, answers.iter().map(|answer| json(answer)).collect()))
}

#[expect(clippy::unnecessary_wraps, reason = "it stands beside parts that are missing")]
fn json(text: &str) -> Result<Text<&str>, Missing> {
    Ok(Text::Json(text))
}

fn text(made: Result<Document, Refused>) -> Result<String, Refused> {
    made.map(|document| String::from_utf8(document.text).unwrap())
}

/// One part under the name `a`.
fn shaped(shape: Shape, answer: &str) -> String {
    let made = document(&route(OnConflict::Error, vec![part("a", Some("a"), shape)]), vec![json(answer)]);
    let text = text(made).unwrap();
    text.strip_prefix("{\"a\":").unwrap().strip_suffix('}').unwrap().to_owned()
}

fn unfit(shape: Shape, answer: &str) -> &'static str {
    let made = document(&route(OnConflict::Error, vec![part("a", Some("a"), shape)]), vec![json(answer)]);
    match made {
        Err(Refused::Missing(missing)) => missing[0].as_ref().unwrap().kind(),
        other => panic!("{other:?}"),
    }
}

fn clash(member: &str, first: usize, second: usize) -> Result<String, Refused> {
    Err(Refused::Clash(Clash { member: member.to_owned(), first, second }))
}

#[test]
fn a_part_without_a_name_gives_its_members_with_their_exact_text() {
    let merged =
        into_one(OnConflict::Error, &[r#"{"b": 1.10, "a":1e400}"#, r#"{ "id" :12345678901234567890 }"#]);
    assert_eq!(merged.unwrap(), r#"{"b":1.10,"a":1e400,"id":12345678901234567890}"#);
}

#[test]
fn a_part_under_a_name_is_the_text_that_came() {
    let odd = r#"{"sum": 1.10,"n":[1E+2,  -0.0 ], "s":"\ud800\u0041"}"#;
    assert_eq!(shaped(Shape::default(), odd), odd);
}

#[test]
fn a_member_of_two_parts_is_a_conflict_unless_a_rule_says_what_becomes_of_it() {
    let both = [r#"{"x":1,"y":2}"#, r#"{"z":4,"x":3}"#];
    assert_eq!(into_one(OnConflict::Error, &both), clash("/x", 0, 1));
    assert_eq!(into_one(OnConflict::First, &both).unwrap(), r#"{"x":1,"y":2,"z":4}"#);
    assert_eq!(into_one(OnConflict::Last, &both).unwrap(), r#"{"x":3,"y":2,"z":4}"#);
    assert_eq!(into_one(OnConflict::Concat, &both), clash("/x", 0, 1));
    assert_eq!(into_one(OnConflict::Deep, &both), clash("/x", 0, 1));
    let in_another_writing = [r#"{"x":1}"#, r#"{"\u0078":1}"#];
    assert_eq!(into_one(OnConflict::Error, &in_another_writing), clash("/x", 0, 1));
}

#[test]
fn arrays_of_one_name_are_joined_in_declared_order() {
    let three = [r#"{"x":[1, 2]}"#, r#"{"x":[ ]}"#, r#"{"x":[ {"a":1.0} ]}"#];
    assert_eq!(into_one(OnConflict::Concat, &three).unwrap(), r#"{"x":[1, 2,{"a":1.0}]}"#);
    assert_eq!(into_one(OnConflict::Deep, &three).unwrap(), r#"{"x":[1, 2,{"a":1.0}]}"#);
    assert_eq!(into_one(OnConflict::Concat, &[r#"{"x":[]}"#, r#"{"x":{}}"#]), clash("/x", 0, 1));
}

#[test]
fn objects_of_one_name_are_merged_at_any_depth_and_a_conflict_in_them_is_named() {
    let both = [r#"{"x":{"a":{"b":1},"l":[1]}}"#, r#"{"x":{"a":{"c":2},"l":[2]},"y":0}"#];
    assert_eq!(into_one(OnConflict::Deep, &both).unwrap(), r#"{"x":{"a":{"b":1,"c":2},"l":[1,2]},"y":0}"#);
    let three = [r#"{"x":{"p/q":{"b":1}}}"#, r#"{"x":{"p/q":{"c":1}}}"#, r#"{"x":{"p/q":{"c":1}}}"#];
    assert_eq!(into_one(OnConflict::Deep, &three), clash("/x/p~1q/c", 1, 2));
    assert_eq!(into_one(OnConflict::Concat, &both), clash("/x", 0, 1));
}

#[test]
fn a_part_that_is_to_give_its_members_and_has_none_is_missing() {
    for answer in ["[1]", "null", "1.10", "\"x\""] {
        let Err(Refused::Missing(missing)) = into_one(OnConflict::Error, &["{}", answer]) else { panic!() };
        assert_eq!(missing, [None, Some(Missing::BadAnswer("no_object"))], "{answer}");
    }
}

#[test]
fn what_is_no_json_can_only_be_passed_on_under_a_name() {
    let wrapped = || vec![Ok(Text::Wrapped(r#"{"body":"x"}"#))];
    let made = |part| document(&route(OnConflict::Error, vec![part]), wrapped());
    let grouped = text(made(part("a", Some("a"), Shape::default())));
    assert_eq!(grouped.unwrap(), r#"{"a":{"body":"x"}}"#);
    let looked_into = Shape { deny: Some(filter(&["/body"])), ..Shape::default() };
    for part in [part("a", None, Shape::default()), part("a", Some("a"), looked_into)] {
        assert_eq!(made(part), Err(Refused::Missing(vec![Some(Missing::BadAnswer("not_json"))])));
    }
}

#[test]
fn only_the_target_counts() {
    let shape = || Shape { target: Some(pointer("/data/0")), ..Shape::default() };
    assert_eq!(shaped(shape(), r#"{"data":[ {"a": 1.10} ],"x":1}"#), r#"{"a": 1.10}"#);
    assert_eq!(unfit(shape(), r#"{"data":[]}"#), "no_target");
}

#[test]
fn what_is_not_allowed_is_left_out_also_in_arrays() {
    let allow = |pointers| Shape { allow: Some(filter(pointers)), ..Shape::default() };
    let answer =
        r#"{"id":7,"mail":"x","address":{"city":"y","street":"z"},"list":[{"id":1,"k":2},3,{"k":4}]}"#;
    assert_eq!(shaped(allow(&["/mail", "/id"]), answer), r#"{"id":7,"mail":"x"}"#);
    assert_eq!(shaped(allow(&["/address/city"]), answer), r#"{"address":{"city":"y"}}"#);
    assert_eq!(shaped(allow(&["/list/id"]), answer), r#"{"list":[{"id":1},{}]}"#);
    assert_eq!(shaped(allow(&["/id/below", "/none"]), answer), "{}");
    assert_eq!(shaped(allow(&["/id"]), r#"[{"id":1,"x":2},{"id":3}]"#), r#"[{"id":1},{"id":3}]"#);
    assert_eq!(unfit(allow(&["/id"]), "7"), "no_object");
}

#[test]
fn what_is_denied_is_left_out_and_all_else_stays() {
    let deny = |pointers| Shape { deny: Some(filter(pointers)), ..Shape::default() };
    let answer = r#"{"id":7,"address":{"city":"y","street":"z"},"list":[{"id":1,"k":2},3]}"#;
    assert_eq!(
        shaped(deny(&["/id", "/address/street", "/list/k", "/none/x"]), answer),
        r#"{"address":{"city":"y"},"list":[{"id":1},3]}"#
    );
    assert_eq!(shaped(deny(&["/id"]), "7"), "7");
    let both = Shape {
        allow: Some(filter(&["/address"])),
        deny: Some(filter(&["/address/city"])),
        ..Shape::default()
    };
    assert_eq!(shaped(both, answer), r#"{"address":{"street":"z"}}"#);
}

#[test]
fn a_name_in_another_writing_is_the_same_name() {
    let deny = Shape { deny: Some(filter(&["/password"])), ..Shape::default() };
    assert_eq!(shaped(deny, r#"{"p\u0061ssword":"x","a":1}"#), r#"{"a":1}"#);
}

#[test]
fn members_change_their_names_all_at_once_and_stay_where_they_are() {
    let rename = |names| Shape { rename: Some(renames(names)), ..Shape::default() };
    assert_eq!(
        shaped(rename(&[("/a", "b"), ("/b", "a")]), r#"{"a":1,"b":2,"c":3}"#),
        r#"{"b":1,"a":2,"c":3}"#
    );
    assert_eq!(
        shaped(rename(&[("/l/x", "y")]), r#"{"l":[{"x":1},{"z":1}],"x":0}"#),
        r#"{"l":[{"y":1},{"z":1}],"x":0}"#
    );
    let onto_another = route(OnConflict::Error, vec![part("a", None, rename(&[("/a", "b")]))]);
    assert_eq!(text(document(&onto_another, vec![json(r#"{"a":1,"b":2}"#)])), clash("/b", 0, 0));
}

#[test]
fn a_value_is_moved_and_objects_are_made_on_the_way() {
    let moves = |from: &str, to: &str| Shape { moves: vec![(pointer(from), labels(to))], ..Shape::default() };
    assert_eq!(
        shaped(moves("/a/b", "/c/d/e"), r#"{"a":{"b":1.10},"x":0}"#),
        r#"{"a":{},"x":0,"c":{"d":{"e":1.10}}}"#
    );
    assert_eq!(shaped(moves("/l/1", "/c"), r#"{"l":[1,2,3]}"#), r#"{"l":[1,3],"c":2}"#);
    assert_eq!(shaped(moves("/data", ""), r#"{"data":{"a":1},"b":2}"#), r#"{"b":2,"a":1}"#);
    assert_eq!(shaped(moves("/none/x", "/c"), r#"{"a":1}"#), r#"{"a":1}"#);
    assert_eq!(unfit(moves("/data", ""), r#"{"data":1}"#), "no_object");
    let occupied = route(OnConflict::Error, vec![part("a", None, moves("/a", "/b/c"))]);
    assert_eq!(text(document(&occupied, vec![json(r#"{"a":1,"b":2}"#)])), clash("/b", 0, 0));
}

#[test]
fn arrays_of_one_answer_are_joined() {
    let append = |to: &str, from: &[&str]| Shape {
        appends: vec![(labels(to), from.iter().map(|text| pointer(text)).collect())],
        ..Shape::default()
    };
    let answer = r#"{"a":[1, 2],"b":{"c":[]},"d":[3]}"#;
    assert_eq!(shaped(append("/all", &["/d", "/b/c", "/a", "/none"]), answer), r#"{"b":{},"all":[3,1, 2]}"#);
    assert_eq!(shaped(append("/a", &["/d"]), answer), r#"{"a":[1, 2,3],"b":{"c":[]}}"#);
    assert_eq!(shaped(append("/all", &["/none"]), "{}"), r#"{"all":[]}"#);
    assert_eq!(unfit(append("/all", &["/b"]), answer), "no_array");
    assert_eq!(unfit(append("/b", &["/a"]), answer), "no_array");
}

#[test]
fn an_optional_part_has_its_fallback_or_is_left_out_and_is_listed() {
    let optional = |name, fallback: Option<&str>| Part {
        required: false,
        fallback: fallback.map(str::to_owned),
        ..part(name, Some(name), Shape { target: Some(pointer("/x")), ..Shape::default() })
    };
    let mut route = route(OnConflict::Error, vec![optional("a", Some("[]")), optional("b", None)]);
    let gone = || Err(Missing::Refused(StatusCode::NOT_FOUND));
    let made = document(&route, vec![gone(), json(r#"{"x":1}"#)]).unwrap();
    assert_eq!(made.text, br#"{"a":[],"b":1}"#);
    assert_eq!(made.missing, [gone().err(), None]);
    route.list_missing = Some(Label::new("missing"));
    let made = text(document(&route, vec![gone(), json("{}")])).unwrap();
    assert_eq!(
        made,
        r#"{"a":[],"missing":[{"part":"a","service":"a","kind":"refused","status":404},{"part":"b","service":"b","kind":"no_target"}]}"#
    );
    let made = text(document(&route, vec![json(r#"{"x":0}"#), json(r#"{"x":1}"#)])).unwrap();
    assert_eq!(made, r#"{"a":0,"b":1,"missing":[]}"#);
}

#[test]
fn no_part_speaks_for_the_gateway_about_what_is_missing() {
    let mut one = route(OnConflict::First, vec![part("a", None, Shape::default())]);
    one.list_missing = Some(Label::new("missing"));
    assert_eq!(text(document(&one, vec![json(r#"{"missing":"x"}"#)])).unwrap(), r#"{"missing":[]}"#);
    one.on_conflict = OnConflict::Error;
    assert_eq!(text(document(&one, vec![json(r#"{"missing":"x"}"#)])), clash("/missing", 0, 1));
}

#[test]
fn an_answer_with_too_many_members_is_not_looked_into() {
    let members = |count: usize| (0..count).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(",");
    let (most, over) = (format!("{{{}}}", members(65_536)), format!("{{{}}}", members(65_537)));
    assert!(into_one(OnConflict::Error, &[&most]).is_ok());
    let Err(Refused::Missing(missing)) = into_one(OnConflict::Error, &[&over]) else { panic!() };
    assert_eq!(missing[0], Some(Missing::BadAnswer("too_many_values")));
    assert_eq!(shaped(Shape::default(), &over), over, "it can be passed on");
}

#[test]
fn the_status_is_that_of_the_rule() {
    let ok = |status: u16| Ok(StatusCode::from_u16(status).unwrap());
    let refused = |status: u16| Err(Missing::Refused(StatusCode::from_u16(status).unwrap()));
    let parts = [ok(201), refused(404), ok(200)];
    assert_eq!(missing::status(StatusRule::Ok, &parts), 200);
    assert_eq!(missing::status(StatusRule::Worst, &parts), 404);
    assert_eq!(missing::status(StatusRule::First, &parts), 201);
    assert_eq!(missing::status(StatusRule::Fixed(StatusCode::ACCEPTED), &parts), 202);
    assert_eq!(
        missing::status(StatusRule::Worst, &[ok(204), ok(206)]),
        200,
        "ours has a body, and all of it"
    );
    assert_eq!(
        missing::status(StatusRule::Worst, &[refused(302)]),
        502,
        "a redirection leads nowhere without its field"
    );
    assert_eq!(missing::status(StatusRule::First, &[Err(Missing::NoBudget)]), 503);
    assert_eq!(missing::status(StatusRule::Worst, &[refused(404), Err(Missing::Dependency)]), 404);
}

/// Numbers and strings that do not survive a reader that makes values of them.
fn leaf() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("1.10"),
        Just("1e400"),
        Just("-0.0"),
        Just("12345678901234567890123"),
        Just("9007199254740993"),
        Just("\"\\u0041\\/\""),
        Just("null"),
    ]
    .prop_map(str::to_owned)
}

fn object() -> impl Strategy<Value = Vec<(String, String)>> {
    let value = leaf().prop_recursive(3, 12, 3, |inner| {
        let member = ("[a-d]", inner.clone()).prop_map(|(name, value)| format!("\"{name}\" : {value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(", "))),
            member.prop_map(|member| format!("{{{member}}}")),
        ]
    });
    prop::collection::btree_map("[a-f]", value, 0..5).prop_map(|members| members.into_iter().collect())
}

fn write(members: &[(String, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

proptest! {
    #[test]
    fn every_value_comes_out_with_the_text_it_went_in_with(one in object(), two in object(), last in any::<bool>()) {
        let mut expected = one.clone();
        for (name, value) in &two {
            match expected.iter_mut().find(|(known, _)| known == name) {
                Some(present) => if last { present.1.clone_from(value) },
                None => expected.push((name.clone(), value.clone())),
            }
        }
        let rule = if last { OnConflict::Last } else { OnConflict::First };
        prop_assert_eq!(into_one(rule, &[&write(&one), &write(&two)]).unwrap(), write(&expected));
    }

    #[test]
    fn whatever_the_rule_the_result_is_json_without_a_key_twice(
        one in object(), two in object(), three in object(),
        rule in prop_oneof![
            Just(OnConflict::Error), Just(OnConflict::First), Just(OnConflict::Last), Just(OnConflict::Concat), Just(OnConflict::Deep)
        ],
    ) {
        let answers = [write(&one), write(&two), write(&three)];
        if let Ok(merged) = into_one(rule, &answers.each_ref().map(String::as_str)) {
            prop_assert!(serde_json::from_str::<&RawValue>(&merged).is_ok(), "{}", merged);
            prop_assert_eq!(check::check(&merged), Ok(()));
        }
    }

    #[test]
    fn any_shape_makes_json_of_json(
        members in object(),
        allow in prop::option::of("(/[a-f]){1,3}"), deny in prop::option::of("(/[a-f]){1,3}"),
        from in "(/[a-f0-2]){1,3}", to in "(/[a-f]){0,3}", name in "[a-f]", append in "(/[a-f]){1,2}",
    ) {
        let shape = Shape {
            target: None,
            allow: allow.map(|allow| filter(&[&allow])),
            deny: deny.map(|deny| filter(&[&deny])),
            rename: Some(renames(&[("/a", &name)])),
            moves: vec![(pointer(&from), labels(&to))],
            appends: vec![(labels(&append), vec![pointer(&from)])],
        };
        let route = route(OnConflict::Last, vec![part("a", None, shape)]);
        if let Ok(merged) = text(document(&route, vec![json(&write(&members))])) {
            prop_assert!(serde_json::from_str::<&RawValue>(&merged).is_ok(), "{}", merged);
            prop_assert_eq!(check::check(&merged), Ok(()));
        }
    }
}
