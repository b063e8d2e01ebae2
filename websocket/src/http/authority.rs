//! `host[:port]`, as it stands in `Host`, `Origin` and URLs.

use std::fmt;
use std::net::Ipv6Addr;

/// A host and its port, in the one form in which two of them can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Authority {
    /// Lower case (RFC 3986, 3.2.2: no case); an IPv6 address in its canonical form, without brackets.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

impl Authority {
    /// `None` for anything but `host`, `host:port`, `[v6]` or `[v6]:port`: no user, no zone, no port above 65535.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // The `http` crate checks characters, brackets and percent signs, but takes user information and any port.
        let authority: ::http::uri::Authority = text.parse().ok().filter(|_| !text.contains('@'))?;
        let host = authority.host();
        let port = match text.strip_prefix(host)? {
            "" | ":" => None, // RFC 3986, 3.2.3: an empty port is the default port.
            rest => Some(parse_port(rest.strip_prefix(':')?)?),
        };
        let host = match host.strip_prefix('[') {
            Some(literal) => literal.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.to_string(),
            None if host.is_empty() => return None,
            None => host.to_ascii_lowercase(),
        };
        Some(Self { host, port })
    }

    /// The port, or the one its scheme implies.
    pub(crate) fn port_or_default(&self, scheme: &str) -> Option<u16> {
        self.port.or_else(|| default_port(scheme))
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]", self.host) } else { f.write_str(&self.host) }?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A port from 0 to 65535; `str::parse` alone would let a `+` pass.
fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        for (text, host, port) in [
            ("Example.COM", "example.com", None),
            ("example.com:", "example.com", None),
            ("localhost:9000", "localhost", Some(9000)),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("[::1]", "::1", None),
            ("[0:0:0:0:0:0:0:1]:443", "::1", Some(443)),
        ] {
            assert_eq!(Authority::parse(text), Some(Authority { host: host.into(), port }), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            ":80",
            "user@example.com",
            "@",
            "example.com:99999",
            "example.com:+80",
            "example.com:80:80",
            "::1",
            "[::1",
            "[zz]",
            "[::1%25eth0]",
            "[::1]x",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "exämple.com",
            "a,b c",
            "a\0",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }
}
