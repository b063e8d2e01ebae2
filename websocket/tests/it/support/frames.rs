//! Frames, written and read by hand: what this file knows of RFC 6455, 5.2 it has not from the library.

use std::fmt;

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame to send; right unless it is told to be wrong.
#[derive(Clone)]
pub(crate) struct Wire {
    fin: bool,
    rsv: u8,
    opcode: u8,
    payload: Vec<u8>,
    declared: Option<u64>,
    length_bytes: Option<usize>,
}

pub(crate) fn frame(opcode: u8, payload: impl AsRef<[u8]>) -> Wire {
    Wire { fin: true, rsv: 0, opcode, payload: payload.as_ref().to_vec(), declared: None, length_bytes: None }
}

pub(crate) fn text(payload: impl AsRef<[u8]>) -> Wire {
    frame(TEXT, payload)
}

pub(crate) fn binary(payload: impl AsRef<[u8]>) -> Wire {
    frame(BINARY, payload)
}

pub(crate) fn continuation(payload: impl AsRef<[u8]>) -> Wire {
    frame(CONTINUATION, payload)
}

pub(crate) fn ping(payload: impl AsRef<[u8]>) -> Wire {
    frame(PING, payload)
}

pub(crate) fn pong(payload: impl AsRef<[u8]>) -> Wire {
    frame(PONG, payload)
}

pub(crate) fn close(code: u16, reason: &str) -> Wire {
    frame(CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat())
}

impl Wire {
    /// Another fragment follows.
    pub(crate) fn more(self) -> Self {
        Self { fin: false, ..self }
    }

    /// With reserved bits, 4 being RSV1.
    pub(crate) fn rsv(self, rsv: u8) -> Self {
        Self { rsv, ..self }
    }

    /// Lies about its length.
    pub(crate) fn declaring(self, length: u64) -> Self {
        Self { declared: Some(length), ..self }
    }

    /// Writes its length in so many bytes (2 or 8) whether it needs them or not.
    pub(crate) fn length_in(self, bytes: usize) -> Self {
        Self { length_bytes: Some(bytes), ..self }
    }

    /// As a client sends it.
    pub(crate) fn masked(&self) -> Vec<u8> {
        let mut wire = self.header(0x80);
        wire.extend(KEY);
        wire.extend(self.payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        wire
    }

    /// As a server sends it.
    pub(crate) fn plain(&self) -> Vec<u8> {
        let mut wire = self.header(0);
        wire.extend(&self.payload);
        wire
    }

    fn header(&self, mask: u8) -> Vec<u8> {
        let length = self.declared.unwrap_or(self.payload.len() as u64);
        let needed = match length {
            0..126 => 0,
            126..65536 => 2,
            _ => 8,
        };
        let mut header = vec![u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode];
        match self.length_bytes.unwrap_or(needed) {
            0 => header.push(mask | length as u8),
            2 => {
                header.push(mask | 126);
                header.extend((length as u16).to_be_bytes());
            }
            _ => {
                header.push(mask | 127);
                header.extend(length.to_be_bytes());
            }
        }
        header
    }
}

/// A frame that was received.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) fin: bool,
    pub(crate) rsv: u8,
    pub(crate) opcode: u8,
    pub(crate) masked: bool,
    pub(crate) payload: Vec<u8>,
}

impl Got {
    /// Takes a whole frame off the front of `input`.
    pub(crate) fn take(input: &mut Vec<u8>) -> Option<Self> {
        let (first, second) = (*input.first()?, *input.get(1)?);
        let number = |range: std::ops::Range<usize>| {
            let bytes = input.get(range)?;
            Some(bytes.iter().fold(0usize, |number, byte| number << 8 | usize::from(*byte)))
        };
        let (length, mut at) = match second & 0x7f {
            126 => (number(2..4)?, 4),
            127 => (number(2..10)?, 10),
            short => (usize::from(short), 2),
        };
        let masked = second & 0x80 != 0;
        let mut key = [0; 4];
        if masked {
            key.copy_from_slice(input.get(at..at + 4)?);
            at += 4;
        }
        let payload = input.get(at..at + length)?;
        let payload = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        input.drain(..at + length);
        Some(Self { fin: first & 0x80 != 0, rsv: first >> 4 & 7, opcode: first & 0x0f, masked, payload })
    }

    /// The code and reason of a Close.
    pub(crate) fn close(&self) -> (u16, String) {
        assert_eq!(self.opcode, CLOSE, "{self}");
        match self.payload[..] {
            [high, low, ref reason @ ..] => {
                (u16::from_be_bytes([high, low]), String::from_utf8_lossy(reason).into_owned())
            }
            _ => (1005, String::new()),
        }
    }
}

/// `text hello`, `fragment of binary [3 bytes]`, `close 1000 bye`: one line, for assertions.
impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rsv != 0 {
            write!(f, "rsv{} ", self.rsv)?;
        }
        if !self.fin {
            f.write_str("fragment of ")?;
        }
        if self.opcode == CLOSE {
            let (code, reason) = self.close();
            return write!(f, "{}", format!("close {code} {reason}").trim_end());
        }
        let names = ["continuation", "text", "binary"];
        let name = match self.opcode {
            PING => "ping",
            PONG => "pong",
            other => names.get(usize::from(other)).copied().unwrap_or("unknown"),
        };
        f.write_str(&shown(name, &self.payload))
    }
}

impl fmt::Debug for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A kind and a payload in one line.
pub(crate) fn shown(kind: &str, payload: &[u8]) -> String {
    match std::str::from_utf8(payload) {
        Ok("") => kind.to_owned(),
        Ok(text) if text.len() <= 200 && !text.contains(char::is_control) => format!("{kind} {text}"),
        _ if payload.len() <= 8 => format!("{kind} {payload:02x?}"),
        _ => format!("{kind} [{} bytes]", payload.len()),
    }
}
