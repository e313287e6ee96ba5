//! Why a request takes the route that it takes: the same edge, table and matcher as for a request that came, asked
//! about one route after the other.

use http::request::Parts;
use http::{HeaderMap, Method};

use super::path::{BadPath, CleanPath};
use super::pattern::Params;
use super::route::{Asked, Miss, Route};
use super::table::{Rank, RouteTable};
use super::{Routed, host, query};

/// What becomes of a request, and why nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained<'a> {
    /// What becomes of it.
    pub routed: Routed<'a>,
    /// The host it asks for, as it was matched.
    pub host: Option<String>,
    /// Its path, as it was matched; `None` where it has no normal form.
    pub path: Option<CleanPath>,
    /// Every route that does not get it, in order of precedence. Empty where it was refused before any was looked at.
    pub lost: Vec<Lost<'a>>,
}

/// A route that does not get a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Lost<'a> {
    /// Its place in the order of precedence, from 1.
    pub order: usize,
    /// The route.
    pub route: &'a Route,
    /// The first of its conditions that does not hold, or why another route comes first.
    pub because: String,
}

/// A call that a request leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<'a> {
    /// The service that is asked.
    pub service: &'a str,
    /// How many of a hundred requests it gets.
    pub percent: u64,
    /// The method.
    pub method: Method,
    /// Path and query as they are sent, or why the request is refused instead.
    pub target: Result<String, BadPath>,
}

impl RouteTable {
    /// What [`RouteTable::route`] says of a request, and why not another route.
    #[must_use]
    pub fn explain(&self, request: &Parts) -> Explained<'_> {
        let routed = self.route(request);
        let host = host::asked(request).unwrap_or_default();
        let path = CleanPath::parse(request.uri.path()).ok();
        let (method, headers, query) = (&request.method, &request.headers, request.uri.query());
        let asked = |path| Asked { method, host: host.as_deref(), path, query, headers };
        let lost = match (&routed, &path) {
            (Routed::BadRequest(_), _) | (_, None) => Vec::new(),
            (routed, Some(path)) => self.lost(routed.id(), &asked(path)),
        };
        Explained { routed, host, path, lost }
    }

    fn lost(&self, winner: Option<&str>, asked: &Asked<'_>) -> Vec<Lost<'_>> {
        let routes = || self.iter().enumerate();
        let winner = routes().find(|(_, route)| winner == Some(route.id.as_str()));
        let lost = routes().filter(|(place, _)| winner.is_none_or(|(other, _)| other != *place));
        let lost = lost.map(|(place, route)| {
            let because = match route.matches.check(asked) {
                Err(miss) => missed(miss, route, asked),
                Ok(_) if !route.takes(asked.method) => {
                    let wanted = route.matches.methods.as_deref().unwrap_or_default();
                    let wanted: Vec<_> = wanted.iter().map(Method::as_str).collect();
                    format!("method: wants {}, is {}", wanted.join(" or "), asked.method)
                }
                Ok(_) => {
                    let rank = |place| self.rank_for(place, asked.host);
                    let ranks = rank(place).zip(winner.and_then(|(other, _)| rank(other)));
                    let winner = winner.map_or("", |(_, winner)| winner.id.as_str());
                    ranks.map_or_else(String::new, |(own, other)| outranked(own, other, winner))
                }
            };
            Lost { order: place + 1, route, because }
        });
        lost.collect()
    }
}

impl Explained<'_> {
    /// What the path of the route bound, in the order of the path.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        self.routed.matched().into_iter().flat_map(|(_, params)| params.iter())
    }
}

impl<'a> Routed<'a> {
    /// The id of the route that gets the request, if one does.
    #[must_use]
    pub fn id(&self) -> Option<&'a str> {
        self.matched().map(|(id, _)| id)
    }

    /// The id of that route, and what its path bound.
    fn matched(&self) -> Option<(&'a str, &Params)> {
        match self {
            Self::Forward(matched) => Some((matched.id, &matched.params)),
            Self::Merge(matched) => Some((matched.id, &matched.params)),
            Self::Transaction(matched) => Some((matched.id, &matched.params)),
            Self::Redirect(matched) => Some((matched.id, &matched.params)),
            Self::Respond(matched) => Some((matched.id, &matched.params)),
            Self::NotFound | Self::MethodNotAllowed(_) | Self::Options(_) | Self::BadRequest(_) => None,
        }
    }

    /// The calls that the request leads to; where several services share the requests, one for each.
    #[must_use]
    pub fn calls(&self, request: &Parts) -> Vec<Call<'a>> {
        let (method, query) = (&request.method, request.uri.query());
        match self {
            Self::Forward(matched) => {
                let target = matched.route.target(&matched.params, &matched.path, query);
                let split = &matched.route.to;
                let call = |(service, weight)| {
                    let percent = split.percent(weight);
                    Call { service, percent, method: method.clone(), target: target.clone() }
                };
                split.shares().map(call).collect()
            }
            Self::Merge(matched) => {
                let parts = matched.route.parts.iter().map(|part| {
                    // What it takes from earlier answers is not known before there are any.
                    let filled = || part.path.fill(&matched.params).map(|target| target.with_query(query));
                    let is_known = part.references.is_empty();
                    let target = if is_known { filled() } else { Ok(part.path.to_string()) };
                    Call {
                        service: &part.service,
                        percent: 100,
                        method: part.question.method.clone(),
                        target,
                    }
                });
                parts.collect()
            }
            Self::Transaction(matched) => {
                let branches = matched.route.branches.iter().map(|branch| {
                    let target = branch.path.fill(&matched.params).map(|target| target.with_query(query));
                    Call { service: &branch.service, percent: 100, method: branch.method.clone(), target }
                });
                branches.collect()
            }
            Self::Redirect(_)
            | Self::Respond(_)
            | Self::NotFound
            | Self::MethodNotAllowed(_)
            | Self::Options(_)
            | Self::BadRequest(_) => Vec::new(),
        }
    }
}

fn missed(miss: Miss<'_>, route: &Route, asked: &Asked<'_>) -> String {
    let matches = &route.matches;
    match miss {
        Miss::Host => {
            let wanted: Vec<_> = matches.hosts.iter().map(ToString::to_string).collect();
            format!("host: wants {}, is {}", wanted.join(" or "), asked.host.unwrap_or("not said"))
        }
        Miss::Path => format!("path: wants {}, is {}", matches.path, asked.path),
        Miss::Header(name) => {
            let wanted = matches.headers.get(name).map_or("", String::as_str);
            format!("header {name}: wants \"{wanted}\", {}", had(&values_of_field(asked.headers, name)))
        }
        Miss::Query(name) => {
            let wanted = matches.query.get(name).map_or("", String::as_str);
            let values = query::values(asked.query.unwrap_or_default(), name);
            format!("query {name}: wants \"{wanted}\", {}", had(&values))
        }
    }
}

fn values_of_field(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

fn had(values: &[String]) -> String {
    match values {
        [] => "is not there".to_owned(),
        [value] => format!("is \"{value}\""),
        values => format!("is there {} times, and once is wanted", values.len()),
    }
}

fn outranked(own: &Rank, other: &Rank, winner: &str) -> String {
    let (mine, its) = (&own.specificity, &other.specificity);
    let by = if mine.host != its.host {
        "its host"
    } else if mine.path != its.path {
        "its path"
    } else if mine.methods != its.methods {
        "naming methods"
    } else if mine.headers != its.headers {
        "asking for more headers"
    } else if mine.query != its.query {
        "asking for more of the query"
    } else if own.priority < other.priority {
        return format!("`{winner}` has priority {}, and this one {}", other.priority, own.priority);
    } else {
        return format!("`{winner}` names HEAD, and this one takes it only as GET");
    };
    format!("`{winner}` is more specific by {by}")
}
