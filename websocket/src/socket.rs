//! `WebSocket`: the handle of a connection.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use twistor_reactor::{
    Address, DelayedCall, Failure, Producer, ProducerRegistered, ProtocolHandle, Reactor, Streaming, Transport,
};

use crate::backlog::{Backlog, Waiting, cost};
use crate::closed::{CloseStatus, close_code};
use crate::closing::End;
use crate::message::{AsMessage, Message, PreparedMessage};
use crate::observer::{Settings, Traffic};
use crate::options::{Options, Overflow};
use crate::room::Room;
use crate::sansio::deflate::{Agreed, Contexts, Deflater};
use crate::sansio::large::{LARGE, shared};
use crate::sansio::{ClosePayload, InvalidCloseCode, MAX_CONTROL_PAYLOAD, MAX_HEADER, OpCode, Role};
use crate::sansio::{copy_masked, encode_header};

/// A prepared frame at least this long is shared by all queues; a shorter one is copied into each, as the transport would.
pub(crate) const SHARE_FROM: usize = 4 * 1024;

/// Where a WebSocket is in its life (RFC 6455, 4 and 7).
///
/// ```text
/// Open --our Close--> Closing --the peer's--> Closed
/// Open --the peer's Close, answered---------> Closed
/// any --the connection is gone--------------> Gone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebSocketState {
    /// Messages go both ways.
    Open,
    /// Our Close is sent; the peer's is awaited.
    Closing,
    /// Both are; the TCP connection is about to end.
    Closed,
    /// The connection is gone.
    Gone,
}

pub(crate) struct Socket {
    pub(crate) transport: Transport,
    pub(crate) role: Role,
    pub(crate) state: Cell<WebSocketState>,
    /// A server's open socket with nothing in the way: no compression, no fragments, no backlog, no observer, nothing
    /// pending.
    pub(crate) plain: Cell<bool>,
    /// What comes goes straight to the protocol: it is open, and nobody counts.
    direct: Cell<bool>,
    /// The room whose messages of this turn are to be written before anything else.
    pub(crate) pending: Cell<Option<Room>>,
    high: usize,
    pub(crate) options: Rc<Settings>,
    protocol: Option<Box<str>>,
    deflate: RefCell<Option<Box<(Agreed, Deflater)>>>,
    backlog: RefCell<Backlog>,
    dropped: Cell<u64>,
    /// The kind of a message that is being sent in pieces.
    unfinished: Cell<Option<OpCode>>,
    pub(crate) end: RefCell<Option<Box<End>>>,
    /// Whether anything has come since this was last looked at.
    pub(crate) heard: Cell<bool>,
    /// The keepalive ping that waits for its answer.
    pub(crate) ping: Cell<Option<Box<(u64, Instant)>>>,
    /// In microseconds; 0 before the first answer.
    pub(crate) round_trip: Cell<u32>,
    pub(crate) unanswered_ping: Cell<Option<Box<[u8]>>>,
    pub(crate) keepalive: Cell<Option<DelayedCall>>,
    pub(crate) deadline: Cell<Option<DelayedCall>>,
}

/// The handle of a WebSocket: cheap to clone, equal to its clones and to nothing else.
///
/// No method runs user code before it returns, so all may be called from anywhere, under any borrow; once the connection is
/// gone they do nothing. What is sent goes out when the running callback returns or at the end of the turn.
#[derive(Clone)]
pub struct WebSocket(Rc<Socket>);

impl WebSocket {
    pub(crate) fn new(
        transport: Transport,
        role: Role,
        options: Rc<Settings>,
        protocol: Option<String>,
        agreed: Option<Agreed>,
    ) -> Self {
        let deflate = agreed.map(|agreed| (agreed, Deflater::new(&agreed, role, &Contexts::of_thread())));
        let this = Self(Rc::new(Socket {
            transport,
            role,
            state: Cell::new(WebSocketState::Open),
            plain: Cell::new(false),
            direct: Cell::new(options.observer().is_none()),
            pending: Cell::new(None),
            high: options.buffer.high,
            options,
            protocol: protocol.map(Into::into),
            deflate: RefCell::new(deflate.map(Box::new)),
            backlog: RefCell::default(),
            dropped: Cell::new(0),
            unfinished: Cell::new(None),
            end: RefCell::default(),
            heard: Cell::new(false),
            ping: Cell::new(None),
            round_trip: Cell::new(0),
            unanswered_ping: Cell::default(),
            keepalive: Cell::default(),
            deadline: Cell::default(),
        }));
        this.0.plain.set(this.is_plain());
        this
    }

    #[inline]
    pub(crate) fn socket(&self) -> &Socket {
        &self.0
    }

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
        let socket = &*self.0;
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
            self.0.transport.write(frame); // cheaper than to count owners
        } else {
            self.0.transport.write_bytes(frame.clone());
        }
    }

    /// Whether an encoded frame may be handed to the transport just so.
    #[inline]
    pub(crate) fn is_clear(&self) -> bool {
        self.0.plain.get() && self.0.transport.buffered() <= self.0.high
    }

    #[inline(never)]
    fn send_prepared_with_care(&self, message: &PreparedMessage) {
        if self.0.state.get() != WebSocketState::Open {
            return;
        }
        if self.must_wait() {
            return self.wait(None, message.payload().len(), || Waiting::Prepared(message.clone()));
        }
        self.write_prepared(message);
    }

    fn write_prepared(&self, message: &PreparedMessage) {
        let socket = &*self.0;
        let shared = match &*socket.deflate.borrow() {
            _ if socket.role == Role::Client || socket.options.auto_fragment.is_some() => None,
            None => Some(message.frame().clone()),
            Some(deflate) if deflate.0.server_no_context_takeover => message.deflated(&deflate.0),
            Some(_) => None,
        };
        match shared {
            Some(frame) => {
                self.count_sent(1, message.payload().len());
                socket.transport.write_bytes(frame);
            }
            None => self.write_message(message.message(), true),
        }
    }

    /// Sends the newest value of something: if an older one with the same `key` still waits for a slow peer, it is
    /// superseded (and counted as dropped).
    pub fn send_latest(&self, key: u64, message: impl AsMessage) {
        let Message { opcode, payload } = message.as_message();
        if self.0.state.get() != WebSocketState::Open {
            return;
        }
        if !self.must_wait() {
            return self.write_message(Message { opcode, payload }, true);
        }
        let superseded = self.0.backlog.borrow_mut().remove(key);
        if superseded.is_some() {
            self.count_dropped(1);
        }
        let waiting = || Waiting::Message { opcode, payload: Bytes::copy_from_slice(payload), compress: true };
        self.wait(Some(key), payload.len(), waiting);
    }

    #[inline(never)]
    fn send_with_care(&self, message: Message<'_>, compress: bool) {
        if self.0.state.get() != WebSocketState::Open {
            return;
        }
        if !self.must_wait() {
            return self.write_message(message, compress);
        }
        let Message { opcode, payload } = message;
        let waiting = || Waiting::Message { opcode, payload: Bytes::copy_from_slice(payload), compress };
        self.wait(None, payload.len(), waiting);
    }

    pub(crate) fn set_state(&self, state: WebSocketState) {
        self.0.state.set(state);
        self.0.plain.set(self.is_plain());
        self.0.direct.set(self.is_open() && self.0.options.observer().is_none());
    }

    /// Whether what comes goes straight to the protocol.
    #[inline]
    pub(crate) fn is_direct(&self) -> bool {
        self.0.direct.get()
    }

    pub(crate) fn is_plain(&self) -> bool {
        let socket = &*self.0;
        let options = &socket.options;
        let simple = socket.role == Role::Server && options.auto_fragment.is_none() && options.observer().is_none();
        let pending = socket.pending.take();
        let nothing_pending = pending.is_none();
        socket.pending.set(pending);
        simple
            && nothing_pending
            && self.is_open()
            && socket.deflate.borrow().is_none()
            && socket.backlog.borrow().is_empty()
    }

    /// Whether a message cannot be handed to the transport now.
    fn must_wait(&self) -> bool {
        self.catch_up();
        self.0.transport.buffered() > self.0.high || !self.0.backlog.borrow().is_empty()
    }

    fn wait(&self, key: Option<u64>, length: usize, waiting: impl FnOnce() -> Waiting) {
        let socket = &*self.0;
        let cap = socket.options.buffer.cap.saturating_sub(socket.transport.buffered());
        let mut backlog = socket.backlog.borrow_mut();
        if backlog.bytes() + cost(length) > cap {
            let (dropped, room) = match socket.options.overflow {
                Overflow::Close => {
                    drop(backlog);
                    return self.overflowed();
                }
                Overflow::DropOldest if cost(length) <= cap => backlog.drop_oldest(cost(length), cap),
                // there is no room for the new one, whatever else is dropped
                Overflow::DropOldest | Overflow::DropNewest => (0, false),
            };
            self.count_dropped(dropped + u64::from(!room));
            if !room {
                return;
            }
        }
        backlog.push(key, waiting());
        socket.plain.set(false);
    }

    /// The transport has drained: what waits goes on its way, as much as there is room for.
    pub(crate) fn feed(&self) {
        let socket = &*self.0;
        while socket.transport.buffered() <= socket.high {
            let next = socket.backlog.borrow_mut().pop();
            match next {
                Some(Waiting::Prepared(message)) => self.write_prepared(&message),
                Some(Waiting::Frame { fin, opcode, payload }) => {
                    if opcode != OpCode::Close {
                        self.count_sent(u64::from(fin), payload.len());
                    }
                    self.write_frame(fin, false, opcode, &payload);
                }
                Some(Waiting::Message { opcode, payload, compress }) => {
                    self.write_message(Message { opcode, payload: &payload }, compress);
                }
                None => return socket.plain.set(self.is_plain()),
            }
        }
    }

    fn count_dropped(&self, messages: u64) {
        self.0.dropped.set(self.0.dropped.get() + messages);
        self.count(|traffic| traffic.messages_dropped += messages);
    }

    fn count_sent(&self, messages: u64, bytes: usize) {
        self.count(|traffic| {
            traffic.messages_sent += messages;
            traffic.bytes_sent += bytes as u64;
        });
    }

    pub(crate) fn count_received(&self, messages: u64, bytes: usize) {
        self.count(|traffic| {
            traffic.messages_received += messages;
            traffic.bytes_received += bytes as u64;
        });
    }

    #[inline]
    fn count(&self, add: impl FnOnce(&mut Traffic)) {
        if self.0.options.observer().is_some() {
            self.0.options.count(&self.0.transport, add);
        }
    }

    /// Encodes a message and hands it to the transport.
    fn write_message(&self, message: Message<'_>, compress: bool) {
        self.count_sent(1, message.payload.len());
        let mut compressed = Vec::new();
        let smaller = match &mut *self.0.deflate.borrow_mut() {
            Some(deflate) if compress => deflate.1.compress(message.payload, &mut compressed),
            _ => false,
        };
        let payload = if smaller { &compressed } else { message.payload };
        let size = self.0.options.auto_fragment.unwrap_or(usize::MAX).max(1);
        if payload.len() <= size {
            return self.write_frame(true, smaller, message.opcode, payload);
        }
        let count = payload.len().div_ceil(size);
        for (index, piece) in payload.chunks(size).enumerate() {
            let opcode = if index == 0 { message.opcode } else { OpCode::Continuation };
            // RFC 7692, 6.1: RSV1 is set on the first fragment only
            self.write_frame(index + 1 == count, smaller && index == 0, opcode, piece);
        }
    }

    #[inline]
    fn write_unmasked(&self, fin: bool, rsv1: bool, opcode: OpCode, payload: &[u8]) {
        let mut header = [0; 16];
        if let Some(head) = header.first_chunk_mut::<MAX_HEADER>() {
            let length = encode_header(head, fin, rsv1, opcode, payload.len(), None);
            if payload.len() >= LARGE {
                self.0.transport.write_framed_large(&header, length, payload, || shared(payload));
            } else {
                self.0.transport.write_framed(&header, length, payload);
            }
        }
    }

    pub(crate) fn write_frame(&self, fin: bool, rsv1: bool, opcode: OpCode, payload: &[u8]) {
        self.catch_up();
        if self.0.role == Role::Server {
            return self.write_unmasked(fin, rsv1, opcode, payload);
        }
        let mut header = [0; MAX_HEADER];
        // RFC 6455, 5.3: a new key that cannot be predicted, for each frame
        let key = rand::random();
        let length = encode_header(&mut header, fin, rsv1, opcode, payload.len(), Some(key));
        let mut frame = Vec::with_capacity(length + payload.len());
        frame.extend_from_slice(&header[..length]);
        copy_masked(&mut frame, payload, key);
        self.0.transport.write_bytes(frame.into());
    }

    /// Begins a message that is sent in pieces, each a frame: `send_piece` any number of times, `end_message` last. Other
    /// messages wait until then at your peril: only control frames may come between.
    ///
    /// # Errors
    /// [`MessageUnfinished`] when another one was begun.
    pub fn begin_message(&self, is_binary: bool) -> Result<(), MessageUnfinished> {
        if self.0.unfinished.get().is_some() {
            return Err(MessageUnfinished::AlreadyBegun);
        }
        self.0.unfinished.set(Some(if is_binary { OpCode::Binary } else { OpCode::Text }));
        Ok(())
    }

    /// Sends a frame of the message that was begun, uncompressed. Text may be cut anywhere.
    ///
    /// # Errors
    /// [`MessageUnfinished`] when none was begun.
    pub fn send_piece(&self, payload: &[u8]) -> Result<(), MessageUnfinished> {
        self.write_piece(false, payload)
    }

    /// Sends the last frame of the message that was begun.
    ///
    /// # Errors
    /// [`MessageUnfinished`] when none was begun.
    pub fn end_message(&self, payload: &[u8]) -> Result<(), MessageUnfinished> {
        self.write_piece(true, payload)?;
        self.0.unfinished.set(None);
        Ok(())
    }

    fn write_piece(&self, fin: bool, payload: &[u8]) -> Result<(), MessageUnfinished> {
        let opcode = self.0.unfinished.get().ok_or(MessageUnfinished::NotBegun)?;
        self.0.unfinished.set(Some(OpCode::Continuation));
        if self.0.state.get() != WebSocketState::Open {
            return Ok(());
        }
        if !self.must_wait() {
            self.count_sent(u64::from(fin), payload.len());
            self.write_frame(fin, false, opcode, payload);
            return Ok(());
        }
        let room = self.0.options.buffer.cap.saturating_sub(self.buffered());
        if cost(payload.len()) > room {
            // a message that has begun can only be finished or ended with its connection
            self.overflowed();
            return Ok(());
        }
        let payload = Bytes::copy_from_slice(payload);
        self.0.backlog.borrow_mut().push(None, Waiting::Frame { fin, opcode, payload });
        self.0.plain.set(false);
        Ok(())
    }

    /// Sends a ping, at most 125 bytes; the pong comes to
    /// [`pong_received`](crate::WebSocketProtocol::pong_received). It does not wait behind queued messages.
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

    fn control(&self, opcode: OpCode, payload: &[u8]) -> Result<(), ControlTooLong> {
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(ControlTooLong { length: payload.len() });
        }
        if self.0.state.get() == WebSocketState::Open {
            self.write_frame(true, false, opcode, payload);
        }
        Ok(())
    }

    /// Closes with a code and a reason: what is queued is sent, then a Close; when the peer has answered it, or the
    /// close timeout has passed, the connection ends. Messages that come meanwhile are not delivered any more. The
    /// reason is cut to 123 bytes.
    ///
    /// # Errors
    /// [`InvalidCloseCode`] unless the code is 1000-1003, 1007-1014 or 3000-4999 (RFC 6455, 7.4).
    pub fn lose_connection(&self, code: u16, reason: &str) -> Result<(), InvalidCloseCode> {
        let payload = ClosePayload::new(Some((code, reason)))?;
        self.catch_up();
        if self.0.state.get() != WebSocketState::Open {
            return Ok(());
        }
        self.begin_close(Some(code));
        let mut backlog = self.0.backlog.borrow_mut();
        if backlog.is_empty() {
            drop(backlog);
            self.write_close(payload.as_bytes());
        } else {
            let payload = Bytes::copy_from_slice(payload.as_bytes());
            backlog.push(None, Waiting::Frame { fin: true, opcode: OpCode::Close, payload });
        }
        Ok(())
    }

    /// [`lose_connection`](Self::lose_connection) with 1000, normal closure.
    pub fn close(&self) {
        let _ = self.lose_connection(close_code::NORMAL, "");
    }

    pub(crate) fn write_close(&self, payload: &[u8]) {
        self.write_frame(true, false, OpCode::Close, payload);
    }

    /// Ends the connection at once, without a Close (TCP: RST). The peer sees 1006.
    pub fn abort(&self) {
        self.0.transport.abort_connection();
    }

    pub(crate) fn drop_backlog(&self) {
        self.0.backlog.borrow_mut().clear();
    }

    /// Bytes that wait to be sent.
    pub fn buffered(&self) -> usize {
        self.catch_up();
        self.0.transport.buffered() + self.0.backlog.borrow().bytes()
    }

    /// Messages that were dropped because the peer did not keep up ([`Overflow`], [`send_latest`](Self::send_latest)).
    pub fn dropped(&self) -> u64 {
        self.0.dropped.get()
    }

    /// Where it is in its life.
    pub fn state(&self) -> WebSocketState {
        self.0.state.get()
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        self.0.state.get() == WebSocketState::Open
    }

    /// How it ended; `None` before that.
    pub fn close_status(&self) -> Option<CloseStatus> {
        self.0.end.borrow().as_ref()?.status.clone()
    }

    /// The subprotocol that was agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.0.protocol.as_deref()
    }

    /// What was agreed on for permessage-deflate, if it was.
    pub fn compression(&self) -> Option<Agreed> {
        self.0.deflate.borrow().as_ref().map(|deflate| deflate.0)
    }

    /// How long the peer took to answer the last keepalive ping.
    pub fn round_trip_time(&self) -> Option<Duration> {
        let micros = self.0.round_trip.get();
        (micros > 0).then(|| Duration::from_micros(micros.into()))
    }

    /// The other end.
    pub fn peer(&self) -> &Address {
        self.0.transport.peer()
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Stops receiving messages until `resume_producing`; the peer is soon stopped by its full buffers.
    pub fn pause_producing(&self) {
        self.0.transport.pause_producing();
    }

    /// Receives again.
    pub fn resume_producing(&self) {
        self.0.transport.resume_producing();
    }

    /// Lets a producer feed this WebSocket: [`Transport::register_producer`]. A push producer is paused and resumed with
    /// the output, so that it never overflows.
    ///
    /// # Errors
    /// As [`Transport::register_producer`].
    pub fn register_producer(&self, producer: impl Producer, streaming: Streaming) -> Result<(), ProducerRegistered> {
        self.0.transport.register_producer(producer, streaming)
    }

    /// The producer has no more to give.
    pub fn unregister_producer(&self) {
        self.0.transport.unregister_producer();
    }

    /// The connection's protocol, for use from a timer, a Deferred or another connection.
    pub fn protocol<P: 'static>(&self) -> ProtocolHandle<P> {
        self.0.transport.protocol()
    }

    /// The connection below. What is written to it directly goes between frames, and breaks them.
    pub fn transport(&self) -> &Transport {
        &self.0.transport
    }

    /// The reactor.
    ///
    /// # Panics
    /// As [`Transport::reactor`].
    pub fn reactor(&self) -> Reactor {
        self.0.transport.reactor()
    }

    pub(crate) fn abort_with(&self, reason: Failure) {
        self.0.transport.abort_with(reason);
    }
}

impl PartialEq for WebSocket {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for WebSocket {}

impl Hash for WebSocket {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Rc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocket({}, {:?})", self.peer(), self.state())
    }
}

impl Producer for WebSocket {
    fn pause_producing(&mut self) {
        Self::pause_producing(self);
    }
    fn resume_producing(&mut self) {
        Self::resume_producing(self);
    }
    fn stop_producing(&mut self) {
        self.close();
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

/// Pieces of a message out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageUnfinished {
    /// `begin_message` while another one is unfinished.
    AlreadyBegun,
    /// `send_piece` or `end_message` before `begin_message`.
    NotBegun,
}

impl fmt::Display for MessageUnfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyBegun => "a message was begun before this one and has not ended",
            Self::NotBegun => "no message was begun",
        })
    }
}

impl std::error::Error for MessageUnfinished {}
