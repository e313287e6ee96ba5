//! Who may come to a route, by address.

use std::net::IpAddr;

use ipnet::IpNet;

/// Ranges of addresses that are let in, and that are not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    /// Only these are let in; where none is listed, all are.
    pub allow: Vec<IpNet>,
    /// These are not, whatever is listed in `allow`.
    pub deny: Vec<IpNet>,
}

impl Addresses {
    pub(super) fn let_in(&self, address: IpAddr) -> bool {
        let is_in = |ranges: &[IpNet]| ranges.iter().any(|range| range.contains(&address));
        !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_denied_stays_out_although_a_wider_range_is_let_in() {
        let ranges = |list: &[&str]| list.iter().map(|range| range.parse().unwrap()).collect();
        let let_in = |allow: &[&str], deny: &[&str], address: &str| {
            Addresses { allow: ranges(allow), deny: ranges(deny) }.let_in(address.parse().unwrap())
        };
        assert!(let_in(&[], &[], "192.0.2.1"));
        assert!(let_in(&["10.0.0.0/8"], &["10.1.0.0/16"], "10.2.0.1"));
        assert!(!let_in(&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.0.1"));
        assert!(!let_in(&["10.0.0.0/8"], &[], "192.0.2.1"));
        assert!(!let_in(&["10.0.0.0/8"], &[], "::1"));
    }
}
