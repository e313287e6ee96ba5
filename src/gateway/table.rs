//! The route table: all routes in order of precedence, and which of them takes a request.
//!
//! The more specific wins. In this order: a host that is named, then a longer wildcard; an exact path, then one
//! that is literal for longer, then parameters, then `{*rest}`; methods that are named; more headers; more query
//! parameters. Of two that are equal in all of these the one with the greater priority wins. Two routes that are
//! equal in that too and could both take one request cannot be told apart; a table with such a pair cannot be made.
//!
//! A route with several hosts stands in the table once for each, as if it had been written so often.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;

use super::Routed;
use super::host::{HostPattern, Rank as HostRank};
use super::index::Index;
use super::pattern::{Params, Pattern, Rank as PathRank};
use super::route::{Asked, Matcher, Route};

/// Routes in order of precedence, no two of which could be mistaken for each other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouteTable {
    /// By the best of their entries.
    routes: Vec<Route>,
    /// The greatest rank first.
    entries: Vec<Entry>,
    index: Index,
}

/// Two routes that cannot be told apart, by their places in the list that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ambiguous {
    /// The place of the one.
    pub first: usize,
    /// The place of the other, further down.
    pub second: usize,
}

/// One route under one of its hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    rank: Rank,
    /// `None`: any.
    host: Option<HostPattern>,
    /// Its place in `routes`.
    route: usize,
}

/// The greater first; see the front page for what counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) specificity: Specificity,
    pub(super) priority: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Specificity {
    pub(super) host: HostRank,
    pub(super) path: PathRank,
    pub(super) methods: bool,
    pub(super) headers: usize,
    pub(super) query: usize,
}

impl RouteTable {
    /// Puts routes in order, or names each that cannot be told apart from one before it, with the first of those.
    pub fn new(mut routes: Vec<Route>) -> Result<Self, Vec<Ambiguous>> {
        let ambiguous = ambiguous(&routes);
        if !ambiguous.is_empty() {
            return Err(ambiguous);
        }
        // Stable: routes of one rank, which never meet, stay in the order of the file.
        routes.sort_by_cached_key(|route| std::cmp::Reverse(best_rank(route)));
        let mut entries: Vec<_> =
            routes.iter().enumerate().flat_map(|(place, route)| entries(place, route)).collect();
        entries.sort_by(|one, two| two.rank.cmp(&one.rank));
        let mut index = Index::default();
        for (place, entry) in entries.iter().enumerate() {
            if let Some(route) = routes.get(entry.route) {
                index.add(place, entry.host.as_ref(), &route.matches.path);
            }
        }
        Ok(Self { routes, entries, index })
    }

    /// The routes in order of precedence.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// The path that the route of this name matches.
    #[must_use]
    pub fn pattern_of(&self, id: &str) -> Option<&Pattern> {
        self.routes.iter().find(|route| route.id == id).map(|route| &route.matches.path)
    }

    /// What becomes of a request whose host and path can be read in one way only.
    pub(super) fn lookup(&self, asked: &Asked<'_>) -> Routed<'_> {
        self.lookup_among(&self.index.candidates(asked.host, asked.path), asked)
    }

    /// The methods that routes of this host take at some path.
    pub(super) fn methods_anywhere(&self, host: Option<&str>) -> Vec<Method> {
        self.methods(self.entries.iter().filter(|entry| entry.takes_host(host)))
    }

    /// The rank of the route at `place` in [`RouteTable::iter`], under that of its hosts which is asked for.
    pub(super) fn rank_for(&self, place: usize, host: Option<&str>) -> Option<&Rank> {
        let mut of_route = self.entries.iter().filter(|entry| entry.route == place);
        of_route.find(|entry| entry.takes_host(host)).map(|entry| &entry.rank)
    }

    /// The answer of those entries alone that are at `places`, which ascend.
    fn lookup_among(&self, places: &[usize], asked: &Asked<'_>) -> Routed<'_> {
        let entries = || places.iter().filter_map(|place| self.entries.get(*place));
        let mut fitting = Vec::new();
        for (nth, entry) in entries().enumerate() {
            let Some((route, params)) = self.fit(entry, asked) else { continue };
            if route.takes(asked.method) {
                let twin = self.named_twin(entry, entries().skip(nth), asked);
                let (route, params) = twin.unwrap_or((route, params));
                return Routed::found(route, params, asked.path.clone());
            }
            fitting.push(entry);
        }
        if asked.method == Method::OPTIONS {
            // Who asks what may be asked does not yet send what the routes want to see in header and query.
            let is_here = |entry: &&Entry| {
                entry.takes_host(asked.host)
                    && self.of(entry).is_some_and(|route| route.matches.path.matches(asked.path).is_some())
            };
            fitting = entries().filter(is_here).collect();
        }
        let mut methods = self.methods(fitting.into_iter());
        if methods.is_empty() {
            return Routed::NotFound;
        }
        // It always has an answer, if only this list.
        add(&mut methods, Method::OPTIONS);
        if asked.method == Method::OPTIONS {
            Routed::Options(methods)
        } else {
            Routed::MethodNotAllowed(methods)
        }
    }

    /// A route as specific as that of `entry` that names the method, where that one takes it only because HEAD
    /// falls back to GET.
    fn named_twin<'a>(
        &'a self,
        entry: &Entry,
        after: impl Iterator<Item = &'a Entry>,
        asked: &Asked<'_>,
    ) -> Option<(&'a Route, Params)> {
        if self.of(entry)?.matches.names(asked.method) {
            return None;
        }
        let mut twins = after.take_while(|other| other.rank.specificity == entry.rank.specificity);
        twins.find_map(|twin| self.fit(twin, asked).filter(|(route, _)| route.matches.names(asked.method)))
    }

    /// The route of an entry and what its path binds, where all but the method fits.
    fn fit(&self, entry: &Entry, asked: &Asked<'_>) -> Option<(&Route, Params)> {
        let route = self.of(entry).filter(|_| entry.takes_host(asked.host))?;
        Some((route, route.matches.check(asked).ok()?))
    }

    fn of(&self, entry: &Entry) -> Option<&Route> {
        self.routes.get(entry.route)
    }

    /// All methods that the routes of these entries take. Of a route that takes any, those that are in use.
    fn methods<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> Vec<Method> {
        const IN_USE: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let mut all = Vec::new();
        for route in entries.filter_map(|entry| self.of(entry)) {
            let named = route.matches.methods.as_deref().unwrap_or(&IN_USE);
            let head = route.takes(&Method::HEAD).then_some(Method::HEAD);
            named.iter().cloned().chain(head).for_each(|method| add(&mut all, method));
        }
        all
    }
}

impl Entry {
    fn takes_host(&self, asked: Option<&str>) -> bool {
        self.host.as_ref().is_none_or(|host| asked.is_some_and(|asked| host.takes(asked)))
    }
}

impl Rank {
    fn of(route: &Route, host: Option<&HostPattern>) -> Self {
        let matches = &route.matches;
        let specificity = Specificity {
            host: host.map_or(HostRank::Any, HostPattern::rank),
            path: matches.path.rank(),
            methods: matches.methods.is_some(),
            headers: matches.headers.len(),
            query: matches.query.len(),
        };
        Self { specificity, priority: route.priority }
    }
}

fn entries(place: usize, route: &Route) -> impl Iterator<Item = Entry> {
    hosts(&route.matches).map(move |host| Entry {
        rank: Rank::of(route, host),
        host: host.cloned(),
        route: place,
    })
}

/// Each host of a route; `None` once where it takes any.
fn hosts(matches: &Matcher) -> impl Iterator<Item = Option<&HostPattern>> {
    matches.hosts.iter().map(Some).chain(matches.hosts.is_empty().then_some(None))
}

fn best_rank(route: &Route) -> Option<Rank> {
    hosts(&route.matches).map(|host| Rank::of(route, host)).max()
}

fn ambiguous(routes: &[Route]) -> Vec<Ambiguous> {
    let mut by_rank: BTreeMap<(Rank, Option<&HostPattern>), Vec<usize>> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for (second, route) in routes.iter().enumerate() {
        let meets =
            |place: &usize| routes.get(*place).is_some_and(|rival| can_meet(&rival.matches, &route.matches));
        for host in hosts(&route.matches) {
            let rivals = by_rank.entry((Rank::of(route, host), host)).or_default();
            found.extend(rivals.iter().copied().find(meets).map(|first| Ambiguous { first, second }));
            rivals.push(second);
        }
    }
    found.into_iter().collect()
}

/// Whether one request could fit two matchers of the same rank and host.
fn can_meet(one: &Matcher, two: &Matcher) -> bool {
    one.path.overlaps(&two.path)
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

fn add(methods: &mut Vec<Method>, method: Method) {
    if !methods.contains(&method) {
        methods.push(method);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};
    use proptest::prelude::*;

    use super::*;
    use crate::gateway::path::CleanPath;
    use crate::gateway::pattern::Pattern;
    use crate::gateway::redirect::RespondRoute;
    use crate::gateway::route::Action;

    const HOSTS: [&str; 6] = ["a.b.c", "b.c", "*.b.c", "*.c", "a.c", "*.x.b.c"];
    const METHODS: [Method; 4] = [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS];

    fn pattern() -> impl Strategy<Value = Pattern> {
        let segment = prop::sample::select(vec!["a", "b", "{}", ""]);
        let rest = prop::sample::select(vec!["", "/{*rest}"]);
        (prop::collection::vec(segment, 0..4), rest).prop_filter_map("a pattern", |(segments, rest)| {
            let named = |(nth, segment): (usize, &&str)| {
                format!("/{}", segment.replace("{}", &format!("{{p{nth}}}")))
            };
            let text: String = segments.iter().enumerate().map(named).collect();
            Pattern::parse(&format!("{text}{rest}")).ok()
        })
    }

    fn route() -> impl Strategy<Value = Route> {
        let one = |texts: &'static [&'static str]| prop::option::weighted(0.3, prop::sample::select(texts));
        let hosts = prop::collection::vec(prop::sample::select(&HOSTS[..]), 0..3);
        let methods = prop::option::of(prop::sample::subsequence(METHODS.to_vec(), 1..3));
        let conditions = (hosts, methods, one(&["1", "2"]), one(&["1", "2"]));
        (pattern(), conditions, -1..2_i32).prop_map(|(path, (hosts, methods, header, query), priority)| {
            let value = |value: Option<&str>| value.map(|value| ("x".to_owned(), value.to_owned()));
            let hosts: BTreeSet<_> = hosts.into_iter().collect();
            let hosts = hosts.into_iter().map(|host| HostPattern::parse(host).unwrap()).collect();
            let (headers, query) = (value(header).into_iter().collect(), value(query).into_iter().collect());
            let matches = Matcher { path, methods, hosts, headers, query };
            let (status, headers, body) = (StatusCode::OK, HeaderMap::new(), Bytes::new());
            let action = Action::Respond(RespondRoute { status, headers, body });
            Route { id: String::new(), matches, priority, action }
        })
    }

    /// The routes that can stand in one table, in the order given.
    fn table(routes: Vec<Route>) -> RouteTable {
        let mut kept: Vec<Route> = Vec::new();
        for (nth, route) in routes.into_iter().enumerate() {
            kept.push(Route { id: nth.to_string(), ..route });
            if !ambiguous(&kept).is_empty() {
                kept.pop();
            }
        }
        RouteTable::new(kept).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn the_index_finds_what_a_look_at_every_route_finds(
            routes in prop::collection::vec(route(), 0..40),
            host in prop::sample::select(vec!["", "a.b.c", "b.c", "c", "x.b.c", "y.x.b.c", "a.c", "z"]),
            path in prop::collection::vec(prop::sample::select(vec!["a", "b", "z", "%7E"]), 0..5),
            (ends, header, query) in (any::<bool>(), 0..4_u8, 0..4_u8),
        ) {
            let table = table(routes);
            let path = format!("/{}{}", path.join("/"), if ends && !path.is_empty() { "/" } else { "" });
            let path = CleanPath::parse(&path).unwrap();
            let headers: HeaderMap =
                [("x".parse().unwrap(), HeaderValue::from(u16::from(header)))].into_iter().collect();
            let query = format!("x={query}");
            let everywhere: Vec<usize> = (0..table.entries.len()).collect();
            for method in METHODS {
                let host = Some(host).filter(|host| !host.is_empty());
                let asked = Asked { method: &method, host, path: &path, query: Some(&query), headers: &headers };
                prop_assert_eq!(table.lookup(&asked), table.lookup_among(&everywhere, &asked));
            }
        }
    }
}
