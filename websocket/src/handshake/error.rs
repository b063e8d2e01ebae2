//! Why a client's handshake failed.

use std::time::Duration;
use std::{error, fmt};

use ::http::{HeaderMap, StatusCode, Version, header};

use crate::http::{HeadError, HeadLimits, ResponseHead, excerpt, has_token};

use super::shown;

/// What of a refusal's body is kept: enough for the page or the JSON that says why.
const MAX_BODY: usize = 16 * 1024;

/// How long the line before a chunk may be: a size, and extensions that hardly anybody sends.
const MAX_CHUNK_LINE: usize = 256;

/// Why a client's handshake failed: what was expected and what came.
///
/// Texts of the server are escaped and cut to 100 characters, here and in `Display`, which leaves out the credentials and
/// the query of a location, too; [`Rejection`] has them whole.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The answer does not begin with `HTTP/1.`: another protocol, perhaps TLS or HTTP/2, is spoken there.
    NotHttp {
        /// The answer up to its first wrong byte.
        got: String,
    },
    /// The answer's head breaks the grammar of RFC 9112.
    Malformed {
        /// How.
        what: &'static str,
    },
    /// The answer's head, or a line of it, is too large.
    HeadTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The answer has too many header fields.
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
    /// Too many 1xx responses came before the answer.
    TooManyInterim {
        /// The limit.
        limit: usize,
    },
    /// The server answered 101 in HTTP/1.0, which has no upgrades.
    WrongVersion {
        /// The version.
        got: Version,
    },
    /// The server refused: another status than 101.
    Status(Box<Rejection>),
    /// The server is elsewhere: 301, 302, 303, 307 or 308 with a `Location`.
    Redirect {
        /// The status.
        status: StatusCode,
        /// The location, whole, as it came: resolve it with [`RedirectPolicy::follow`](super::RedirectPolicy::follow).
        location: String,
    },
    /// `Upgrade` is not `websocket` (RFC 6455, 4.1).
    MissingUpgrade {
        /// The value, if there was one.
        got: Option<String>,
    },
    /// `Connection` does not have `Upgrade` (RFC 6455, 4.1).
    MissingConnection {
        /// The value, if there was one.
        got: Option<String>,
    },
    /// `Sec-WebSocket-Accept` does not answer our key: a cache, or a server that speaks no WebSocket.
    WrongAccept {
        /// The value that belongs to the key.
        expected: String,
        /// The value, if there was one, or all of them.
        got: Option<String>,
    },
    /// The server chose a subprotocol that was not offered, or several.
    UnrequestedProtocol {
        /// The choice.
        got: String,
    },
    /// The server accepted an extension that was not offered, or one twice.
    UnrequestedExtension {
        /// The extension.
        got: String,
    },
    /// The HTTP proxy refused to connect; 407 asks for credentials.
    Proxy(Box<Rejection>),
}

impl HandshakeError {
    pub(super) fn from_head(error: HeadError, limits: &HeadLimits) -> Self {
        match error {
            HeadError::NotHttp { got } | HeadError::UnsupportedVersion { got } => Self::NotHttp { got },
            HeadError::TooLarge => Self::HeadTooLarge { limit: limits.max_bytes },
            HeadError::StartLineTooLong | HeadError::FieldTooLong => Self::HeadTooLarge { limit: limits.max_line },
            HeadError::TooManyHeaders => Self::TooManyHeaders { limit: limits.max_headers },
            HeadError::Target { .. } => Self::Malformed { what: "invalid status line" },
            HeadError::Malformed(what) => Self::Malformed { what },
        }
    }

    /// The response that refuses: the server's or the proxy's.
    pub(crate) fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Status(rejection) | Self::Proxy(rejection) => Some(rejection),
            _ => None,
        }
    }

    /// Adds what came later of a refusal's body, and answers whether nothing more is needed.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Status(rejection) | Self::Proxy(rejection) => rejection.feed(bytes),
            _ => true,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |got: &Option<String>| got.as_ref().map_or_else(|| "none".into(), |got| format!("\"{got}\""));
        match self {
            Self::NotHttp { got } => write!(f, "expected an HTTP/1.1 response, but \"{got}\" came"),
            Self::Malformed { what } => write!(f, "malformed response head: {what}"),
            Self::HeadTooLarge { limit } => {
                write!(f, "expected at most {limit} bytes of a response head or its line, but more came")
            }
            Self::TooManyHeaders { limit } => write!(f, "expected at most {limit} header fields, but more came"),
            Self::TooManyInterim { limit } => write!(f, "expected at most {limit} interim responses, but more came"),
            Self::WrongVersion { got } => write!(f, "expected an upgrade in HTTP/1.1, but it came in {got:?}"),
            Self::Status(rejection) => write!(f, "expected 101 Switching Protocols, but {rejection} came"),
            Self::Redirect { status, location } => {
                write!(f, "expected 101 Switching Protocols, but {status} to \"{}\" came", shown(location))
            }
            Self::MissingUpgrade { got } => {
                write!(f, "expected \"websocket\" in the Upgrade header, but {} came", quoted(got))
            }
            Self::MissingConnection { got } => {
                write!(f, "expected \"Upgrade\" in the Connection header, but {} came", quoted(got))
            }
            Self::WrongAccept { expected, got } => {
                write!(f, "expected \"{expected}\" in the Sec-WebSocket-Accept header, but {} came", quoted(got))
            }
            Self::UnrequestedProtocol { got } => {
                write!(f, "expected one of the offered subprotocols, but \"{got}\" came")
            }
            Self::UnrequestedExtension { got } => {
                write!(f, "expected offered extensions, each once, but \"{got}\" came")
            }
            Self::Proxy(rejection) => write!(f, "expected the proxy to connect, but {rejection} came"),
        }
    }
}

impl error::Error for HandshakeError {}

/// A response that refuses: Autobahn's and `twisted.web`'s `ConnectionRejected`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rejection {
    /// The status.
    pub status: StatusCode,
    /// The header fields, whole.
    pub headers: HeaderMap,
    /// The body, as much as came of it, 16 KiB at most. Chunks are put together, a `Content-Encoding` stays.
    pub body: Vec<u8>,
    /// `Retry-After`: do not come back sooner. A date counts from the answer's own `Date`, whatever our clock says;
    /// without that it is left in `headers`.
    pub retry_after: Option<Duration>,
    /// How much of the body, or of the chunk that comes, is missing.
    missing: usize,
    /// In chunks: what has come of the line before the next one.
    chunk_line: Option<Vec<u8>>,
}

impl Rejection {
    /// A refusal by its head and the bytes behind it.
    pub(super) fn new(head: ResponseHead, rest: &[u8]) -> Box<Self> {
        let ResponseHead { status, headers, .. } = head;
        let number = |name| digits(headers.get(name)?.as_bytes());
        // RFC 9110, 10.2.3: a number of seconds or a date
        let date = |name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
        let until = || date(header::RETRY_AFTER)?.duration_since(date(header::DATE)?).ok();
        let retry_after = number(header::RETRY_AFTER).map(Duration::from_secs).or_else(until);
        // RFC 9112, 6.3: these have no body, chunks go before a length, and without either it lasts until the end
        let has_none = status.is_informational() || matches!(status.as_u16(), 204 | 304);
        let chunked = !has_none && has_token(&headers, header::TRANSFER_ENCODING, "chunked");
        let length = number(header::CONTENT_LENGTH).filter(|_| !headers.contains_key(header::TRANSFER_ENCODING));
        let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(MAX_BODY);
        let missing = if has_none || chunked { 0 } else { length.min(MAX_BODY) };
        let chunk_line = chunked.then(Vec::new);
        let mut rejection = Self { status, headers, body: Vec::new(), retry_after, missing, chunk_line };
        rejection.feed(rest);
        Box::new(rejection)
    }

    /// Adds what came later of the body, and answers whether it is whole (or as much of it as is kept).
    pub fn feed(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            let room = MAX_BODY.saturating_sub(self.body.len());
            let (data, rest) = bytes.split_at(bytes.len().min(self.missing).min(room));
            self.body.extend_from_slice(data);
            self.missing -= data.len();
            if data.len() == room || self.missing > 0 {
                return data.len() == room;
            }
            let Some(line) = &mut self.chunk_line else { return true };
            let end = rest.iter().position(|&byte| byte == b'\n');
            let (part, rest) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            line.extend_from_slice(part);
            bytes = rest;
            match chunk_size(line) {
                _ if line.len() > MAX_CHUNK_LINE => self.chunk_line = None,
                _ if end.is_none() => return false,
                Some(size) => {
                    self.missing = size;
                    line.clear();
                }
                None => self.chunk_line = None,
            }
        }
    }
}

/// A number in a header field, which has no signs; one too large is as large as it gets.
fn digits(value: &[u8]) -> Option<u64> {
    let number = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add((digit - b'0').into());
    let all = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    all.then(|| value.iter().fold(0, number))
}

/// By the line before a chunk (RFC 9112, 7.1); 0 for the empty one behind the chunk before. `None` is the end: the last
/// chunk, or no chunk at all.
fn chunk_size(line: &[u8]) -> Option<usize> {
    let size = line.strip_suffix(b"\n")?.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    if size.is_empty() {
        return Some(0);
    }
    let size = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
    size.filter(|&size| size > 0)
}

/// The status, and the beginning of the body if there is one.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if self.body.is_empty() { Ok(()) } else { write!(f, " \"{}\"", excerpt(&self.body)) }
    }
}
