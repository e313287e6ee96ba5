//! What a merge route means: its parts, what they take from each other, and what becomes of what they give.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use toml::Spanned;
use toml::Value;

use super::file::Text;
use super::findings::Noted;
use super::merge_file::{ConflictFile, MergeFile, PartFile, StatusFile};
use super::merge_json;
use super::merge_shape::members;
use super::resolve::{BYTES, WAIT};
use super::routes::Reader;
use crate::gateway::{
    Label, MergeRoute, OnConflict, Part, Piece, Pointer, Question, Reference, StatusRule, Template,
    is_never_passed,
};

const MERGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Every part is a call in flight and an answer held; as many as a transaction may have branches.
const PARTS_MAX: usize = 64;

impl Reader<'_, '_, '_> {
    pub(super) fn merge(&mut self, file: &MergeFile) -> Result<MergeRoute, Noted> {
        self.check_count("parts", &file.parts, PARTS_MAX);
        let on_conflict = match file.on_conflict {
            ConflictFile::Error => OnConflict::Error,
            ConflictFile::First => OnConflict::First,
            ConflictFile::Last => OnConflict::Last,
            ConflictFile::Concat => OnConflict::Concat,
            ConflictFile::Deep => OnConflict::Deep,
        };
        self.check_members(file, on_conflict);
        if on_conflict == OnConflict::Error {
            file.parts.get_ref().iter().for_each(|part| self.check_renames(part));
        }
        let timeout = self.findings.time(file.timeout.as_ref(), MERGE_TIMEOUT, WAIT);
        let status = self.status(file.status.as_ref());
        let list_missing = file.list_missing.as_ref().map(|text| Label::new(text.get_ref()));
        let names: Vec<&str> = file.parts.get_ref().iter().map(name).collect();
        let parts: Vec<_> = file
            .parts
            .get_ref()
            .iter()
            .enumerate()
            .map(|(place, part)| self.part(part, place, &names))
            .collect();
        let parts = parts.into_iter().collect::<Result<_, _>>()?;
        Ok(MergeRoute { parts, timeout, on_conflict, status: status?, list_missing })
    }

    fn part(&mut self, file: &PartFile, place: usize, names: &[&str]) -> Result<Part, Noted> {
        let earlier = Earlier { names, place };
        let service = self.known.service(&file.service, self.findings);
        let path = self.part_path(&file.path, &earlier);
        let question = self.question(file, &earlier);
        let fallback = self.fallback(file);
        let shape = self.shape(file);
        let fields = file.headers.iter().map(|text| self.passed_field(text)).collect::<Vec<_>>();
        let answer_max = file.answer_max.as_ref().map(|given| self.findings.number(Some(given), 1, BYTES));
        let timeout = file.timeout.as_ref().map(|given| self.findings.time(Some(given), MERGE_TIMEOUT, WAIT));
        let (path, references) = path?;
        Ok(Part {
            service: service?,
            path,
            question: question?,
            references,
            name: name(file).to_owned(),
            member: file.member.as_ref().map(|text| Label::new(text.get_ref())),
            required: file.required.unwrap_or(true),
            fallback: fallback?,
            shape: shape?,
            fields: fields.into_iter().collect::<Result<_, _>>()?,
            answer_max,
            timeout,
        })
    }

    fn status(&mut self, given: Option<&Spanned<StatusFile>>) -> Result<StatusRule, Noted> {
        let Some(given) = given else { return Ok(StatusRule::default()) };
        let number = match given.get_ref() {
            StatusFile::Ok => return Ok(StatusRule::Ok),
            StatusFile::Worst => return Ok(StatusRule::Worst),
            StatusFile::First => return Ok(StatusRule::First),
            StatusFile::Fixed(number) => *number,
        };
        let status = StatusCode::from_u16(number).ok().filter(StatusCode::is_success);
        match status {
            Some(StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT) | None => self
                .refuse(
                    given,
                    "this cannot be the status of every answer that is whole; write a 2xx that has a body (not 204, 205 \
                     or 206), or \"ok\", \"worst\" or \"first\"",
                ),
            Some(status) => Ok(StatusRule::Fixed(status)),
        }
    }

    /// A path to call, and what it takes from earlier parts.
    fn part_path(
        &mut self,
        text: &Text,
        earlier: &Earlier<'_>,
    ) -> Result<(Template, BTreeMap<String, Reference>), Noted> {
        let template = Template::parse_with(text.get_ref(), merge_json::may_stand);
        let template = self.findings.keep(&text.span(), "bad path", template)?;
        self.check_bound(text, template.params().filter(|name| !name.contains('/')))?;
        let mut references = BTreeMap::new();
        for name in template.params().filter(|name| name.contains('/')) {
            let in_path = template.path_params().any(|other| other == name);
            let reference = self.reference(text, name, in_path, earlier)?;
            references.insert(name.to_owned(), reference);
        }
        Ok((template, references))
    }

    /// `account/currency`: the part `account`, and in its answer `/currency`.
    fn reference<T>(
        &mut self,
        at: &Spanned<T>,
        text: &str,
        in_path: bool,
        earlier: &Earlier<'_>,
    ) -> Result<Reference, Noted> {
        let (name, _) = text.split_once('/').unwrap_or((text, ""));
        let pointer = text.get(name.len()..).unwrap_or_default();
        let part = match earlier.place_of(name) {
            Ok(part) => part,
            Err(blame) => return self.refuse(at, format!("`{{{text}}}` {blame}")),
        };
        let pointer = self.findings.keep(&at.span(), "bad JSON Pointer", Pointer::parse(pointer))?;
        Ok(Reference { part, pointer, in_path })
    }

    /// The method of a part and its body. Both only for services that ask their questions so.
    fn question(&mut self, file: &PartFile, earlier: &Earlier<'_>) -> Result<Question, Noted> {
        let method = file.method.as_ref().map_or(Ok(Method::GET), |text| self.method(text))?;
        let at = file.method.as_ref().unwrap_or(&file.service);
        match (method.as_str(), &file.body) {
            ("GET", Some(body)) => {
                self.refuse(body, "a GET has no body; write `method = \"POST\"` and `reads_only = true`, or \"QUERY\"")
            }
            ("GET", None) => Ok(Question::get()),
            ("QUERY", Some(body)) => Ok(Question { method, body: Some(self.body(body, earlier)?) }),
            ("POST", Some(body)) if file.reads_only => {
                Ok(Question { method, body: Some(self.body(body, earlier)?) })
            }
            ("POST" | "QUERY", None) => {
                self.refuse(at, format!("a part with {method} asks with a body; add `body`, or take `method` out"))
            }
            ("POST", Some(_)) => self.refuse(
                at,
                format!(
                    "the route `{}` merges answers, and a POST may change something. If this one only asks, say \
                     `reads_only = true` beside it; to change something at several services declare a transaction: \
                     [routes.transaction] with `branches`",
                    self.id
                ),
            ),
            _ => self.refuse(
                at,
                format!(
                    "a part is asked with GET, QUERY or a POST that reads only; to change something at several services \
                     with {method}, declare a transaction: [routes.transaction] with `branches`"
                ),
            ),
        }
    }

    fn body(&mut self, body: &Spanned<Value>, earlier: &Earlier<'_>) -> Result<Vec<Piece>, Noted> {
        let holes = match merge_json::with_holes(body.get_ref()) {
            Ok(holes) => holes,
            Err(blame) => return self.refuse(body, blame),
        };
        let mut pieces = Vec::new();
        for hole in holes {
            pieces.push(match hole {
                merge_json::Hole::Text(text) => Piece::Text(text),
                merge_json::Hole::Name(name) if name.contains('/') => {
                    let reference = self.reference(body, &name, false, earlier)?;
                    Piece::Answer(name, reference)
                }
                merge_json::Hole::Name(name) => {
                    self.check_bound(body, std::iter::once(name.as_str()))?;
                    Piece::Param(name)
                }
            });
        }
        Ok(pieces)
    }

    fn fallback(&mut self, file: &PartFile) -> Result<Option<String>, Noted> {
        let Some(given) = &file.fallback else { return Ok(None) };
        if file.required.unwrap_or(true) {
            return self.refuse(
                given,
                "nothing ever stands in for a part that is required; write `required = false` beside its fallback",
            );
        }
        if file.member.is_none() && !given.get_ref().is_table() {
            return self.refuse(
                given,
                "without `as` the members of the part go into the answer itself, so its fallback is a table; write \
                 `{ .. }`, or give the part a name with `as`",
            );
        }
        match merge_json::text(given.get_ref()) {
            Ok(text) => Ok(Some(text)),
            Err(blame) => self.refuse(given, blame),
        }
    }

    fn passed_field(&mut self, text: &Text) -> Result<HeaderName, Noted> {
        let given = text.get_ref();
        match HeaderName::from_bytes(given.as_bytes()) {
            Ok(name) if is_never_passed(&name) => self.refuse(
                text,
                format!("the header field `{given}` of a part is never passed on; take it out"),
            ),
            Ok(name) => Ok(name),
            Err(_) => self.refuse(
                text,
                format!("`{given}` is not the name of a header field; use letters, digits and `-`"),
            ),
        }
    }

    /// Members that two parts would give, as far as the configuration says which they give. Without a rule for them
    /// every request could fail.
    fn check_members(&mut self, file: &MergeFile, on_conflict: OnConflict) {
        let mut seen: BTreeMap<String, Range<usize>> = BTreeMap::new();
        if let Some(list) = &file.list_missing {
            seen.insert(list.get_ref().clone(), list.span());
        }
        for part in file.parts.get_ref() {
            let at = part.member.as_ref().unwrap_or(&part.service).span();
            for member in members(part) {
                let Some(first) = seen.insert(member.clone(), at.clone()) else { continue };
                let of_list = file.list_missing.as_ref().is_some_and(|list| list.span() == first);
                if on_conflict != OnConflict::Error && !of_list {
                    continue;
                }
                let there = self.findings.source().mention(first.start);
                let what = if of_list {
                    format!(
                        "the list of missing parts and this part would both be the member `{member}` ({there})"
                    )
                } else {
                    format!("two parts would both be the member `{member}` ({there})")
                };
                let advice = match (of_list, &part.member) {
                    (true, _) => "give one another name",
                    (false, Some(_)) => {
                        "give one another `as`, or say with `on_conflict` what becomes of both"
                    }
                    (false, None) => "rename it in one, or say with `on_conflict` what becomes of both",
                };
                self.findings.add(&at, format!("{what}; {advice}"));
            }
        }
    }
}

/// The parts before one, which it may take something from.
struct Earlier<'a> {
    names: &'a [&'a str],
    place: usize,
}

impl Earlier<'_> {
    fn place_of(&self, name: &str) -> Result<usize, String> {
        let mut found =
            self.names.iter().enumerate().filter(|(_, known)| **known == name).map(|(place, _)| place);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(format!(
                "could mean two parts that are both called `{name}`; give each a `name` of its own"
            )),
            (Some(place), None) if place < self.place => Ok(place),
            (Some(place), None) if place == self.place => {
                Err("is of this part itself; name an earlier one".to_owned())
            }
            (Some(_), None) => Err(format!(
                "is of a part that comes later, and only what is declared before can be waited for; put `{name}` first"
            )),
            (None, _) => {
                let earlier = self.names.iter().take(self.place).map(|name| format!("`{name}`"));
                let earlier = earlier.collect::<Vec<_>>().join(", ");
                let known = if earlier.is_empty() { "none".to_owned() } else { earlier };
                Err(format!(
                    "is of no part; write `{{NAME/POINTER}}` with the name of an earlier part (here: {known})"
                ))
            }
        }
    }
}

/// What errors and references call a part.
fn name(part: &PartFile) -> &str {
    part.name.as_ref().or(part.member.as_ref()).unwrap_or(&part.service).get_ref()
}
