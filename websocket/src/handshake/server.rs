//! The server's side of the opening handshake (RFC 6455, 4.2).

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use tungstenite::handshake::derive_accept_key;

use crate::http::{InvalidHeader, Request, Response, excerpt, has_token, is_token, list, one, shown, write_field};

/// A client has good reason to offer a handful of subprotocols: one a dialect and version it speaks.
const MAX_PROTOCOLS: usize = 64;

/// The fields of the 101 that this file writes, and those that would give it a body.
const RESERVED: [HeaderName; 7] = [
    header::UPGRADE,
    header::CONNECTION,
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

/// What a client's valid handshake asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upgrade {
    /// Its `Sec-WebSocket-Key`, for [`response`].
    pub key: String,
    /// The subprotocols it speaks, the preferred first; tokens without duplicates, 64 at most.
    pub protocols: Vec<String>,
    /// The values of its `Sec-WebSocket-Extensions`, one a line, as they came.
    pub extensions: Vec<String>,
}

/// Whether the request asks for a WebSocket: `websocket` is in its `Upgrade` field, in any case.
pub fn is_upgrade(request: &Request) -> bool {
    has_token(request.headers(), header::UPGRADE, "websocket")
}

/// The answer to a plain request where only WebSockets are served: 426, which says so.
pub fn not_an_upgrade() -> Response {
    upgrade_required("expected a WebSocket handshake, but a plain HTTP request came")
}

/// Checks a client's handshake.
///
/// `early` is what followed the request in the input and is to be refused for it: a client has nothing to say before
/// the 101 is there (RFC 6455, 4.1), and what looks like a second request may be one that a proxy in front never saw.
/// Clients that do not wait exist, though: a caller that will deliver their frames leaves them out here, as this
/// crate's server does with whatever may be a client's frame.
///
/// # Errors
///
/// The answer to send before closing:
///
/// * 426 without an upgrade, and without `Sec-WebSocket-Version: 13` (RFC 6455, 4.4);
/// * 405 for another method than GET, 505 for HTTP/1.0;
/// * 400 for a missing `Connection: Upgrade`, a missing, repeated or malformed key, repeated versions, a body, early
///   bytes, and for subprotocols that are no tokens, occur twice or are more than 64.
pub fn check(request: &Request, early: &[u8]) -> Result<Upgrade, Response> {
    let headers = request.headers();
    if !is_upgrade(request) {
        return Err(not_an_upgrade());
    }
    if request.method() != Method::GET {
        let text = format!(
            "expected GET for a WebSocket handshake, but {} came",
            excerpt(request.method().as_str().as_bytes())
        );
        let allow = (header::ALLOW, HeaderValue::from_static("GET"));
        return Err(Response::error(StatusCode::METHOD_NOT_ALLOWED, text).with_header(allow));
    }
    if request.version() != Version::HTTP_11 {
        let text = "expected HTTP/1.1 for a WebSocket handshake, but HTTP/1.0 came";
        return Err(Response::error(StatusCode::HTTP_VERSION_NOT_SUPPORTED, text));
    }
    if !has_token(headers, header::CONNECTION, "upgrade") {
        let got = shown(headers, header::CONNECTION);
        return Err(bad_request(format!("expected \"Upgrade\" in the Connection header, but {got} came")));
    }
    if !request.body().is_empty() || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(bad_request("expected no body in a WebSocket handshake, but one came"));
    }
    check_version(headers)?;
    let key = check_key(headers)?;
    if !early.is_empty() {
        let text = format!("expected nothing before the handshake is answered, but \"{}\" came", excerpt(early));
        return Err(bad_request(text));
    }
    Ok(Upgrade { key, protocols: protocols(headers)?, extensions: extensions(headers)? })
}

/// Appends the 101 that makes the connection a WebSocket (RFC 6455, 4.2.2).
///
/// `protocol` is one of [`Upgrade::protocols`], `extensions` the value that accepts some of [`Upgrade::extensions`],
/// `extra` whatever else the application wants to say, cookies for instance.
///
/// # Errors
///
/// When the protocol is no token, the extensions are no header value, or `extra` has a field that the handshake itself
/// writes. Nothing is appended then.
pub fn response(
    key: &str,
    protocol: Option<&str>,
    extensions: Option<&str>,
    extra: &HeaderMap,
    out: &mut Vec<u8>,
) -> Result<(), InvalidHeader> {
    if let Some(protocol) = protocol.filter(|protocol| !is_token(protocol.as_bytes())) {
        return Err(invalid(header::SEC_WEBSOCKET_PROTOCOL, protocol));
    }
    if let Some(extensions) = extensions.filter(|extensions| HeaderValue::from_str(extensions).is_err()) {
        return Err(invalid(header::SEC_WEBSOCKET_EXTENSIONS, extensions));
    }
    if let Some(name) = extra.keys().find(|name| RESERVED.contains(name)) {
        return Err(InvalidHeader::Reserved(name.clone()));
    }
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    write_field(out, &header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()).as_bytes());
    if let Some(protocol) = protocol {
        write_field(out, &header::SEC_WEBSOCKET_PROTOCOL, protocol.as_bytes());
    }
    if let Some(extensions) = extensions {
        write_field(out, &header::SEC_WEBSOCKET_EXTENSIONS, extensions.as_bytes());
    }
    for (name, value) in extra {
        write_field(out, name, value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// RFC 6455, 4.4: another version is answered with the versions spoken here.
fn check_version(headers: &HeaderMap) -> Result<(), Response> {
    let spoken = |answer: Response| answer.with_header((header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
    let other = |got: &str| upgrade_required(format!("expected Sec-WebSocket-Version: 13, but {got} came"));
    match one(headers, header::SEC_WEBSOCKET_VERSION) {
        Ok(Some(version)) if version == "13" => Ok(()),
        Ok(Some(version)) => Err(spoken(other(&excerpt(version.as_bytes())))),
        Ok(None) => Err(spoken(other("none"))),
        Err(count) => Err(spoken(bad_request(format!("expected one Sec-WebSocket-Version header, but {count} came")))),
    }
}

/// RFC 6455, 4.2.1, 5: a base64-encoded value of 16 bytes, 22 digits and two signs of padding.
///
/// The last digit's four spare bits are not looked at: the key is never decoded, and neither do `ws` or uWebSockets.
fn check_key(headers: &HeaderMap) -> Result<String, Response> {
    let refused =
        |got: String| bad_request(format!("expected one Sec-WebSocket-Key header of 16 bytes in base64, but {got}"));
    let key = match one(headers, header::SEC_WEBSOCKET_KEY) {
        Ok(Some(key)) => key,
        Ok(None) => return Err(refused("none came".into())),
        Err(count) => return Err(refused(format!("{count} came"))),
    };
    let is_digit = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    match (key.to_str(), key.as_bytes().strip_suffix(b"==")) {
        (Ok(text), Some(digits)) if digits.len() == 22 && digits.iter().all(is_digit) => Ok(text.into()),
        _ => Err(refused(format!("\"{}\" came", excerpt(key.as_bytes())))),
    }
}

/// RFC 6455, 4.1: the elements are tokens and MUST all be unique.
fn protocols(headers: &HeaderMap) -> Result<Vec<String>, Response> {
    let mut protocols = Vec::new();
    for element in list(headers, header::SEC_WEBSOCKET_PROTOCOL) {
        let text = std::str::from_utf8(element).ok().filter(|_| is_token(element));
        let Some(protocol) = text else {
            let text = format!("expected tokens in Sec-WebSocket-Protocol, but \"{}\" came", excerpt(element));
            return Err(bad_request(text));
        };
        if protocols.iter().any(|other| other == protocol) {
            let text = format!("expected different subprotocols, but \"{}\" came twice", excerpt(element));
            return Err(bad_request(text));
        }
        // This also bounds the search above.
        if protocols.len() == MAX_PROTOCOLS {
            return Err(bad_request(format!("expected at most {MAX_PROTOCOLS} subprotocols, but more came")));
        }
        protocols.push(protocol.to_owned());
    }
    Ok(protocols)
}

fn extensions(headers: &HeaderMap) -> Result<Vec<String>, Response> {
    let values = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
    let text = |value: &HeaderValue| {
        let refused = |_| {
            bad_request(format!(
                "expected ASCII in Sec-WebSocket-Extensions, but \"{}\" came",
                excerpt(value.as_bytes())
            ))
        };
        value.to_str().map(str::to_owned).map_err(refused)
    };
    values.map(text).collect()
}

fn bad_request(text: impl Into<String>) -> Response {
    Response::error(StatusCode::BAD_REQUEST, text)
}

/// RFC 9110, 15.5.22: a 426 names the protocol in `Upgrade`.
fn upgrade_required(text: impl Into<String>) -> Response {
    let upgrade = (header::UPGRADE, HeaderValue::from_static("websocket"));
    Response::error(StatusCode::UPGRADE_REQUIRED, text).with_header(upgrade)
}

fn invalid(name: HeaderName, value: &str) -> InvalidHeader {
    InvalidHeader::Value { name, value: excerpt(value.as_bytes()) }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
