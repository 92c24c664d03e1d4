//! Keeps a webhook from talking to machines that only we can reach (server-side request forgery).
//!
//! The name is resolved here, every address is checked, and only checked addresses are connected to: a name that resolves
//! to a public address now and to a private one a moment later gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Which addresses may be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    allowed: Vec<(IpAddr, u8)>,
}

/// Why an address may not be reached, or a network cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// It is inside a network that is not public.
    #[error("receiver has an address that is not public; allow its network if that is meant")]
    NotPublic,
    /// The name has no address.
    #[error("receiver's name cannot be resolved")]
    Unresolved,
    /// A network of the configuration is not written `address/bits`.
    #[error("a network is written address/bits. network={0}")]
    Network(String),
}

impl Guard {
    /// Reads the networks that are allowed besides public addresses.
    ///
    /// # Errors
    /// [`GuardError::Network`].
    pub fn new(networks: &[String]) -> Result<Self, GuardError> {
        let read = |text: &String| {
            let (address, bits) = text.split_once('/')?;
            let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
            let longest = if address.is_ipv4() { 32 } else { 128 };
            (bits <= longest).then_some((address, bits))
        };
        let allowed = networks.iter().map(|text| read(text).ok_or_else(|| GuardError::Network(text.clone())));
        Ok(Self { allowed: allowed.collect::<Result<_, _>>()? })
    }

    /// Checks one address.
    ///
    /// # Errors
    /// [`GuardError::NotPublic`].
    pub fn check(&self, address: IpAddr) -> Result<(), GuardError> {
        // ::ffff:10.0.0.1 is 10.0.0.1.
        let address = address.to_canonical();
        let allowed = self.allowed.iter().any(|(network, bits)| contains(*network, *bits, address));
        if allowed || is_public(address) { Ok(()) } else { Err(GuardError::NotPublic) }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::new(self.clone());
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await
                .map_err(|_| Box::new(GuardError::Unresolved) as Box<dyn std::error::Error + Send + Sync>)?
                .collect();
            if found.is_empty() {
                return Err(Box::new(GuardError::Unresolved) as _);
            }
            // All of them: which one is taken is not decided here.
            for address in &found {
                guard.check(address.ip())?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32_u8),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let ((network, length), (address, other)) = (number(network), number(address));
    let shift = u32::from(length.saturating_sub(bits));
    length == other && network.checked_shr(shift).unwrap_or(0) == address.checked_shr(shift).unwrap_or(0)
}

/// Tells whether an address belongs to the public internet (the IANA registries of special-purpose addresses).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_unspecified()
        || a == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        // Carrier-grade NAT, IETF assignments, benchmarks, the old 6to4 relay, reserved.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240;
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Only global unicast is public at all; of it, Teredo, ORCHID, documentation and 6to4 can hide other addresses.
    let global = (a & 0xe000) == 0x2000;
    let hiding = matches!((a, b), (0x2001, 0..0x0200 | 0x0db8) | (0x2002 | 0x3fff, _));
    global && !hiding
}
