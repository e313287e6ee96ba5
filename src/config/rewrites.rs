//! What `forward` changes on the way: who is asked, the host, header fields and the query.

use std::collections::{BTreeMap, BTreeSet};

use http::uri::Authority;
use http::{HeaderName, HeaderValue};
use serde::Deserialize as Derive;
use toml::Spanned;

use super::balancing::Retryable;
use super::file::{ForwardFile, Text};
use super::findings::Noted;
use super::routes::Reader;
use crate::gateway::{HeaderEdit, QueryEdit, Rewrite, SentHost, Split, Value};

/// A weight above this is a slip of the pen: shares of a millionth are nothing that anyone could see.
const WEIGHT_MAX: u32 = 1_000_000;

/// One of `split`.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct ShareFile {
    pub(super) service: Text,
    pub(super) weight: Spanned<u32>,
}

/// `request_headers` and `response_headers`.
#[derive(Debug, Default, Derive)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HeaderEditFile {
    pub(super) set: BTreeMap<Text, Text>,
    pub(super) add: BTreeMap<Text, Text>,
    pub(super) remove: Vec<Text>,
}

/// `query`.
#[derive(Debug, Default, Derive)]
#[serde(default, deny_unknown_fields)]
pub(super) struct QueryEditFile {
    pub(super) set: BTreeMap<Text, Text>,
    pub(super) remove: Vec<Text>,
}

impl Reader<'_, '_, '_> {
    /// The service that is asked, or those that share the requests; `at` is where to complain that there is none.
    pub(super) fn split(&mut self, file: &ForwardFile, at: &Text) -> Result<Split, Noted> {
        let id = self.id;
        match (&file.service, &file.split) {
            (Some(service), None) => Ok(Split::one(self.known.service(service, self.findings)?)),
            (None, Some(split)) => self.shares(split),
            (Some(_), Some(split)) => {
                let message = format!(
                    "the route `{id}` says twice which service it forwards to; keep one of `service` and `split`"
                );
                self.refuse(split, message)
            }
            (None, None) => {
                let message = format!(
                    "the route `{id}` does not say which service it forwards to; add `service`, or `split` for several"
                );
                self.refuse(at, message)
            }
        }
    }

    /// What a rule for tries has to fit: where several share the requests, that of the most patient of them.
    pub(super) fn retryable<'b>(&self, file: &'b ForwardFile) -> Retryable<'b> {
        let all = services(file).map(|service| self.known.retryable(service.get_ref()));
        all.max_by_key(|of| of.is_idempotent).unwrap_or_else(|| self.known.retryable(""))
    }

    fn shares(&mut self, file: &Spanned<Vec<ShareFile>>) -> Result<Split, Noted> {
        let mut seen = BTreeSet::new();
        for share in file.get_ref() {
            let (service, weight) = (share.service.get_ref().as_str(), *share.weight.get_ref());
            if !seen.insert(service) {
                let message = format!("the service `{service}` has a share already; add the weights up");
                self.findings.add(&share.service.span(), message);
            }
            if weight > WEIGHT_MAX {
                let message = format!("{weight} is out of bounds; write a weight from 0 to {WEIGHT_MAX}");
                self.findings.add(&share.weight.span(), message);
            }
        }
        let shares: Vec<_> = file.get_ref().iter().map(|share| self.share(share)).collect();
        let split = Split::new(shares.into_iter().collect::<Result<_, _>>()?);
        self.findings.keep(&file.span(), "bad split", split)
    }

    fn share(&mut self, file: &ShareFile) -> Result<(String, u32), Noted> {
        Ok((self.known.service(&file.service, self.findings)?, *file.weight.get_ref()))
    }

    pub(super) fn rewrite(&mut self, file: &ForwardFile) -> Result<Rewrite, Noted> {
        let host = file.host.as_ref().map_or(Ok(SentHost::Endpoint), |host| self.sent_host(host));
        self.check_host(file);
        let request = self.header_edit(&file.request_headers);
        let response = self.header_edit(&file.response_headers);
        let query = self.query_edit(&file.query);
        Ok(Rewrite { host: host?, request: request?, response: response?, query: query? })
    }

    /// In HTTP/2 the host is a part of what says where the call goes.
    fn check_host(&mut self, file: &ForwardFile) {
        let http2 = services(file).find(|service| self.known.is_http2(service.get_ref()));
        if let (Some(host), Some(service)) = (&file.host, http2) {
            let message = format!(
                "the service `{}` speaks HTTP/2, and is asked for the host of its endpoint only; leave `host` out",
                service.get_ref()
            );
            self.findings.add(&host.span(), message);
        }
    }

    fn sent_host(&mut self, text: &Text) -> Result<SentHost, Noted> {
        if text.get_ref() == "keep" {
            return Ok(SentHost::Client);
        }
        let is_host = |host: &Authority| !host.as_str().contains(['@', '%']) && !host.host().is_empty();
        let host = text.get_ref().parse::<Authority>().ok().filter(is_host);
        let Some(host) = host.and_then(|host| HeaderValue::from_str(host.as_str()).ok()) else {
            let given = text.get_ref();
            let message = format!(
                "`{given}` is not a host to send; write \"keep\" for the one that the client asked for, or a name like \
                 \"api.internal\", with a port if need be"
            );
            return self.refuse(text, message);
        };
        Ok(SentHost::Name(host))
    }

    fn header_edit(&mut self, file: &HeaderEditFile) -> Result<HeaderEdit, Noted> {
        let remove: Vec<_> = file.remove.iter().map(|name| self.edited(name)).collect();
        let set: Vec<_> = file.set.iter().map(|(name, value)| self.field(name, value)).collect();
        let add: Vec<_> = file.add.iter().map(|(name, value)| self.field(name, value)).collect();
        let set: Vec<_> = set.into_iter().collect::<Result<_, _>>()?;
        let mut seen = BTreeSet::new();
        for ((name, _), text) in set.iter().zip(file.set.keys()) {
            if !seen.insert(name.as_str()) {
                return self.twice(text);
            }
        }
        let remove = remove.into_iter().collect::<Result<_, _>>()?;
        Ok(HeaderEdit { remove, set, add: add.into_iter().collect::<Result<_, _>>()? })
    }

    fn field(&mut self, name: &Text, value: &Text) -> Result<(HeaderName, Value), Noted> {
        let name = self.edited(name);
        if HeaderValue::from_str(value.get_ref()).is_err() {
            return self.refuse(value, "no header field can have this value; write text in one line");
        }
        let value = self.value(value);
        Ok((name?, value?))
    }

    /// The name of a field that a route may change.
    pub(super) fn edited(&mut self, text: &Text) -> Result<HeaderName, Noted> {
        let given = text.get_ref();
        let Ok(name) = HeaderName::from_bytes(given.as_bytes()) else {
            let message = format!("`{given}` is not the name of a header field; use letters, digits and `-`");
            return self.refuse(text, message);
        };
        match HeaderEdit::refusal(&name) {
            Some(refusal) => self.refuse(text, format!("the field `{given}` {refusal}")),
            None => Ok(name),
        }
    }

    fn query_edit(&mut self, file: &QueryEditFile) -> Result<QueryEdit, Noted> {
        let set: Vec<_> =
            file.set.iter().map(|(name, value)| Ok((name.get_ref().clone(), self.value(value)?))).collect();
        let remove = file.remove.iter().map(|name| name.get_ref().clone()).collect();
        Ok(QueryEdit { remove, set: set.into_iter().collect::<Result<_, _>>()? })
    }

    /// A text, all of whose parameters the route's own path binds.
    fn value(&mut self, text: &Text) -> Result<Value, Noted> {
        let value = self.findings.keep(&text.span(), "bad value", Value::parse(text.get_ref()))?;
        self.check_bound(text, value.params())?;
        Ok(value)
    }
}

/// The services that a route names.
fn services(file: &ForwardFile) -> impl Iterator<Item = &Text> {
    let shares = file.split.iter().flat_map(Spanned::get_ref).map(|share| &share.service);
    file.service.iter().chain(shares)
}
