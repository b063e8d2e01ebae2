//! What a peer did wrong.

use std::{error::Error, fmt};

use super::OpCode;

/// A peer's violation of RFC 6455 or RFC 7692, or of the receiver's [`Limits`](super::Limits).
///
/// The connection is to be failed (RFC 6455, 7.1.7): send a Close with [`FrameError::close_code`] and this error's
/// `Display` as its reason, then drop the connection. `Display` never exceeds the 123 bytes of a close reason and
/// quotes nothing the peer wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A reserved bit is set which no extension gave a meaning, or RSV1 elsewhere than on a message's first frame.
    ReservedBits(u8),
    /// An opcode of 3..=7 or 11..=15.
    ReservedOpCode(u8),
    /// A Close, Ping or Pong without FIN.
    FragmentedControl(OpCode),
    /// A Close, Ping or Pong of more than 125 bytes.
    ControlTooLong(OpCode),
    /// A client's frame is not masked.
    Unmasked,
    /// A server's frame is masked.
    Masked,
    /// The payload length is not in its shortest form.
    LengthNotMinimal(u64),
    /// The top bit of a 64-bit payload length is set.
    LengthTopBit,
    /// A continuation frame outside of any message.
    NothingToContinue,
    /// A new data message inside an unfinished one.
    MessageUnfinished(OpCode),
    /// More frames in a message than [`Limits::max_fragments`](super::Limits::max_fragments), which is quoted.
    TooManyFragments(u32),
    /// A frame larger than [`Limits::max_frame`](super::Limits::max_frame).
    FrameTooBig {
        /// The declared payload length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// A message larger than [`Limits::max_message`](super::Limits::max_message), which is quoted in bytes.
    MessageTooBig(usize),
    /// A compressed message inflates to more than [`Limits::max_message`](super::Limits::max_message).
    InflatedTooBig(usize),
    /// A text message is not UTF-8.
    InvalidText,
    /// A compressed message is not a DEFLATE stream that ends where the message does.
    CorruptDeflate,
    /// A Close with a payload of one byte.
    ClosePayloadLength,
    /// A Close with a code that may not be sent.
    InvalidCloseCode(u16),
    /// A Close whose reason is not UTF-8.
    InvalidCloseReason,
}

impl FrameError {
    /// The close code that tells the peer (RFC 6455, 7.4.1): 1002, 1007, 1008 or 1009.
    pub fn close_code(&self) -> u16 {
        match self {
            // RFC 6455, 8.1: invalid UTF-8; 7.4.1: data inconsistent with the type of the message.
            Self::InvalidText | Self::InvalidCloseReason | Self::CorruptDeflate => 1007,
            Self::TooManyFragments(_) => 1008,
            Self::FrameTooBig { .. } | Self::MessageTooBig(_) | Self::InflatedTooBig(_) => 1009,
            _ => 1002,
        }
    }
}

impl Error for FrameError {}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedBits(bits) => write!(f, "expected no reserved bits, got {bits:03b}"),
            Self::ReservedOpCode(code) => write!(f, "expected a known opcode, got {code}"),
            Self::FragmentedControl(opcode) => write!(f, "expected an unfragmented {opcode} frame, got a fragment"),
            Self::ControlTooLong(opcode) => {
                write!(f, "expected a {opcode} frame of at most 125 bytes, got a longer one")
            }
            Self::Unmasked => f.write_str("expected a masked frame from the client, got an unmasked one"),
            Self::Masked => f.write_str("expected an unmasked frame from the server, got a masked one"),
            Self::LengthNotMinimal(n) => {
                write!(f, "expected the payload length in its shortest form, got {n} in a longer one")
            }
            Self::LengthTopBit => f.write_str("expected a payload length below 2^63, got a larger one"),
            Self::NothingToContinue => f.write_str("expected a new message, got a continuation frame"),
            Self::MessageUnfinished(opcode) => write!(f, "expected a continuation frame, got a new {opcode} message"),
            Self::TooManyFragments(limit) => write!(f, "expected at most {limit} frames in a message, got more"),
            Self::FrameTooBig { length, limit } => write!(f, "expected a frame of at most {limit} bytes, got {length}"),
            Self::MessageTooBig(limit) => write!(f, "expected a message of at most {limit} bytes, got more"),
            Self::InflatedTooBig(limit) => write!(f, "expected a message of at most {limit} bytes, inflates to more"),
            Self::InvalidText => f.write_str("expected UTF-8 in a text message, got other bytes"),
            Self::CorruptDeflate => f.write_str("expected a deflated message, got a corrupt or truncated one"),
            Self::ClosePayloadLength => f.write_str("expected a close code of two bytes, got one byte"),
            Self::InvalidCloseCode(code) => write!(f, "expected a close code that may be sent, got {code}"),
            Self::InvalidCloseReason => f.write_str("expected UTF-8 in a close reason, got other bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::MAX_REASON, *};

    #[test]
    fn every_error_fits_a_close_reason() {
        let longest = [
            FrameError::ReservedBits(7),
            FrameError::ControlTooLong(OpCode::Close),
            FrameError::LengthNotMinimal(u64::MAX),
            FrameError::MessageUnfinished(OpCode::Binary),
            FrameError::FrameTooBig { length: u64::MAX, limit: usize::MAX },
            FrameError::InflatedTooBig(usize::MAX),
            FrameError::InvalidCloseCode(u16::MAX),
            FrameError::Unmasked,
        ];
        for error in longest {
            assert!(error.to_string().len() <= MAX_REASON, "{error}");
        }
    }
}
