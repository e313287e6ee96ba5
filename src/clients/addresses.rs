//! Addresses at which no instance of a service can be, but something that must not be called may.
//!
//! A name that is called leads to where its owner says, and may lead elsewhere each time: what matters is the address that is
//! connected to. So names are looked up here, and an answer with such an address counts for nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::lookup_host;

/// Metadata services of clouds at addresses that are not link-local: Alibaba's, and Amazon's over IPv6.
const METADATA_4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
const METADATA_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// The addresses to which `name` leads and at which an instance can be, as the system says, with port 0.
pub(crate) async fn of_name(name: &str) -> io::Result<Vec<SocketAddr>> {
    let found = lookup_host((name, 0)).await?;
    let usable: Vec<_> = found.filter(|address| !is_forbidden(address.ip())).collect();
    if usable.is_empty() {
        return Err(io::Error::other("the name leads to no address at which an instance can be"));
    }
    Ok(usable)
}

/// Whether no instance can have this address.
pub(crate) fn is_forbidden(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_forbidden_4(ip),
        IpAddr::V6(ip) => {
            ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
                || ip == METADATA_6
                || inside(ip).is_some_and(is_forbidden_4)
        }
    }
}

fn is_forbidden_4(ip: Ipv4Addr) -> bool {
    // All of 0.0.0.0/8 is "this network".
    ip.octets().starts_with(&[0])
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip == METADATA_4
}

/// The IPv4 address in one that a translator would call (NAT64, RFC 6052).
fn inside(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = ip.octets();
    let (prefix, last) = octets.split_at_checked(12)?;
    let is_translated = prefix == [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
    let last: [u8; 4] = last.try_into().ok()?;
    is_translated.then(|| Ipv4Addr::from(last))
}
