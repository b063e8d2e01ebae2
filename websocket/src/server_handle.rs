//! `ServerHandle`: all connections of a server at once.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::{Deferred, ListeningPort, Reactor};

use crate::closed::close_code;
use crate::connections::{Connections, SHUTTING_DOWN, Visitor};
use crate::socket::WebSocket;

/// A handle to the connections of a [`WebSocketServerFactory`](crate::WebSocketServerFactory) or
/// [`WebSocketResource`](crate::WebSocketResource). Cheap to clone.
#[derive(Clone)]
pub struct ServerHandle {
    connections: Rc<Connections>,
    ports: Vec<ListeningPort>,
}

impl ServerHandle {
    pub(crate) fn new(connections: Rc<Connections>) -> Self {
        Self { connections, ports: Vec::new() }
    }

    /// With a port for [`shutdown`](Self::shutdown) to stop, such as the one that the factory, or the site with the
    /// resource, listens on. Of this handle, not of others.
    #[must_use]
    pub fn with_port(mut self, port: ListeningPort) -> Self {
        self.ports.push(port);
        self
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

    /// Handshakes refused so far because as many connections or handshakes as are served were there, or because of a
    /// shutdown.
    pub fn refused(&self) -> u64 {
        self.connections.refused.get()
    }

    /// Bytes that wait to be sent, on all of them.
    pub fn buffered(&self) -> usize {
        self.sockets().iter().map(WebSocket::buffered).sum()
    }

    /// Shuts down gracefully: the [ports](Self::with_port) stop listening, every WebSocket gets a Close 1001 after what is
    /// queued for it, handshakes under way are answered 503 with `Retry-After`, and whoever has not left at the deadline
    /// is cut off. The Deferred fires when all are gone, with the WebSockets that had to be cut off, at the deadline or
    /// because they did not answer the Close within
    /// [`Options::close_handshake_timeout`](crate::Options::close_handshake_timeout).
    ///
    /// `stagger` spreads the Closes over that time, at most until the deadline, so that not all clients reconnect
    /// elsewhere at once.
    ///
    /// Handshakes under way are those that wait for the application and, on the port of a
    /// [`WebSocketServerFactory`](crate::WebSocketServerFactory), all connections whose request is not whole: they get
    /// the 503 now, without waiting for the rest, and 2 s to read it. On a [`Site`](crate::Site) of yours the 503 comes
    /// when the request turns out to be one for this resource. Until then nobody knows: the Deferred does not wait for
    /// that, and the site's other resources are served as ever.
    ///
    /// A port that goes on listening serves a site's other resources; a new connection to a `WebSocketServerFactory`
    /// gets the 503 right away and is closed, and the Deferred does not wait for it.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use twistor_reactor::{ListeningPort, Phase, Reactor, SystemEvent};
    /// use twistor_websocket::ServerHandle;
    ///
    /// fn say_goodbye(reactor: &Reactor, port: ListeningPort, server: ServerHandle) {
    ///     reactor.add_system_event_trigger(Phase::Before, SystemEvent::Shutdown, move |reactor| {
    ///         let gone = server.with_port(port).shutdown(reactor, Duration::from_secs(10), Duration::from_secs(2));
    ///         gone.add_callback(|late| println!("{} clients were cut off", late.len()))
    ///     });
    /// }
    /// ```
    pub fn shutdown(&self, reactor: &Reactor, deadline: Duration, stagger: Duration) -> Deferred<Vec<WebSocket>> {
        let (resolver, deferred) = reactor.deferred();
        let connections = self.connections.clone();
        connections.closing.set(true);
        for port in &self.ports {
            let _ = port.stop_listening(); // stopped already: as good
        }
        let visitors = connections.visitors();
        visitors.iter().for_each(Visitor::turn_away);
        let sockets = connections.sockets();
        log::info!("shutting down: {} WebSockets are open, {} handshakes under way", sockets.len(), visitors.len());
        let step = stagger.min(deadline) / u32::try_from(sockets.len().max(1)).unwrap_or(u32::MAX);
        let mut timers = Vec::new();
        for (index, socket) in sockets.iter().cloned().enumerate() {
            let close = move || {
                let _ = socket.lose_connection(close_code::GOING_AWAY, SHUTTING_DOWN);
            };
            let delay = step.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX));
            if delay.is_zero() {
                close();
            } else {
                timers.push(reactor.call_later(delay, close));
            }
        }
        let left = connections.clone();
        timers.push(reactor.call_later(deadline, move || {
            left.sockets().iter().for_each(WebSocket::cut_off_late);
            left.visitors().iter().for_each(Visitor::cut_off);
        }));
        let on_empty = move |late: Vec<WebSocket>| {
            for timer in timers {
                let _ = timer.cancel(); // called already: as good
            }
            log::info!("shut down: {} WebSockets were cut off", late.len());
            resolver.resolve(late);
        };
        if connections.is_empty() {
            on_empty(Vec::new());
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
