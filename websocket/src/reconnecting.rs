//! `Reconnecting`: the protocol that tells a `ReconnectingClientFactory` how it fares.

use std::any::{Any, TypeId};
use std::fmt;
use std::rc::Rc;

use twistor_reactor::{Failure, Protocol, Transport};

use crate::backoff::State;
use crate::forwarding::forward_callbacks;
use crate::http::Request;
use crate::protocol::{Negotiation, WebSocketProtocol};
use crate::socket::WebSocket;

/// What a [`ReconnectingClientFactory`](crate::ReconnectingClientFactory) builds around a protocol, be it a
/// [`Protocol`] or a [`WebSocketProtocol`]: it behaves as the one inside, and notes since when there was a connection
/// and how it ended.
pub struct Reconnecting<P> {
    inner: P,
    state: Rc<State>,
}

/// What a [`WebSocketClient`](crate::WebSocketClient) is asked for by a `Reconnecting` around it, which is gone with
/// the handshake and would not see the WebSocket open and end.
pub(crate) type Around = Option<Rc<State>>;

impl<P: 'static> Reconnecting<P> {
    pub(crate) fn new(inner: P, state: Rc<State>) -> Self {
        Self { inner, state }
    }
}

impl<P: Protocol> Protocol for Reconnecting<P> {
    fn connection_made(&mut self, transport: &Transport) {
        match self.inner.inner(TypeId::of::<Around>()).and_then(|any| any.downcast_mut::<Around>()) {
            Some(around) => *around = Some(self.state.clone()), // there is no WebSocket yet
            None => self.state.connected.set(Some(transport.reactor().now())),
        }
        self.inner.connection_made(transport);
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.inner.data_received(transport, data);
    }

    fn data_received_mut(&mut self, transport: &Transport, data: &mut [u8]) {
        self.inner.data_received_mut(transport, data);
    }

    fn read_from(&mut self, transport: &Transport, source: &mut dyn std::io::Read) {
        self.inner.read_from(transport, source);
    }

    fn read_connection_lost(&mut self, transport: &Transport) {
        self.inner.read_connection_lost(transport);
    }

    fn write_connection_lost(&mut self, transport: &Transport) {
        self.inner.write_connection_lost(transport);
    }

    fn output_high(&mut self, transport: &Transport) {
        self.inner.output_high(transport);
    }

    fn output_drained(&mut self, transport: &Transport) {
        self.inner.output_drained(transport);
    }

    fn callback_panicked(&mut self, transport: &Transport, reason: &Failure) {
        self.inner.callback_panicked(transport, reason);
    }

    fn connection_lost(&mut self, transport: &Transport, reason: &Failure) {
        self.inner.connection_lost(transport, reason);
    }

    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        if wanted == TypeId::of::<P>() { Some(&mut self.inner) } else { self.inner.inner(wanted) }
    }
}

impl<P: WebSocketProtocol> WebSocketProtocol for Reconnecting<P> {
    fn negotiate(&mut self, request: &Request) -> Negotiation {
        self.inner.negotiate(request)
    }

    forward_callbacks!(inner);

    fn connection_made(&mut self, socket: &WebSocket) {
        self.state.connected.set(Some(socket.reactor().now()));
        self.inner.connection_made(socket);
    }

    fn connection_lost(&mut self, socket: &WebSocket, reason: &Failure) {
        self.state.closed.set(Some(reason.clone()));
        self.inner.connection_lost(socket, reason);
    }

    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        if wanted == TypeId::of::<Rc<State>>() {
            return Some(&mut self.state); // asked for by the client inside of which this is
        }
        if wanted == TypeId::of::<P>() { Some(&mut self.inner) } else { self.inner.inner(wanted) }
    }
}

impl<P> fmt::Debug for Reconnecting<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reconnecting<{}>", std::any::type_name::<P>())
    }
}
