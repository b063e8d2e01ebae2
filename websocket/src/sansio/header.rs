//! Frame headers: RFC 6455, section 5.2, both ways.

use std::fmt;

use super::{FrameError, Role};

/// The longest frame header in bytes: two, an eight-byte length, a four-byte masking key.
pub const MAX_HEADER: usize = 14;

/// The longest payload of a Close, Ping or Pong in bytes (RFC 6455, 5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// What a frame is (RFC 6455, 5.2 and 11.8). The others are reserved and fail the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpCode {
    /// More of the message that the last data frame without FIN left unfinished.
    Continuation = 0,
    /// A text message, or its first fragment.
    Text = 1,
    /// A binary message, or its first fragment.
    Binary = 2,
    /// The closing handshake.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping, or is sent unasked as a sign of life.
    Pong = 10,
}

impl OpCode {
    /// The opcode with this number; `None` if it is reserved.
    pub fn new(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Whether this is Close, Ping or Pong: never fragmented, at most [`MAX_CONTROL_PAYLOAD`] bytes, allowed between
    /// the fragments of a message.
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

impl fmt::Display for OpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Continuation => "continuation",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Close => "close",
            Self::Ping => "ping",
            Self::Pong => "pong",
        })
    }
}

/// Writes a frame header to the front of `buf` and returns its length in bytes, 2 to [`MAX_HEADER`].
///
/// `rsv1` marks the first frame of a compressed message (RFC 7692, 6); `mask` is the key that a client applies to the
/// payload, which follows. The caller keeps the rules for control frames: see [`MAX_CONTROL_PAYLOAD`].
///
/// ```
/// # use twistor_websocket::sansio::{encode_header, OpCode, MAX_HEADER};
/// let mut buf = [0; MAX_HEADER];
/// let length = encode_header(&mut buf, true, false, OpCode::Binary, 256, None);
/// assert_eq!(buf[..length], [0x82, 126, 0x01, 0x00]); // RFC 6455, 5.7
/// ```
#[inline]
pub fn encode_header(
    buf: &mut [u8; MAX_HEADER],
    fin: bool,
    rsv1: bool,
    opcode: OpCode,
    length: usize,
    mask: Option<[u8; 4]>,
) -> usize {
    let masked = if mask.is_some() { MASKED } else { 0 };
    buf[0] = opcode as u8 | u8::from(fin) << 7 | u8::from(rsv1) << 6;
    let used = if length < usize::from(LENGTH_16) {
        buf[1] = masked | length as u8;
        2
    } else if length <= usize::from(u16::MAX) {
        buf[1] = masked | LENGTH_16;
        buf[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        4
    } else {
        buf[1] = masked | LENGTH_64;
        buf[2..10].copy_from_slice(&(length as u64).to_be_bytes());
        10
    };
    let Some(key) = mask else { return used };
    buf[used..used + 4].copy_from_slice(&key);
    used + 4
}

/// A header that keeps all rules which can be judged without knowing the message it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) rsv1: bool,
    pub(super) opcode: OpCode,
    pub(super) length: u64,
    /// Zeros when the frame is not masked.
    pub(super) key: [u8; 4],
}

impl Header {
    /// Reads a header from the front of `bytes`, for `role` to receive, and says how long it is; `None` if it is not
    /// all there. Its first two bytes are judged as soon as they are.
    pub(super) fn parse(bytes: &[u8], role: Role, compression: bool) -> Result<Option<(Self, usize)>, FrameError> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        let fin = first & FIN != 0;
        let rsv1 = first & RSV1 != 0;
        let code = first & 0x0f;
        let opcode = OpCode::new(code).ok_or(FrameError::ReservedOpCode(code))?;
        // RFC 6455, 5.2: reserved bits MUST be 0 unless an extension defines them. RFC 7692, 6: which this one does for
        // RSV1 on the first frame of a data message only.
        if first & RSV2_AND_3 != 0 || rsv1 && !(compression && matches!(opcode, OpCode::Text | OpCode::Binary)) {
            return Err(FrameError::ReservedBits(first >> 4 & 0x7));
        }
        // RFC 6455, 5.1: a server MUST close upon an unmasked frame, a client upon a masked one.
        let masked = second & MASKED != 0;
        match role {
            Role::Server if !masked => return Err(FrameError::Unmasked),
            Role::Client if masked => return Err(FrameError::Masked),
            _ => {}
        }
        let short = second & !MASKED;
        if opcode.is_control() {
            // RFC 6455, 5.5: control frames MUST NOT be fragmented, nor exceed 125 bytes.
            if !fin {
                return Err(FrameError::FragmentedControl(opcode));
            }
            if usize::from(short) > MAX_CONTROL_PAYLOAD {
                return Err(FrameError::ControlTooLong(opcode));
            }
        }
        let (length, rest, used) = match short {
            LENGTH_16 => {
                let Some((length, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                (u64::from(u16::from_be_bytes(*length)), rest, 4)
            }
            LENGTH_64 => {
                let Some((length, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                (u64::from_be_bytes(*length), rest, 10)
            }
            short => (u64::from(short), rest, 2),
        };
        // RFC 6455, 5.2: the most significant bit MUST be 0, and the minimal number of bytes MUST be used.
        if length >> 63 != 0 {
            return Err(FrameError::LengthTopBit);
        }
        if short == LENGTH_16 && length < u64::from(LENGTH_16) || short == LENGTH_64 && length <= u64::from(u16::MAX) {
            return Err(FrameError::LengthNotMinimal(length));
        }
        let (key, used) = if masked {
            let Some(key) = rest.first_chunk() else { return Ok(None) };
            (*key, used + 4)
        } else {
            ([0; 4], used)
        };
        Ok(Some((Self { fin, rsv1, opcode, length, key }, used)))
    }
}

/// The bytes of a header of which more are to come.
#[derive(Default)]
pub(super) struct PartialHeader {
    bytes: [u8; MAX_HEADER],
    length: u8,
}

impl PartialHeader {
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes a header off the front of `input`, or all of `input` if that does not complete it.
    pub(super) fn read(
        &mut self,
        input: &mut &mut [u8],
        role: Role,
        compression: bool,
    ) -> Result<Option<Header>, FrameError> {
        if self.is_empty() {
            if let Some((header, used)) = Header::parse(input, role, compression)? {
                *input = std::mem::take(input).split_at_mut(used).1;
                return Ok(Some(header));
            }
        }
        // Rare, and then a few bytes: one at a time none is taken too many.
        while let Some((&mut byte, rest)) = std::mem::take(input).split_first_mut() {
            *input = rest;
            let length = usize::from(self.length) + 1;
            self.bytes[length - 1] = byte; // with MAX_HEADER bytes no header is incomplete
            self.length += 1;
            if let Some((header, _)) = Header::parse(&self.bytes[..length], role, compression)? {
                self.length = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }
}

/// The shape of nearly every frame: a whole text or binary message, not compressed, of less than 64 KiB.
#[derive(Clone, Copy)]
pub(super) struct Small {
    pub(super) text: bool,
    pub(super) header: usize,
    pub(super) length: usize,
    pub(super) key: [u8; 4],
}

impl Small {
    /// Recognises the header of a small message in few instructions. Judges nothing: what it does not recognise is for
    /// [`Header::parse`].
    #[inline(always)]
    pub(super) fn recognise(bytes: &[u8], role: Role) -> Option<Self> {
        const TEXT: u8 = FIN | OpCode::Text as u8;
        const BINARY: u8 = FIN | OpCode::Binary as u8;
        let &[first, second, ref rest @ ..] = bytes else {
            return None;
        };
        if first != TEXT && first != BINARY {
            return None;
        }
        let short = match role {
            Role::Server => second ^ MASKED,
            Role::Client => second,
        };
        let (length, rest, header) = if short < LENGTH_16 {
            (usize::from(short), rest, 2)
        } else if short == LENGTH_16 {
            let (length, rest) = rest.split_first_chunk()?;
            let length = u16::from_be_bytes(*length);
            if length < u16::from(LENGTH_16) {
                return None;
            }
            (usize::from(length), rest, 4)
        } else {
            return None;
        };
        let (key, header) = match role {
            Role::Server => (*rest.first_chunk()?, header + 4),
            Role::Client => ([0; 4], header),
        };
        Some(Self { text: first == TEXT, header, length, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_every_length_form_are_read_back_as_written() {
        let key = [1, 2, 3, 4];
        for length in [0, 1, 125, 126, 127, 65535, 65536, 1 << 20, usize::MAX >> 1] {
            for (role, mask) in [(Role::Server, Some(key)), (Role::Client, None)] {
                let mut buf = [0xff; MAX_HEADER];
                let used = encode_header(&mut buf, false, true, OpCode::Text, length, mask);
                let header = Header {
                    fin: false,
                    rsv1: true,
                    opcode: OpCode::Text,
                    length: length as u64,
                    key: mask.unwrap_or_default(),
                };
                assert_eq!(Header::parse(&buf[..used], role, true), Ok(Some((header, used))));
                for short in 0..used {
                    assert_eq!(Header::parse(&buf[..short], role, true), Ok(None), "{short} of {used} bytes");
                }
            }
        }
    }

    #[test]
    fn a_recognised_small_frame_is_what_the_full_parser_reads() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let bytes = [first, second, 0, 126, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
                for role in [Role::Server, Role::Client] {
                    let Some(small) = Small::recognise(&bytes, role) else {
                        continue;
                    };
                    let (header, used) = Header::parse(&bytes, role, false).unwrap().unwrap();
                    let opcode = if small.text { OpCode::Text } else { OpCode::Binary };
                    assert_eq!((header.fin, header.opcode, header.rsv1), (true, opcode, false));
                    assert_eq!((used, header.length, header.key), (small.header, small.length as u64, small.key));
                }
            }
        }
    }
}
