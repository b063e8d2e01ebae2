//! Autobahn's dialect: `on_connect`, `on_open`, `on_message(payload, is_binary)`, `on_close(was_clean, code, reason)`.

use std::any::{Any, TypeId};

use twistor_reactor::{Address, ClientFactory, Connector, Factory, Failure};

use crate::closed::CloseStatus;
use crate::handshake::Accepted;
use crate::http::Request;
use crate::message::Frame;
use crate::protocol::{Accept, Negotiation, WebSocketProtocol};
use crate::socket::WebSocket;

/// A protocol as programs for `autobahn.twisted.websocket` have it. Wrap its factory in an [`AutobahnFactory`].
///
/// | Autobahn | here |
/// |---|---|
/// | `self.sendMessage(payload, isBinary)` | `socket.send_text(..)`, `socket.send_binary(..)`, `socket.send_message(..)` |
/// | `self.sendClose(code, reason)` | `socket.lose_connection(code, reason)` |
/// | `self.sendPing(payload)` | `socket.ping(payload)` |
/// | `self.dropConnection(abort=True)` | `socket.abort()` |
/// | `raise ConnectionDeny(code, reason)` | `Negotiation::Refuse(Refusal::new(code, reason))` |
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

    /// Client: `onConnect(response)`.
    fn on_connected(&mut self, socket: &WebSocket, response: &Accepted) {}

    /// `onOpen()`.
    fn on_open(&mut self, socket: &WebSocket) {}

    /// `onMessage(payload, isBinary)`.
    fn on_message(&mut self, socket: &WebSocket, payload: &[u8], is_binary: bool);

    /// `onPing(payload)`; the pong has been sent.
    fn on_ping(&mut self, socket: &WebSocket, payload: &[u8]) {}

    /// `onPong(payload)`.
    fn on_pong(&mut self, socket: &WebSocket, payload: &[u8]) {}

    /// `onClose(wasClean, code, reason)`: the last callback. Where Autobahn has `None` for a missing code, here is
    /// 1005.
    fn on_close(&mut self, socket: &WebSocket, was_clean: bool, code: u16, reason: &str) {}
}

/// The adapter from [`AutobahnProtocol`] to [`WebSocketProtocol`].
#[derive(Debug)]
pub struct Autobahn<P>(pub P);

impl<P: AutobahnProtocol> WebSocketProtocol for Autobahn<P> {
    fn negotiate(&mut self, request: &Request) -> Negotiation {
        self.0.on_connect(request)
    }

    fn handshake_accepted(&mut self, socket: &WebSocket, response: &Accepted) {
        self.0.on_connected(socket, response);
    }

    fn connection_made(&mut self, socket: &WebSocket) {
        self.0.on_open(socket);
    }

    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        self.0.on_message(socket, frame.as_bytes(), frame.is_binary());
    }

    fn ping_received(&mut self, socket: &WebSocket, payload: &[u8]) {
        self.0.on_ping(socket, payload);
    }

    fn pong_received(&mut self, socket: &WebSocket, payload: &[u8]) {
        self.0.on_pong(socket, payload);
    }

    fn connection_lost(&mut self, socket: &WebSocket, _reason: &Failure) {
        if let Some(CloseStatus { was_clean, code, reason, .. }) = socket.close_status() {
            self.0.on_close(socket, was_clean, code, &reason);
        }
    }

    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        if wanted == TypeId::of::<P>() { Some(&mut self.0) } else { None }
    }
}

/// Wraps a factory of [`AutobahnProtocol`]s into one of [`WebSocketProtocol`]s, for servers and clients.
#[derive(Debug)]
pub struct AutobahnFactory<F>(pub F);

impl<F: Factory<Protocol: AutobahnProtocol>> Factory for AutobahnFactory<F> {
    type Protocol = Autobahn<F::Protocol>;

    fn build_protocol(&mut self, peer: &Address) -> Option<Self::Protocol> {
        self.0.build_protocol(peer).map(Autobahn)
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
