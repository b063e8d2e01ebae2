//! The way through an HTTP proxy: CONNECT (RFC 9110, 9.3.6).

use std::fmt;

use crate::http::ResponseHead;

use super::client::{basic, write};
use super::{HandshakeError, Rejection, WsUrl};

/// A request for a tunnel to a WebSocket server. Read the answer with a [`ResponseReader`](super::ResponseReader).
#[derive(Clone)]
pub struct ProxyConnect {
    target: String,
    credentials: Option<(String, String)>,
}

impl ProxyConnect {
    /// Asks for a tunnel to the URL's host and port. The credentials, user and password, are for the proxy.
    pub fn new(url: &WsUrl, credentials: Option<(String, String)>) -> Self {
        let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
        // RFC 9110, 9.3.6: the port is always there.
        Self { target: format!("{host}:{}", url.port), credentials }
    }

    /// The same proxy and credentials, for the host and port of another URL.
    #[must_use]
    pub fn redirected(&self, url: &WsUrl) -> Self {
        Self::new(url, self.credentials.clone())
    }

    /// Appends the request as it is sent.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write(out, &["CONNECT ", &self.target, " HTTP/1.1\r\nHost: ", &self.target, "\r\n"]);
        if let Some(credentials) = &self.credentials {
            write(out, &["Proxy-Authorization: ", &basic(credentials), "\r\n"]);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Checks the proxy's answer. After it the tunnel is open, and what has come behind the head is from its other end.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Proxy`] for any status but 2xx; `rest` is the beginning of the body then.
    pub fn check(&self, head: ResponseHead, rest: &[u8]) -> Result<(), HandshakeError> {
        // RFC 9110, 9.3.6: any 2xx opens the tunnel; its Content-Length and Transfer-Encoding are ignored.
        if head.status.is_success() { Ok(()) } else { Err(HandshakeError::Proxy(Rejection::new(head, rest))) }
    }
}

/// Without the credentials.
impl fmt::Debug for ProxyConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyConnect").field("target", &self.target).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ResponseReader;
    use super::*;
    use crate::http::HeadLimits;

    fn answer<'a>(connect: &ProxyConnect, mut input: &'a [u8]) -> (Result<(), HandshakeError>, &'a [u8]) {
        let head = ResponseReader::new(HeadLimits::default()).read(&mut input).unwrap().unwrap();
        (connect.check(head, input), input)
    }

    #[test]
    fn connect_always_names_the_port() {
        let connect = ProxyConnect::new(&WsUrl::parse("wss://[::1]/x").unwrap(), Some(("me".into(), "pw".into())));
        let mut out = Vec::new();
        connect.encode(&mut out);
        let expected = "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nProxy-Authorization: Basic bWU6cHc=\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
        assert!(!format!("{connect:?}").contains("pw"));
    }

    #[test]
    fn early_bytes_of_the_tunnel_stay_and_a_refusal_is_told() {
        // T68
        let connect = ProxyConnect::new(&WsUrl::parse("ws://a").unwrap(), None);
        let (outcome, rest) =
            answer(&connect, b"HTTP/1.0 200 Connection established\r\nContent-Length: 3\r\n\r\nearly");
        assert!(outcome.is_ok());
        assert_eq!(rest, b"early");
        let (outcome, _) = answer(&connect, b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\nwho?");
        let Err(mut error @ HandshakeError::Proxy(_)) = outcome else { panic!("{outcome:?}") };
        assert!(!error.feed(b" you?"), "its body lasts until the connection ends");
        assert_eq!(
            error.to_string(),
            "expected the proxy to connect, but 407 Proxy Authentication Required \"who? you?\" came"
        );
    }
}
