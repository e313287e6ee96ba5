//! The parts put together: a pure function from what came to one JSON text.
//!
//! Only the declared order counts, never that of arrival.

use serde_json::Value;

use super::missing::Missing;
use super::parts::{MergeRoute, OnConflict, Part};
use super::shape::Unfit;
use super::tree::{Clash, Member, Members, Node, Putting, Trouble};

/// What a part was answered with, as JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text<S> {
    /// As it came, without space around it; no key occurs twice in one object of it.
    Json(S),
    /// Put into JSON, because it was something else. It can only be passed on under a name.
    Wrapped(S),
}

/// What the parts make together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// The whole as JSON.
    pub(super) text: Vec<u8>,
    /// Why each part is missing that is: those that did not come, and those that cannot be merged.
    pub(super) missing: Vec<Option<Missing>>,
}

/// Why there is no document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A required part is missing; each part's reason, if it has one.
    Missing(Vec<Option<Missing>>),
    /// Two parts gave one member.
    Clash(Clash),
    /// All parts together have more members to look at than one answer is worth; with this part it was too much.
    TooMany(usize),
}

/// Puts the parts together, each after it got its shape.
pub(super) fn document(
    route: &MergeRoute,
    came: Vec<Result<Text<&str>, Missing>>,
) -> Result<Document, Refused> {
    let mut putting = Putting::new(route.on_conflict);
    let mut nodes = Vec::with_capacity(came.len());
    let mut missing = Vec::with_capacity(came.len());
    for (place, (part, came)) in route.parts.iter().zip(came).enumerate() {
        putting.from = place;
        let node = match came.map_err(Unfit::Missing).and_then(|text| shaped(part, text, &mut putting)) {
            Ok(node) => Ok(node),
            Err(Unfit::Missing(missing)) => Err(missing),
            Err(Unfit::Trouble(trouble)) => return Err(refused(trouble, place)),
        };
        let fallback = part.fallback.as_deref().map(Node::Text);
        let (node, reason) = match node {
            Ok(node) => (Some(node), None),
            Err(reason) => (fallback, Some(reason)),
        };
        nodes.push(node);
        missing.push(reason);
    }
    if route.parts.iter().zip(&missing).any(|(part, reason)| part.required && reason.is_some()) {
        return Err(Refused::Missing(missing));
    }
    match put_together(route, nodes, &missing, &mut putting) {
        Ok(text) => Ok(Document { text, missing }),
        Err(trouble) => Err(refused(trouble, putting.from)),
    }
}

fn shaped<'a>(part: &'a Part, text: Text<&'a str>, putting: &mut Putting) -> Result<Node<'a>, Unfit> {
    let text = match text {
        Text::Json(text) => text,
        Text::Wrapped(text) if part.member.is_some() && part.shape.is_none() => return Ok(Node::Text(text)),
        Text::Wrapped(_) => return Err(Unfit::Missing(Missing::BadAnswer("not_json"))),
    };
    let mut node = part.shape.apply(text, putting)?;
    if part.member.is_none() && node.open(putting.from, putting)?.is_none() {
        return Err(Unfit::Missing(Missing::BadAnswer("no_object")));
    }
    Ok(node)
}

fn put_together(
    route: &MergeRoute,
    nodes: Vec<Option<Node<'_>>>,
    missing: &[Option<Missing>],
    putting: &mut Putting,
) -> Result<Vec<u8>, Trouble> {
    let list = route.list_missing.as_ref().map(|label| (label, list(route, missing)));
    let mut members = Members::new();
    for (place, (part, node)) in route.parts.iter().zip(nodes).enumerate() {
        putting.from = place;
        if let Some(node) = node {
            putting.put_at(&mut members, part.member.as_slice(), node)?;
        }
    }
    if let Some((label, list)) = &list {
        putting.from = route.parts.len();
        // No part may speak for the gateway: its list is the one that stands.
        if putting.rule != OnConflict::Error {
            putting.rule = OnConflict::Last;
        }
        let member = Member { quoted: label.quoted(), node: Node::Text(list), from: putting.from };
        putting.put(&mut members, label.name(), member)?;
    }
    let mut text = Vec::new();
    Node::Object(members).write(&mut text);
    Ok(text)
}

/// The entries of the parts that are missing, as JSON.
fn list(route: &MergeRoute, missing: &[Option<Missing>]) -> String {
    let missing = route.parts.iter().zip(missing);
    let entries: Vec<Value> =
        missing.filter_map(|(part, reason)| Some(reason.as_ref()?.entry(part))).collect();
    Value::from(entries).to_string()
}

fn refused(trouble: Trouble, place: usize) -> Refused {
    match trouble {
        Trouble::Clash(clash) => Refused::Clash(clash),
        Trouble::TooMany => Refused::TooMany(place),
    }
}
