//! Where a connection goes to or comes from.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// One end of a connection, as `IPv4Address`/`IPv6Address` in Twisted.
///
/// ```
/// use twistor_reactor::Address;
/// let address = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 8000)));
/// assert_eq!(address.to_string(), "127.0.0.1:8000");
/// assert_eq!(address.port(), Some(8000));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IPv4 or IPv6 address (with its scope) and a TCP port. Always numeric, never a host name.
    Tcp(SocketAddr),
}

impl Address {
    /// The IP address, if this end has one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
        }
    }

    /// The port, if this end has one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
        }
    }

    /// The IP address and port, if this end has them.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
        }
    }
}
