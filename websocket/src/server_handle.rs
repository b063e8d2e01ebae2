//! `ServerHandle`: all connections of a server at once.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::{Deferred, Reactor, Transport};

use crate::closed::close_code;
use crate::connections::{Connections, SHUTTING_DOWN};
use crate::server::busy;
use crate::socket::WebSocket;

/// A handle to the connections of a [`WebSocketServerFactory`](crate::WebSocketServerFactory) or
/// [`WebSocketResource`](crate::WebSocketResource). Cheap to clone.
#[derive(Clone)]
pub struct ServerHandle {
    connections: Rc<Connections>,
}

impl ServerHandle {
    pub(crate) fn new(connections: Rc<Connections>) -> Self {
        Self { connections }
    }

    /// Connections now, those in the handshake's last step included: Autobahn's `getConnectionCount`.
    pub fn connection_count(&self) -> usize {
        self.connections.count()
    }

    /// The WebSockets that are open now.
    pub fn sockets(&self) -> Vec<WebSocket> {
        self.connections.sockets()
    }

    /// Connections that have become WebSockets so far.
    pub fn accepted(&self) -> u64 {
        self.connections.accepted.get()
    }

    /// Handshakes refused so far because as many connections as are served were open.
    pub fn refused(&self) -> u64 {
        self.connections.refused.get()
    }

    /// Bytes that wait to be sent, on all of them.
    pub fn buffered(&self) -> usize {
        self.sockets().iter().map(WebSocket::buffered).sum()
    }

    /// Shuts down gracefully: handshakes are answered 503, those in progress and new ones, every WebSocket gets a Close 1001 after what is queued for it,
    /// and whoever has not left at the deadline is cut off. The Deferred fires when all are gone, with the peers
    /// that had to be cut off. The listening port is the caller's to stop.
    ///
    /// `stagger` spreads the Closes over that time, so that not all clients reconnect elsewhere at once.
    pub fn shutdown(&self, reactor: &Reactor, deadline: Duration, stagger: Duration) -> Deferred<Vec<WebSocket>> {
        let (resolver, deferred) = reactor.deferred();
        let connections = self.connections.clone();
        connections.closing.set(true);
        for transport in connections.undecided() {
            let mut out = Vec::new();
            busy().encode(&mut out, false, false);
            transport.write(out);
            transport.lose_connection();
        }
        let sockets = connections.sockets();
        let step = stagger / u32::try_from(sockets.len().max(1)).unwrap_or(u32::MAX);
        for (index, socket) in sockets.into_iter().enumerate() {
            let close = move || {
                let _ = socket.lose_connection(close_code::GOING_AWAY, SHUTTING_DOWN);
            };
            let delay = step.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX));
            if delay.is_zero() {
                close();
            } else {
                reactor.call_later(delay, close);
            }
        }
        let late = Rc::new(std::cell::RefCell::new(Vec::new()));
        let (cut_off, left) = (late.clone(), connections.clone());
        let timer = reactor.call_later(deadline, move || {
            let sockets = left.sockets();
            sockets.iter().for_each(WebSocket::abort);
            left.undecided().iter().for_each(Transport::abort_connection);
            cut_off.borrow_mut().extend(sockets);
        });
        let on_empty = move || {
            let _ = timer.cancel();
            resolver.resolve(late.take());
        };
        if connections.count() == 0 {
            on_empty();
        } else {
            connections.on_empty.borrow_mut().push(Box::new(on_empty));
        }
        deferred
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerHandle({} connections)", self.connections.count())
    }
}
