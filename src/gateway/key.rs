//! What of a request says to which instance it goes, where a service is balanced by hash.

use http::HeaderMap;
use http::header::COOKIE;

use super::pattern::Params;
use crate::balance::{Choice, HashOn, hash};

/// The key of a request; `None` where the service is not balanced by hash, or the request does not have the value.
pub(super) fn key(choice: &Choice, headers: &HeaderMap, params: &Params) -> Option<u64> {
    let on = match choice {
        Choice::RoundRobin | Choice::LeastRequest | Choice::Latency => return None,
        Choice::Hash(on) => on,
    };
    let value = match on {
        HashOn::Header(name) => headers.get(name).map(http::HeaderValue::as_bytes),
        HashOn::Cookie(name) => cookie(headers, name).map(str::as_bytes),
        HashOn::Path(name) => params.get(name).map(str::as_bytes),
    };
    value.map(hash)
}

/// The first cookie of this name (RFC 6265, 4.2.1).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let fields = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
    let mut pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_a_value_that_is_not_there_is_no_key() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("asid=no; sid=a=b ; sid=c"));
        headers.append("x-user", HeaderValue::from_static("ada"));
        assert_eq!(cookie(&headers, "sid"), Some("a=b"));
        let of = |on| key(&Choice::Hash(on), &headers, &Params::default());
        assert_eq!(of(HashOn::Cookie("sid".to_owned())), Some(hash(b"a=b")));
        assert_eq!(of(HashOn::Header("x-user".to_owned())), Some(hash(b"ada")));
        assert_eq!(of(HashOn::Header("x-nobody".to_owned())), None);
        assert_eq!(of(HashOn::Path("id".to_owned())), None);
        assert_eq!(key(&Choice::RoundRobin, &headers, &Params::default()), None);
    }
}
