//! Collects the head of one message - its start line and header fields, up to the blank line - and parses it once.

use std::mem;

use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use bytes::Bytes;

use super::fields::{excerpt, is_tchar};

/// The longest method that is read. The longest registered one, `UPDATEREDIRECTREF`, has 17 letters.
const MAX_METHOD: usize = 24;

/// How many bytes of empty lines are skipped before a request line: RFC 9112, 2.2 asks for at least one CRLF.
const MAX_LEADING_BLANK: usize = 4;

/// Up to this many fields are parsed without allocating the table of their places. Browsers send about 15.
const USUAL_FIELDS: usize = 32;

/// How large the head of a message may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadLimits {
    /// The whole head, in bytes. Default 16 KiB, as in twisted.web: cookies fit, and a thousand unfinished heads
    /// are 16 MiB. (uWebSockets and libwebsockets: 4 KiB; tungstenite: 64 KiB.) Beyond it a server answers 431.
    pub max_bytes: usize,
    /// One line, in bytes with its end. Default 8 KiB, as in Apache and python's websockets. Beyond it a server answers
    /// 414 for the request line and 431 for a field.
    pub max_line: usize,
    /// The number of fields. Default 100, as in uWebSockets. Beyond it a server answers 431.
    pub max_headers: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { max_bytes: 16 * 1024, max_line: 8 * 1024, max_headers: 100 }
    }
}

/// Why a head cannot be read. Whose answer that is - a status, a failed handshake - is the caller's affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// The first bytes begin no HTTP message; they are shown up to the first wrong one.
    NotHttp { got: String },
    /// More than `max_bytes`.
    TooLarge,
    /// The start line is longer than `max_line`.
    StartLineTooLong,
    /// A field is longer than `max_line`.
    FieldTooLong,
    /// More than `max_headers`.
    TooManyHeaders,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    UnsupportedVersion { got: String },
    /// The request line's target is not a path with an optional query.
    Target { got: String },
    /// Anything else the grammar of RFC 9112 forbids.
    Malformed(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Response,
}

/// A request line and its fields.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
}

/// The head of a response: its status line and its fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ResponseHead {
    /// From 100 to 999.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The header fields, in the order they came within each name.
    pub headers: HeaderMap,
}

/// Keeps an unfinished head until its blank line comes.
///
/// Each byte is looked at once for the end of the head and once by the parser, in however many pieces it comes.
/// A head that lies whole in the input is copied once, into the storage its header values share. Nothing is kept
/// between heads.
#[derive(Debug)]
pub(crate) struct HeadReader {
    kind: Kind,
    kept: Vec<u8>,
    /// Lines of the head so far, finished ones.
    lines: usize,
    /// Bytes of the unfinished line.
    line: usize,
    leading_blank: usize,
}

/// A whole head, blank line included.
struct Raw {
    bytes: Bytes,
    fields: usize,
}

impl HeadReader {
    pub(crate) const fn requests() -> Self {
        Self::new(Kind::Request)
    }

    pub(crate) const fn responses() -> Self {
        Self::new(Kind::Response)
    }

    /// Takes the next request head from the front of `input`; `None` (with all of `input` taken) waits for more.
    pub(crate) fn request(&mut self, input: &mut &[u8], limits: &HeadLimits) -> Result<Option<RequestHead>, HeadError> {
        self.read(input, limits)?.map(parse_request).transpose()
    }

    /// Takes the next response head from the front of `input`; `None` (with all of `input` taken) waits for more.
    pub(crate) fn response(
        &mut self,
        input: &mut &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<ResponseHead>, HeadError> {
        self.read(input, limits)?.map(parse_response).transpose()
    }

    /// Whether no byte of a head has come yet.
    pub(crate) fn is_idle(&self) -> bool {
        self.kept.is_empty()
    }

    const fn new(kind: Kind) -> Self {
        Self { kind, kept: Vec::new(), lines: 0, line: 0, leading_blank: 0 }
    }

    fn read(&mut self, input: &mut &[u8], limits: &HeadLimits) -> Result<Option<Raw>, HeadError> {
        if self.kept.is_empty() {
            self.skip_leading_blank(input)?;
        }
        if self.kept.len() <= MAX_METHOD {
            self.check_start(input)?;
        }
        // Nothing beyond the limit is looked at, so that the outcome does not depend on how the input was cut.
        let room = limits.max_bytes.saturating_sub(self.kept.len());
        let window = input.get(..room).unwrap_or(input);
        match self.find_end(window, limits)? {
            Some(end) => {
                let (head, rest) = input.split_at(end);
                *input = rest;
                Ok(Some(self.finish(head)))
            }
            None if window.len() < input.len() => Err(HeadError::TooLarge),
            None => {
                self.kept.extend_from_slice(input);
                *input = &[];
                Ok(None)
            }
        }
    }

    fn skip_leading_blank(&mut self, input: &mut &[u8]) -> Result<(), HeadError> {
        while let (Kind::Request, [byte @ (b'\r' | b'\n'), rest @ ..]) = (self.kind, *input) {
            self.leading_blank += 1;
            if self.leading_blank > MAX_LEADING_BLANK {
                return Err(HeadError::NotHttp { got: excerpt(&[*byte]) });
            }
            *input = rest;
        }
        Ok(())
    }

    /// Refuses what cannot become a start line at its first wrong byte: no blank line ever follows a TLS hello.
    fn check_start(&self, input: &[u8]) -> Result<(), HeadError> {
        let start = self.kept.iter().chain(input).copied();
        #[cfg(test)]
        let start = start.inspect(|_| tests::looked_at(1));
        let wrong = match self.kind {
            // RFC 9112, 3: request-line = method SP request-target SP HTTP-version
            Kind::Request => start
                .take(MAX_METHOD + 1)
                .enumerate()
                .take_while(|&(at, byte)| at == 0 || byte != b' ')
                .position(|(at, byte)| !is_tchar(byte) || at == MAX_METHOD),
            // RFC 9112, 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]
            Kind::Response => start.zip(*b"HTTP/1.").position(|(byte, expected)| byte != expected),
        };
        wrong.map_or(Ok(()), |at| {
            let got: Vec<u8> = self.kept.iter().chain(input).take(at + 1).copied().collect();
            Err(HeadError::NotHttp { got: excerpt(&got) })
        })
    }

    /// Where in `window` the head ends, after its blank line. Counts lines and their bytes on the way.
    fn find_end(&mut self, window: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        let mut at = 0;
        loop {
            let rest = window.get(at..).unwrap_or_default();
            // RFC 9112, 2.2: a line may end in a bare LF; httparse sees lines the same way.
            let newline = rest.iter().position(|&byte| byte == b'\n');
            let taken = newline.map_or(rest.len(), |newline| newline + 1);
            #[cfg(test)]
            tests::looked_at(taken);
            self.line += taken;
            at += taken;
            if self.line > limits.max_line {
                return Err(if self.lines == 0 { HeadError::StartLineTooLong } else { HeadError::FieldTooLong });
            }
            if newline.is_none() {
                return Ok(None);
            }
            let blank = match self.line {
                1 => true,
                2 => window[..at].iter().nth_back(1).or_else(|| self.kept.last()) == Some(&b'\r'),
                _ => false,
            };
            if blank {
                return Ok(Some(at));
            }
            self.line = 0;
            self.lines += 1;
            if self.lines.saturating_sub(1) > limits.max_headers {
                return Err(HeadError::TooManyHeaders);
            }
        }
    }

    /// Ends the head with its last bytes, and forgets it.
    fn finish(&mut self, tail: &[u8]) -> Raw {
        let Self { mut kept, lines, .. } = mem::replace(self, Self::new(self.kind));
        let bytes = if kept.is_empty() {
            Bytes::copy_from_slice(tail)
        } else {
            kept.extend_from_slice(tail);
            Bytes::from(kept)
        };
        Raw { bytes, fields: lines.saturating_sub(1) }
    }
}

fn parse_request(raw: Raw) -> Result<RequestHead, HeadError> {
    with_slots(raw.fields, |slots| {
        #[cfg(test)]
        tests::parsed(raw.bytes.len());
        let mut parsed = httparse::Request::new(slots);
        let status = parsed.parse(&raw.bytes).map_err(|error| malformed(error, &raw.bytes))?;
        let httparse::Request { method: Some(method), path: Some(target), version: Some(minor), headers } = parsed
        else {
            return Err(INCOMPLETE);
        };
        if status != httparse::Status::Complete(raw.bytes.len()) {
            return Err(INCOMPLETE);
        }
        Ok(RequestHead {
            method: Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::Malformed("invalid method"))?,
            target: parse_target(target, &raw.bytes)?,
            version: version(minor),
            headers: header_map(headers, &raw.bytes)?,
        })
    })
}

fn parse_response(raw: Raw) -> Result<ResponseHead, HeadError> {
    with_slots(raw.fields, |slots| {
        #[cfg(test)]
        tests::parsed(raw.bytes.len());
        let mut parsed = httparse::Response::new(slots);
        let status = parsed.parse(&raw.bytes).map_err(|error| malformed(error, &raw.bytes))?;
        let httparse::Response { code: Some(code), version: Some(minor), headers, .. } = parsed else {
            return Err(INCOMPLETE);
        };
        if status != httparse::Status::Complete(raw.bytes.len()) {
            return Err(INCOMPLETE);
        }
        Ok(ResponseHead {
            status: StatusCode::from_u16(code).map_err(|_| HeadError::Malformed("invalid status code"))?,
            version: version(minor),
            headers: header_map(headers, &raw.bytes)?,
        })
    })
}

/// The reader and the parser disagree about where the head ends. They do not; but if they did, it would be smuggling.
const INCOMPLETE: HeadError = HeadError::Malformed("incomplete head");

/// Lends `parse` a table for `fields` places: `httparse` writes into it where each field is.
fn with_slots<'b, T>(fields: usize, parse: impl FnOnce(&mut [httparse::Header<'b>]) -> T) -> T {
    if fields <= USUAL_FIELDS {
        parse(&mut [httparse::EMPTY_HEADER; USUAL_FIELDS])
    } else {
        parse(&mut vec![httparse::EMPTY_HEADER; fields])
    }
}

/// Only origin-form, `/path?query`, names something here. Absolute-form is for proxies, authority-form for CONNECT and
/// `*` for OPTIONS; a fragment is never sent (RFC 9110, 7.1).
fn parse_target(target: &str, head: &Bytes) -> Result<PathAndQuery, HeadError> {
    let is_origin_form = target.starts_with('/') && !target.contains('#');
    is_origin_form
        .then(|| PathAndQuery::from_maybe_shared(head.slice_ref(target.as_bytes())).ok())
        .flatten()
        .ok_or_else(|| HeadError::Target { got: excerpt(target.as_bytes()) })
}

/// The header values share the head's storage: one allocation for all of them.
fn header_map(fields: &[httparse::Header<'_>], head: &Bytes) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::try_with_capacity(fields.len()).map_err(|_| HeadError::TooManyHeaders)?;
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let name = name.map_err(|_| HeadError::Malformed("invalid header name"))?;
        // `slice_ref` of an empty slice is an empty `Bytes`, wherever that slice points.
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value));
        let value = value.map_err(|_| HeadError::Malformed("invalid header value"))?;
        headers.try_append(name, value).map_err(|_| HeadError::TooManyHeaders)?;
    }
    Ok(headers)
}

fn malformed(error: httparse::Error, head: &[u8]) -> HeadError {
    HeadError::Malformed(match error {
        httparse::Error::Version => return version_error(head),
        httparse::Error::TooManyHeaders => return HeadError::TooManyHeaders,
        // RFC 9112, 5.1 and 5.2: no white space before the colon, no continuation lines.
        httparse::Error::HeaderName => "invalid header name, white space before a colon, or a folded line",
        httparse::Error::HeaderValue => "control character in a header value",
        httparse::Error::NewLine => "line that ends in CR alone",
        httparse::Error::Status => "invalid status line",
        httparse::Error::Token => "invalid start line",
    })
}

/// Tells another version of HTTP (`PRI * HTTP/2.0` among them) from a line that names none.
fn version_error(head: &[u8]) -> HeadError {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.trim_ascii_end().split(|&byte| byte == b' ').collect();
    match words[..] {
        [_, _, version] if version.starts_with(b"HTTP/") => HeadError::UnsupportedVersion { got: excerpt(version) },
        _ => HeadError::Malformed("invalid start line"),
    }
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
