//! Comparison of secrets.

use subtle::ConstantTimeEq;

/// Whether two tokens are equal, in a time that does not tell how much of them is.
///
/// For passwords, session and bearer tokens that peers present in a handshake: `==` stops at the first difference, and
/// who can measure that can guess a token byte by byte. Only the lengths are told.
///
/// ```
/// use twistor_websocket::handshake::tokens_match;
///
/// assert!(tokens_match(b"s3cret", b"s3cret"));
/// assert!(!tokens_match(b"s3cret", b"guess!"));
/// ```
pub fn tokens_match(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_match_only_when_they_are_equal() {
        // T72: the constant time itself is subtle's promise.
        for (a, b, equal) in [("", "", true), ("abc", "abc", true), ("abc", "abd", false), ("abc", "ab", false)] {
            assert_eq!(tokens_match(a.as_bytes(), b.as_bytes()), equal, "{a} {b}");
        }
    }
}
