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

use crate::backlog::{Backlog, Waiting};
use crate::closed::{CloseStatus, close_code};
use crate::closing::End;
use crate::observer::Traffic;
use crate::options::Options;
use crate::room::Room;
use crate::sansio::deflate::{Agreed, Contexts, Deflater};
use crate::sansio::{ClosePayload, InvalidCloseCode, OpCode, Role};
use crate::settings::Settings;

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

/// What is awaited after a keepalive ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    Nothing,
    /// Any sign of life.
    Life,
    /// The time is up, but what came while the loop was busy has yet to be read.
    LastRead,
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
    pub(crate) high: usize,
    pub(crate) options: Rc<Settings>,
    protocol: Option<Box<str>>,
    pub(crate) compressor: Option<Rc<Compressor>>,
    pub(crate) backlog: RefCell<Backlog>,
    dropped: Cell<u64>,
    /// The protocol was told that the output is high, or has asked, and is to be told when it has drained.
    pub(crate) drain_awaited: Cell<bool>,
    /// The kind of a message that is being sent in pieces.
    pub(crate) unfinished: Cell<Option<OpCode>>,
    pub(crate) end: RefCell<Option<Box<End>>>,
    /// Whether anything has come since this was last looked at.
    pub(crate) heard: Cell<bool>,
    /// Whether output waited for the peer then.
    pub(crate) blocked: Cell<bool>,
    /// How often it was looked at since the last ping, and how often in a row nothing had come.
    pub(crate) looks: Cell<(u8, u8)>,
    /// The keepalive ping that waits for its answer.
    pub(crate) ping: Cell<Option<Box<(u64, Instant)>>>,
    pub(crate) awaited: Cell<Awaited>,
    /// In microseconds; 0 before the first answer.
    pub(crate) round_trip: Cell<u32>,
    pub(crate) unanswered_ping: Cell<Option<Box<[u8]>>>,
    pub(crate) keepalive: Cell<Option<DelayedCall>>,
    pub(crate) deadline: Cell<Option<DelayedCall>>,
}

/// How a connection compresses. Those of a factory that agreed on the same, without context takeover, share one.
pub(crate) struct Compressor {
    pub(crate) agreed: Agreed,
    pub(crate) deflater: RefCell<Deflater>,
}

impl Compressor {
    pub(crate) fn new(agreed: &Agreed, role: Role) -> Self {
        Self { agreed: *agreed, deflater: RefCell::new(Deflater::new(agreed, role, &Contexts::of_thread())) }
    }
}

/// The handle of a WebSocket: cheap to clone, equal to its clones and to nothing else.
///
/// No method runs user code before it returns, so all may be called from anywhere, under any borrow; once the
/// connection is gone they do nothing. What is sent goes out when the running callback returns or at the end of the
/// turn.
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
        let compressor = agreed.map(|agreed| options.compressor(&agreed, role));
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
            compressor,
            backlog: RefCell::default(),
            dropped: Cell::new(0),
            unfinished: Cell::new(None),
            end: RefCell::default(),
            heard: Cell::new(false),
            blocked: Cell::new(false),
            looks: Cell::default(),
            ping: Cell::new(None),
            awaited: Cell::new(Awaited::Nothing),
            round_trip: Cell::new(0),
            drain_awaited: Cell::new(false),
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
        let whole = socket.unfinished.get().is_none();
        simple
            && nothing_pending
            && whole
            && self.is_open()
            && socket.compressor.is_none()
            && socket.backlog.borrow().is_empty()
    }

    pub(crate) fn count_dropped(&self, messages: u64) {
        if messages == 0 {
            return;
        }
        if self.0.dropped.get() == 0 {
            log::debug!("{}: messages that wait for it are dropped", self.peer());
        }
        self.0.dropped.set(self.0.dropped.get() + messages);
        self.count(|traffic| traffic.messages_dropped += messages);
    }

    pub(crate) fn count_sent(&self, messages: u64, bytes: usize) {
        if !self.0.transport.is_connected() {
            return; // it goes nowhere
        }
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
        // a message in pieces will not be finished, and nothing can follow it
        let held = self.0.backlog.borrow_mut().drop_held();
        self.count_dropped(held);
        if self.0.backlog.borrow().is_empty() {
            self.write_close(payload.as_bytes());
        } else {
            let payload = Bytes::copy_from_slice(payload.as_bytes());
            let close = Waiting::Frame { fin: true, opcode: OpCode::Close, payload };
            self.0.backlog.borrow_mut().push(None, close);
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

    /// Nothing that waits will be sent any more.
    pub(crate) fn drop_backlog(&self) {
        let dropped = self.0.backlog.borrow_mut().clear();
        self.count_dropped(dropped);
    }

    /// Bytes that wait to be sent.
    pub fn buffered(&self) -> usize {
        self.catch_up();
        self.0.transport.buffered() + self.0.backlog.borrow().bytes()
    }

    /// Messages that were dropped because the peer did not keep up ([`Overflow`](crate::Overflow),
    /// [`send_latest`](Self::send_latest)), those that still waited when the connection ended among them. What the kernel
    /// or the transport had by then may have arrived or not.
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
        self.0.compressor.as_ref().map(|compressor| compressor.agreed)
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

    /// Lets a producer feed this WebSocket: [`Transport::register_producer`]. A push producer is paused and resumed
    /// with the output, so that it never overflows.
    ///
    /// # Errors
    /// As [`Transport::register_producer`].
    pub fn register_producer(&self, producer: impl Producer, streaming: Streaming) -> Result<(), ProducerRegistered> {
        self.0.transport.register_producer(producer, streaming)?;
        if self.0.state.get() == WebSocketState::Closed {
            self.0.transport.unregister_producer(); // there is nothing that it could send, and the end waited for it
        }
        Ok(())
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
