//! Sending: what becomes of a message between a handle's method and the transport.

use std::fmt;

use bytes::Bytes;

use crate::backlog::{Waiting, cost};
use crate::message::{AsMessage, Message, PreparedMessage};
use crate::options::Overflow;
use crate::sansio::large::{LARGE, shared};
use crate::sansio::{MAX_CONTROL_PAYLOAD, MAX_HEADER, OpCode, Role, copy_masked, encode_header, mask};
use crate::socket::WebSocket;

/// A frame at least this long is queued in a buffer of its own, which many queues may share; a shorter one is copied into
/// each, as the transport would.
pub(crate) const SHARE_FROM: usize = 4 * 1024;

impl WebSocket {
    /// Sends a message: `&str` and `String` as text, `&[u8]`, `Vec<u8>` and `Bytes` as binary, a received
    /// [`Frame`](crate::Frame) as it came. Dropped unless the WebSocket is open.
    #[inline]
    pub fn send_message(&self, message: impl AsMessage) {
        self.send(message.as_message());
    }

    /// Sends a text message.
    #[inline]
    pub fn send_text(&self, text: &str) {
        self.send(Message::text(text));
    }

    /// Sends a binary message.
    #[inline]
    pub fn send_binary(&self, payload: &[u8]) {
        self.send(Message::binary(payload));
    }

    #[inline]
    fn send(&self, message: Message<'_>) {
        let socket = self.socket();
        if socket.plain.get() && socket.transport.buffered() <= socket.high {
            self.write_unmasked(true, false, message.opcode, message.payload);
        } else {
            self.send_with_care(message, true);
        }
    }

    /// Sends a message uncompressed, whatever was negotiated: for what does not get smaller, and for secrets.
    pub fn send_uncompressed(&self, message: impl AsMessage) {
        self.send_with_care(message.as_message(), false);
    }

    /// Sends a message for many; a large one is not copied.
    #[inline]
    pub fn send_prepared(&self, message: &PreparedMessage) {
        if !self.is_clear() {
            return self.send_prepared_with_care(message);
        }
        let frame = message.frame();
        if frame.len() < SHARE_FROM {
            self.socket().transport.write(frame); // cheaper than to count owners
        } else {
            self.socket().transport.write_bytes(frame.clone());
        }
    }

    /// Whether an encoded frame may be handed to the transport just so.
    #[inline]
    pub(crate) fn is_clear(&self) -> bool {
        self.socket().plain.get() && self.socket().transport.buffered() <= self.socket().high
    }

    #[inline(never)]
    fn send_prepared_with_care(&self, message: &PreparedMessage) {
        if !self.takes_message() {
            return;
        }
        if self.must_wait() {
            return self.wait(None, message.payload().len(), || Waiting::Prepared(message.clone()));
        }
        self.write_prepared(message);
    }

    fn write_prepared(&self, message: &PreparedMessage) {
        let socket = self.socket();
        let shared = match &socket.compressor {
            _ if socket.role == Role::Client || socket.options.auto_fragment.is_some() => None,
            None => Some(message.frame().clone()),
            Some(_) if !message.compresses() => Some(message.frame().clone()),
            Some(compressor) if compressor.agreed.server_no_context_takeover => {
                Some(message.deflated(&compressor.agreed))
            }
            Some(_) => None,
        };
        match shared {
            Some(frame) => {
                self.count_sent(1, message.payload().len());
                socket.transport.write_bytes(frame);
            }
            None => self.write_message(message.message(), message.compresses()),
        }
    }

    /// Sends the newest value of something: if an older one with the same `key` still waits for a slow peer, it is
    /// superseded (and counted as dropped).
    pub fn send_latest(&self, key: u64, message: impl AsMessage) {
        let Message { opcode, payload } = message.as_message();
        if !self.takes_message() {
            return;
        }
        if !self.must_wait() {
            return self.write_message(Message { opcode, payload }, true);
        }
        let waiting = || Waiting::Message { opcode, payload: Bytes::copy_from_slice(payload), compress: true };
        self.supersede(key, payload.len(), waiting);
    }

    /// [`send_latest`](Self::send_latest) for many; no peer's queue has a copy of its own.
    pub fn send_latest_prepared(&self, key: u64, message: &PreparedMessage) {
        if !self.takes_message() {
            return;
        }
        if !self.must_wait() {
            return self.write_prepared(message);
        }
        self.supersede(key, message.payload().len(), || Waiting::Prepared(message.clone()));
    }

    fn supersede(&self, key: u64, length: usize, waiting: impl FnOnce() -> Waiting) {
        let superseded = self.socket().backlog.borrow_mut().remove(key);
        if superseded.is_some() {
            self.count_dropped(1);
        }
        self.wait(Some(key), length, waiting);
    }

    #[inline(never)]
    fn send_with_care(&self, message: Message<'_>, compress: bool) {
        if !self.takes_message() {
            return;
        }
        if !self.must_wait() {
            return self.write_message(message, compress);
        }
        let Message { opcode, payload } = message;
        let waiting = || Waiting::Message { opcode, payload: Bytes::copy_from_slice(payload), compress };
        self.wait(None, payload.len(), waiting);
    }

    /// Whether it is open, and still is when a room has written what it had: that may overflow, and nothing follows a
    /// Close.
    fn takes_message(&self) -> bool {
        if !self.is_open() {
            return false;
        }
        self.catch_up();
        self.count_dropped(u64::from(!self.is_open()));
        self.is_open()
    }

    /// Whether a message cannot be handed to the transport now.
    pub(crate) fn must_wait(&self) -> bool {
        self.catch_up();
        let socket = self.socket();
        socket.transport.buffered() > socket.high
            || !socket.backlog.borrow().is_empty()
            || socket.unfinished.get().is_some()
    }

    /// Has the protocol told when what waits has drained, whether or not it was told that it was much.
    pub(crate) fn notify_drained(&self) {
        let socket = self.socket();
        socket.drain_awaited.set(true);
        // what is held for the end of a message in pieces does not drain by itself: `end_message` asks
        let held = socket.unfinished.get().is_some() && !socket.backlog.borrow().is_ready();
        if !held || socket.transport.buffered() > socket.high {
            socket.transport.notify_drained();
        }
    }

    fn wait(&self, key: Option<u64>, length: usize, waiting: impl FnOnce() -> Waiting) {
        let socket = self.socket();
        if !self.make_room(cost(length)) {
            self.count_dropped(1);
            if socket.options.overflow == Overflow::Close {
                self.overflowed();
            }
            return;
        }
        let mut backlog = socket.backlog.borrow_mut();
        match socket.unfinished.get() {
            None => backlog.push(key, waiting()),
            // RFC 6455, 5.4: fragments of one message MUST NOT be interleaved with another's
            Some(_) => backlog.hold(key, waiting()),
        }
        socket.plain.set(false);
    }

    /// Whether there is room for what is to wait, after others were dropped for it if they may be.
    pub(crate) fn make_room(&self, cost: usize) -> bool {
        let socket = self.socket();
        let cap = socket.options.buffer.cap.saturating_sub(socket.transport.buffered());
        let mut backlog = socket.backlog.borrow_mut();
        if backlog.bytes() + cost <= cap {
            return true;
        }
        let (dropped, room) = match socket.options.overflow {
            Overflow::DropOldest => backlog.drop_oldest(cost, cap),
            Overflow::Close | Overflow::DropNewest => (0, false),
        };
        drop(backlog);
        self.count_dropped(dropped);
        room
    }

    /// The transport has drained: what waits goes on its way, as much as there is room for.
    pub(crate) fn feed(&self) {
        let socket = self.socket();
        self.catch_up(); // what a room has is newer than what waits
        while socket.transport.buffered() <= socket.high {
            let next = socket.backlog.borrow_mut().pop();
            match next {
                Some(Waiting::Prepared(message)) => self.write_prepared(&message),
                Some(Waiting::Frame { fin, opcode, payload }) => self.write_frame(fin, false, opcode, &payload),
                Some(Waiting::Message { opcode, payload, compress }) => {
                    self.write_message(Message { opcode, payload: &payload }, compress);
                }
                None => return socket.plain.set(self.is_plain()),
            }
        }
    }

    /// Encodes a message and hands it to the transport.
    fn write_message(&self, message: Message<'_>, compress: bool) {
        self.count_sent(1, message.payload.len());
        let mut compressed = Vec::new();
        let smaller = match &self.socket().compressor {
            Some(compressor) if compress => compressor.deflater.borrow_mut().compress(message.payload, &mut compressed),
            _ => false,
        };
        let payload = if smaller { &compressed } else { message.payload };
        let size = self.socket().options.auto_fragment.unwrap_or(usize::MAX).max(1);
        if payload.len() <= size {
            return self.write_frame(true, smaller, message.opcode, payload);
        }
        let (first, mut rest) = payload.split_at(size);
        // RFC 7692, 6.1: RSV1 is set on the first fragment only
        self.write_frame(false, smaller, message.opcode, first);
        let socket = self.socket();
        while !rest.is_empty() && socket.transport.buffered() <= socket.high {
            let (piece, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            self.write_frame(rest.is_empty(), false, OpCode::Continuation, piece);
        }
        if rest.is_empty() {
            return;
        }
        // what waits here and not in the transport can be overtaken by a ping
        let count = rest.len().div_ceil(size);
        let frames = rest.chunks(size).enumerate().map(|(index, piece)| Waiting::Frame {
            fin: index + 1 == count,
            opcode: OpCode::Continuation,
            payload: Bytes::copy_from_slice(piece),
        });
        socket.backlog.borrow_mut().prepend(frames);
        socket.plain.set(false);
    }

    #[inline]
    fn write_unmasked(&self, fin: bool, rsv1: bool, opcode: OpCode, payload: &[u8]) {
        let mut header = [0; 16];
        if let Some(head) = header.first_chunk_mut::<MAX_HEADER>() {
            let length = encode_header(head, fin, rsv1, opcode, payload.len(), None);
            if payload.len() >= LARGE {
                self.socket().transport.write_framed_large(&header, length, payload, || shared(payload));
            } else {
                self.socket().transport.write_framed(&header, length, payload);
            }
        }
    }

    pub(crate) fn write_frame(&self, fin: bool, rsv1: bool, opcode: OpCode, payload: &[u8]) {
        self.catch_up();
        if self.socket().role == Role::Server {
            return self.write_unmasked(fin, rsv1, opcode, payload);
        }
        let mut header = [0; 16];
        let Some(head) = header.first_chunk_mut::<MAX_HEADER>() else { return };
        // RFC 6455, 5.3: a new key that cannot be predicted, for each frame
        let key = rand::random();
        let length = encode_header(head, fin, rsv1, opcode, payload.len(), Some(key));
        if payload.len() < SHARE_FROM {
            return self.socket().transport.write_framed_with(&header, length, payload, |copy| mask(copy, key));
        }
        let mut frame = Vec::with_capacity(length + payload.len());
        frame.extend_from_slice(&header[..length]);
        copy_masked(&mut frame, payload, key);
        self.socket().transport.write_bytes(frame.into());
    }

    /// Sends a ping, at most 125 bytes; the pong comes to
    /// [`pong_received`](crate::WebSocketProtocol::pong_received). It overtakes the messages that wait for a slow peer;
    /// before it goes only what the transport has: at most [`BufferLimits::high`](twistor_reactor::BufferLimits::high)
    /// bytes and one message.
    ///
    /// # Errors
    /// [`ControlTooLong`] for a longer payload (RFC 6455, 5.5).
    pub fn ping(&self, payload: &[u8]) -> Result<(), ControlTooLong> {
        self.control(OpCode::Ping, payload)
    }

    /// Sends a pong that nobody asked for, at most 125 bytes: a heartbeat without an answer (RFC 6455, 5.5.3).
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    pub fn pong(&self, payload: &[u8]) -> Result<(), ControlTooLong> {
        self.control(OpCode::Pong, payload)
    }

    /// A ping or pong, if it is open.
    pub(crate) fn write_control(&self, opcode: OpCode, payload: &[u8]) {
        self.catch_up(); // which may end it
        if self.is_open() {
            self.write_frame(true, false, opcode, payload);
        }
    }

    fn control(&self, opcode: OpCode, payload: &[u8]) -> Result<(), ControlTooLong> {
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(ControlTooLong { length: payload.len() });
        }
        self.write_control(opcode, payload);
        Ok(())
    }
}

/// A control payload of more than 125 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlTooLong {
    /// Its length.
    pub length: usize,
}

impl fmt::Display for ControlTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected a control payload of at most {MAX_CONTROL_PAYLOAD} bytes, got {}", self.length)
    }
}

impl std::error::Error for ControlTooLong {}
