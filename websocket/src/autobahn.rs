//! Autobahn's dialect: `on_connect`, `on_open`, `on_message(payload, is_binary)`, `on_close(was_clean, code, reason)`.

use std::any::{Any, TypeId};

use twistor_reactor::{Address, ClientFactory, Connector, Factory, Failure};

use crate::closed::{CloseStatus, close_code};
use crate::frames::KEPT_BUFFER;
use crate::handshake::{Accepted, ClientRequest};
use crate::http::Request;
use crate::message::{AsMessage, Frame, Message, PreparedMessage};
use crate::pieces::MessageUnfinished;
use crate::protocol::{Accept, Negotiation, Piece, WebSocketProtocol};
use crate::sansio::{InvalidCloseCode, OpCode};
use crate::sending::ControlTooLong;
use crate::socket::WebSocket;

/// A protocol as programs for `autobahn.twisted.websocket` have it. Wrap its factory in an [`AutobahnFactory`].
///
/// | Autobahn | here |
/// |---|---|
/// | `self.sendMessage(payload, isBinary)` | [`socket.send_message((payload, is_binary))`](WebSocket::send_message) |
/// | `self.sendMessage(.., doNotCompress=True)` | [`socket.send_uncompressed(..)`](WebSocket::send_uncompressed) |
/// | `self.beginMessage(isBinary)` | [`socket.begin_message(is_binary)`](WebSocket::begin_message) |
/// | `self.sendMessageFrame(payload)` | [`socket.send_message_frame(payload)`](AutobahnTransport::send_message_frame) |
/// | `self.endMessage()` | [`socket.end_message(b"")`](WebSocket::end_message) |
/// | `self.sendPreparedMessage(prepared)` | [`socket.send_prepared_message(&prepared)`](AutobahnTransport::send_prepared_message) |
/// | `self.sendPing(payload)`, `self.sendPong(payload)` | [`socket.send_ping(payload)`](AutobahnTransport::send_ping), [`send_pong(payload)`](AutobahnTransport::send_pong) |
/// | `self.sendClose(code, reason)` | [`socket.send_close(Some(code), reason)`](AutobahnTransport::send_close) |
/// | `self.dropConnection(abort=True)` | [`socket.drop_connection(true)`](AutobahnTransport::drop_connection) |
/// | `self.registerProducer(producer, True)` | [`socket.register_producer(producer, Streaming::Push)`](WebSocket::register_producer) |
/// | `raise ConnectionDeny(code, reason)` | `Negotiation::Refuse(Refusal::new(code, reason))` |
///
/// `send_message(payload)` alone takes the kind from the type: `&str` is text, bytes are binary.
///
/// Messages come in one of Autobahn's three ways. There, what is overridden decides; Rust cannot see that, so the
/// protocol says it:
///
/// * whole, to [`on_message`](Self::on_message): the default;
/// * frame by frame, to [`on_message_frame`](Self::on_message_frame): [`wants_frames`](Self::wants_frames);
/// * as they arrive, to [`on_message_frame_data`](Self::on_message_frame_data): [`wants_pieces`](Self::wants_pieces).
///
/// ```
/// use twistor_websocket::{AutobahnProtocol, WebSocket};
///
/// struct MyClientProtocol;
///
/// impl AutobahnProtocol for MyClientProtocol {
///     fn on_open(&mut self, socket: &WebSocket) {
///         socket.send_message("Hello, world!");
///     }
///
///     fn on_message(&mut self, _socket: &WebSocket, payload: &[u8], is_binary: bool) {
///         println!("{} bytes, binary: {is_binary}", payload.len());
///     }
/// }
/// ```
#[allow(unused_variables)] // the defaults ignore what they are given; the names document it
pub trait AutobahnProtocol: 'static {
    /// Server: `onConnect(request)`.
    fn on_connect(&mut self, request: &Request) -> Negotiation {
        Accept::default().into()
    }

    /// Client: `onConnecting(transport_details)`; `Some` is its `ConnectingRequest`, to be sent instead.
    fn on_connecting(&mut self, peer: &Address, request: &ClientRequest) -> Option<ClientRequest> {
        None
    }

    /// Client: `onConnect(response)`.
    fn on_connected(&mut self, socket: &WebSocket, response: &Accepted) {}

    /// `onOpen()`.
    fn on_open(&mut self, socket: &WebSocket) {}

    /// `onMessage(payload, isBinary)`: a whole message. Not called if [`wants_pieces`](Self::wants_pieces) or
    /// [`wants_frames`](Self::wants_frames) says yes.
    fn on_message(&mut self, socket: &WebSocket, payload: &[u8], is_binary: bool) {}

    /// Whether messages are to come as they arrive, instead of whole: `on_message_begin`, then for each frame
    /// `on_message_frame_begin`, `on_message_frame_data` any number of times and `on_message_frame_end`, then
    /// `on_message_end`. Default no; asked once, before `on_open`.
    ///
    /// Nothing is collected, so that [`Options::max_message`](crate::Options::max_message) and
    /// [`max_frame`](crate::Options::max_frame), which still hold, may be as large as you like. Pings, pongs and a
    /// Close come between frames. Once the connection ends, the rest of a message does not come, nor its end.
    ///
    /// ```
    /// use twistor_websocket::{AutobahnProtocol, WebSocket};
    ///
    /// #[derive(Default)]
    /// struct Counter {
    ///     received: usize,
    /// }
    ///
    /// impl AutobahnProtocol for Counter {
    ///     fn wants_pieces(&self) -> bool {
    ///         true
    ///     }
    ///
    ///     fn on_message_frame_data(&mut self, _socket: &WebSocket, payload: &[u8]) {
    ///         self.received += payload.len();
    ///     }
    ///
    ///     fn on_message_end(&mut self, socket: &WebSocket) {
    ///         socket.send_message(format!("{} bytes", self.received));
    ///     }
    /// }
    /// ```
    fn wants_pieces(&self) -> bool {
        false
    }

    /// Whether each frame is to come whole, to `on_message_frame`, besides the callbacks of
    /// [`wants_pieces`](Self::wants_pieces). Default no; asked once, when the protocol is made. A frame is collected
    /// within [`Options::max_frame`](crate::Options::max_frame) and, as it may be compressed,
    /// [`max_message`](crate::Options::max_message).
    fn wants_frames(&self) -> bool {
        false
    }

    /// `onMessageBegin(isBinary)`: a message begins.
    fn on_message_begin(&mut self, socket: &WebSocket, is_binary: bool) {}

    /// `onMessageFrameBegin(length)`: a frame of the message begins, of this many bytes on the wire. If it is
    /// compressed, its data is longer.
    fn on_message_frame_begin(&mut self, socket: &WebSocket, length: u64) {}

    /// `onMessageFrameData(payload)`: some of the frame's payload, inflated, not empty. Text is checked to be UTF-8 as
    /// it comes, but this may end within a character.
    fn on_message_frame_data(&mut self, socket: &WebSocket, payload: &[u8]) {}

    /// `onMessageFrame(payload)`: all of the frame's payload, inflated; not a list of its pieces. Text may end within
    /// a character. Only if [`wants_frames`](Self::wants_frames) says yes; right before `on_message_frame_end`.
    fn on_message_frame(&mut self, socket: &WebSocket, payload: &[u8]) {}

    /// `onMessageFrameEnd()`: the frame has ended.
    fn on_message_frame_end(&mut self, socket: &WebSocket) {}

    /// `onMessageEnd()`: the message has ended; text was valid UTF-8.
    fn on_message_end(&mut self, socket: &WebSocket) {}

    /// `onPing(payload)`; the pong has been sent.
    fn on_ping(&mut self, socket: &WebSocket, payload: &[u8]) {}

    /// `onPong(payload)`.
    fn on_pong(&mut self, socket: &WebSocket, payload: &[u8]) {}

    /// `onCloseFrame(code, reasonRaw)`: the peer has sent its Close. It is valid and has been answered, whatever this
    /// does; `on_close` follows. Where Autobahn has `None` for a missing code, here is 1005.
    fn on_close_frame(&mut self, socket: &WebSocket, code: u16, reason: &str) {}

    /// More output is queued than [`BufferLimits::high`](twistor_reactor::BufferLimits::high): send less. Autobahn
    /// tells a registered producer alone.
    fn output_high(&mut self, socket: &WebSocket) {}

    /// The output has drained to [`BufferLimits::low`](twistor_reactor::BufferLimits::low) after `output_high`.
    fn output_drained(&mut self, socket: &WebSocket) {}

    /// `onClose(wasClean, code, reason)`: the last callback. Where Autobahn has `None` for a missing code, here is
    /// 1005.
    fn on_close(&mut self, socket: &WebSocket, was_clean: bool, code: u16, reason: &str) {}
}

/// The names that an Autobahn protocol has for sending and [`WebSocket`] has not. As all its methods, they do nothing
/// once the connection is gone.
///
/// Not here: `beginMessageFrame(length)` with `sendMessageFrameData(data)`. They announce a frame before its data is
/// there, and no ping or pong can go out until it has come; shorter frames do the same for the receiver.
pub trait AutobahnTransport {
    /// `sendMessageFrame(payload)`: [`WebSocket::send_piece`], between [`begin_message`](WebSocket::begin_message) and
    /// [`end_message`](WebSocket::end_message).
    ///
    /// # Errors
    /// [`MessageUnfinished`] when no message was begun.
    fn send_message_frame(&self, payload: &[u8]) -> Result<(), MessageUnfinished>;

    /// `sendPreparedMessage(prepared)`: [`WebSocket::send_prepared`]. What `factory.prepareMessage` makes is a
    /// [`PreparedMessage::new`].
    fn send_prepared_message(&self, message: &PreparedMessage);

    /// `sendPing(payload)`: [`WebSocket::ping`]. Without a payload: `b""`.
    ///
    /// # Errors
    /// [`ControlTooLong`] for more than 125 bytes (RFC 6455, 5.5).
    fn send_ping(&self, payload: &[u8]) -> Result<(), ControlTooLong>;

    /// `sendPong(payload)`: [`WebSocket::pong`]. Pings are answered without it.
    ///
    /// # Errors
    /// As [`send_ping`](Self::send_ping).
    fn send_pong(&self, payload: &[u8]) -> Result<(), ControlTooLong>;

    /// `sendClose(code, reason)`: [`WebSocket::lose_connection`]. Without a code it is 1000, normal closure, where
    /// Autobahn sends a Close without one (and raises if there is a reason).
    ///
    /// # Errors
    /// [`InvalidCloseCode`] unless the code is 1000-1003, 1007-1014 or 3000-4999; Autobahn takes 1000 and 3000-4999.
    fn send_close(&self, code: Option<u16>, reason: &str) -> Result<(), InvalidCloseCode>;

    /// `dropConnection(abort)`: ends the TCP connection without a Close; nothing is received any more. With `abort`
    /// at once, as [`WebSocket::abort`]; else what waits is sent first, as far as the peer takes it.
    fn drop_connection(&self, abort: bool);
}

impl AutobahnTransport for WebSocket {
    #[inline]
    fn send_message_frame(&self, payload: &[u8]) -> Result<(), MessageUnfinished> {
        self.send_piece(payload)
    }

    #[inline]
    fn send_prepared_message(&self, message: &PreparedMessage) {
        self.send_prepared(message);
    }

    #[inline]
    fn send_ping(&self, payload: &[u8]) -> Result<(), ControlTooLong> {
        self.ping(payload)
    }

    #[inline]
    fn send_pong(&self, payload: &[u8]) -> Result<(), ControlTooLong> {
        self.pong(payload)
    }

    fn send_close(&self, code: Option<u16>, reason: &str) -> Result<(), InvalidCloseCode> {
        self.lose_connection(code.unwrap_or(close_code::NORMAL), reason)
    }

    fn drop_connection(&self, abort: bool) {
        if abort {
            return self.abort();
        }
        self.unregister_producer(); // the connection would stay open for it
        self.pause_producing(); // more may have been read than the message that is being handled
        self.transport().lose_connection();
    }
}

/// `(payload, is_binary)`, as Autobahn's `sendMessage` and `prepareMessage` take it and `on_message` gets it. That text
/// is UTF-8 is the caller's word: if it is not, the peer will end the connection with 1007 (RFC 6455, 8.1).
impl<P: AsRef<[u8]>> AsMessage for (P, bool) {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        let payload = self.0.as_ref();
        Message { opcode: if self.1 { OpCode::Binary } else { OpCode::Text }, payload }
    }
}

/// The adapter from [`AutobahnProtocol`] to [`WebSocketProtocol`].
#[derive(Debug)]
pub struct Autobahn<P> {
    protocol: P,
    /// What has come of a frame, for protocols that want them whole.
    frame: Option<Vec<u8>>,
}

impl<P: AutobahnProtocol> Autobahn<P> {
    /// Around a protocol.
    pub fn new(protocol: P) -> Self {
        let frame = protocol.wants_frames().then(Vec::new);
        Self { protocol, frame }
    }
}

impl<P: AutobahnProtocol> WebSocketProtocol for Autobahn<P> {
    fn negotiate(&mut self, request: &Request) -> Negotiation {
        self.protocol.on_connect(request)
    }

    fn connecting(&mut self, peer: &Address, request: &ClientRequest) -> Option<ClientRequest> {
        self.protocol.on_connecting(peer, request)
    }

    fn handshake_accepted(&mut self, socket: &WebSocket, response: &Accepted) {
        self.protocol.on_connected(socket, response);
    }

    fn connection_made(&mut self, socket: &WebSocket) {
        self.protocol.on_open(socket);
    }

    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        self.protocol.on_message(socket, frame.as_bytes(), frame.is_binary());
    }

    fn wants_pieces(&self) -> bool {
        self.frame.is_some() || self.protocol.wants_pieces()
    }

    fn piece_received(&mut self, socket: &WebSocket, piece: Piece<'_>) {
        match piece {
            Piece::Begin { is_binary } => self.protocol.on_message_begin(socket, is_binary),
            Piece::FrameBegin { length } => self.protocol.on_message_frame_begin(socket, length),
            Piece::Data(payload) => {
                if let Some(frame) = &mut self.frame {
                    frame.extend_from_slice(payload);
                }
                self.protocol.on_message_frame_data(socket, payload);
            }
            Piece::FrameEnd => {
                if let Some(frame) = &mut self.frame {
                    self.protocol.on_message_frame(socket, frame);
                    frame.clear();
                    frame.shrink_to(KEPT_BUFFER);
                }
                self.protocol.on_message_frame_end(socket);
            }
            Piece::End => self.protocol.on_message_end(socket),
        }
    }

    fn ping_received(&mut self, socket: &WebSocket, payload: &[u8]) {
        self.protocol.on_ping(socket, payload);
    }

    fn pong_received(&mut self, socket: &WebSocket, payload: &[u8]) {
        self.protocol.on_pong(socket, payload);
    }

    fn close_received(&mut self, socket: &WebSocket, code: u16, reason: &str) {
        self.protocol.on_close_frame(socket, code, reason);
    }

    fn output_high(&mut self, socket: &WebSocket) {
        self.protocol.output_high(socket);
    }

    fn output_drained(&mut self, socket: &WebSocket) {
        self.protocol.output_drained(socket);
    }

    fn connection_lost(&mut self, socket: &WebSocket, _reason: &Failure) {
        if let Some(CloseStatus { was_clean, code, reason, .. }) = socket.close_status() {
            self.protocol.on_close(socket, was_clean, code, &reason);
        }
    }

    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        if wanted == TypeId::of::<P>() { Some(&mut self.protocol) } else { None }
    }
}

/// Wraps a factory of [`AutobahnProtocol`]s into one of [`WebSocketProtocol`]s, for servers and clients.
///
/// ```
/// use twistor_reactor::for_protocol;
/// use twistor_websocket::{AutobahnFactory, AutobahnProtocol, WebSocketClientFactory, WebSocketServerFactory};
///
/// struct Chat;
/// impl AutobahnProtocol for Chat {} // every callback has a default
///
/// let server = WebSocketServerFactory::new(AutobahnFactory(for_protocol(|| Chat)));
/// let client = WebSocketClientFactory::new("ws://localhost:9000", AutobahnFactory(for_protocol(|| Chat)))?;
/// # drop((server, client));
/// # Ok::<(), twistor_websocket::ClientError>(())
/// ```
#[derive(Debug)]
pub struct AutobahnFactory<F>(pub F);

impl<F: Factory<Protocol: AutobahnProtocol>> Factory for AutobahnFactory<F> {
    type Protocol = Autobahn<F::Protocol>;

    fn build_protocol(&mut self, peer: &Address) -> Option<Self::Protocol> {
        self.0.build_protocol(peer).map(Autobahn::new)
    }

    fn start_factory(&mut self) {
        self.0.start_factory();
    }

    fn stop_factory(&mut self) {
        self.0.stop_factory();
    }

    fn identity(&self) -> Option<*const ()> {
        self.0.identity()
    }
}

impl<F: ClientFactory<Protocol: AutobahnProtocol>> ClientFactory for AutobahnFactory<F> {
    fn started_connecting(&mut self, connector: &Connector) {
        self.0.started_connecting(connector);
    }

    fn client_connection_failed(&mut self, connector: &Connector, reason: &Failure) {
        self.0.client_connection_failed(connector, reason);
    }

    fn client_connection_lost(&mut self, connector: &Connector, reason: &Failure) {
        self.0.client_connection_lost(connector, reason);
    }
}

#[cfg(test)]
#[path = "autobahn_tests.rs"]
mod tests;
