//! Where and how to listen, and why that failed.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

/// Connections that the kernel holds ready between two accepts. Twisted's 50 is soon too few; the system's own limit
/// (net.core.somaxconn, usually 4096) caps it.
const BACKLOG: i32 = 1024;

/// Where to listen, from `8000`, `"127.0.0.1:8000"`, `"[::]:8000"`, `"localhost:8000"` or a `SocketAddr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress(Where);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Where {
    Socket(SocketAddr),
    Text(String),
}

impl From<u16> for ListenAddress {
    /// Every IPv4 interface.
    fn from(port: u16) -> Self {
        Self(Where::Socket((Ipv4Addr::UNSPECIFIED, port).into()))
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self(Where::Socket(address))
    }
}

impl<H: Into<std::net::IpAddr>> From<(H, u16)> for ListenAddress {
    fn from((host, port): (H, u16)) -> Self {
        Self(Where::Socket((host, port).into()))
    }
}

impl From<&str> for ListenAddress {
    fn from(text: &str) -> Self {
        Self(Where::Text(text.to_owned()))
    }
}

impl From<String> for ListenAddress {
    fn from(text: String) -> Self {
        Self(Where::Text(text))
    }
}

impl ListenAddress {
    pub(super) fn resolve(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Where::Socket(address) => Ok(*address),
            // an interface's name: /etc/hosts answers; a start-up call may wait for it
            Where::Text(text) => text.to_socket_addrs()?.next().ok_or_else(|| ErrorKind::AddrNotAvailable.into()),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Where::Socket(address) if address.ip().is_unspecified() => write!(f, "any:{}", address.port()),
            Where::Socket(address) => address.fmt(f),
            Where::Text(text) => f.write_str(text),
        }
    }
}

/// How to listen. Start from `ListenOptions::default()`.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Connections that wait for `accept` in the kernel: default 1024 (the system may allow less; Twisted: 50).
    pub backlog: i32,
    /// Whether several sockets, of other processes too, may share the port and its connections (SO_REUSEPORT):
    /// default false. SO_REUSEADDR is always set, so that a restarted server gets its port back.
    pub reuse_port: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: BACKLOG, reuse_port: false }
    }
}

/// A port could not be opened: `CannotListenError`. It gives the factory back.
pub struct ListenError<F> {
    /// The factory that was to serve the port; not started.
    pub factory: F,
    /// The address, as it was given.
    pub address: ListenAddress,
    /// Why.
    pub error: io::Error,
}

impl<F> fmt::Display for ListenError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Couldn't listen on {}: ", self.address)?;
        match self.error.raw_os_error() {
            Some(code) => {
                let text = self.error.to_string();
                write!(f, "[Errno {code}] {}.", text.split(" (os error").next().unwrap_or(&text))
            }
            None => write!(f, "{}.", self.error),
        }
    }
}

impl<F> fmt::Debug for ListenError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ListenError({}, {:?})", self.address, self.error)
    }
}

impl<F> Error for ListenError<F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
