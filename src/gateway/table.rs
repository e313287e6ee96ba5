//! The route table: all routes in order of precedence, and which of them takes a request.
//!
//! The more specific wins. In this order: a host that is named; an exact path, then one that is literal
//! for longer, then parameters, then `{*rest}`; methods that are named; more headers; more query
//! parameters. Two routes that are equal in all of these and could both take one request cannot be told
//! apart; a table with such a pair cannot be made.

use std::collections::BTreeMap;

use http::Method;

use super::pattern::{Params, Rank as PathRank};
use super::route::{Asked, Matcher, Route};

/// Routes in order of precedence, no two of which could be mistaken for each other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouteTable(Vec<(Rank, Route)>);

/// Two routes that cannot be told apart, by their places in the list that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambiguous {
    /// The place of the one.
    pub first: usize,
    /// The place of the other, further down.
    pub second: usize,
}

/// Which route takes a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup<'a> {
    /// This one.
    Found(&'a Route, Params),
    /// None, whatever the method.
    NotFound,
    /// None with this method, but some with these.
    MethodNotAllowed(Vec<Method>),
}

/// The greater first; see the front page for what counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    host: bool,
    path: PathRank,
    methods: bool,
    headers: usize,
    query: usize,
}

impl RouteTable {
    /// Puts routes in order, or names every pair that cannot be told apart.
    pub fn new(routes: Vec<Route>) -> Result<Self, Vec<Ambiguous>> {
        let ambiguous = ambiguous(&routes);
        if !ambiguous.is_empty() {
            return Err(ambiguous);
        }
        let mut ranked: Vec<_> = routes.into_iter().map(|route| (Rank::of(&route.matches), route)).collect();
        // Stable: routes of one rank, which never meet, stay in the order of the file.
        ranked.sort_by(|(one, _), (two, _)| two.cmp(one));
        Ok(Self(ranked))
    }

    /// The routes in order of precedence.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter().map(|(_, route)| route)
    }

    /// Which route takes a request.
    #[must_use]
    pub fn lookup(&self, asked: &Asked<'_>) -> Lookup<'_> {
        let mut allowed = Vec::new();
        for (place, (_, route)) in self.0.iter().enumerate() {
            let Some(params) = route.matches.fits(asked) else { continue };
            if route.takes(asked.method) {
                return self.named_twin(place, asked).unwrap_or(Lookup::Found(route, params));
            }
            allow(&mut allowed, route);
        }
        if allowed.is_empty() { Lookup::NotFound } else { Lookup::MethodNotAllowed(allowed) }
    }

    /// A route of the same rank that names the method, where the one at `place` takes it only because
    /// HEAD falls back to GET.
    fn named_twin(&self, place: usize, asked: &Asked<'_>) -> Option<Lookup<'_>> {
        let (rank, route) = self.0.get(place)?;
        if route.matches.names(asked.method) {
            return None;
        }
        let twins = self.0.iter().skip(place).take_while(|(other, _)| other == rank);
        let mut named = twins.filter(|(_, twin)| twin.matches.names(asked.method));
        named.find_map(|(_, twin)| Some(Lookup::Found(twin, twin.matches.fits(asked)?)))
    }
}

impl Rank {
    fn of(matches: &Matcher) -> Self {
        Self {
            host: matches.host.is_some(),
            path: matches.path.rank(),
            methods: matches.methods.is_some(),
            headers: matches.headers.len(),
            query: matches.query.len(),
        }
    }
}

fn ambiguous(routes: &[Route]) -> Vec<Ambiguous> {
    let mut by_rank: BTreeMap<Rank, Vec<usize>> = BTreeMap::new();
    let mut found = Vec::new();
    for (second, route) in routes.iter().enumerate() {
        let rivals = by_rank.entry(Rank::of(&route.matches)).or_default();
        let meets =
            |place: &usize| routes.get(*place).is_some_and(|rival| can_meet(&rival.matches, &route.matches));
        found.extend(rivals.iter().copied().filter(meets).map(|first| Ambiguous { first, second }));
        rivals.push(second);
    }
    found
}

/// Whether one request could fit two matchers of the same rank.
fn can_meet(one: &Matcher, two: &Matcher) -> bool {
    one.host == two.host
        && one.path.overlaps(&two.path)
        && methods_meet(one, two)
        && !differ(&one.headers, &two.headers)
        && !differ(&one.query, &two.query)
}

fn methods_meet(one: &Matcher, two: &Matcher) -> bool {
    one.methods.as_ref().is_none_or(|methods| methods.iter().any(|method| two.names(method)))
}

/// Whether both want the same thing with another value, so that no request has both.
fn differ(one: &BTreeMap<String, String>, two: &BTreeMap<String, String>) -> bool {
    one.iter().any(|(name, value)| two.get(name).is_some_and(|other| other != value))
}

fn allow(allowed: &mut Vec<Method>, route: &Route) {
    let named = route.matches.methods.iter().flatten().cloned();
    let head = route.takes(&Method::HEAD).then_some(Method::HEAD);
    for method in named.chain(head) {
        if !allowed.contains(&method) {
            allowed.push(method);
        }
    }
}
