//! What user code answers a request with.

use std::{error, fmt};

use ::http::{HeaderName, HeaderValue, StatusCode, header};
use bytes::Bytes;

use super::{excerpt, write_field};

/// An answer to a request: status, header fields and the whole body.
///
/// ```
/// use twistor_websocket::http::Response;
///
/// let mut out = Vec::new();
/// Response::html("<h1>chat</h1>").header("Cache-Control", "no-store")?.encode(&mut out, false, true);
/// assert!(out.starts_with(b"HTTP/1.1 200 OK\r\n"));
/// assert!(out.ends_with(b"Content-Length: 13\r\nConnection: keep-alive\r\n\r\n<h1>chat</h1>"));
/// # Ok::<(), twistor_websocket::http::InvalidHeader>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    status: StatusCode,
    /// In the order of their writing. A list, because a response has five of them and a map is four times its size.
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    close: bool,
}

impl Response {
    /// An answer without a body.
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), close: false }
    }

    /// 200 with a text in UTF-8.
    pub fn text(body: impl Into<String>) -> Self {
        Self::with_body(HeaderValue::from_static("text/plain; charset=utf-8"), Bytes::from(body.into()))
    }

    /// 200 with a page of HTML in UTF-8.
    pub fn html(body: impl Into<String>) -> Self {
        Self::with_body(HeaderValue::from_static("text/html; charset=utf-8"), Bytes::from(body.into()))
    }

    /// 200 with bytes of any type. `Bytes::from_static` and clones of one `Bytes` are not copied until they are sent.
    ///
    /// # Errors
    ///
    /// When the content type is no header value.
    pub fn bytes(content_type: &str, body: impl Into<Bytes>) -> Result<Self, InvalidHeader> {
        Ok(Self::with_body(header_value(&header::CONTENT_TYPE, content_type)?, body.into()))
    }

    /// 404 with a text.
    pub fn not_found() -> Self {
        Self::text("there is nothing here\n").status(StatusCode::NOT_FOUND)
    }

    /// 302 to another place, a URL or a path; [`status`](Self::status) makes it another kind.
    ///
    /// # Errors
    ///
    /// When the location is no header value: a line end in it would end the head and begin another.
    pub fn redirect(location: &str) -> Result<Self, InvalidHeader> {
        Self::new(StatusCode::FOUND).header("Location", location)
    }

    /// An error that ends the connection, with a text that says what was expected and what came.
    pub fn error(status: StatusCode, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.push('\n');
        // The text may quote the peer: no browser shall take it for a page.
        let no_sniffing = (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Self::text(text).status(status).with_header(no_sniffing).close()
    }

    /// The same answer with another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets a header field, in place of one with this name.
    ///
    /// # Errors
    ///
    /// When the name is no token, when the value has control characters (a line end would begin another field or
    /// another response), and for `Content-Length`, `Transfer-Encoding` and `Connection`, which the encoder writes.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, InvalidHeader> {
        let (name, value) = header_field(name, value)?;
        self.headers.retain(|(other, _)| *other != name);
        Ok(self.with_header((name, value)))
    }

    /// Adds a header field beside those with this name, as `Set-Cookie` needs it.
    ///
    /// # Errors
    ///
    /// As [`header`](Self::header).
    pub fn add_header(self, name: &str, value: &str) -> Result<Self, InvalidHeader> {
        header_field(name, value).map(|field| self.with_header(field))
    }

    /// The same answer, after which the connection is closed.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// The status.
    pub fn status_code(&self) -> StatusCode {
        self.status
    }

    /// The header fields that were set, in order; not those the encoder adds.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers.iter().map(|(name, value)| (name, value))
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether the connection must be closed after this answer, whatever the request wishes.
    pub fn closes(&self) -> bool {
        self.close
    }

    /// Appends the answer as it is sent. `head_only` is for HEAD: the same head, no body. `keep_alive` is whether the
    /// request leaves the connection open ([`Request::keep_alive`](super::Request::keep_alive)).
    ///
    /// Adds `Content-Length` and `Connection`. There is no `Date`: this layer has no clock, and RFC 9110, 6.6.1 asks it
    /// of servers with one; whoever has one sets it with [`header`](Self::header).
    pub fn encode(&self, out: &mut Vec<u8>, head_only: bool, keep_alive: bool) {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(self.status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.status.canonical_reason().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
        for (name, value) in &self.headers {
            write_field(out, name, value.as_bytes());
        }
        // RFC 9110, 8.6: no Content-Length in a 1xx or 204; and a 304 has no body whose length it could tell.
        let has_body = !(self.status.is_informational() || matches!(self.status.as_u16(), 204 | 304));
        if has_body {
            write_field(out, &header::CONTENT_LENGTH, self.body.len().to_string().as_bytes());
        }
        write_field(out, &header::CONNECTION, self.connection(keep_alive));
        out.extend_from_slice(b"\r\n");
        if has_body && !head_only {
            out.extend_from_slice(&self.body);
        }
    }

    fn connection(&self, keep_alive: bool) -> &'static [u8] {
        // RFC 9110, 7.8: whoever sends Upgrade also sends it as an option of Connection.
        let upgrade = self.headers.iter().any(|(name, _)| *name == header::UPGRADE);
        match (upgrade, keep_alive && !self.close) {
            (false, false) => b"close",
            // HTTP/1.1 keeps alive without a word; HTTP/1.0 clients wait for it (RFC 9112, C.2.2).
            (false, true) => b"keep-alive",
            (true, false) => b"Upgrade, close",
            (true, true) => b"Upgrade, keep-alive",
        }
    }

    fn with_body(content_type: HeaderValue, body: Bytes) -> Self {
        Self { body, ..Self::new(StatusCode::OK) }.with_header((header::CONTENT_TYPE, content_type))
    }

    /// Adds a field of the library's own, beyond doubt.
    pub(crate) fn with_header(mut self, field: (HeaderName, HeaderValue)) -> Self {
        self.headers.push(field);
        self
    }
}

/// A header field that cannot be sent. Peers' text has no say in it: this is the caller's mistake, told at once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// The name is no token (RFC 9110, 5.1).
    Name(String),
    /// The value of this field has control characters, line ends among them (RFC 9110, 5.5).
    Value {
        /// The field.
        name: HeaderName,
        /// Its value, escaped and cut; `..` for cookies and credentials.
        value: String,
    },
    /// This field is written by the library, which alone knows its value.
    Reserved(HeaderName),
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "invalid header name \"{name}\""),
            Self::Value { name, value } => write!(f, "invalid value for the header {name}: \"{value}\""),
            Self::Reserved(name) => write!(f, "the header {name} is written by the library"),
        }
    }
}

impl error::Error for InvalidHeader {}

fn header_field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), InvalidHeader> {
    let name = header_name(name)?;
    // RFC 9112, 6: two opinions about where a message ends are a smuggled request.
    if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(&name) {
        return Err(InvalidHeader::Reserved(name));
    }
    let value = header_value(&name, value)?;
    Ok((name, value))
}

pub(crate) fn header_name(name: &str) -> Result<HeaderName, InvalidHeader> {
    name.parse().map_err(|_| InvalidHeader::Name(excerpt(name.as_bytes())))
}

pub(crate) fn header_value(name: &HeaderName, value: &str) -> Result<HeaderValue, InvalidHeader> {
    let secret =
        [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE, header::SET_COOKIE].contains(name);
    let shown = || if secret { "..".into() } else { excerpt(value.as_bytes()) };
    let invalid = |_| InvalidHeader::Value { name: name.clone(), value: shown() };
    HeaderValue::from_bytes(value.as_bytes()).map_err(invalid)
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
