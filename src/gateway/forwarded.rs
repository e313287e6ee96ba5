//! `Forwarded` (RFC 7239): read as the hops that `X-Forwarded-For` would have, and written.

use std::net::IpAddr;

/// The hops of `Forwarded` as `X-Forwarded-For` has them; `unknown` for one that names no node.
pub(super) fn hops(forwarded: &str) -> String {
    // No node has a character that has to be escaped. Without them a quote is a quote.
    let forwarded = forwarded.replace("\\\\", "").replace("\\\"", "");
    let node = |element: &str| {
        let mut pairs = unquoted(element, ';').filter_map(|pair| pair.split_once('='));
        let node = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
        let node =
            node.map(|(_, node)| node.trim().trim_matches('"')).filter(|node| !node.contains([',', '"']));
        node.unwrap_or("unknown").to_owned()
    };
    let mut hops: Vec<_> = unquoted(&forwarded, ',').map(node).collect();
    hops.reverse();
    hops.join(", ")
}

/// One element of `Forwarded` (section 4).
pub(super) fn element(peer: IpAddr, host: &str) -> String {
    let node = match peer {
        IpAddr::V4(peer) => peer.to_string(),
        IpAddr::V6(peer) => format!("\"[{peer}]\""),
    };
    // Quoted, because of the port; a host with a quote in it is none.
    let host = if host.is_empty() || host.contains(['"', '\\']) {
        String::new()
    } else {
        format!(";host=\"{host}\"")
    };
    format!("for={node}{host};proto=http")
}

/// The pieces between `separator`s that stand in no quotes, from the last: what a proxy has added is whole, whatever a client wrote
/// before it.
fn unquoted(list: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    list.rsplit(move |letter| {
        is_quoted ^= letter == '"';
        letter == separator && !is_quoted
    })
}
