//! Close frames: RFC 6455, sections 5.5.1 and 7.4.

use std::{error::Error, fmt, io::Write};

use super::{FrameError, MAX_CONTROL_PAYLOAD};

/// The longest close reason in bytes: a control payload less the code.
pub const MAX_REASON: usize = MAX_CONTROL_PAYLOAD - 2;

/// Why a peer closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// The close code: 1000..=1003, 1007..=1014 or 3000..=4999.
    pub code: u16,
    /// The reason, often empty, at most [`MAX_REASON`] bytes. Peers write what they like: escape it before logging.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads the payload of a Close; `None` if it is empty.
    pub(super) fn parse(payload: &'a [u8]) -> Result<Option<Self>, FrameError> {
        let (code, reason) = match payload {
            [] => return Ok(None),
            // RFC 6455, 5.5.1: if there is a body, its first two bytes MUST be the code.
            [_] => return Err(FrameError::ClosePayloadLength),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        };
        if !is_sendable(code) {
            return Err(FrameError::InvalidCloseCode(code));
        }
        let reason = std::str::from_utf8(reason).map_err(|_| FrameError::InvalidCloseReason)?;
        Ok(Some(Self { code, reason }))
    }
}

/// The payload of a Close to send. It cannot be wrong: the code may be sent, the whole is at most 125 bytes.
///
/// ```
/// # use twistor_websocket::sansio::ClosePayload;
/// let payload = ClosePayload::new(Some((1000, "bye")))?;
/// assert_eq!(payload.as_bytes(), b"\x03\xe8bye");
/// assert!(ClosePayload::new(Some((1006, ""))).is_err()); // says that no Close was received, so is never in one
/// # Ok::<(), twistor_websocket::sansio::InvalidCloseCode>(())
/// ```
#[derive(Clone, Copy)]
pub struct ClosePayload {
    bytes: [u8; MAX_CONTROL_PAYLOAD],
    length: u8,
}

impl ClosePayload {
    /// The payload for a code and reason, or the empty one. A reason of more than [`MAX_REASON`] bytes is cut off after
    /// its last character that fits, as Autobahn does.
    ///
    /// # Errors
    ///
    /// [`InvalidCloseCode`] unless the code is 1000..=1003, 1007..=1014 or 3000..=4999.
    pub fn new(close: Option<(u16, &str)>) -> Result<Self, InvalidCloseCode> {
        match close {
            None => Ok(Self { bytes: [0; MAX_CONTROL_PAYLOAD], length: 0 }),
            Some((code, reason)) if is_sendable(code) => Ok(Self::with(code, reason)),
            Some((code, _)) => Err(InvalidCloseCode(code)),
        }
    }

    /// What goes into the frame.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn with(code: u16, reason: &str) -> Self {
        let mut end = reason.len().min(MAX_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = [0; MAX_CONTROL_PAYLOAD];
        bytes[..2].copy_from_slice(&code.to_be_bytes());
        bytes[2..2 + end].copy_from_slice(&reason.as_bytes()[..end]);
        Self { bytes, length: 2 + end as u8 }
    }
}

/// The Close that tells a peer what it did wrong.
impl From<FrameError> for ClosePayload {
    fn from(error: FrameError) -> Self {
        let mut text = [0; MAX_REASON];
        let mut rest = &mut text[..];
        // Every message fits and is ASCII (tested); one that did not would be cut.
        let _ = write!(rest, "{error}");
        let unused = rest.len();
        Self::with(error.close_code(), std::str::from_utf8(&text[..MAX_REASON - unused]).unwrap_or_default())
    }
}

impl AsRef<[u8]> for ClosePayload {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for ClosePayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClosePayload").field(&CloseFrame::parse(self.as_bytes())).finish()
    }
}

/// A close code that RFC 6455, 7.4 does not let an endpoint send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidCloseCode(pub u16);

impl Error for InvalidCloseCode {}

impl fmt::Display for InvalidCloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "close code {} may not be sent", self.0)
    }
}

/// RFC 6455, 7.4: 1004 is reserved; 1005, 1006 and 1015 are never on the wire; 1012 to 1014 are IANA's later additions
/// (tungstenite's `CloseCode` lacks 1014); below 3000 the rest is unassigned, 5000 and above undefined.
fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    // T36, P264: Autobahn 7.7 and 7.9.
    #[test]
    fn the_codes_that_may_be_sent_are_those_that_may_be_received() {
        for code in 0..=u16::MAX {
            let valid =
                (1000..=1014).contains(&code) && ![1004, 1005, 1006].contains(&code) || (3000..5000).contains(&code);
            assert_eq!(ClosePayload::new(Some((code, ""))).is_ok(), valid, "{code}");
            assert_eq!(CloseFrame::parse(&code.to_be_bytes()).is_ok(), valid, "{code}");
        }
    }

    // T35, T36
    #[test]
    fn malformed_close_payloads_are_refused() {
        assert_eq!(CloseFrame::parse(b""), Ok(None));
        assert_eq!(CloseFrame::parse(b"\x03"), Err(FrameError::ClosePayloadLength));
        assert_eq!(CloseFrame::parse(b"\x03\xe8\xed\xa0\x80"), Err(FrameError::InvalidCloseReason));
        assert_eq!(CloseFrame::parse(b"\x03\xe8\xc3"), Err(FrameError::InvalidCloseReason));
    }

    // P264
    #[test]
    fn a_long_reason_is_cut_between_characters() {
        for pad in 0..4 {
            let reason = "x".repeat(pad) + &"😀".repeat(40);
            let payload = ClosePayload::new(Some((1000, &reason))).unwrap();
            let sent = CloseFrame::parse(payload.as_bytes()).unwrap().unwrap().reason;
            assert!(reason.starts_with(sent));
            assert!((MAX_REASON - 3..=MAX_REASON).contains(&sent.len()));
        }
    }

    #[test]
    fn a_frame_error_becomes_its_own_close() {
        let error = FrameError::FrameTooBig { length: u64::MAX, limit: usize::MAX };
        let payload = ClosePayload::from(error);
        let close = CloseFrame { code: 1009, reason: &error.to_string() };
        assert_eq!(CloseFrame::parse(payload.as_bytes()), Ok(Some(close)));
    }
}
