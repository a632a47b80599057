//! Which addresses a request may reach.
//!
//! Whoever can write a URL into a job could otherwise make the daemon talk to what only the machine itself can reach:
//! services on loopback, the private network, the cloud's metadata service. The rule is about the address that is
//! connected to, not about the name in the URL, because a name can point anywhere and change between check and use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;
use serde::Deserialize;

/// How far a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Only addresses of the public internet.
    Public,
    /// Every address.
    Anywhere,
}

/// What a job says about addresses that are not public.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct AddressPolicy {
    /// Every address may be reached.
    pub allow_private: bool,
    /// Hosts (names or addresses, as in the URL) that may be at a private address.
    pub allow_hosts: Vec<String>,
}

impl AddressPolicy {
    /// How far a request to that URL may go.
    #[must_use]
    pub fn reach(&self, url: &Url) -> Reach {
        let host = url.host_str().unwrap_or_default();
        let is_listed = self.allow_hosts.iter().any(|listed| listed.eq_ignore_ascii_case(host));
        if self.allow_private || is_listed { Reach::Anywhere } else { Reach::Public }
    }
}

/// The address in a URL whose host is one. The URL parser has already turned `2130706433`, `0x7f.1` and the like
/// into dotted form.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Why an address is not one of the public internet, or `None` if it is.
///
/// Follows the IANA registries of special-purpose addresses (RFC 6890 and its updates).
#[must_use]
pub fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refusal_v4(address),
        IpAddr::V6(address) => refusal_v6(address),
    }
}

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (0, ..) => Some("an unspecified address"),
        (127, ..) => Some("a loopback address"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some("a private address"),
        (169, 254, _) => Some("a link-local address, where clouds keep their metadata service"),
        (100, 64..=127, _) => Some("a shared address of a provider's network"),
        (192, 0, 0 | 2) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) => {
            Some("a reserved address")
        }
        (224..=239, ..) => Some("a multicast address"),
        (240..=255, ..) => Some("a reserved address"),
        _ => None,
    }
}

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    if let Some(embedded) = embedded_v4(address) {
        return refusal_v4(embedded);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0xfc00..=0xfdff, ..] => Some("a private address"),
        [0xfe80..=0xfeff, ..] => Some("a link-local address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        [0x64, 0xff9b, 1, ..] | [0x100, 0, 0, 0, ..] => Some("a reserved address"),
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => {
            Some("a reserved address")
        }
        _ => None,
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64 or 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let pair = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(pair(high, low))
        }
        [0x2002, high, low, ..] => Some(pair(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l1_addresses_of_the_inside_are_refused_in_every_spelling() {
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://[::1]/",
            "http://0.0.0.0/",
            "http://10.1.2.3/",
            "http://100.64.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://017700000001/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[2002:7f00:1::]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://192.168.1.1/",
            "http://172.31.0.1/",
            "http://255.255.255.255/",
        ] {
            let url: Url = url.parse().unwrap();
            let address = literal(&url).unwrap_or_else(|| panic!("{url} has a literal address"));
            assert!(refusal(address).is_some(), "{url}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_not_refused() {
        for address in ["93.184.216.34", "8.8.8.8", "172.32.0.1", "100.128.0.1", "192.169.0.1"] {
            assert_eq!(refusal(address.parse().unwrap()), None, "{address}");
        }
        for address in
            ["2606:4700::1111", "2a00:1450:4001::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"]
        {
            assert_eq!(refusal(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn a_listed_host_may_be_inside_and_its_neighbour_may_not() {
        let policy = AddressPolicy {
            allow_hosts: vec!["Intern.example.org".to_owned()],
            ..AddressPolicy::default()
        };
        assert_eq!(policy.reach(&"http://intern.example.org/".parse().unwrap()), Reach::Anywhere);
        assert_eq!(policy.reach(&"http://other.example.org/".parse().unwrap()), Reach::Public);
    }
}
