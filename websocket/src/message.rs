//! Messages, as they are received and sent.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use bytes::Bytes;

use crate::sansio::deflate::{Agreed, Contexts, Deflater};
use crate::sansio::{MAX_HEADER, OpCode, Role, encode_header};

/// A received message, whole: RFC 6455's data frame, after defragmentation. It borrows from the receive buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A text message; valid UTF-8.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

impl<'a> Frame<'a> {
    /// The payload, of either kind.
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The payload as text: the tutorial's `frame.decode()`. For a binary message, invalid UTF-8 is replaced.
    pub fn decode(&self) -> std::borrow::Cow<'a, str> {
        match self {
            Self::Text(text) => (*text).into(),
            Self::Binary(bytes) => String::from_utf8_lossy(bytes),
        }
    }

    /// Whether it is a binary message.
    pub fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_))
    }
}

/// A message to send, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub(crate) opcode: OpCode,
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// A text message.
    #[inline]
    pub fn text(text: &'a str) -> Self {
        Self { opcode: OpCode::Text, payload: text.as_bytes() }
    }

    /// A binary message.
    #[inline]
    pub fn binary(payload: &'a [u8]) -> Self {
        Self { opcode: OpCode::Binary, payload }
    }
}

/// What can be sent as a message: `&str` and `String` as text, `&[u8]`, `Vec<u8>` and `Bytes` as binary, a received
/// [`Frame`] as it came, `(payload, is_binary)` as it says.
pub trait AsMessage {
    /// The message.
    fn as_message(&self) -> Message<'_>;
}

macro_rules! as_message {
    ($($type:ty => $kind:ident;)*) => {$(
        impl AsMessage for $type {
            #[inline]
            fn as_message(&self) -> Message<'_> {
                Message::$kind(self)
            }
        }
    )*}
}

as_message! {
    str => text;
    String => text;
    [u8] => binary;
    Vec<u8> => binary;
    Bytes => binary;
}

impl<const N: usize> AsMessage for [u8; N] {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        Message::binary(self)
    }
}

impl AsMessage for std::borrow::Cow<'_, str> {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        Message::text(self)
    }
}

impl AsMessage for Frame<'_> {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        match self {
            Self::Text(text) => Message::text(text),
            Self::Binary(bytes) => Message::binary(bytes),
        }
    }
}

impl<T: AsMessage + ?Sized> AsMessage for &T {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        (**self).as_message()
    }
}

/// A message for many: encoded once, and once more compressed if a receiver wants that, and shared by all queues:
/// Autobahn's `prepareMessage`. Cheap to clone.
///
/// ```
/// use twistor_websocket::PreparedMessage;
/// let message = PreparedMessage::new("hello, everybody");
/// assert_eq!(message.payload(), b"hello, everybody");
/// ```
#[derive(Clone)]
pub struct PreparedMessage(Rc<Prepared>);

struct Prepared {
    opcode: OpCode,
    /// A server's frame: header and payload, unmasked.
    frame: Bytes,
    header: usize,
    compress: bool,
    /// The same, compressed without context takeover.
    deflated: RefCell<Vec<Variant>>,
}

/// A compressed frame, by its window bits and level; `None`: it is not worth it.
type Variant = ((u8, u8, usize), Option<Bytes>);

impl PreparedMessage {
    /// Encodes a message.
    pub fn new(message: impl AsMessage) -> Self {
        Self::encode(message.as_message(), true)
    }

    /// One that nobody gets compressed, whatever was negotiated: [`WebSocket::send_uncompressed`](crate::WebSocket) for
    /// many.
    pub fn uncompressed(message: impl AsMessage) -> Self {
        Self::encode(message.as_message(), false)
    }

    fn encode(message: Message<'_>, compress: bool) -> Self {
        let Message { opcode, payload } = message;
        let (frame, header) = server_frame(opcode, false, payload);
        Self(Rc::new(Prepared { opcode, frame, header, compress, deflated: RefCell::default() }))
    }

    pub(crate) fn compresses(&self) -> bool {
        self.0.compress
    }

    /// What it says.
    pub fn payload(&self) -> &[u8] {
        &self.0.frame[self.0.header..]
    }

    pub(crate) fn message(&self) -> Message<'_> {
        Message { opcode: self.0.opcode, payload: self.payload() }
    }

    pub(crate) fn frame(&self) -> &Bytes {
        &self.0.frame
    }

    /// The frame for a server's connection that compresses without context takeover: compressed once for each window
    /// size, level and threshold, of which there are few; the plain frame if that is not larger.
    pub(crate) fn deflated(&self, agreed: &Agreed) -> Bytes {
        let key = (agreed.server_max_window_bits, agreed.level, agreed.threshold);
        let mut variants = self.0.deflated.borrow_mut();
        let found = variants.iter().find(|(made_for, _)| *made_for == key);
        let frame = found.map(|(_, frame)| frame.clone()).unwrap_or_else(|| {
            let mut compressed = Vec::new();
            let mut deflater = Deflater::new(agreed, Role::Server, &Contexts::of_thread());
            let smaller = deflater.compress(self.payload(), &mut compressed);
            let frame = smaller.then(|| server_frame(self.0.opcode, true, &compressed).0);
            variants.push((key, frame.clone()));
            frame
        });
        frame.unwrap_or_else(|| self.0.frame.clone())
    }
}

fn server_frame(opcode: OpCode, rsv1: bool, payload: &[u8]) -> (Bytes, usize) {
    let mut header = [0; MAX_HEADER];
    let length = encode_header(&mut header, true, rsv1, opcode, payload.len(), None);
    let mut frame = Vec::with_capacity(length + payload.len());
    frame.extend_from_slice(&header[..length]);
    frame.extend_from_slice(payload);
    (frame.into(), length)
}

impl fmt::Debug for PreparedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PreparedMessage({} bytes)", self.payload().len())
    }
}
