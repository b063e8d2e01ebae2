//! WebSocket URLs (RFC 6455, 3).

use std::str::FromStr;
use std::{error, fmt};

use ::http::uri::PathAndQuery;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::http::{Authority, excerpt};

/// What python's `quote` leaves as it is in a path, and Autobahn's `create_url` with it.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The longest host, in bytes (RFC 3986, 3.2.2): it is looked up, and shown in logs.
const MAX_HOST: usize = 255;

/// A `ws:` or `wss:` URL, taken apart.
///
/// ```
/// use twistor_websocket::handshake::WsUrl;
///
/// let url = WsUrl::parse("wss://me:s%40crt@[::1]:9000/ws?room=1")?;
/// assert!(url.secure);
/// assert_eq!((url.host.as_str(), url.port), ("::1", 9000));
/// assert_eq!(url.resource, "/ws?room=1");
/// assert_eq!(url.userinfo, Some(("me".into(), "s@crt".into())));
/// assert_eq!(url.host_header(), "[::1]:9000");
/// # Ok::<(), twistor_websocket::handshake::UrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct WsUrl {
    /// Whether the scheme is `wss`: TLS.
    pub secure: bool,
    /// The host to connect to and to find in the certificate: a name in lower case or an address, without brackets.
    pub host: String,
    /// The port, never 0; 80 for `ws` and 443 for `wss` unless it is given.
    pub port: u16,
    /// Path and query as the request line says them; begins with `/`.
    pub resource: String,
    /// User and password, percent-decoded, for `Authorization: Basic`.
    pub userinfo: Option<(String, String)>,
}

impl WsUrl {
    /// Takes a URL apart.
    ///
    /// # Errors
    ///
    /// [`UrlError`] says which part is wrong. A fragment is an error (RFC 6455, 3), and so is any character that
    /// URLs percent-encode: this is a parser, it does not guess.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if let Some(character) = text.chars().find(|character| !character.is_ascii_graphic()) {
            return Err(UrlError::Character(character));
        }
        let scheme = || UrlError::Scheme(before_colon(text));
        let (name, rest) = text.split_once("://").ok_or_else(scheme)?;
        let secure = match name.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" => true,
            _ => return Err(scheme()),
        };
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        let (authority, resource) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (userinfo, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => (parse_userinfo(userinfo)?, authority),
            None => (None, authority),
        };
        let (host, port) = match parse_authority(authority) {
            // a `/` or `?` in a password ends the authority: what is wrong with it may be the password
            Err(UrlError::Port(_) | UrlError::Host(_)) if userinfo.is_none() && resource.contains('@') => {
                return Err(UrlError::UserInfo);
            }
            other => other?,
        };
        let port = port.unwrap_or_else(|| default_port(secure));
        Ok(Self { secure, host, port, resource: parse_resource(resource)?, userinfo })
    }

    /// Takes a proxy's `http://user:password@host:port` apart: `http` stands for `ws`, as where clients are redirected.
    pub(crate) fn parse_proxy(text: &str) -> Result<Self, UrlError> {
        match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
                let url = Self::parse(&format!("ws://{rest}"))?;
                if url.resource == "/" { Ok(url) } else { Err(UrlError::ProxyPath) }
            }
            _ => Err(UrlError::ProxyScheme(before_colon(text))),
        }
    }

    /// Puts a URL together, as Autobahn's `create_url`: the path is percent-encoded and gets its `/` if it has none,
    /// the parameters become the query. `port: None` is the scheme's.
    ///
    /// # Errors
    ///
    /// When the host is neither a name of at most 255 bytes nor an address (IPv6 with or without brackets), or the port
    /// is 0.
    pub fn create(
        secure: bool,
        host: &str,
        port: Option<u16>,
        path: &str,
        params: &[(&str, &str)],
    ) -> Result<Self, UrlError> {
        let bracketed = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.into() };
        let (host, None) = parse_authority(&bracketed)? else {
            return Err(UrlError::Host(excerpt(host.as_bytes())));
        };
        let port = port.unwrap_or_else(|| default_port(secure));
        if port == 0 {
            return Err(UrlError::Port("0".into()));
        }
        let mut resource = format!("/{}", utf8_percent_encode(path.strip_prefix('/').unwrap_or(path), PATH));
        if !params.is_empty() {
            resource.push('?');
            resource.push_str(&form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish());
        }
        Ok(Self { secure, host, port, resource, userinfo: None })
    }

    /// The value of the `Host` field: the port only where it is not the scheme's (RFC 6455, 4.1), brackets around IPv6.
    pub fn host_header(&self) -> String {
        let port = Some(self.port).filter(|&port| port != default_port(self.secure));
        Authority { host: self.host.clone(), port }.to_string()
    }

    /// Whether both URLs name the same server: scheme, host and port are equal.
    pub fn same_origin(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }
}

impl FromStr for WsUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text)
    }
}

/// The URL in its shortest form, without the user information: it is made for logs.
impl fmt::Display for WsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.host_header(), self.resource)
    }
}

/// As [`Display`](fmt::Display): a password does not belong into a debug line either.
impl fmt::Debug for WsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WsUrl({self})")
    }
}

/// What is wrong with a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// The scheme is neither `ws` nor `wss`.
    Scheme(String),
    /// There is no host.
    MissingHost,
    /// The host is neither a name nor an address.
    Host(String),
    /// The host has this many bytes, more than the 255 of a name (RFC 3986, 3.2.2).
    HostTooLong(usize),
    /// The port is no number from 1 to 65535.
    Port(String),
    /// There is a fragment (RFC 6455, 3: it MUST NOT be used).
    Fragment,
    /// This character must be percent-encoded, or, in a host, written in punycode.
    Character(char),
    /// The path or the query has a character that must be percent-encoded.
    Resource(String),
    /// User or password is not UTF-8 once decoded, or the user has a colon (RFC 7617, 2). They are not shown.
    UserInfo,
    /// The scheme of a proxy is not `http`.
    ProxyScheme(String),
    /// A proxy's URL has a path or a query. They are not shown: a `/` in a password that is not percent-encoded is one.
    ProxyPath,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid URL: ")?;
        match self {
            Self::Scheme(got) => write!(f, "expected ws:// or wss://, got the scheme \"{got}\""),
            Self::MissingHost => f.write_str("the host is missing"),
            Self::Host(got) => write!(f, "expected a host name or an address, got \"{got}\""),
            Self::HostTooLong(got) => write!(f, "expected a host of at most {MAX_HOST} bytes, got one of {got}"),
            Self::Port(got) => write!(f, "expected a port from 1 to 65535, got \"{got}\""),
            Self::Fragment => f.write_str("it has a fragment (write a # that belongs to it as %23)"),
            Self::Character(got) => write!(f, "the character {got:?} must be percent-encoded (in a host: punycode)"),
            Self::Resource(got) => write!(f, "path and query must be percent-encoded, got \"{got}\""),
            Self::UserInfo => f.write_str("user and password must be percent-encoded UTF-8, the user without a colon"),
            Self::ProxyScheme(got) => write!(f, "expected a proxy's http://, got the scheme \"{got}\""),
            Self::ProxyPath => f.write_str("expected a proxy's http://user:password@host:port without a path"),
        }
    }
}

impl error::Error for UrlError {}

/// What should be the scheme, for an error: no more of it, for it may have a password.
fn before_colon(text: &str) -> String {
    excerpt(text.split(':').next().unwrap_or_default().as_bytes())
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

fn parse_authority(text: &str) -> Result<(String, Option<u16>), UrlError> {
    // `:80` lacks a host, `::1` lacks brackets.
    if text.is_empty() || text.strip_prefix(':').is_some_and(|port| !port.contains(':')) {
        return Err(UrlError::MissingHost);
    }
    match Authority::parse(text) {
        Some(Authority { port: Some(0), .. }) => Err(UrlError::Port("0".into())),
        Some(Authority { host, .. }) if host.len() > MAX_HOST => Err(UrlError::HostTooLong(host.len())),
        Some(Authority { host, port }) => Ok((host, port)),
        // Which of the two was it?
        None => Err(match text.rsplit_once(':') {
            Some((host, port)) if Authority::parse(host).is_some() => UrlError::Port(excerpt(port.as_bytes())),
            _ => UrlError::Host(excerpt(text.as_bytes())),
        }),
    }
}

fn parse_userinfo(text: &str) -> Result<Option<(String, String)>, UrlError> {
    if text.is_empty() {
        return Ok(None);
    }
    let decode = |part| percent_decode_str(part).decode_utf8().map(String::from).map_err(|_| UrlError::UserInfo);
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let (user, password) = (decode(user)?, decode(password)?);
    if user.contains(':') { Err(UrlError::UserInfo) } else { Ok(Some((user, password))) }
}

fn parse_resource(text: &str) -> Result<String, UrlError> {
    let resource = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
    match PathAndQuery::try_from(&resource) {
        Ok(_) => Ok(resource),
        Err(_) => Err(UrlError::Resource(excerpt(text.as_bytes()))),
    }
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
