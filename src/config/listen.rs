//! The TCP address of the API.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// The port where none is given.
pub const DEFAULT_PORT: u16 = 7373;

/// Where the API listens beside its Unix socket: `127.0.0.1:7373`, `localhost`, `[::1]:7373`, or a port alone.
///
/// A port alone means the loopback address, so that nobody opens the API to the network without writing so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

/// Why a text is not such an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an address to listen on: write it like 127.0.0.1:7373, localhost:7373 or [::1]:7373", .0.escape_default())]
pub struct ListenError(String);

impl FromStr for ListenAddress {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let refuse = || ListenError(text.chars().take(100).collect());
        let address = if let Ok(full) = text.parse::<SocketAddr>() {
            full
        } else if let Ok(ip) = text.parse::<IpAddr>() {
            SocketAddr::new(ip, DEFAULT_PORT)
        } else if let Some(port) = text.strip_prefix("localhost") {
            let port = match port.strip_prefix(':') {
                Some(port) => port.parse().map_err(|_not_a_port| refuse())?,
                None if port.is_empty() => DEFAULT_PORT,
                None => return Err(refuse()),
            };
            SocketAddr::new(loopback, port)
        } else {
            SocketAddr::new(loopback, text.parse().map_err(|_not_a_port| refuse())?)
        };
        Ok(Self(address))
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected an address like \"127.0.0.1:7373\" or a port")]
        enum Raw {
            Port(u16),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Port(port) => port.to_string().parse(),
            Raw::Text(text) => text.parse(),
        }
        .map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_written_address_leaves_the_loopback() {
        for (text, address) in [
            ("7373", "127.0.0.1:7373"),
            ("localhost", "127.0.0.1:7373"),
            ("localhost:80", "127.0.0.1:80"),
            ("[::1]:9000", "[::1]:9000"),
            ("0.0.0.0", "0.0.0.0:7373"),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), address, "{text}");
        }
        for bad in ["", "localhosts", "example.org:80", "127.0.0.1:99999", "-1"] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad}");
        }
    }
}
