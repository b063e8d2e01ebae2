//! The dialect of Twisted's ticket #4173, as MAAS and Spyne have it: `frame_received(opcode, data, fin)` for every
//! frame.

use std::any::{Any, TypeId};
use std::error::Error;
use std::fmt;
use std::mem;

use twistor_reactor::{Address, ClientFactory, Connector, Factory, Failure};

use crate::closed::close_code;
use crate::http::Request;
use crate::message::Frame;
use crate::pieces::MessageUnfinished;
use crate::protocol::{Accept, Negotiation, Piece, WebSocketProtocol};
use crate::sansio::{InvalidCloseCode, OpCode};
use crate::sending::ControlTooLong;
use crate::socket::WebSocket;

/// A frame's buffer up to this size is kept for the next one: it fits most, and a thousand idle connections own 4 MiB.
pub(crate) const KEPT_BUFFER: usize = 4 * 1024;

/// A protocol that takes frames: `IWebSocketsFrameReceiver`. Wrap its factory in a [`FramesFactory`].
///
/// | ticket #4173 | here |
/// |---|---|
/// | `CONTROLS.TEXT`, `BINARY`, `CONTINUE`, `CLOSE`, `PING`, `PONG` | [`OpCode::Text`], `Binary`, `Continuation`, `Close`, `Ping`, `Pong` |
/// | `STATUSES.NORMAL` and the others | [`close_code`] |
/// | `makeConnection(transport)` | `connection_made(transport)`; the transport comes with every callback |
/// | `transport.sendFrame(opcode, data, fin)` | [`transport.send_frame(opcode, data, fin)`](FrameTransport::send_frame) |
/// | `transport.loseConnection(code, reason)` | [`transport.lose_connection(code, reason)`](WebSocket::lose_connection) |
/// | `lookupProtocol(names, request)` | [`lookup_protocol`](crate::lookup_protocol), or [`negotiate`](Self::negotiate) |
///
/// As there, pings are answered and a Close is answered and ends the connection, whatever this protocol does about
/// them. What is new: frames are checked (order, UTF-8, sizes) before they get here.
///
/// ```
/// use twistor_websocket::sansio::OpCode;
/// use twistor_websocket::{FrameReceiver, FrameTransport, WebSocket};
///
/// struct Echo;
///
/// impl FrameReceiver for Echo {
///     fn frame_received(&mut self, transport: &WebSocket, opcode: OpCode, data: &[u8], fin: bool) {
///         if !opcode.is_control() {
///             let sent = transport.send_frame(opcode, data, fin);
///             debug_assert!(sent.is_ok(), "what came in order can be sent in order");
///         }
///     }
/// }
/// ```
#[allow(unused_variables)] // the defaults ignore what they are given; the names document it
pub trait FrameReceiver: 'static {
    /// Server: a client asks for the WebSocket, with this request. The default accepts.
    fn negotiate(&mut self, request: &Request) -> Negotiation {
        Accept::default().into()
    }

    /// `makeConnection(transport)`: frames go both ways from here on.
    fn connection_made(&mut self, transport: &WebSocket) {}

    /// `frameReceived(opcode, data, fin)`: a whole frame, of a message or of control. A message is a text or binary
    /// frame and continuation frames, `fin` being true for its last; control frames may come between them.
    ///
    /// `data` is the payload, inflated. A frame of a text message may end in the middle of a character. A ping has been
    /// answered already, the answers to the library's own pings do not come here; of a Close, [`close_frame`] gives the
    /// code and reason.
    fn frame_received(&mut self, transport: &WebSocket, opcode: OpCode, data: &[u8], fin: bool);

    /// The connection is over; the last callback.
    fn connection_lost(&mut self, transport: &WebSocket, reason: &Failure) {}
}

/// The code and reason in the payload of a Close; 1005 and nothing for an empty one. In the original `data` is this
/// pair.
///
/// ```
/// use twistor_websocket::close_frame;
/// assert_eq!(close_frame(b"\x03\xe8bye"), (1000, "bye"));
/// assert_eq!(close_frame(b""), (1005, ""));
/// ```
pub fn close_frame(data: &[u8]) -> (u16, &str) {
    match data.split_first_chunk() {
        Some((code, reason)) => (u16::from_be_bytes(*code), std::str::from_utf8(reason).unwrap_or_default()),
        None => (close_code::NO_STATUS, ""),
    }
}

/// What `WebSocketsTransport` has and [`WebSocket`] has not. Its `loseConnection` is [`WebSocket::lose_connection`].
pub trait FrameTransport {
    /// `sendFrame(opcode, data, fin)`. Dropped unless the WebSocket is open. A Close is
    /// [`lose_connection`](WebSocket::lose_connection), with the code and reason in its payload. A data frame for
    /// which the output is too long ([`BufferLimits::cap`](twistor_reactor::BufferLimits::cap)) ends the connection.
    ///
    /// # Errors
    /// [`FrameMisuse`] for a frame that RFC 6455 does not allow here; nothing is sent then.
    fn send_frame(&self, opcode: OpCode, data: &[u8], fin: bool) -> Result<(), FrameMisuse>;
}

impl FrameTransport for WebSocket {
    fn send_frame(&self, opcode: OpCode, data: &[u8], fin: bool) -> Result<(), FrameMisuse> {
        // RFC 6455, 5.5: control frames MUST NOT be fragmented.
        if opcode.is_control() && !fin {
            return Err(FrameMisuse::FragmentedControl(opcode));
        }
        match opcode {
            OpCode::Ping => self.ping(data)?,
            OpCode::Pong => self.pong(data)?,
            OpCode::Close => match close_frame(data) {
                _ if data.is_empty() => self.close(),
                (code, reason) => self.lose_connection(code, reason)?,
            },
            OpCode::Text | OpCode::Binary => {
                self.begin_message(opcode == OpCode::Binary)?;
                if fin { self.end_message(data)? } else { self.send_piece(data)? }
            }
            OpCode::Continuation if fin => self.end_message(data)?,
            OpCode::Continuation => self.send_piece(data)?,
        }
        Ok(())
    }
}

/// A frame that may not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameMisuse {
    /// A control frame without `fin`.
    FragmentedControl(OpCode),
    /// A ping or pong of more than 125 bytes.
    ControlTooLong(ControlTooLong),
    /// A continuation of nothing, or a new message while one is unfinished.
    OutOfOrder(MessageUnfinished),
    /// A Close with a code that may not be sent.
    CloseCode(InvalidCloseCode),
}

impl fmt::Display for FrameMisuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FragmentedControl(opcode) => write!(f, "expected a {opcode} frame with fin, got one without"),
            Self::ControlTooLong(error) => error.fmt(f),
            Self::OutOfOrder(error) => error.fmt(f),
            Self::CloseCode(error) => error.fmt(f),
        }
    }
}

impl Error for FrameMisuse {}

impl From<ControlTooLong> for FrameMisuse {
    fn from(error: ControlTooLong) -> Self {
        Self::ControlTooLong(error)
    }
}

impl From<MessageUnfinished> for FrameMisuse {
    fn from(error: MessageUnfinished) -> Self {
        Self::OutOfOrder(error)
    }
}

impl From<InvalidCloseCode> for FrameMisuse {
    fn from(error: InvalidCloseCode) -> Self {
        Self::CloseCode(error)
    }
}

/// The adapter from [`FrameReceiver`] to [`WebSocketProtocol`]. It collects each frame, within
/// [`Options::max_frame`](crate::Options::max_frame) and [`max_message`](crate::Options::max_message).
#[derive(Debug)]
pub struct Frames<P> {
    receiver: P,
    opcode: OpCode,
    data: Vec<u8>,
    state: Collected,
}

/// How much there is of the frame in `Frames::data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Collected {
    /// None, or some.
    Part,
    /// All, but whether it was the message's last is not known yet: if the end of the message does not come with it,
    /// no.
    Whole,
}

impl<P: FrameReceiver> Frames<P> {
    /// Around a receiver.
    pub fn new(receiver: P) -> Self {
        Self { receiver, opcode: OpCode::Continuation, data: Vec::new(), state: Collected::Part }
    }

    fn deliver(&mut self, socket: &WebSocket, fin: bool) {
        let mut data = mem::take(&mut self.data);
        let opcode = mem::replace(&mut self.opcode, OpCode::Continuation);
        self.state = Collected::Part;
        self.receiver.frame_received(socket, opcode, &data, fin);
        if data.capacity() <= KEPT_BUFFER {
            data.clear();
            self.data = data;
        }
    }

    /// What has come since shows that the whole frame was not its message's last.
    fn deliver_unfinished(&mut self, socket: &WebSocket) {
        if self.state == Collected::Whole {
            self.deliver(socket, false);
        }
    }

    fn control(&mut self, socket: &WebSocket, opcode: OpCode, data: &[u8]) {
        self.deliver_unfinished(socket);
        self.receiver.frame_received(socket, opcode, data, true);
    }
}

impl<P: FrameReceiver> WebSocketProtocol for Frames<P> {
    fn negotiate(&mut self, request: &Request) -> Negotiation {
        self.receiver.negotiate(request)
    }

    fn connection_made(&mut self, socket: &WebSocket) {
        self.receiver.connection_made(socket);
    }

    /// Not called, as pieces are wanted; were it called, a message would be its only frame.
    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        let opcode = if frame.is_binary() { OpCode::Binary } else { OpCode::Text };
        self.receiver.frame_received(socket, opcode, frame.as_bytes(), true);
    }

    fn wants_pieces(&self) -> bool {
        true
    }

    fn piece_received(&mut self, socket: &WebSocket, piece: Piece<'_>) {
        match piece {
            Piece::Begin { is_binary } => self.opcode = if is_binary { OpCode::Binary } else { OpCode::Text },
            Piece::FrameBegin { .. } => self.deliver_unfinished(socket),
            Piece::Data(data) => self.data.extend_from_slice(data),
            Piece::FrameEnd => {
                self.state = Collected::Whole;
                let this = socket.clone();
                socket.protocol::<Self>().post(move |frames, _| frames.deliver_unfinished(&this));
            }
            Piece::End => self.deliver(socket, true),
        }
    }

    fn ping_received(&mut self, socket: &WebSocket, payload: &[u8]) {
        self.control(socket, OpCode::Ping, payload);
    }

    fn pong_received(&mut self, socket: &WebSocket, payload: &[u8]) {
        self.control(socket, OpCode::Pong, payload);
    }

    fn close_received(&mut self, socket: &WebSocket, code: u16, reason: &str) {
        let mut data = Vec::new();
        // RFC 6455, 7.4.1: 1005 says that the Close had no code
        if code != close_code::NO_STATUS {
            data.extend_from_slice(&code.to_be_bytes());
            data.extend_from_slice(reason.as_bytes());
        }
        self.control(socket, OpCode::Close, &data);
    }

    fn connection_lost(&mut self, socket: &WebSocket, reason: &Failure) {
        self.receiver.connection_lost(socket, reason);
    }

    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        if wanted == TypeId::of::<P>() { Some(&mut self.receiver) } else { None }
    }
}

/// Wraps a factory of [`FrameReceiver`]s into one of [`WebSocketProtocol`]s, for servers and clients.
#[derive(Debug)]
pub struct FramesFactory<F>(pub F);

impl<F: Factory<Protocol: FrameReceiver>> Factory for FramesFactory<F> {
    type Protocol = Frames<F::Protocol>;

    fn build_protocol(&mut self, peer: &Address) -> Option<Self::Protocol> {
        self.0.build_protocol(peer).map(Frames::new)
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

impl<F: ClientFactory<Protocol: FrameReceiver>> ClientFactory for FramesFactory<F> {
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
#[path = "frames_tests.rs"]
mod tests;
