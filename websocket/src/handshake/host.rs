//! Which names a server answers to.

use ::http::{StatusCode, header};

use crate::http::{Authority, Request, Response, shown};

/// Which `Host` a request may name.
///
/// A server on a private address answers to any name by default, and so also to a page whose own name an attacker has
/// made point to that address (DNS rebinding): to that page the server is its own origin. A server that knows its names
/// lists them.
///
/// ```
/// use twistor_websocket::{handshake::HostPolicy, http::Request};
///
/// let policy = HostPolicy::list(["chat.example", "localhost:9000"])?;
/// let request = Request::parse(b"GET / HTTP/1.1\r\nHost: Chat.Example:8080\r\n\r\n").unwrap();
/// assert!(policy.check(&request));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct HostPolicy {
    allowed: Option<Vec<Authority>>,
}

impl HostPolicy {
    /// Any name; the default, because only its operator knows a server's names.
    pub const ANY: Self = Self { allowed: None };

    /// These names and no others: `host` with any port, or `host:port`. An IPv6 address stands in brackets. A client at a
    /// default port, 80 or 443, does not name it (RFC 9110, 4.2.1).
    ///
    /// # Errors
    ///
    /// The first entry that is neither.
    pub fn list<T: AsRef<str>>(hosts: impl IntoIterator<Item = T>) -> Result<Self, String> {
        let parse = |host: T| Authority::parse(host.as_ref()).ok_or_else(|| host.as_ref().to_owned());
        Ok(Self { allowed: Some(hosts.into_iter().map(parse).collect::<Result<_, _>>()?) })
    }

    /// Whether the request may be answered.
    pub fn check(&self, request: &Request) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        let host = request.host().and_then(Authority::parse);
        host.is_some_and(|host| {
            allowed.iter().any(|allowed| {
                allowed.host == host.host
                    && match (allowed.port, host.port) {
                        (None, _) => true,
                        // without a port it is the scheme's, and behind a proxy a server does not know that
                        (Some(port), None) => matches!(port, 80 | 443),
                        (allowed, port) => allowed == port,
                    }
            })
        })
    }

    /// The answer when it may not: 421 (RFC 9110, 15.5.20).
    pub fn refusal(request: &Request) -> Response {
        let got = shown(request.headers(), header::HOST);
        Response::error(StatusCode::MISDIRECTED_REQUEST, format!("expected a Host served here, but {got} came"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_hosts_are_answered() {
        // T15
        let policy = HostPolicy::list(["chat.example", "localhost:9000", "[::1]"]).unwrap();
        for (host, allowed) in [
            ("chat.example", true),
            ("CHAT.example:81", true),
            ("localhost:9000", true),
            ("localhost", false),
            ("[0:0:0:0:0:0:0:1]:80", true),
            ("evil.example", false),
            ("chat.example.evil.example", false),
        ] {
            let request = Request::parse(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
            assert_eq!(policy.check(&request), allowed, "{host}");
            assert!(HostPolicy::default().check(&request));
        }
        let request = Request::parse(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        assert!(!policy.check(&request));
        assert_eq!(HostPolicy::refusal(&request).status_code(), 421);
        assert!(HostPolicy::refusal(&request).closes());
    }

    #[test]
    fn an_entry_that_is_no_host_is_named() {
        assert_eq!(HostPolicy::list(["http://a"]).unwrap_err(), "http://a");
    }
}
