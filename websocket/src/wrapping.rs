//! Any protocol over a WebSocket: ticket #4173's `WebSocketsProtocolWrapper`, Autobahn's `Wrapping..Factory`.

use std::fmt;
use std::io;

use twistor_reactor::{Address, Carried, Carrier, ClientFactory, Connector, Factory, Failure, Protocol};

use crate::message::Frame;
use crate::protocol::WebSocketProtocol;
use crate::sansio::OpCode;
use crate::socket::WebSocket;

/// With more than this received and not yet read by the wrapped protocol, the WebSocket is paused: the message under way
/// and the next are then all that is kept of a peer.
const MUCH: usize = 64 * 1024;

/// The adapter from a [`Protocol`] to [`WebSocketProtocol`]: see [`WrappingFactory`].
pub struct Wrapping<P> {
    /// Until the connection is made.
    protocol: Option<P>,
    opcode: OpCode,
    carried: Option<Carried>,
}

impl<P: Protocol> WebSocketProtocol for Wrapping<P> {
    fn connection_made(&mut self, socket: &WebSocket) {
        let Some(protocol) = self.protocol.take() else { return };
        let carrier = Messages { socket: socket.clone(), opcode: self.opcode };
        self.carried = Some(Carried::new(&socket.reactor(), socket.peer().clone(), protocol, carrier));
    }

    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        let Some(carried) = &self.carried else { return };
        carried.received(frame.as_bytes());
        if carried.waiting() > MUCH {
            socket.pause_producing();
        }
    }

    fn output_drained(&mut self, _socket: &WebSocket) {
        if let Some(carried) = &self.carried {
            carried.ready();
        }
    }

    fn connection_lost(&mut self, _socket: &WebSocket, reason: &Failure) {
        if let Some(carried) = self.carried.take() {
            carried.end(reason.clone());
        }
    }
}

impl<P> fmt::Debug for Wrapping<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wrapping({:?})", self.carried)
    }
}

/// What is written goes as messages of one kind.
struct Messages {
    socket: WebSocket,
    opcode: OpCode,
}

impl Carrier for Messages {
    fn is_ready(&self) -> bool {
        let ready = !self.socket.must_wait();
        if !ready {
            self.socket.notify_drained();
        }
        ready
    }

    fn send(&mut self, record: &[u8]) {
        match std::str::from_utf8(record) {
            Ok(text) if self.opcode == OpCode::Text => self.socket.send_text(text),
            _ => self.socket.send_binary(record),
        }
    }

    fn drained(&mut self) {
        self.socket.resume_producing();
    }

    fn close(&mut self, abort: bool) {
        if abort { self.socket.abort() } else { self.socket.close() }
    }

    fn host(&self) -> io::Result<Address> {
        self.socket.transport().host()
    }
}

/// Wraps a factory of ordinary [`Protocol`]s into one of [`WebSocketProtocol`]s, for servers and clients: a line protocol,
/// say, that browsers shall speak.
///
/// A message that comes is one `data_received` (in parts, if it is longer than 256 KiB, and none if it is empty), a
/// `write` is one message.
/// The wrapped protocol has a transport of its own: `lose_connection` there is a Close with 1000, `abort_connection` is
/// [`WebSocket::abort`], there is no half-close, and the reason of its `connection_lost` is the WebSocket's. As long as
/// it has paused reading, the WebSocket has.
///
/// ```
/// use twistor_reactor::{Protocol, Transport, for_protocol};
/// use twistor_websocket::{WebSocketServerFactory, WrappingFactory};
///
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
///         transport.write(data);
///     }
/// }
///
/// let factory = WebSocketServerFactory::new(WrappingFactory::new(for_protocol(|| Echo)));
/// # let _ = factory;
/// ```
#[derive(Debug)]
pub struct WrappingFactory<F> {
    factory: F,
    opcode: OpCode,
}

impl<F> WrappingFactory<F> {
    /// What is written goes as binary messages. (#4173's wrapper defaults to text, which not all bytes are.)
    pub fn new(factory: F) -> Self {
        Self { factory, opcode: OpCode::Binary }
    }

    /// What is written goes as text messages, where it is UTF-8; else as binary ones.
    #[must_use]
    pub fn text(factory: F) -> Self {
        Self { factory, opcode: OpCode::Text }
    }
}

impl<F: Factory<Protocol: Protocol>> Factory for WrappingFactory<F> {
    type Protocol = Wrapping<F::Protocol>;

    fn build_protocol(&mut self, peer: &Address) -> Option<Self::Protocol> {
        let protocol = self.factory.build_protocol(peer)?;
        Some(Wrapping { protocol: Some(protocol), opcode: self.opcode, carried: None })
    }

    fn start_factory(&mut self) {
        self.factory.start_factory();
    }

    fn stop_factory(&mut self) {
        self.factory.stop_factory();
    }

    fn identity(&self) -> Option<*const ()> {
        self.factory.identity()
    }
}

impl<F: ClientFactory<Protocol: Protocol>> ClientFactory for WrappingFactory<F> {
    fn started_connecting(&mut self, connector: &Connector) {
        self.factory.started_connecting(connector);
    }

    fn client_connection_failed(&mut self, connector: &Connector, reason: &Failure) {
        self.factory.client_connection_failed(connector, reason);
    }

    fn client_connection_lost(&mut self, connector: &Connector, reason: &Failure) {
        self.factory.client_connection_lost(connector, reason);
    }
}
