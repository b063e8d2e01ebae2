//! Twisted's dialect, `twisted.web.websocket` (26.10): `negotiation_finished`, `text_message_received`,
//! `bytes_message_received`, `pong_received`, `connection_lost`.

use std::any::{Any, TypeId};

use twistor_reactor::{Address, ClientFactory, Connector, Factory, Failure, Producer, ProducerRegistered, Streaming};

use crate::http::Request;
use crate::message::Frame;
use crate::protocol::{Accept, Negotiation, WebSocketProtocol};
use crate::socket::WebSocket;

/// A protocol as programs for `twisted.web.websocket` have it. Wrap its factory in a [`TwistedFactory`].
///
/// The transport is handed to each callback; a protocol that wants it between them keeps a clone, as the original keeps
/// what `negotiationStarted` gives it.
///
/// | Twisted | here |
/// |---|---|
/// | `buildProtocol(request)` | `build_protocol(peer)`; the request comes to [`negotiate`](Self::negotiate) |
/// | `transport.sendTextMessage(text)` | [`transport.send_text_message(text)`](TwistedTransport::send_text_message) |
/// | `transport.sendBytesMessage(data)` | [`transport.send_bytes_message(data)`](TwistedTransport::send_bytes_message) |
/// | `transport.loseConnection(code, reason)` | [`transport.lose_connection(code, reason)`](WebSocket::lose_connection) |
/// | `transport.ping(payload)` | [`transport.ping(payload)`](WebSocket::ping) |
/// | `transport.attachProducer(p)`, `detachProducer()` | [`attach_producer(p)`](TwistedTransport::attach_producer), [`detach_producer()`](TwistedTransport::detach_producer) |
///
/// What differs for the better: a frame in the handshake's own segment is not lost, a write in `negotiation_started`
/// does not damage the handshake, messages are bounded ([`Options::max_message`](crate::Options::max_message)), a send
/// after `lose_connection` does nothing instead of raising, and the reason of `connection_lost` has the close code in
/// it.
///
/// ```
/// use twistor_reactor::for_protocol;
/// use twistor_websocket::{TwistedFactory, TwistedProtocol, TwistedTransport, WebSocket, WebSocketResource};
///
/// struct Echo;
///
/// impl TwistedProtocol for Echo {
///     fn text_message_received(&mut self, transport: &WebSocket, message: &str) {
///         transport.send_text_message(message);
///     }
///
///     fn bytes_message_received(&mut self, transport: &WebSocket, data: &[u8]) {
///         transport.send_bytes_message(data);
///     }
/// }
///
/// let resource = WebSocketResource::new(TwistedFactory(for_protocol(|| Echo)));
/// # let _ = resource;
/// ```
#[allow(unused_variables)] // the defaults ignore what they are given; the names document it
pub trait TwistedProtocol: 'static {
    /// Server: a client asks for the WebSocket, with this request. The default accepts. (Twisted gives the request to
    /// `buildProtocol`, which cannot refuse.)
    fn negotiate(&mut self, request: &Request) -> Negotiation {
        Accept::default().into()
    }

    /// `negotiationStarted(transport)`: the first callback that has the transport. It comes when the handshake is done,
    /// right before `negotiation_finished`, so that writing here is as good as there.
    fn negotiation_started(&mut self, transport: &WebSocket) {}

    /// `negotiationFinished()`: messages go both ways from here on.
    fn negotiation_finished(&mut self, transport: &WebSocket) {}

    /// `textMessageReceived(message)`: a whole text message.
    fn text_message_received(&mut self, transport: &WebSocket, message: &str) {}

    /// `bytesMessageReceived(data)`: a whole binary message.
    fn bytes_message_received(&mut self, transport: &WebSocket, data: &[u8]) {}

    /// `pongReceived(payload)`: an answer to [`WebSocket::ping`], or unasked.
    fn pong_received(&mut self, transport: &WebSocket, payload: &[u8]) {}

    /// `connectionLost(reason)`: the last callback. `reason.check::<ConnectionDone>()` answers as in Twisted;
    /// `reason.value::<WebSocketClosed>()` has the close code. A client whose handshake failed gets this alone.
    fn connection_lost(&mut self, transport: &WebSocket, reason: &Failure) {}
}

/// The names that `twisted.web.websocket`'s `WebSocketTransport` has and [`WebSocket`] has not. Its `ping` and
/// `lose_connection` are [`WebSocket::ping`] and [`WebSocket::lose_connection`].
pub trait TwistedTransport {
    /// `sendTextMessage(text)`.
    fn send_text_message(&self, text: &str);

    /// `sendBytesMessage(data)`.
    fn send_bytes_message(&self, data: &[u8]);

    /// `attachProducer(producer)`: a push producer, paused and resumed with the output.
    ///
    /// # Errors
    /// As [`WebSocket::register_producer`].
    fn attach_producer(&self, producer: impl Producer) -> Result<(), ProducerRegistered>;

    /// `detachProducer()`.
    fn detach_producer(&self);
}

impl TwistedTransport for WebSocket {
    #[inline]
    fn send_text_message(&self, text: &str) {
        self.send_text(text);
    }

    #[inline]
    fn send_bytes_message(&self, data: &[u8]) {
        self.send_binary(data);
    }

    fn attach_producer(&self, producer: impl Producer) -> Result<(), ProducerRegistered> {
        self.register_producer(producer, Streaming::Push)
    }

    fn detach_producer(&self) {
        self.unregister_producer();
    }
}

/// The adapter from [`TwistedProtocol`] to [`WebSocketProtocol`].
#[derive(Debug)]
pub struct Twisted<P>(pub P);

impl<P: TwistedProtocol> WebSocketProtocol for Twisted<P> {
    fn negotiate(&mut self, request: &Request) -> Negotiation {
        self.0.negotiate(request)
    }

    fn connection_made(&mut self, socket: &WebSocket) {
        self.0.negotiation_started(socket);
        self.0.negotiation_finished(socket);
    }

    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        match frame {
            Frame::Text(message) => self.0.text_message_received(socket, message),
            Frame::Binary(data) => self.0.bytes_message_received(socket, data),
        }
    }

    fn pong_received(&mut self, socket: &WebSocket, payload: &[u8]) {
        self.0.pong_received(socket, payload);
    }

    fn connection_lost(&mut self, socket: &WebSocket, reason: &Failure) {
        self.0.connection_lost(socket, reason);
    }

    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        if wanted == TypeId::of::<P>() { Some(&mut self.0) } else { None }
    }
}

/// Wraps a factory of [`TwistedProtocol`]s into one of [`WebSocketProtocol`]s, for servers and clients.
#[derive(Debug)]
pub struct TwistedFactory<F>(pub F);

impl<F: Factory<Protocol: TwistedProtocol>> Factory for TwistedFactory<F> {
    type Protocol = Twisted<F::Protocol>;

    fn build_protocol(&mut self, peer: &Address) -> Option<Self::Protocol> {
        self.0.build_protocol(peer).map(Twisted)
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

impl<F: ClientFactory<Protocol: TwistedProtocol>> ClientFactory for TwistedFactory<F> {
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
#[path = "twisted_tests.rs"]
mod tests;
