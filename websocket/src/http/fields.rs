//! Header fields: their lists (RFC 9110, 5.6.1), their spelling on the wire, and peers' text made fit for people.

use ::http::header::AsHeaderName;
use ::http::{HeaderMap, HeaderName, HeaderValue};

/// What of a peer's text is shown in an error or a log line, in characters.
const EXCERPT: usize = 100;

/// The elements of a comma-separated list, over all lines of the field, without the white space around them.
///
/// Empty elements are handed out: whether they are harmless is the field's business.
pub(crate) fn list(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = &[u8]> {
    // RFC 9110, 5.3: several lines of one field mean the same as one line with the values joined by commas.
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// Whether the list contains `token`, in any case.
pub(crate) fn has_token(headers: &HeaderMap, name: impl AsHeaderName, token: &str) -> bool {
    list(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// The field's only value: `Ok(None)` without the field, `Err` with how often it came when that is more than once.
pub(crate) fn one(headers: &HeaderMap, name: impl AsHeaderName) -> Result<Option<&HeaderValue>, usize> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.count()) {
        (value, 0) => Ok(value),
        (_, more) => Err(1 + more),
    }
}

/// RFC 9110, 5.6.2: `token = 1*tchar`.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_tchar)
}

pub(crate) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Appends `Name: value` and the line's end, with the customary capitals.
///
/// Names are case-insensitive (RFC 9110, 5.1), but many a client searches for `Sec-WebSocket-Accept:`.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    let (prefix, rest) = match name.as_str().strip_prefix("sec-websocket-") {
        Some(rest) => ("Sec-WebSocket-", rest),
        None => ("", name.as_str()),
    };
    out.extend_from_slice(prefix.as_bytes());
    let mut start_of_word = true;
    out.extend(rest.bytes().map(|byte| {
        let byte = if start_of_word { byte.to_ascii_uppercase() } else { byte };
        start_of_word = byte == b'-';
        byte
    }));
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A peer's text for an error message: escaped, so that it cannot forge lines or colours, and cut to 100 characters.
pub(crate) fn excerpt(text: &[u8]) -> String {
    let mut escaped = text.iter().take(EXCERPT + 1).flat_map(|byte| byte.escape_ascii()).map(char::from);
    let mut shown: String = escaped.by_ref().take(EXCERPT).collect();
    if escaped.next().is_some() {
        shown.push_str("...");
    }
    shown
}

/// A field's first value, or that there is none, for an error message.
pub(crate) fn shown(headers: &HeaderMap, name: impl AsHeaderName) -> String {
    headers.get(name).map_or_else(|| "none".into(), |value| format!("\"{}\"", excerpt(value.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_escaped_and_cut() {
        // T71
        assert_eq!(excerpt(b"plain"), "plain");
        assert_eq!(excerpt(b"a\r\n\x1b[31m\xff"), r"a\r\n\x1b[31m\xff");
        assert_eq!(excerpt(&[b'x'; 100]), "x".repeat(100));
        assert_eq!(excerpt(&[b'x'; 101]), "x".repeat(100) + "...");
        assert_eq!(excerpt(&[0; 9000]).len(), 103);
    }

    #[test]
    fn lists_span_lines_tabs_and_odd_case() {
        // T9
        let mut headers = HeaderMap::new();
        headers.append("connection", HeaderValue::from_static("keep-alive"));
        headers.append("connection", HeaderValue::from_static(",\tuPGrade ,"));
        assert!(has_token(&headers, "connection", "upgrade"));
        assert!(!has_token(&headers, "connection", "grade"));
        assert_eq!(list(&headers, "connection").count(), 4);
        assert_eq!(one(&headers, "connection"), Err(2));
        assert_eq!(one(&headers, "host"), Ok(None));
    }

    #[test]
    fn fields_are_written_in_customary_case() {
        let mut out = Vec::new();
        write_field(&mut out, &HeaderName::from_static("sec-websocket-key"), b"x");
        write_field(&mut out, &HeaderName::from_static("x-forwarded-for"), b"y");
        assert_eq!(out, b"Sec-WebSocket-Key: x\r\nX-Forwarded-For: y\r\n");
    }
}
