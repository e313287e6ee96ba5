//! Routes that ask no service: `redirect` and `respond`.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize as Derive;
use toml::Spanned;

use super::file::{RouteFile, Text};
use super::findings::Noted;
use super::routes::Reader;
use crate::gateway::{Place, RedirectRoute, RespondRoute};

/// The statuses of RFC 9110, 15.4 that lead to one `Location`.
const REDIRECTS: [StatusCode; 5] = [
    StatusCode::MOVED_PERMANENTLY,
    StatusCode::FOUND,
    StatusCode::SEE_OTHER,
    StatusCode::TEMPORARY_REDIRECT,
    StatusCode::PERMANENT_REDIRECT,
];

/// It is a text in the configuration, held for as long as the node runs; a page belongs to a service.
const BODY_BYTES_MAX: usize = 65_536;

/// `redirect`.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct RedirectFile {
    pub(super) to: Text,
    /// Default: 308.
    pub(super) status: Option<Spanned<u16>>,
    /// Default: `true`.
    pub(super) keep_query: Option<bool>,
}

/// `respond`.
#[derive(Debug, Derive)]
#[serde(deny_unknown_fields)]
pub(super) struct RespondFile {
    pub(super) status: Spanned<u16>,
    /// Default: empty.
    pub(super) body: Option<Text>,
    /// Default: `text/plain; charset=utf-8` where there is a body.
    pub(super) content_type: Option<Text>,
    #[serde(default)]
    pub(super) headers: BTreeMap<Text, Text>,
}

impl Reader<'_, '_, '_> {
    pub(super) fn redirect(
        &mut self,
        file: &RedirectFile,
        route: &RouteFile,
    ) -> Result<RedirectRoute, Noted> {
        let to = self.place(&file.to, route);
        let status = file.status.as_ref().map_or(Ok(StatusCode::PERMANENT_REDIRECT), |given| {
            let status = StatusCode::from_u16(*given.get_ref()).ok();
            let Some(status) = status.filter(|status| REDIRECTS.contains(status)) else {
                let message = format!(
                    "{} is no redirect; write 301 or 308 for one that may be remembered, 302 or 307 for one that may \
                     not (307 and 308 keep the method), or 303 for \"look there with GET\"",
                    given.get_ref()
                );
                return self.refuse(given, message);
            };
            Ok(status)
        });
        if let Ok(status) = status
            && leads_back(file, route, status)
        {
            let message = "this leads back to the path of the route itself, again and again; lead elsewhere, or use `forward` or \
                           `respond`";
            return self.refuse(&file.to, message);
        }
        Ok(RedirectRoute { to: to?, status: status?, keeps_query: file.keep_query.unwrap_or(true) })
    }

    fn place(&mut self, text: &Text, route: &RouteFile) -> Result<Place, Noted> {
        let place = self.findings.keep(&text.span(), "bad redirect", Place::parse(text.get_ref()))?;
        if place.names_asked_host() && route.matches.host.is_none() {
            let message = "`{host}` is what the client says, and this route takes any, so that anyone could make it lead \
                           anywhere; name the hosts: `match = { host = \"*.example.com\", .. }`";
            return self.refuse(text, message);
        }
        self.check_bound(text, place.params())?;
        Ok(place)
    }

    pub(super) fn respond(&mut self, file: &RespondFile) -> Result<RespondRoute, Noted> {
        let status = self.status_of_answer(&file.status);
        let body = file.body.as_ref().map_or("", |body| body.get_ref());
        if let Some(text) = file.body.as_ref().filter(|_| body.len() > BODY_BYTES_MAX) {
            let message = format!(
                "the body has {} bytes, and {BODY_BYTES_MAX} is the most; let a service answer with it",
                body.len()
            );
            return self.refuse(text, message);
        }
        if let (Ok(status), Some(text)) = (status, &file.body)
            && matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
        {
            return self.refuse(text, format!("an answer of {status} has no body; take it out"));
        }
        let headers = self.headers_of_answer(file, !body.is_empty());
        Ok(RespondRoute { status: status?, headers: headers?, body: Bytes::copy_from_slice(body.as_bytes()) })
    }

    fn status_of_answer(&mut self, given: &Spanned<u16>) -> Result<StatusCode, Noted> {
        let number = *given.get_ref();
        match StatusCode::from_u16(number) {
            Ok(status) if (200..=599).contains(&number) => Ok(status),
            Ok(_) | Err(_) => {
                self.refuse(given, format!("{number} is no status of an answer; write one from 200 to 599"))
            }
        }
    }

    fn headers_of_answer(&mut self, file: &RespondFile, has_body: bool) -> Result<HeaderMap, Noted> {
        let mut headers = HeaderMap::new();
        if has_body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        if let Some(text) = &file.content_type {
            headers.insert(CONTENT_TYPE, self.value_of_field(text)?);
        }
        for (name, value) in &file.headers {
            if headers.insert(self.name_of_answer(name)?, self.value_of_field(value)?).is_some() {
                return self.twice(name);
            }
        }
        Ok(headers)
    }

    fn name_of_answer(&mut self, text: &Text) -> Result<HeaderName, Noted> {
        let name = self.edited(text)?;
        if name == CONTENT_TYPE {
            return self
                .refuse(text, "the type of the body has a key of its own; write `respond.content_type`");
        }
        Ok(name)
    }

    fn value_of_field(&mut self, text: &Text) -> Result<HeaderValue, Noted> {
        match HeaderValue::from_str(text.get_ref()) {
            Ok(value) => Ok(value),
            Err(_) => self.refuse(text, "no header field can have this value; write text in one line"),
        }
    }
}

/// Whether whoever follows a redirect certainly comes to the same route: nothing but the path decides, and it is the same. 307 and 308
/// keep the method; the others may make a GET of it.
fn leads_back(file: &RedirectFile, route: &RouteFile, status: StatusCode) -> bool {
    let matches = &route.matches;
    let takes_get = || {
        let methods = matches.methods.iter().flat_map(Spanned::get_ref);
        methods.map(Spanned::get_ref).any(|method| method == "GET") || matches.methods.is_none()
    };
    let keeps_method = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    file.to.get_ref() == matches.path.get_ref()
        && matches.headers.is_empty()
        && matches.query.is_empty()
        && (keeps_method || takes_get())
}
