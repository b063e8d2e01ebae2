//! The client's side of the opening handshake (RFC 6455, 4.1).

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use data_encoding::BASE64;
use tungstenite::handshake::derive_accept_key;

use crate::http::{
    InvalidHeader, ResponseHead, excerpt, has_token, header_name, header_value, is_token, list, one, write_field,
};

use super::{HandshakeError, Redirect, Rejection, WsUrl};

/// The fields that the handshake itself writes, and those that would give it a body.
const RESERVED: [HeaderName; 9] = [
    header::UPGRADE,
    header::CONNECTION,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::EXPECT,
];

/// What authenticates at one place, and is not for others, nor for logs.
const CREDENTIALS: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// A client's handshake: where to, and what to ask for. Everything in it can be sent, and it can be sent again.
///
/// ```
/// use twistor_websocket::handshake::{ClientRequest, WsUrl};
///
/// let request = ClientRequest::new(WsUrl::parse("ws://chat.example/room")?).protocol("chat.v2")?;
/// let mut out = Vec::new();
/// request.encode("dGhlIHNhbXBsZSBub25jZQ==", &mut out);
/// assert!(out.starts_with(b"GET /room HTTP/1.1\r\nHost: chat.example\r\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClientRequest {
    url: WsUrl,
    headers: HeaderMap,
    protocols: Vec<String>,
    extensions: Option<String>,
}

/// What the server agreed to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Accepted {
    /// The subprotocol: one of those offered. A server may choose none.
    pub protocol: Option<String>,
    /// The extensions with their parameters, as they came; all were offered, the parameters are theirs to check.
    pub extensions: Option<String>,
    /// All header fields of the 101.
    pub headers: HeaderMap,
}

impl ClientRequest {
    /// A handshake that asks for nothing but the resource. User and password in the URL become `Authorization: Basic`.
    pub fn new(url: WsUrl) -> Self {
        Self { url, headers: HeaderMap::new(), protocols: Vec::new(), extensions: None }
    }

    /// Sets a header field, in place of one with this name. `Host` and `Authorization` replace those of the URL.
    ///
    /// # Errors
    ///
    /// When the name or the value cannot be sent, and for the fields of the handshake itself.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, InvalidHeader> {
        let name = header_name(name)?;
        if RESERVED.contains(&name) {
            return Err(InvalidHeader::Reserved(name));
        }
        let mut value = header_value(&name, value)?;
        value.set_sensitive(CREDENTIALS.contains(&name));
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Sets `Origin`, as a browser would for a page from there.
    ///
    /// # Errors
    ///
    /// When it is no header value.
    pub fn origin(self, origin: &str) -> Result<Self, InvalidHeader> {
        self.header("Origin", origin)
    }

    /// Offers a subprotocol, after those offered before. One that is offered already is not offered twice.
    ///
    /// # Errors
    ///
    /// When it is no token (RFC 6455, 4.1).
    pub fn protocol(mut self, protocol: &str) -> Result<Self, InvalidHeader> {
        if !is_token(protocol.as_bytes()) {
            let value = excerpt(protocol.as_bytes());
            return Err(InvalidHeader::Value { name: header::SEC_WEBSOCKET_PROTOCOL, value });
        }
        if !self.protocols.iter().any(|other| other == protocol) {
            self.protocols.push(protocol.into());
        }
        Ok(self)
    }

    /// Offers extensions, by the whole value of `Sec-WebSocket-Extensions`.
    ///
    /// # Errors
    ///
    /// When it is no header value.
    pub fn extensions(mut self, offer: &str) -> Result<Self, InvalidHeader> {
        header_value(&header::SEC_WEBSOCKET_EXTENSIONS, offer)?;
        self.extensions = Some(offer.into());
        Ok(self)
    }

    /// Where to.
    pub fn url(&self) -> &WsUrl {
        &self.url
    }

    /// The same request to the place it was redirected to, without what belongs to the first place alone when that is
    /// another: `Authorization`, `Cookie`, `Proxy-Authorization` and a `Host` that was set.
    #[must_use]
    pub fn redirected(mut self, redirect: Redirect) -> Self {
        if redirect.strip_credentials {
            self.headers.remove(header::HOST);
            for name in CREDENTIALS {
                self.headers.remove(name);
            }
        }
        self.url = redirect.url;
        self
    }

    /// Appends the request as it is sent. The key is new for every handshake:
    /// `tungstenite::handshake::client::generate_key`.
    pub fn encode(&self, key: &str, out: &mut Vec<u8>) {
        write(out, &["GET ", &self.url.resource, " HTTP/1.1\r\n"]);
        if !self.headers.contains_key(header::HOST) {
            write(out, &["Host: ", &self.url.host_header(), "\r\n"]);
        }
        write(out, &["Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ", key, "\r\n"]);
        write(out, &["Sec-WebSocket-Version: 13\r\n"]);
        if !self.protocols.is_empty() {
            write(out, &["Sec-WebSocket-Protocol: ", &self.protocols.join(", "), "\r\n"]);
        }
        if let Some(extensions) = &self.extensions {
            write(out, &["Sec-WebSocket-Extensions: ", extensions, "\r\n"]);
        }
        if let Some(userinfo) = self.url.userinfo.as_ref().filter(|_| !self.headers.contains_key(header::AUTHORIZATION))
        {
            write(out, &["Authorization: ", &basic(userinfo), "\r\n"]);
        }
        for (name, value) in &self.headers {
            write_field(out, name, value.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Checks the server's answer to the request that was sent with `key`.
    ///
    /// `rest` is what has come behind the head: the beginning of a refusal's body. After a 101 it is not looked at: it
    /// is the first frames, which a server may send at once.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] says what is wrong with it. The connection is of no further use.
    pub fn check_response(&self, key: &str, head: ResponseHead, rest: &[u8]) -> Result<Accepted, HandshakeError> {
        let headers = &head.headers;
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(head, rest));
        }
        if head.version != Version::HTTP_11 {
            return Err(HandshakeError::WrongVersion { got: head.version });
        }
        // RFC 6455, 4.1: the checks of the response, 2 to 6. `Upgrade` is one protocol, `Connection` a list.
        let expected = derive_accept_key(key.as_bytes());
        if !has_token(headers, header::UPGRADE, "websocket") || list(headers, header::UPGRADE).count() != 1 {
            return Err(HandshakeError::MissingUpgrade { got: all(headers, header::UPGRADE) });
        }
        if !has_token(headers, header::CONNECTION, "upgrade") {
            return Err(HandshakeError::MissingConnection { got: all(headers, header::CONNECTION) });
        }
        match one(headers, header::SEC_WEBSOCKET_ACCEPT) {
            Ok(Some(accept)) if *accept == *expected => {}
            _ => {
                return Err(HandshakeError::WrongAccept { expected, got: all(headers, header::SEC_WEBSOCKET_ACCEPT) });
            }
        }
        let protocol = self.check_protocol(headers)?;
        let extensions = self.check_extensions(headers)?;
        Ok(Accepted { protocol, extensions, headers: head.headers })
    }

    fn check_protocol(&self, headers: &HeaderMap) -> Result<Option<String>, HandshakeError> {
        let chosen = match one(headers, header::SEC_WEBSOCKET_PROTOCOL) {
            Ok(None) => return Ok(None),
            Ok(Some(value)) => self.protocols.iter().find(|protocol| *value == **protocol),
            Err(_) => None,
        };
        let got = || all(headers, header::SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
        chosen.cloned().map(Some).ok_or_else(|| HandshakeError::UnrequestedProtocol { got: got() })
    }

    fn check_extensions(&self, headers: &HeaderMap) -> Result<Option<String>, HandshakeError> {
        // compared without case, as in the negotiation of permessage-deflate
        let name = |element: &[u8]| {
            let name = element.split(|&byte| byte == b';').next().unwrap_or_default();
            name.trim_ascii().to_ascii_lowercase()
        };
        let offer = self.extensions.as_deref().unwrap_or_default();
        let mut offered: Vec<Vec<u8>> = offer.as_bytes().split(|&byte| byte == b',').map(name).collect();
        let mut accepted = String::new();
        for element in list(headers, header::SEC_WEBSOCKET_EXTENSIONS) {
            let unrequested = || HandshakeError::UnrequestedExtension { got: excerpt(element) };
            if element.is_empty() && list(headers, header::SEC_WEBSOCKET_EXTENSIONS).any(|other| !other.is_empty()) {
                continue; // RFC 9110, 5.6.1.2
            }
            let (name, text) = (name(element), std::str::from_utf8(element).map_err(|_| unrequested())?);
            if name.is_empty() || !offered.contains(&name) {
                return Err(unrequested());
            }
            // Once only, though it may have been offered with several sets of parameters (RFC 7692, 5.1).
            offered.retain(|other| *other != name);
            let separator = if accepted.is_empty() { "" } else { ", " };
            accepted.extend([separator, text]);
        }
        Ok(Some(accepted).filter(|accepted| !accepted.is_empty()))
    }
}

/// `Authorization` by user and password (RFC 7617, 2).
pub(super) fn basic((user, password): &(String, String)) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()))
}

pub(super) fn write(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

fn refused(head: ResponseHead, rest: &[u8]) -> HandshakeError {
    // RFC 9110, 15.4: the redirections that a client may follow by itself.
    let location = head.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    match (head.status.as_u16(), location) {
        (301 | 302 | 303 | 307 | 308, Some(location)) => {
            HandshakeError::Redirect { status: head.status, location: location.into() }
        }
        _ => HandshakeError::Status(Rejection::new(head, rest)),
    }
}

/// All lines of a field as an error shows them.
fn all(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    (!lines.is_empty()).then(|| excerpt(&lines.join(&b", "[..])))
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
