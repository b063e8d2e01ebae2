//! Which web pages may open a WebSocket here (RFC 6455, 10.2; RFC 6454).

use std::str::FromStr;
use std::{error, fmt};

use ::http::{StatusCode, header};

use crate::http::{Authority, Request, Response, excerpt, one, shown};

/// Which pages may open a WebSocket.
///
/// Browsers let any page open a WebSocket to any server, with that server's cookies: only the server can refuse
/// (cross-site WebSocket hijacking). They always say in `Origin` where the page is from. A request without `Origin` is
/// no browser's and passes every policy: what is not a browser carries nobody else's cookies, and could write any
/// `Origin`.
///
/// ```
/// use twistor_websocket::{handshake::OriginPolicy, http::Request};
///
/// let page = |origin| format!("GET / HTTP/1.1\r\nHost: chat.example\r\nOrigin: {origin}\r\n\r\n");
/// let ours = Request::parse(page("https://chat.example").as_bytes()).unwrap();
/// let evil = Request::parse(page("https://evil.example").as_bytes()).unwrap();
/// assert!(OriginPolicy::SameOrigin.check(&ours));
/// assert!(!OriginPolicy::SameOrigin.check(&evil));
/// assert!(OriginPolicy::list(["https://*.example"])?.check(&evil));
/// # Ok::<(), twistor_websocket::handshake::InvalidOrigin>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginPolicy {
    /// Pages of this server: host and port of `Origin` are those of `Host`. The default, because it is never wrong by
    /// being too generous. The scheme is not compared: behind a proxy that ends TLS, a server does not know its own.
    #[default]
    SameOrigin,
    /// Any page. For public services that take nothing from cookies.
    Any,
    /// Pages from a list.
    List {
        /// The origins.
        origins: Vec<Origin>,
        /// Whether `null` passes: pages from files, in sandboxes and after some redirects. Anybody can make such a
        /// page.
        allow_null: bool,
    },
}

impl OriginPolicy {
    /// Pages from these origins, such as `https://example.com`, `http://localhost:8080` and `https://*.example.com`.
    ///
    /// # Errors
    ///
    /// The first of them that is no origin.
    pub fn list<T: AsRef<str>>(origins: impl IntoIterator<Item = T>) -> Result<Self, InvalidOrigin> {
        let origins = origins.into_iter().map(|origin| origin.as_ref().parse());
        Ok(Self::List { origins: origins.collect::<Result<_, _>>()?, allow_null: false })
    }

    /// Whether the request's page may open a WebSocket.
    pub fn check(&self, request: &Request) -> bool {
        let origin = match one(request.headers(), header::ORIGIN) {
            _ if *self == Self::Any => return true,
            Ok(None) => return true,
            Ok(Some(origin)) => origin.to_str().ok().and_then(Sender::parse),
            Err(_) => None, // Two of them: nobody knows which the browser wrote.
        };
        match (origin, self) {
            (Some(Sender::Page(page)), Self::SameOrigin) => page.is_at(request.host()),
            (Some(Sender::Page(page)), Self::List { origins, .. }) => origins.iter().any(|origin| origin.covers(&page)),
            (Some(Sender::Null), Self::List { allow_null, .. }) => *allow_null,
            _ => false,
        }
    }

    /// The answer when it may not: 403 (RFC 6455, 4.2.2).
    pub fn refusal(request: &Request) -> Response {
        let got = shown(request.headers(), header::ORIGIN);
        Response::error(StatusCode::FORBIDDEN, format!("expected an Origin that is allowed here, but {got} came"))
    }
}

/// `scheme://host` or `scheme://host:port`: where a page is from.
///
/// The port is the scheme's (80, 443) unless it is given; hosts are compared without case, IPv6 addresses by their
/// value. The host `*.example.com` stands for all below `example.com`, but not for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    authority: Authority,
}

impl Origin {
    fn covers(&self, page: &Self) -> bool {
        let host_matches = match self.authority.host.strip_prefix('*') {
            Some(suffix) => page.authority.host.len() > suffix.len() && page.authority.host.ends_with(suffix),
            None => page.authority.host == self.authority.host,
        };
        host_matches && self.scheme == page.scheme && self.port() == page.port()
    }

    fn is_at(&self, host: Option<&str>) -> bool {
        let host = host.and_then(Authority::parse);
        // A `Host` without a port means the default one of the scheme the page was loaded by.
        host.is_some_and(|host| host.host == self.authority.host && host.port_or_default(&self.scheme) == self.port())
    }

    fn port(&self) -> Option<u16> {
        self.authority.port_or_default(&self.scheme)
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = || InvalidOrigin(excerpt(text.as_bytes()));
        let Some(Sender::Page(origin)) = Sender::parse(text) else {
            return Err(invalid());
        };
        let host = &origin.authority.host;
        let host = host.strip_prefix("*.").unwrap_or(host);
        if host.is_empty() || host.contains('*') { Err(invalid()) } else { Ok(origin) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// A text that is no origin: not `scheme://host[:port]`, or with something after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidOrigin(String);

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is no origin: expected scheme://host or scheme://host:port, without a path", self.0)
    }
}

impl error::Error for InvalidOrigin {}

/// What an `Origin` field says (RFC 6454, 7.1).
enum Sender {
    Page(Origin),
    Null,
}

impl Sender {
    fn parse(text: &str) -> Option<Self> {
        // Chrome says file:// where the others say null.
        if text == "null" || text.starts_with("file:") {
            return Some(Self::Null);
        }
        let (scheme, authority) = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty())?;
        let authority = Authority::parse(authority)?;
        Some(Self::Page(Origin { scheme: scheme.to_ascii_lowercase(), authority }))
    }
}

#[cfg(test)]
#[path = "origin_tests.rs"]
mod tests;
