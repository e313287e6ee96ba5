//! What stands before a route: `allow`, `deny`, `rate_limits`, `body_max`, `cors`, `compress`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use reqwest::Url;

use super::file::{ByFile, CorsFile, RateFile, RouteFile, Text};
use super::findings::{Findings, Noted};
use super::resolve::{BYTES, network};
use crate::gateway::guard::{Addresses, By, Cors, Guards, Origins, Rate};

/// Each costs a look at every request; a rate for a moment and one for a day are two.
const RATES_MAX: usize = 4;
/// Beyond it a rate is no limit that anybody comes near.
const REQUESTS: RangeInclusive<usize> = 1..=1_000_000_000;
const PER: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24);
/// What browsers remember at most is two hours or a day; this is what they do where nothing is said.
const MAX_AGE: Duration = Duration::from_secs(5);

/// The guards of every route that has some, by the id of the route.
pub(super) fn guards(files: &[RouteFile], findings: &mut Findings<'_>) -> BTreeMap<String, Guards> {
    let of_route = |file: &RouteFile| Some((file.id.get_ref().clone(), guards_of(file, findings)));
    let all = files.iter().filter_map(of_route);
    all.filter(|(_, guards)| *guards != Guards::default()).collect()
}

fn guards_of(file: &RouteFile, findings: &mut Findings<'_>) -> Guards {
    if let Some(allow) = file.allow.as_ref().filter(|allow| allow.get_ref().is_empty()) {
        let message = "nobody is listed, and nobody could come; list addresses, or leave `allow` out to let everybody in";
        findings.add(&allow.span(), message);
    }
    let mut ranges =
        |list: &[Text]| -> Vec<IpNet> { list.iter().filter_map(|text| network(text, findings)).collect() };
    let allow = file.allow.as_ref().map(|allow| ranges(allow.get_ref()));
    let addresses = Addresses { allow: allow.unwrap_or_default(), deny: ranges(&file.deny) };
    Guards {
        addresses,
        rates: rates(file, findings),
        body_max: file.body_max.as_ref().map(|given| findings.number(Some(given), 1, BYTES)),
        cors: file.cors.as_ref().and_then(|file| cors(file, findings).ok()),
        compress: file.compress,
    }
}

fn rates(file: &RouteFile, findings: &mut Findings<'_>) -> Vec<Rate> {
    let Some(given) = &file.rate_limits else { return Vec::new() };
    let count = given.get_ref().len();
    if count == 0 || count > RATES_MAX {
        findings.add(&given.span(), format!("here are {count} limits; list 1 to {RATES_MAX}"));
    }
    given.get_ref().iter().filter_map(|file| rate(file, findings).ok()).collect()
}

fn rate(file: &RateFile, findings: &mut Findings<'_>) -> Result<Rate, Noted> {
    let requests = findings.number(Some(&file.requests), 1, REQUESTS);
    let burst = findings.number(file.burst.as_ref(), requests, REQUESTS);
    let per = findings.time(Some(&file.per), Duration::ZERO, PER);
    let by = match (file.by.as_ref().map(toml::Spanned::get_ref), &file.header) {
        (Some(ByFile::Header) | None, Some(name)) => By::Header(field(name, findings)?),
        (Some(ByFile::Client) | None, None) => By::Client,
        (Some(ByFile::Route), None) => By::Route,
        (Some(ByFile::Header), None) => {
            let at = file.by.as_ref().map_or(0..0, toml::Spanned::span);
            return findings.refuse(&at, "by which field? Name it: `header = \"x-api-key\"`");
        }
        (Some(ByFile::Client | ByFile::Route), Some(name)) => {
            return findings
                .refuse(&name.span(), "`header` goes with `by = \"header\"`; take one of the two out");
        }
    };
    let number = |number: usize| u32::try_from(number).ok().and_then(NonZeroU32::new).ok_or(Noted);
    Ok(Rate { requests: number(requests)?, per, burst: number(burst)?, by })
}

fn cors(file: &CorsFile, findings: &mut Findings<'_>) -> Result<Cors, Noted> {
    let origins = origins(file, findings)?;
    let credentials = file.credentials.as_ref().is_some_and(|given| *given.get_ref());
    if credentials && origins == Origins::Any {
        let at = file.credentials.as_ref().map_or(0..0, toml::Spanned::span);
        let message = "no browser sends credentials where every origin is let in (Fetch Standard); list the origins, or \
                       leave `credentials` out";
        return findings.refuse(&at, message);
    }
    let methods = cors_methods(file, findings);
    let mut fields = |list: &[Text]| -> Result<Vec<HeaderName>, Noted> {
        list.iter().map(|text| field(text, findings)).collect::<Vec<_>>().into_iter().collect()
    };
    let (headers, expose) = (fields(&file.headers), fields(&file.expose));
    Ok(Cors {
        origins,
        methods: methods?,
        headers: headers?,
        expose: expose?,
        credentials,
        max_age: findings.time(file.max_age.as_ref(), MAX_AGE, Duration::ZERO..=Duration::from_hours(24)),
    })
}

fn cors_methods(file: &CorsFile, findings: &mut Findings<'_>) -> Result<Vec<Method>, Noted> {
    let Some(given) = &file.methods else { return Ok(vec![Method::GET, Method::HEAD, Method::POST]) };
    if given.get_ref().is_empty() {
        let message = "no method is listed; list some, or leave `methods` out for GET, HEAD and POST";
        return findings.refuse(&given.span(), message);
    }
    let methods: Vec<_> = given.get_ref().iter().map(|text| method(text, findings)).collect();
    methods.into_iter().collect()
}

fn origins(file: &CorsFile, findings: &mut Findings<'_>) -> Result<Origins, Noted> {
    let given = file.origins.get_ref();
    if given.is_empty() {
        return findings.refuse(&file.origins.span(), "no origin is listed; list some, or \"*\" for all");
    }
    if given.iter().any(|text| text.get_ref() == "*") {
        return match given.as_slice() {
            [_] => Ok(Origins::Any),
            _ => findings
                .refuse(&file.origins.span(), "\"*\" is all origins; leave the others out, or leave it out"),
        };
    }
    let origins: Vec<_> = given.iter().map(|text| origin(text, findings)).collect();
    Ok(Origins::These(origins.into_iter().collect::<Result<_, _>>()?))
}

/// Scheme, host and port, as a browser writes them: anything else would never be equal to what it sends.
fn origin(text: &Text, findings: &mut Findings<'_>) -> Result<HeaderValue, Noted> {
    let given = text.get_ref();
    if given.contains('*') {
        let message = format!(
            "no browser sends an origin with a `*`, so `{given}` could never match; list each origin, or \"*\" alone for all"
        );
        return findings.refuse(&text.span(), message);
    }
    let written = Url::parse(given).ok().map(|url| url.origin().ascii_serialization());
    if written.as_deref() == Some(given.as_str())
        && let Ok(value) = HeaderValue::from_str(given)
    {
        return Ok(value);
    }
    let hint = written.filter(|origin| origin != "null").map(|origin| format!(": write `{origin}`"));
    let message = format!(
        "`{given}` is no origin as a browser sends it{}",
        hint.unwrap_or_else(|| ", like \"https://shop.example.com\"".to_owned())
    );
    findings.refuse(&text.span(), message)
}

fn method(text: &Text, findings: &mut Findings<'_>) -> Result<Method, Noted> {
    let given = text.get_ref();
    match Method::from_bytes(given.as_bytes()) {
        Ok(method) if !given.chars().any(|letter| letter.is_ascii_lowercase()) => Ok(method),
        Ok(_) | Err(_) => {
            findings.refuse(&text.span(), format!("`{given}` is no method; write one like `GET` or `DELETE`"))
        }
    }
}

fn field(text: &Text, findings: &mut Findings<'_>) -> Result<HeaderName, Noted> {
    findings.keep(
        &text.span(),
        "bad name of a header field",
        HeaderName::from_bytes(text.get_ref().as_bytes()),
    )
}
