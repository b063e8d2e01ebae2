//! Where a server sends its clients instead, and whether they go.

use std::{error, fmt};

use crate::http::excerpt;

use super::{UrlError, WsUrl};

/// Which redirects a client follows. By default none: browsers do not either (a WebSocket's redirect fails there), and
/// the peer of a connection that is kept for hours should be the one that was configured.
///
/// A redirect from `wss` to `ws` is never followed, whatever the policy.
///
/// ```
/// use twistor_websocket::handshake::{RedirectPolicy, WsUrl};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let policy = RedirectPolicy::follow_up_to(3, false); // for `WebSocketClientFactory::follow_redirects`
/// let chat = WsUrl::parse("wss://chat.example/v1")?;
/// assert_eq!(policy.follow(0, &chat, "/v2")?.url.to_string(), "wss://chat.example/v2");
/// assert!(policy.follow(0, &chat, "wss://evil.example/").is_err()); // another origin
/// assert!(policy.follow(3, &chat, "/v2").is_err()); // the fourth in a row
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedirectPolicy {
    /// How many redirects in a row are followed. Default 0; loops end here. (python's websockets: 10; tungstenite: 3.)
    pub max: usize,
    /// Whether another scheme, host or port may be the target. Default no.
    pub other_origins: bool,
}

/// A place a client was redirected to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redirect {
    /// The place.
    pub url: WsUrl,
    /// It is of another origin: what authenticates at the first one is not its business.
    pub strip_credentials: bool,
}

impl RedirectPolicy {
    /// Follows up to `max` redirects, within the origin or also beyond.
    pub fn follow_up_to(max: usize, other_origins: bool) -> Self {
        Self { max, other_origins }
    }

    /// Where to go from `base`, after `followed` redirects, when told `location`.
    ///
    /// # Errors
    ///
    /// When the policy forbids it, when it leaves TLS, or when the location is no WebSocket URL.
    pub fn follow(&self, followed: usize, base: &WsUrl, location: &str) -> Result<Redirect, RedirectError> {
        if followed >= self.max {
            return Err(RedirectError::TooMany { max: self.max });
        }
        let redirect = redirect_target(base, location)?;
        if redirect.strip_credentials && !self.other_origins {
            return Err(RedirectError::OtherOrigin { to: redirect.url.to_string() });
        }
        Ok(redirect)
    }
}

/// Resolves a `Location` against the URL that was asked for (RFC 9110, 10.2.2; RFC 3986, 5.2 without its `..`).
///
/// `http` stands for `ws` and `https` for `wss`; a fragment is dropped. User information is kept within the origin;
/// that of the location itself is ignored, for it is the server's invention.
///
/// # Errors
///
/// When it leaves TLS, or when it is no WebSocket URL.
pub fn redirect_target(base: &WsUrl, location: &str) -> Result<Redirect, RedirectError> {
    let location = location.split('#').next().unwrap_or_default();
    let mut url = resolve(base, location).map_err(RedirectError::Url)?;
    if base.secure && !url.secure {
        return Err(RedirectError::Downgrade { to: url.to_string() });
    }
    let strip_credentials = !url.same_origin(base);
    url.userinfo = base.userinfo.clone().filter(|_| !strip_credentials);
    Ok(Redirect { url, strip_credentials })
}

fn resolve(base: &WsUrl, location: &str) -> Result<WsUrl, UrlError> {
    let scheme = if base.secure { "wss" } else { "ws" };
    let path = base.resource.split('?').next().unwrap_or_default();
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let absolute = |resource: String| WsUrl::parse(&format!("{scheme}://{}{resource}", base.host_header()));
    // RFC 3986, 3.1: a scheme ends at the first colon, before any slash or question mark.
    match location.split_once(':').filter(|(scheme, _)| !scheme.contains(['/', '?'])) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => WsUrl::parse(&format!("ws:{rest}")),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => WsUrl::parse(&format!("wss:{rest}")),
        Some(_) => WsUrl::parse(location),
        None if location.starts_with("//") => WsUrl::parse(&format!("{scheme}:{location}")),
        None if location.starts_with('/') => absolute(location.into()),
        None if location.is_empty() => absolute(base.resource.clone()),
        None if location.starts_with('?') => absolute(format!("{path}{location}")),
        None => absolute(format!("{directory}/{location}")),
    }
}

/// Why a redirect is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectError {
    /// More redirects than the policy follows.
    TooMany {
        /// What it follows.
        max: usize,
    },
    /// From `wss` to `ws`.
    Downgrade {
        /// The target.
        to: String,
    },
    /// To another scheme, host or port, which the policy does not allow.
    OtherOrigin {
        /// The target.
        to: String,
    },
    /// To `wss`, by a client that has no TLS.
    Tls {
        /// The target.
        to: String,
    },
    /// The location is no WebSocket URL.
    Url(UrlError),
}

/// A location as errors show it, which may be logged: without what might be a secret, credentials and the query.
pub(crate) fn shown(location: &str) -> String {
    let (before, location) = location.rsplit_once('@').map_or(("", location), |(_, rest)| ("..@", rest));
    let (place, query) = location.split_at(location.find(['?', '#']).unwrap_or(location.len()));
    let query = query.get(..1).map(|mark| format!("{mark}..")).unwrap_or_default();
    excerpt(format!("{before}{place}{query}").as_bytes())
}

impl fmt::Display for RedirectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { max } => write!(f, "redirected, but at most {max} redirects are followed"),
            Self::Downgrade { to } => write!(f, "redirected from wss to {}", shown(to)),
            Self::OtherOrigin { to } => write!(f, "redirected to another origin, {}", shown(to)),
            Self::Tls { to } => write!(f, "redirected to {}, and TLS is not supported", shown(to)),
            Self::Url(_) => f.write_str("redirected to what is no WebSocket URL"),
        }
    }
}

impl error::Error for RedirectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Url(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> WsUrl {
        WsUrl::parse(text).unwrap()
    }

    #[test]
    fn locations_are_resolved_like_links() {
        let base = url("ws://me:pw@a:81/x/y?q");
        for (location, target, strips) in [
            ("", "ws://a:81/x/y?q", false),
            ("?r=1", "ws://a:81/x/y?r=1", false),
            ("z", "ws://a:81/x/z", false),
            ("z?u=http://b", "ws://a:81/x/z?u=http://b", false),
            ("/z#top", "ws://a:81/z", false),
            ("ws://A:81/", "ws://a:81/", false),
            ("//b/z", "ws://b/z", true),
            ("http://a/", "ws://a/", true),
            ("HTTPS://a/", "wss://a/", true),
            ("wss://evil:pw@b", "wss://b/", true),
        ] {
            let redirect = redirect_target(&base, location).unwrap();
            assert_eq!((redirect.url.to_string().as_str(), redirect.strip_credentials), (target, strips), "{location}");
            assert_eq!(redirect.url.userinfo.is_none(), strips, "{location}");
        }
        for location in ["ftp://a/", "mailto:x", "ws://", "/\u{e9}", "/a b"] {
            assert!(matches!(redirect_target(&base, location), Err(RedirectError::Url(_))), "{location}");
        }
    }

    #[test]
    fn redirects_are_off_never_leave_tls_and_end() {
        // T62, T63
        let base = url("wss://a/");
        let none = RedirectPolicy::default();
        assert_eq!(none.follow(0, &base, "/b"), Err(RedirectError::TooMany { max: 0 }));
        let near = RedirectPolicy::follow_up_to(2, false);
        assert!(near.follow(1, &base, "/b").is_ok());
        assert_eq!(near.follow(2, &base, "/b"), Err(RedirectError::TooMany { max: 2 }));
        assert_eq!(near.follow(0, &base, "//b"), Err(RedirectError::OtherOrigin { to: "wss://b/".into() }));
        let far = RedirectPolicy::follow_up_to(2, true);
        assert!(far.follow(0, &base, "//b").is_ok_and(|redirect| redirect.strip_credentials));
        for plain in ["ws://a/", "http://a/", "ws://b"] {
            assert!(matches!(far.follow(0, &base, plain), Err(RedirectError::Downgrade { .. })), "{plain}");
        }
    }
}
