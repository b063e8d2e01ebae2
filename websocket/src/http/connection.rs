//! The server's side of an HTTP/1.1 connection: bytes in, requests or a final answer out.

use std::mem;

use ::http::{HeaderMap, HeaderName, StatusCode, Version, header};
use twistor_reactor::Address;

use super::head::HeadError;
use super::{Authority, HeadLimits, HeadReader, Request, Response, excerpt, has_token, list, one};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How large a request may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The head: 16 KiB, 8 KiB a line, 100 fields by default.
    pub head: HeadLimits,
    /// The body, in bytes. Default 64 KiB: a form or a token, not an upload. Beyond it the answer is 413.
    pub max_body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: HeadLimits::default(), max_body: 64 * 1024 }
    }
}

/// The server's side of a connection, as a machine without a socket or a clock.
///
/// Requests may be pipelined: each call takes one from the input and leaves what follows it there, be it another
/// request or, after an upgrade, the first bytes of another protocol. Answers go out in the order of the requests; the
/// caller writes each before it asks for the next. Between requests the machine owns no memory on the heap.
///
/// ```
/// use twistor_websocket::http::{Connection, Limits, Response};
///
/// let mut connection = Connection::new(None, Limits::default());
/// let mut input: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
/// let mut out = Vec::new();
/// loop {
///     match connection.feed(&mut input) {
///         Ok(Some(request)) => Response::text(request.path()).encode(&mut out, false, request.keep_alive()),
///         Ok(None) => break, // wait for more bytes
///         Err(answer) => break answer.encode(&mut out, false, false), // and close
///     }
/// }
/// assert!(out.ends_with(b"Connection: close\r\n\r\n/b"));
/// ```
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    head: HeadReader,
    phase: Phase,
    peer: Option<Address>,
    wants_continue: bool,
}

/// Where in its stream of requests a connection is.
///
/// ```text
/// Head -> Head            a request without a body
/// Head -> Body -> Head    one with
/// Head | Body -> Closed   after a request that ends the connection, and after an error
/// ```
#[derive(Debug)]
enum Phase {
    /// Before or within a head.
    Head,
    /// Within a body; that many bytes of it are missing.
    Body(Box<Request>, usize),
    /// No further request is read; bytes are thrown away (RFC 9112, 9.6).
    Closed,
}

impl Connection {
    /// A connection from `peer`, before its first byte.
    pub fn new(peer: Option<Address>, limits: Limits) -> Self {
        Self { limits, head: HeadReader::requests(), phase: Phase::Head, peer, wants_continue: false }
    }

    /// Takes the next request from the front of `input`.
    ///
    /// `Ok(None)` has taken all of the input and waits for more. After a request that does not
    /// [keep the connection](Request::keep_alive), and after an error, all further input is thrown away.
    ///
    /// # Errors
    ///
    /// The answer to send before closing. Its status is
    ///
    /// * 400 for what is no HTTP, for anything the grammar forbids, without exactly one valid `Host` (RFC 9112, 3.2),
    ///   for a target in another form than `/path?query`, and for an ambiguous length (RFC 9112, 6.3);
    /// * 411 for a body in chunks: RFC 9112, 6.3 leaves a server free to insist on `Content-Length`, browsers always
    ///   send it, and a second way of framing is what requests are smuggled with;
    /// * 413, 414 and 431 beyond the [`Limits`];
    /// * 417 for another expectation than `100-continue`;
    /// * 505 for another version than HTTP/1.0 and HTTP/1.1, such as HTTP/2's preface.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Request>, Response> {
        // An error leaves it at that.
        match mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Head => self.read_head(input),
            Phase::Body(request, missing) => Ok(self.read_body(*request, missing, input)),
            Phase::Closed => {
                *input = &[];
                Ok(None)
            }
        }
    }

    /// What is to be sent at once, while a request is waited for: `100 Continue`, for which some clients hold back
    /// their body (RFC 9110, 10.1.1). Ask after each `Ok(None)`; it is given out once.
    pub fn interim(&mut self) -> Option<&'static [u8]> {
        mem::take(&mut self.wants_continue).then_some(CONTINUE)
    }

    /// Whether the next byte begins a request: then a connection may be closed without an answer.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head) && self.head.is_idle()
    }

    fn read_head(&mut self, input: &mut &[u8]) -> Result<Option<Request>, Response> {
        let Some(head) = self.head.request(input, &self.limits.head).map_err(|error| self.refuse(error))? else {
            self.phase = Phase::Head;
            return Ok(None);
        };
        let request = Request::new(head, self.peer.clone());
        check_host(&request)?;
        let length = body_length(&request, self.limits.max_body)?;
        let expects_continue = expects_continue(&request)?;
        let request = self.read_body(request, length, input);
        // RFC 9110, 10.1.1: it may be left out once some of the body is here.
        self.wants_continue =
            expects_continue && matches!(&self.phase, Phase::Body(request, _) if request.body().is_empty());
        Ok(request)
    }

    /// The buffer grows with what comes, not with what was announced.
    fn read_body(&mut self, mut request: Request, missing: usize, input: &mut &[u8]) -> Option<Request> {
        let (body, rest) = input.split_at(missing.min(input.len()));
        request.extend_body(body);
        *input = rest;
        let missing = missing - body.len();
        if missing > 0 {
            self.phase = Phase::Body(Box::new(request), missing);
            return None;
        }
        if request.keep_alive() {
            self.phase = Phase::Head;
        }
        self.wants_continue = false;
        Some(request)
    }

    fn refuse(&mut self, error: HeadError) -> Response {
        self.head = HeadReader::requests();
        let HeadLimits { max_bytes, max_line, max_headers } = self.limits.head;
        let (status, text) = match error {
            // A TLS record of the handshake begins with 22 (RFC 8446, 5.1).
            HeadError::NotHttp { got } if got == r"\x16" => {
                (StatusCode::BAD_REQUEST, "expected HTTP on this port, but a TLS handshake came".into())
            }
            HeadError::NotHttp { got } => {
                (StatusCode::BAD_REQUEST, format!("expected an HTTP method, but \"{got}\" came"))
            }
            HeadError::TooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                format!("expected a request head of at most {max_bytes} bytes, but a larger one came"),
            ),
            HeadError::StartLineTooLong => (
                StatusCode::URI_TOO_LONG,
                format!("expected a request line of at most {max_line} bytes, but a longer one came"),
            ),
            HeadError::FieldTooLong => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                format!("expected header lines of at most {max_line} bytes, but a longer one came"),
            ),
            HeadError::TooManyHeaders => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                format!("expected at most {max_headers} header fields, but more came"),
            ),
            HeadError::UnsupportedVersion { got } => {
                (StatusCode::HTTP_VERSION_NOT_SUPPORTED, format!("expected HTTP/1.1 or HTTP/1.0, but {got} came"))
            }
            HeadError::Target { got } => (
                StatusCode::BAD_REQUEST,
                format!("expected a path with an optional query in the request line, but \"{got}\" came"),
            ),
            HeadError::Malformed(what) => (
                StatusCode::BAD_REQUEST,
                format!("expected a request head as in RFC 9112, but it is malformed: {what}"),
            ),
        };
        Response::error(status, text)
    }
}

/// RFC 9112, 3.2: 400 for an HTTP/1.1 request without `Host`, and for any with more than one or an invalid one.
fn check_host(request: &Request) -> Result<(), Response> {
    let refused = |got: String| {
        Err(Response::error(StatusCode::BAD_REQUEST, format!("expected one Host header with host[:port], but {got}")))
    };
    match one(request.headers(), header::HOST) {
        Ok(None) if request.version() == Version::HTTP_10 => Ok(()),
        Ok(None) => refused("none came".into()),
        Ok(Some(host)) if host.to_str().is_ok_and(|host| Authority::parse(host).is_some()) => Ok(()),
        Ok(Some(host)) => refused(format!("\"{}\" came", excerpt(host.as_bytes()))),
        Err(count) => refused(format!("{count} came")),
    }
}

/// The length of the body by RFC 9112, 6.3, without its lenience: what two readers might read differently is refused.
fn body_length(request: &Request, max_body: usize) -> Result<usize, Response> {
    let headers = request.headers();
    let length = one(headers, header::CONTENT_LENGTH).map_err(|count| {
        Response::error(
            StatusCode::BAD_REQUEST,
            format!("expected at most one Content-Length header, but {count} came"),
        )
    })?;
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(refuse_transfer_encoding(headers, request.version()));
    }
    let Some(length) = length else { return Ok(0) };
    // `str::parse` alone would let a `+` pass.
    if length.is_empty() || !length.as_bytes().iter().all(u8::is_ascii_digit) {
        let got = excerpt(length.as_bytes());
        let text = format!("expected a number of bytes in the Content-Length header, but \"{got}\" came");
        return Err(Response::error(StatusCode::BAD_REQUEST, text));
    }
    let length = length.to_str().ok().and_then(|digits| digits.parse().ok());
    length.filter(|&length| length <= max_body).ok_or_else(|| {
        let text = format!("expected a body of at most {max_body} bytes, but a larger one is announced");
        Response::error(StatusCode::PAYLOAD_TOO_LARGE, text)
    })
}

fn refuse_transfer_encoding(headers: &HeaderMap, version: Version) -> Response {
    // RFC 9112, 6.1: with Content-Length it may be an attempt at smuggling; in HTTP/1.0 the framing is faulty.
    let (status, text) = if headers.contains_key(header::CONTENT_LENGTH) {
        (StatusCode::BAD_REQUEST, "expected Content-Length or Transfer-Encoding, but both came")
    } else if version == Version::HTTP_10 {
        (StatusCode::BAD_REQUEST, "expected no Transfer-Encoding in HTTP/1.0, but one came")
    } else if has_token(headers, header::UPGRADE, "websocket") {
        (StatusCode::BAD_REQUEST, "expected no body in a WebSocket handshake, but Transfer-Encoding announces one")
    } else if is_only(headers, header::TRANSFER_ENCODING, "chunked") {
        (StatusCode::LENGTH_REQUIRED, "expected a body with a Content-Length, but a chunked one came")
    } else {
        (StatusCode::NOT_IMPLEMENTED, "expected no Transfer-Encoding, but one came that is not known here")
    };
    Response::error(status, text)
}

/// RFC 9110, 10.1.1: `Expect` of an HTTP/1.0 client is ignored, an unknown expectation may be answered with 417.
fn expects_continue(request: &Request) -> Result<bool, Response> {
    let headers = request.headers();
    if !headers.contains_key(header::EXPECT) || request.version() == Version::HTTP_10 {
        return Ok(false);
    }
    if is_only(headers, header::EXPECT, "100-continue") {
        return Ok(true);
    }
    Err(Response::error(StatusCode::EXPECTATION_FAILED, "expected no expectation but 100-continue, but another came"))
}

/// Whether `token` is all there is in the list, in any case.
fn is_only(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let mut elements = list(headers, name).filter(|element| !element.is_empty()).peekable();
    elements.peek().is_some() && elements.all(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
