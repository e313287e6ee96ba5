//! What is done to the answer of one part before it is put with the others, in this order: `target`, `allow`, `deny`,
//! `rename`, `move`, `append`.
//!
//! `allow`, `deny` and `rename` go through arrays: what they say of an object they say of each item of an array of objects.
//! `move` and `append` mean exactly the one place that they name.

use std::collections::BTreeMap;

use super::missing::Missing;
use super::parts::Label;
use super::tree::{Members, Node, Putting, Trouble};
use crate::gateway::pointer::{Pointer, index};

/// How the answer of a part is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// The only part of the answer that counts.
    pub target: Option<Pointer>,
    /// All else is left out.
    pub allow: Option<Filter>,
    /// What is left out.
    pub deny: Option<Filter>,
    /// Members that get another name.
    pub rename: Option<Renames>,
    /// From where to where, in this order. To no label: the members go into the answer itself.
    pub moves: Vec<(Pointer, Vec<Label>)>,
    /// The items of these arrays go to the end of the array at this place.
    pub appends: Vec<(Vec<Label>, Vec<Pointer>)>,
}

/// A set of members, at any depth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    is_whole: bool,
    below: BTreeMap<Vec<u8>, Filter>,
}

/// New names of members, at any depth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renames(BTreeMap<Vec<u8>, (Option<Label>, Renames)>);

/// Why an answer is not fit to be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    /// The part is missing, as if it had not come.
    Missing(Missing),
    Trouble(Trouble),
}

impl From<Trouble> for Unfit {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::TooMany => Self::Missing(Missing::BadAnswer("too_many_values")),
            Trouble::Clash(_) => Self::Trouble(trouble),
        }
    }
}

impl Filter {
    /// The member at `path`, with all that is below it.
    pub fn add(&mut self, path: &[String]) {
        match path.split_first() {
            None => self.is_whole = true,
            Some((name, below)) => {
                self.below.entry(name.as_bytes().to_vec()).or_default().add(below);
            }
        }
    }

    fn allow<'a>(&self, mut node: Node<'a>, putting: &mut Putting) -> Result<Option<Node<'a>>, Trouble> {
        if self.is_whole {
            return Ok(Some(node));
        }
        if let Some(members) = node.open(putting.from, putting)? {
            let mut kept = Members::with_capacity(self.below.len());
            for (name, mut member) in std::mem::take(members) {
                let Some(below) = self.below.get(name.as_ref()) else { continue };
                if let Some(node) = below.allow(member.node, putting)? {
                    member.node = node;
                    kept.insert(name, member);
                }
            }
            return Ok(Some(Node::Object(kept)));
        }
        let Some(items) = node.open_array(putting)? else { return Ok(None) };
        let kept: Result<Vec<_>, _> = std::mem::take(items)
            .into_iter()
            .filter_map(|item| self.allow(item, putting).transpose())
            .collect();
        Ok(Some(Node::Items(kept?)))
    }

    fn deny<'a>(&self, mut node: Node<'a>, putting: &mut Putting) -> Result<Node<'a>, Trouble> {
        if let Some(members) = node.open(putting.from, putting)? {
            let mut kept = Members::with_capacity(members.len());
            for (name, mut member) in std::mem::take(members) {
                match self.below.get(name.as_ref()) {
                    Some(below) if below.is_whole => continue,
                    Some(below) => member.node = below.deny(member.node, putting)?,
                    None => {}
                }
                kept.insert(name, member);
            }
            return Ok(Node::Object(kept));
        }
        if let Some(items) = node.open_array(putting)? {
            let kept: Result<_, _> =
                std::mem::take(items).into_iter().map(|item| self.deny(item, putting)).collect();
            return Ok(Node::Items(kept?));
        }
        Ok(node)
    }
}

impl Renames {
    /// The member at `path`, which is not empty, is to be called `to`.
    pub fn add(&mut self, path: &[String], to: Label) {
        let Some((name, below)) = path.split_first() else { return };
        let (label, renames) = self.0.entry(name.as_bytes().to_vec()).or_default();
        if below.is_empty() {
            *label = Some(to);
        } else {
            renames.add(below, to);
        }
    }

    /// All at once, so that two members can change their names.
    fn rename<'a>(&'a self, mut node: Node<'a>, putting: &mut Putting) -> Result<Node<'a>, Trouble> {
        if self.0.is_empty() {
            return Ok(node);
        }
        if let Some(members) = node.open(putting.from, putting)? {
            let mut renamed = Members::with_capacity(members.len());
            for (name, mut member) in std::mem::take(members) {
                let Some((label, below)) = self.0.get(name.as_ref()) else {
                    putting.put(&mut renamed, name, member)?;
                    continue;
                };
                member.node = below.rename(member.node, putting)?;
                let name = label.as_ref().map_or(name, Label::name);
                member.quoted = label.as_ref().map_or(member.quoted, Label::quoted);
                putting.put(&mut renamed, name, member)?;
            }
            return Ok(Node::Object(renamed));
        }
        if let Some(items) = node.open_array(putting)? {
            let renamed: Result<_, _> =
                std::mem::take(items).into_iter().map(|item| self.rename(item, putting)).collect();
            return Ok(Node::Items(renamed?));
        }
        Ok(node)
    }
}

impl Shape {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The answer as it is to be merged. `text` is JSON in which no key occurs twice.
    pub(super) fn apply<'a>(&'a self, text: &'a str, putting: &mut Putting) -> Result<Node<'a>, Unfit> {
        let mut node = Node::Text(match &self.target {
            None => text,
            Some(target) => target.cut(text).ok_or(Unfit::Missing(Missing::BadAnswer("no_target")))?,
        });
        if let Some(allow) = &self.allow {
            node = allow.allow(node, putting)?.ok_or(NO_OBJECT)?;
        }
        if let Some(deny) = &self.deny {
            node = deny.deny(node, putting)?;
        }
        if let Some(rename) = &self.rename {
            node = rename.rename(node, putting)?;
        }
        for (pointer, place) in &self.moves {
            let Some(moved) = take(&mut node, pointer.tokens(), putting)? else { continue };
            if place.is_empty() && !moved.is_object() {
                return Err(NO_OBJECT);
            }
            let members = node.open(putting.from, putting)?.ok_or(NO_OBJECT)?;
            putting.put_at(members, place, moved)?;
        }
        for (place, pointers) in &self.appends {
            append(&mut node, place, pointers, putting)?;
        }
        Ok(node)
    }
}

/// What the answer would have to be, and is not.
const NO_OBJECT: Unfit = Unfit::Missing(Missing::BadAnswer("no_object"));
const NO_ARRAY: Unfit = Unfit::Missing(Missing::BadAnswer("no_array"));

/// Takes a value away from where it is; `None` where there is none.
fn take<'a>(
    node: &mut Node<'a>,
    path: &[String],
    putting: &mut Putting,
) -> Result<Option<Node<'a>>, Trouble> {
    let Some((name, way)) = path.split_last() else { return Ok(None) };
    let Some(holder) = at(node, way, putting)? else { return Ok(None) };
    if let Some(members) = holder.open(putting.from, putting)? {
        return Ok(members.shift_remove(name.as_bytes()).map(|member| member.node));
    }
    let Some(items) = holder.open_array(putting)? else { return Ok(None) };
    let place = index(name).filter(|place| *place < items.len());
    Ok(place.map(|place| items.remove(place)))
}

/// The value at a place.
fn at<'n, 'a>(
    node: &'n mut Node<'a>,
    path: &[String],
    putting: &mut Putting,
) -> Result<Option<&'n mut Node<'a>>, Trouble> {
    let Some((name, below)) = path.split_first() else { return Ok(Some(node)) };
    let next = if node.is_object() {
        let members = node.open(putting.from, putting)?;
        members.and_then(|members| members.get_mut(name.as_bytes())).map(|member| &mut member.node)
    } else {
        let items = node.open_array(putting)?;
        items.zip(index(name)).and_then(|(items, place)| items.get_mut(place))
    };
    next.map_or(Ok(None), |next| at(next, below, putting))
}

/// Joins arrays: what is at `place` already, then the others in their order.
fn append<'a>(
    node: &mut Node<'a>,
    place: &'a [Label],
    pointers: &[Pointer],
    putting: &mut Putting,
) -> Result<(), Unfit> {
    let mut more = Vec::new();
    for pointer in pointers {
        more.extend(take(node, pointer.tokens(), putting)?);
    }
    if more.iter().any(|array| !array.is_array()) {
        return Err(NO_ARRAY);
    }
    let path: Vec<String> = place.iter().map(|label| label.plain().to_owned()).collect();
    if let Some(present) = at(node, &path, putting)? {
        if !present.is_array() {
            return Err(NO_ARRAY);
        }
        for array in more {
            present.join(array);
        }
        return Ok(());
    }
    let members = node.open(putting.from, putting)?.ok_or(NO_OBJECT)?;
    Ok(putting.put_at(members, place, Node::Joined(more))?)
}
