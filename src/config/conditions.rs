//! Which requests a route takes: `match = { .. }`.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method};

use super::file::{RouteFile, Text};
use super::findings::Noted;
use super::routes::Reader;
use crate::gateway::Matcher;

impl Reader<'_, '_, '_> {
    pub(super) fn matcher(&mut self, file: &RouteFile) -> Result<Matcher, Noted> {
        let given = &file.matches;
        let methods = self.methods(file);
        let hosts = given.host.as_ref().map_or(Ok(Vec::new()), |hosts| self.hosts(hosts));
        let headers = self.headers(&given.headers);
        let query = given.query.iter().map(|(name, value)| (name.get_ref().clone(), value.get_ref().clone()));
        let (path, query) = (self.pattern.ok_or(Noted)?.clone(), query.collect());
        Ok(Matcher { path, methods: methods?, hosts: hosts?, headers: headers?, query })
    }

    pub(super) fn method(&mut self, text: &Text) -> Result<Method, Noted> {
        let given = text.get_ref();
        let lower = given.chars().any(|letter| letter.is_ascii_lowercase());
        match Method::from_bytes(given.as_bytes()) {
            Ok(_) if lower => {
                self.refuse(text, format!("methods are upper case: write `{}`", given.to_uppercase()))
            }
            Ok(Method::CONNECT | Method::TRACE) => {
                self.refuse(text, format!("the method {given} is never passed on; take it out"))
            }
            Ok(method) => Ok(method),
            Err(_) => self.refuse(text, format!("`{given}` is not a method; write one like `GET` or `POST`")),
        }
    }

    fn methods(&mut self, file: &RouteFile) -> Result<Option<Vec<Method>>, Noted> {
        let Some(given) = &file.matches.methods else { return Ok(default_methods(file)) };
        if given.get_ref().is_empty() {
            return self.refuse(
                given,
                "no method is listed, so nothing could match; leave `methods` out to match any",
            );
        }
        let methods: Vec<_> = given.get_ref().iter().map(|text| self.method_of(file, text)).collect();
        let mut seen = Vec::new();
        for method in methods.into_iter().collect::<Result<Vec<_>, _>>()? {
            if !seen.contains(&method) {
                seen.push(method);
            }
        }
        Ok(Some(seen))
    }

    /// A method that the route may have: merging only asks, it never changes anything.
    fn method_of(&mut self, file: &RouteFile, text: &Text) -> Result<Method, Noted> {
        let method = self.method(text)?;
        if file.merge.is_none() || matches!(method, Method::GET | Method::HEAD) {
            return Ok(method);
        }
        let message = format!(
            "the route `{}` merges answers, which is for GET and HEAD only; to change something at several \
             services with {method}, declare a transaction: [routes.transaction] with `branches`",
            self.id
        );
        self.refuse(text, message)
    }

    fn headers(&mut self, given: &BTreeMap<Text, Text>) -> Result<BTreeMap<String, String>, Noted> {
        let mut headers = BTreeMap::new();
        for (name, value) in given {
            let (field, value) = self.header(name, value)?;
            if headers.insert(field, value).is_some() {
                return self.twice(name);
            }
        }
        Ok(headers)
    }

    fn header(&mut self, name: &Text, value: &Text) -> Result<(String, String), Noted> {
        let given = name.get_ref();
        let Ok(field) = HeaderName::from_bytes(given.as_bytes()) else {
            return self.refuse(
                name,
                format!("`{given}` is not the name of a header field; use letters, digits and `-`"),
            );
        };
        if HeaderValue::from_str(value.get_ref()).is_err() {
            return self.refuse(
                value,
                format!("no header field can have this value, so `{given}` could never match; change it"),
            );
        }
        Ok((field.as_str().to_owned(), value.get_ref().clone()))
    }
}

/// The methods of a route that lists none: any for forwarding, GET for merging, and for a transaction
/// those that change something.
fn default_methods(file: &RouteFile) -> Option<Vec<Method>> {
    if file.merge.is_some() {
        Some(vec![Method::GET])
    } else if file.transaction.is_some() {
        Some(vec![Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
    } else {
        None
    }
}
