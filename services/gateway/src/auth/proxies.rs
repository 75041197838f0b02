//! Trusted proxies: their `X-Forwarded-For` header is accepted as the client's address.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// The addresses of trusted proxies: an address, a network, `loopback` or `private`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedProxy(Which);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    Network(IpNet),
    Loopback,
    Private,
}

impl TrustedProxy {
    /// Returns whether a proxy with this address is trusted.
    pub(crate) fn includes(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match &self.0 {
            Which::Network(network) => network.contains(&address),
            Which::Loopback => address.is_loopback(),
            Which::Private => match address {
                IpAddr::V4(address) => address.is_private(),
                IpAddr::V6(address) => address.is_unique_local(),
            },
        }
    }
}

impl FromStr for TrustedProxy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let network = || text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        match text {
            "loopback" => Ok(TrustedProxy(Which::Loopback)),
            "private" => Ok(TrustedProxy(Which::Private)),
            _ => network().map(|network| TrustedProxy(Which::Network(network))).ok_or_else(|| {
                "it is an address, a network as in 10.0.0.0/8, `loopback` or `private`".to_owned()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_addresses_are_trusted() {
        let trusts = |proxy: &str, address: &str| {
            proxy.parse::<TrustedProxy>().unwrap().includes(address.parse().unwrap())
        };
        for (proxy, inside, outside) in [
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("10.0.0.1", "::ffff:10.0.0.1", "::1"),
            ("10.1.0.0/16", "10.1.2.3", "10.2.0.1"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("loopback", "::1", "10.0.0.1"),
            ("private", "172.18.0.5", "172.32.0.1"),
            ("private", "fd00::5", "2001:db8::1"),
        ] {
            assert!(trusts(proxy, inside) && !trusts(proxy, outside), "{proxy}");
        }
        for wrong in ["", "door", "10.0.0.0/33", "10.0.0"] {
            assert!(wrong.parse::<TrustedProxy>().is_err(), "{wrong}");
        }
    }
}
