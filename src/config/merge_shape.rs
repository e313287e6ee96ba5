//! The shape that a part of a merge route gets: what is taken out of its answer, left out, renamed, moved and joined.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use super::file::Text;
use super::findings::Noted;
use super::merge_file::PartFile;
use super::routes::Reader;
use crate::gateway::{Filter, Label, Pointer, Renames, Shape};

impl Reader<'_, '_, '_> {
    pub(super) fn shape(&mut self, file: &PartFile) -> Result<Shape, Noted> {
        let target = file.target.as_ref().map(|text| self.pointer(text)).transpose();
        let allow = file.allow.as_ref().map(|list| self.filter(list.get_ref())).transpose();
        let deny = Some(&file.deny).filter(|list| !list.is_empty()).map(|list| self.filter(list)).transpose();
        let rename = self.renames(&file.rename);
        let moves = declared(&file.moves).into_iter().map(|(from, to)| {
            let from = self.place_in(from)?;
            Ok((from, labels(&self.pointer(to)?)))
        });
        let moves = moves.collect::<Vec<_>>().into_iter().collect::<Result<_, _>>();
        let appends: Vec<_> =
            declared(&file.append).into_iter().map(|(to, from)| self.append(to, from)).collect();
        let appends = appends.into_iter().collect::<Result<_, _>>();
        Ok(Shape {
            target: target?,
            allow: allow?,
            deny: deny?,
            rename: rename?,
            moves: moves?,
            appends: appends?,
        })
    }

    fn filter(&mut self, list: &[Text]) -> Result<Filter, Noted> {
        let mut filter = Filter::default();
        for text in list {
            filter.add(self.member(text)?.tokens());
        }
        Ok(filter)
    }

    fn renames(&mut self, given: &BTreeMap<Text, Text>) -> Result<Option<Renames>, Noted> {
        let mut renames = Renames::default();
        for (from, to) in given {
            renames.add(self.member(from)?.tokens(), Label::new(to.get_ref()));
        }
        Ok(Some(renames).filter(|_| !given.is_empty()))
    }

    /// Members of one place that would get one name, where there is no rule for them: whoever has both would have no answer.
    pub(super) fn check_renames(&mut self, file: &PartFile) {
        let mut seen = BTreeSet::new();
        for (from, to) in declared(&file.rename) {
            let given = from.get_ref().as_str();
            let place = given.starts_with('/').then(|| given.rsplit_once('/')).flatten();
            let (place, name) = (place.map_or("", |(place, _)| place), to.get_ref());
            if !seen.insert((place, name)) {
                let message = format!(
                    "two members of one place would both be called `{name}`; give one another name, or say with \
                     `on_conflict` what becomes of both"
                );
                self.findings.add(&to.span(), message);
            }
        }
    }

    fn append(&mut self, to: &Text, from: &[Text]) -> Result<(Vec<Label>, Vec<Pointer>), Noted> {
        let to = labels(&self.place_in(to)?);
        let from: Vec<_> = from.iter().map(|text| self.place_in(text)).collect();
        Ok((to, from.into_iter().collect::<Result<_, _>>()?))
    }

    /// A member by its name, or by a JSON Pointer to it.
    fn member(&mut self, text: &Text) -> Result<Pointer, Noted> {
        let given = text.get_ref();
        if given.starts_with('/') {
            return self.pointer(text);
        }
        if given.is_empty() {
            return self.refuse(
                text,
                "this names no member; write its name, or a JSON Pointer like \"/address/city\"",
            );
        }
        let pointer = format!("/{}", given.replace('~', "~0").replace('/', "~1"));
        self.findings.keep(&text.span(), "bad member", Pointer::parse(&pointer))
    }

    /// A place inside the answer, which the whole of it is not.
    fn place_in(&mut self, text: &Text) -> Result<Pointer, Noted> {
        let pointer = self.pointer(text)?;
        if pointer.tokens().is_empty() {
            return self.refuse(
                text,
                "this is the whole answer; name a place in it with a JSON Pointer like \"/items\"",
            );
        }
        Ok(pointer)
    }
}

fn labels(pointer: &Pointer) -> Vec<Label> {
    pointer.tokens().iter().map(|token| Label::new(token)).collect()
}

/// The entries of a table in the order in which they stand in the file.
fn declared<V>(table: &BTreeMap<Text, V>) -> Vec<(&Text, &V)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The members of the answer that a part can give, as far as the configuration says: step by step, as its shape is made.
pub(super) fn members(part: &PartFile) -> BTreeSet<String> {
    if let Some(member) = &part.member {
        return BTreeSet::from([member.get_ref().clone()]);
    }
    let first = |text: &Text| way(text).into_iter().next();
    // Whether a member goes away that is there, or may be.
    let goes = |members: &mut BTreeSet<String>, from: &Text| match way(from).as_slice() {
        [name] => members.remove(name) || part.allow.is_none(),
        _ => false,
    };
    let allowed = part.allow.iter().flat_map(Spanned::get_ref);
    let mut members: BTreeSet<_> = allowed.filter_map(first).collect();
    for denied in &part.deny {
        goes(&mut members, denied);
    }
    let renamed = part.rename.iter().filter(|(from, _)| goes(&mut members, from));
    let renamed: Vec<_> = renamed.map(|(_, to)| to.get_ref().clone()).collect();
    members.extend(renamed);
    for (from, to) in declared(&part.moves) {
        goes(&mut members, from);
        members.extend(first(to));
    }
    for (to, from) in declared(&part.append) {
        for from in from {
            goes(&mut members, from);
        }
        members.extend(first(to));
    }
    members
}

/// The names on the way to a member that is named plainly or by a JSON Pointer.
fn way(text: &Text) -> Vec<String> {
    let plain = |_| vec![text.get_ref().clone()];
    Pointer::parse(text.get_ref()).map_or_else(plain, |pointer| pointer.tokens().to_vec())
}
