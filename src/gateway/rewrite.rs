//! What a route changes in the messages that it passes on: the host, header fields, and the query.
//!
//! The path is changed by the template of the route. What the gateway itself says about a message (its length,
//! where it came from, what it is a part of) is for it alone to say: such a field cannot be named here.

use http::header::{CONTENT_LENGTH, EXPECT, HOST, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::headers;
use super::path::encoded;
use super::pattern::Params;
use super::query;
use super::template::for_query;
use super::value::Value;

/// What is changed on the way to a service and back. The default changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// The host that the service is asked for.
    pub host: SentHost,
    /// What becomes of the fields of the request.
    pub request: HeaderEdit,
    /// What becomes of the fields of the service's answer. Answers of our own are left as they are.
    pub response: HeaderEdit,
    /// What becomes of the query.
    pub query: QueryEdit,
}

/// The `Host` that a service gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SentHost {
    /// That of its endpoint.
    #[default]
    Endpoint,
    /// The one that the client asked for; where it named none, that of the endpoint.
    Client,
    /// Always this one.
    Name(HeaderValue),
}

/// What becomes of header fields: first some are removed, then some are set, then some are added.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderEdit {
    /// Fields that are taken out.
    pub remove: Vec<HeaderName>,
    /// Fields that have this value and no other, whatever they had.
    pub set: Vec<(HeaderName, Value)>,
    /// Fields that have this value besides what they have.
    pub add: Vec<(HeaderName, Value)>,
}

/// What becomes of a query: first some parameters are removed, then some are set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryEdit {
    /// Parameters that are taken out, however often and however encoded they are there. Decoded.
    pub remove: Vec<String>,
    /// Parameters that have this value and no other. Decoded.
    pub set: Vec<(String, Value)>,
}

impl SentHost {
    /// The host that a service is told for this request; `None`: its own.
    pub(super) fn of(&self, request: &Parts) -> Option<HeaderValue> {
        // In HTTP/2 the host is a part of the target.
        let target = || request.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        match self {
            Self::Endpoint => None,
            Self::Client => {
                request.headers.get(HOST).cloned().or_else(target).filter(|host| !host.is_empty())
            }
            Self::Name(name) => Some(name.clone()),
        }
    }
}

impl HeaderEdit {
    /// Why a field cannot be changed by a route, and what to do instead; `None` where it can.
    #[must_use]
    pub fn refusal(name: &HeaderName) -> Option<&'static str> {
        if *name == HOST {
            Some("is what the service is asked for; write `forward.host`")
        } else if *name == CONTENT_LENGTH || headers::HOP_BY_HOP.contains(&name.as_str()) {
            Some("belongs to one connection, on which the gateway keeps it true; take it out")
        } else if *name == VIA || *name == EXPECT || headers::is_ours(name.as_str()) {
            Some("is the gateway's own to say; give the field another name")
        } else {
            None
        }
    }

    pub(super) fn apply(&self, headers: &mut HeaderMap, params: &Params) {
        let filled = |(name, value): &(HeaderName, Value)| {
            // A parameter is percent-encoded and the configuration checked the rest, so that it always is one.
            Some((name.clone(), HeaderValue::from_str(&value.fill(params)).ok()?))
        };
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in self.set.iter().filter_map(filled) {
            headers.insert(name, value);
        }
        for (name, value) in self.add.iter().filter_map(filled) {
            headers.append(name, value);
        }
    }
}

impl QueryEdit {
    /// The query that is sent, without the `?`. What is not changed keeps its very text, but for a `;`: some
    /// services end a parameter there, and would see one that was not looked at here.
    pub(super) fn apply(&self, query: Option<&str>, params: &Params) -> Option<String> {
        if self.remove.is_empty() && self.set.is_empty() {
            return query.map(str::to_owned);
        }
        let set = self.set.iter().map(|(name, _)| name);
        let changed: Vec<_> = self.remove.iter().chain(set).map(String::as_str).collect();
        let mut pairs: Vec<_> = query::without(query.unwrap_or_default(), &changed)
            .map(|pair| pair.replace(';', "%3B"))
            .collect();
        pairs.extend(self.set.iter().map(|(name, value)| {
            let value = value.fill_with(params, |text| encoded(text.bytes()), for_query);
            format!("{}={value}", encoded(name.bytes()))
        }));
        (!pairs.is_empty()).then(|| pairs.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::path::CleanPath;
    use crate::gateway::pattern::Pattern;

    fn params() -> Params {
        Pattern::parse("/{id}").unwrap().matches(&CleanPath::parse("/a%2Fb&c").unwrap()).unwrap()
    }

    fn edited(remove: &[&str], set: &[(&str, &str)], query: &str) -> Option<String> {
        let value = |(name, value): &(&str, &str)| ((*name).to_owned(), Value::parse(value).unwrap());
        let remove = remove.iter().map(|name| (*name).to_owned()).collect();
        QueryEdit { remove, set: set.iter().map(value).collect() }.apply(Some(query), &params())
    }

    #[test]
    fn a_parameter_is_removed_however_it_is_encoded() {
        assert_eq!(edited(&["debug"], &[], "a=%20&d%65bug=1&b=2&debug").as_deref(), Some("a=%20&b=2"));
        assert_eq!(edited(&["debug"], &[], "debug=1"), None);
        assert_eq!(edited(&["x y"], &[], "x+y=1&x%20y=2&xy=3").as_deref(), Some("xy=3"));
    }

    #[test]
    fn a_parameter_cannot_hide_behind_a_semicolon() {
        assert_eq!(edited(&["debug"], &[], "a=1;debug=1").as_deref(), Some("a=1%3Bdebug=1"));
    }

    #[test]
    fn a_parameter_that_is_set_has_that_value_and_no_other() {
        assert_eq!(edited(&[], &[("id", "{id}")], "id=7&x=1&id=8").as_deref(), Some("x=1&id=a%2Fb%26c"));
        assert_eq!(edited(&[], &[("a b", "1 & 2")], "").as_deref(), Some("a%20b=1%20%26%202"));
    }

    #[test]
    fn a_query_that_is_not_changed_keeps_its_text() {
        assert_eq!(edited(&[], &[], "a=%7e;&&b").as_deref(), Some("a=%7e;&&b"));
        assert_eq!(QueryEdit::default().apply(None, &params()), None);
    }

    #[test]
    fn fields_are_removed_then_set_then_added() {
        let value = |text: &str| Value::parse(text).unwrap();
        let name = HeaderName::from_static;
        let edit = HeaderEdit {
            remove: vec![name("a"), name("b")],
            set: vec![(name("b"), value("2")), (name("c"), value("id {id}"))],
            add: vec![(name("c"), value("more")), (name("d"), value("{id}"))],
        };
        let mut headers = HeaderMap::new();
        for field in ["a", "b", "b", "c", "d", "e"] {
            headers.append(field, HeaderValue::from_static("old"));
        }
        edit.apply(&mut headers, &params());
        let values = |name: &str| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        assert!(values("a").is_empty());
        assert_eq!(values("b"), ["2"]);
        assert_eq!(values("c"), ["id a%2Fb&c", "more"]);
        assert_eq!(values("d"), ["old", "a%2Fb&c"]);
        assert_eq!(values("e"), ["old"]);
    }

    #[test]
    fn what_only_the_gateway_may_say_cannot_be_named() {
        let refused = [
            "host",
            "connection",
            "te",
            "transfer-encoding",
            "content-length",
            "upgrade",
            "via",
            "forwarded",
            "x-forwarded-for",
            "x_forwarded_proto",
            "x-real-ip",
            "transaction-id",
            "x-gateway-error",
            "expect",
        ];
        for name in refused {
            assert!(HeaderEdit::refusal(&HeaderName::from_static(name)).is_some(), "{name}");
        }
        for name in ["authorization", "x-tenant", "server", "cache-control", "content-type", "cookie"] {
            assert!(HeaderEdit::refusal(&HeaderName::from_static(name)).is_none(), "{name}");
        }
    }
}
