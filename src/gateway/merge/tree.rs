//! A JSON text that is taken apart only as far as somebody looks into it. What nobody touches stays the text that came, so
//! that `1.10`, `1e400` and an id of twenty digits go to the client to the letter.

use std::borrow::Cow;

use indexmap::IndexMap;

use super::parts::{Label, OnConflict};
use crate::gateway::inside::{inside, named, said};

/// The members of an object in their order, by their names.
pub(super) type Members<'a> = IndexMap<Cow<'a, [u8]>, Member<'a>>;

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Node<'a> {
    /// As it came.
    Text(&'a str),
    /// An object that was looked into.
    Object(Members<'a>),
    /// An array that was looked into.
    Items(Vec<Node<'a>>),
    /// One array of the items of several.
    Joined(Vec<Node<'a>>),
}

/// A member of an object.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    /// Its name as JSON, in quotes.
    pub(super) quoted: &'a str,
    pub(super) node: Node<'a>,
    /// Which part gave it.
    pub(super) from: usize,
}

/// Two gave one member, and the route has no answer to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clash {
    /// The member, as a JSON Pointer.
    pub(super) member: String,
    /// Who gave it first.
    pub(super) first: usize,
    /// Who gave it again.
    pub(super) second: usize,
}

/// Why values could not be put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    Clash(Clash),
    /// More members and items would have to be looked at than one answer is worth.
    TooMany,
}

/// How members are put together.
pub(super) struct Putting {
    pub(super) rule: OnConflict,
    /// The part whose answer is looked into.
    pub(super) from: usize,
    /// How many members and items may still be looked at.
    left: usize,
}

impl Putting {
    /// Each member or item that is looked at takes some 150 bytes beside its text, so that a text of many small ones would
    /// take many times its length. 65,536 take 10 MiB, and only while one answer is put together.
    const LOOKED_AT_MAX: usize = 65_536;

    pub(super) fn new(rule: OnConflict) -> Self {
        Self { rule, from: 0, left: Self::LOOKED_AT_MAX }
    }

    /// Puts a member at the end, or, where there is one of this name, does as the rule says.
    pub(super) fn put<'a>(
        &mut self,
        members: &mut Members<'a>,
        name: Cow<'a, [u8]>,
        member: Member<'a>,
    ) -> Result<(), Trouble> {
        match members.get_mut(&name) {
            None => {
                members.insert(name, member);
                Ok(())
            }
            Some(present) => self.settle(present, member).map_err(|trouble| trouble.below(&name)),
        }
    }

    /// Puts every member of `more`.
    pub(super) fn put_all<'a>(
        &mut self,
        members: &mut Members<'a>,
        more: Members<'a>,
    ) -> Result<(), Trouble> {
        more.into_iter().try_for_each(|(name, member)| self.put(members, name, member))
    }

    /// Puts a value at a place below `members`; objects on the way are made where there are none.
    pub(super) fn put_at<'a>(
        &mut self,
        members: &mut Members<'a>,
        place: &'a [Label],
        node: Node<'a>,
    ) -> Result<(), Trouble> {
        let from = self.from;
        let Some((label, below)) = place.split_first() else {
            return match node.into_members(from, self)? {
                Ok(more) => self.put_all(members, more),
                Err(_) => Err(Trouble::Clash(Clash { member: String::new(), first: from, second: from })),
            };
        };
        if below.is_empty() {
            return self.put(members, label.name(), Member { quoted: label.quoted(), node, from });
        }
        let empty = || Member { quoted: label.quoted(), node: Node::Object(Members::new()), from };
        let next = members.entry(label.name()).or_insert_with(empty);
        let first = next.from;
        match next.node.open(first, self)? {
            Some(members) => {
                self.put_at(members, below, node).map_err(|trouble| trouble.below(&label.name()))
            }
            None => {
                Err(Trouble::Clash(Clash { member: String::new(), first, second: from }).below(&label.name()))
            }
        }
    }

    fn settle<'a>(&mut self, present: &mut Member<'a>, member: Member<'a>) -> Result<(), Trouble> {
        let clash = Clash { member: String::new(), first: present.from, second: member.from };
        let arrays = present.node.is_array() && member.node.is_array();
        let objects = present.node.is_object() && member.node.is_object();
        match self.rule {
            OnConflict::First => Ok(()),
            OnConflict::Last => {
                *present = member;
                Ok(())
            }
            OnConflict::Concat | OnConflict::Deep if arrays => {
                present.node.join(member.node);
                Ok(())
            }
            OnConflict::Deep if objects => {
                let more = member.node.into_members(member.from, self)?;
                match (present.node.open(present.from, self)?, more) {
                    (Some(members), Ok(more)) => self.put_all(members, more),
                    (None, _) | (_, Err(_)) => Err(Trouble::Clash(clash)),
                }
            }
            OnConflict::Error | OnConflict::Concat | OnConflict::Deep => Err(Trouble::Clash(clash)),
        }
    }

    fn look_at<T, C: FromIterator<T>>(&mut self, elements: impl Iterator<Item = T>) -> Result<C, Trouble> {
        let mut count = 0;
        let seen = elements.take(self.left + 1).inspect(|_| count += 1).collect();
        self.left = self.left.checked_sub(count).ok_or(Trouble::TooMany)?;
        Ok(seen)
    }
}

impl Trouble {
    /// The same, one level further up.
    fn below(self, name: &[u8]) -> Self {
        match self {
            Self::TooMany => Self::TooMany,
            Self::Clash(clash) => {
                let name = String::from_utf8_lossy(name).replace('~', "~0").replace('/', "~1");
                Self::Clash(Clash { member: format!("/{name}{}", clash.member), ..clash })
            }
        }
    }
}

impl<'a> Node<'a> {
    pub(super) fn is_object(&self) -> bool {
        match self {
            Self::Text(text) => text.starts_with('{'),
            Self::Object(_) => true,
            Self::Items(_) | Self::Joined(_) => false,
        }
    }

    pub(super) fn is_array(&self) -> bool {
        match self {
            Self::Text(text) => text.starts_with('['),
            Self::Object(_) => false,
            Self::Items(_) | Self::Joined(_) => true,
        }
    }

    /// Looks into an object; `None` where it is none. Its members are those of part `from`.
    pub(super) fn open(
        &mut self,
        from: usize,
        putting: &mut Putting,
    ) -> Result<Option<&mut Members<'a>>, Trouble> {
        if let Self::Text(text) = *self
            && let Some(members) = object(text, from, putting)?
        {
            *self = Self::Object(members);
        }
        match self {
            Self::Object(members) => Ok(Some(members)),
            Self::Text(_) | Self::Items(_) | Self::Joined(_) => Ok(None),
        }
    }

    /// The members of an object, or the value back.
    pub(super) fn into_members(
        mut self,
        from: usize,
        putting: &mut Putting,
    ) -> Result<Result<Members<'a>, Self>, Trouble> {
        self.open(from, putting)?;
        match self {
            Self::Object(members) => Ok(Ok(members)),
            Self::Text(_) | Self::Items(_) | Self::Joined(_) => Ok(Err(self)),
        }
    }

    /// Looks into an array; `None` where it is none.
    pub(super) fn open_array(&mut self, putting: &mut Putting) -> Result<Option<&mut Vec<Self>>, Trouble> {
        if let Self::Text(text) = *self
            && let Some(items) = array(text, putting)?
        {
            *self = Self::Items(items);
        }
        if let Self::Joined(arrays) = self {
            let mut items = Vec::new();
            for array in arrays {
                items.append(array.open_array(putting)?.unwrap_or(&mut Vec::new()));
            }
            *self = Self::Items(items);
        }
        match self {
            Self::Items(items) => Ok(Some(items)),
            Self::Text(_) | Self::Object(_) | Self::Joined(_) => Ok(None),
        }
    }

    /// Makes this array one that goes on with the items of another.
    pub(super) fn join(&mut self, other: Self) {
        if let Self::Joined(arrays) = self {
            arrays.push(other);
            return;
        }
        let first = std::mem::replace(self, Self::Items(Vec::new()));
        *self = Self::Joined(vec![first, other]);
    }

    /// Writes the value as JSON.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Object(members) => {
                out.push(b'{');
                for (place, member) in members.values().enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(member.quoted.as_bytes());
                    out.push(b':');
                    member.node.write(out);
                }
                out.push(b'}');
            }
            Self::Items(_) | Self::Joined(_) => {
                out.push(b'[');
                self.write_items(out, &mut true);
                out.push(b']');
            }
        }
    }

    fn write_items(&self, out: &mut Vec<u8>, first: &mut bool) {
        let mut comma = |out: &mut Vec<u8>| {
            if !std::mem::take(first) {
                out.push(b',');
            }
        };
        match self {
            Self::Text(text) => {
                let items =
                    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or_default();
                if !items.trim_ascii().is_empty() {
                    comma(out);
                    out.extend_from_slice(items.trim_ascii().as_bytes());
                }
            }
            Self::Items(items) => {
                for item in items {
                    comma(out);
                    item.write(out);
                }
            }
            Self::Joined(arrays) => arrays.iter().for_each(|array| array.write_items(out, first)),
            // An object has no items, and nothing joins one.
            Self::Object(_) => {}
        }
    }
}

fn object<'a>(text: &'a str, from: usize, putting: &mut Putting) -> Result<Option<Members<'a>>, Trouble> {
    let member = |element: &'a str| {
        let (quoted, value) = named(element);
        (said(quoted.as_bytes()), Member { quoted, node: Node::Text(value), from })
    };
    if text.starts_with('{') { putting.look_at(inside(text).map(member)).map(Some) } else { Ok(None) }
}

fn array<'a>(text: &'a str, putting: &mut Putting) -> Result<Option<Vec<Node<'a>>>, Trouble> {
    if text.starts_with('[') { putting.look_at(inside(text).map(Node::Text)).map(Some) } else { Ok(None) }
}
