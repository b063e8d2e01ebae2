//! `Observer`: what is to be counted.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use ::http::StatusCode;
use twistor_reactor::{Address, Connector, Failure};

use crate::closed::{LimitExceeded, WebSocketClosed};
use crate::following::RedirectRefused;
use crate::handshake::HandshakeError;
use crate::http::Response;
use crate::opening::ExtensionError;
use crate::socket::WebSocket;

/// Sees what happens on all WebSockets of a server or a client, to count and export it. It is given to
/// [`WebSocketServerFactory::observer`](crate::WebSocketServerFactory::observer) or the method of that name of
/// `WebSocketResource`, `WebSocketClientFactory` or [`Site`](crate::Site). Each method does nothing by default.
///
/// Every call comes from the loop, none out of a [`WebSocket`]'s methods; what is sent and received is summed up and
/// told once a turn. For one WebSocket `opened` comes before its protocol's `handshake_accepted` and `connection_made`,
/// and `closed` before its `connection_lost`.
///
/// A panic in any of them is logged, and ends nothing.
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use twistor_reactor::for_protocol;
/// use twistor_websocket::{Observer, Traffic, WebSocket, WebSocketClosed, WebSocketServerFactory};
/// # use twistor_websocket::{Frame, WebSocketProtocol};
/// # struct Echo;
/// # impl WebSocketProtocol for Echo { fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {} }
///
/// #[derive(Default)]
/// struct Counters {
///     open: Cell<u64>,
///     messages: Cell<u64>,
/// }
///
/// impl Observer for Counters {
///     fn opened(&self, _: &WebSocket) {
///         self.open.set(self.open.get() + 1);
///     }
///     fn traffic(&self, traffic: &Traffic) {
///         self.messages.set(self.messages.get() + traffic.messages_received);
///     }
///     fn closed(&self, _: &WebSocket, _: &WebSocketClosed) {
///         self.open.set(self.open.get() - 1);
///     }
/// }
///
/// let counters = Rc::new(Counters::default());
/// let factory = WebSocketServerFactory::new(for_protocol(|| Echo)).observer(counters.clone());
/// # let _ = factory;
/// ```
#[allow(unused_variables)] // the defaults ignore what they are given; the names document it
pub trait Observer {
    /// Client: no TCP connection came about, so that there is no peer and was no handshake. `connector.target()` is
    /// where it was to go, `reason` as for [`client_connection_failed`]: refused, no such name, no answer in time,
    /// given up. Told once for each attempt, before its factory is, and instead of `handshake_failed`; for a place that
    /// the client was redirected to, too, although its factory has a `client_connection_lost` then.
    ///
    /// [`client_connection_failed`]: twistor_reactor::ClientFactory::client_connection_failed
    fn connection_failed(&self, connector: &Connector, reason: &Failure) {}

    /// An opening handshake did not lead to a WebSocket.
    fn handshake_failed(&self, peer: &Address, why: HandshakeFailure) {}

    /// A WebSocket is open. Its protocol's `connection_made` follows.
    fn opened(&self, socket: &WebSocket) {}

    /// Messages of this turn of the loop, of all WebSockets together.
    fn traffic(&self, traffic: &Traffic) {}

    /// A keepalive ping was answered, after this time.
    fn round_trip(&self, socket: &WebSocket, time: Duration) {}

    /// A WebSocket that was open is over. Its protocol's `connection_lost` follows. Its totals, such as
    /// [`WebSocket::dropped`], can still be asked for. `end.status` has the close code, `end.cause` what ended it: a
    /// [`LimitExceeded`](crate::LimitExceeded) for a timeout, say.
    fn closed(&self, socket: &WebSocket, end: &WebSocketClosed) {}
}

/// Shared, so that whoever exports the counts can read them.
impl<T: Observer + ?Sized> Observer for Rc<T> {
    fn connection_failed(&self, connector: &Connector, reason: &Failure) {
        (**self).connection_failed(connector, reason);
    }
    fn handshake_failed(&self, peer: &Address, why: HandshakeFailure) {
        (**self).handshake_failed(peer, why);
    }
    fn opened(&self, socket: &WebSocket) {
        (**self).opened(socket);
    }
    fn traffic(&self, traffic: &Traffic) {
        (**self).traffic(traffic);
    }
    fn round_trip(&self, socket: &WebSocket, time: Duration) {
        (**self).round_trip(socket, time);
    }
    fn closed(&self, socket: &WebSocket, end: &WebSocketClosed) {
        (**self).closed(socket, end);
    }
}

/// Messages that went both ways since they were last told. Bytes are those of the payloads, before compression.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Messages that came, whole.
    pub messages_received: u64,
    /// Their payloads.
    pub bytes_received: u64,
    /// Messages handed to the transport. What waits for a slow peer is not among them yet, but for pieces of a message.
    pub messages_sent: u64,
    /// Their payloads.
    pub bytes_sent: u64,
    /// Messages dropped because a peer did not keep up ([`Overflow`](crate::Overflow)).
    pub messages_dropped: u64,
}

/// Why an opening handshake did not lead to a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandshakeFailure {
    /// Not a request for a WebSocket, or a malformed one; answered with this status.
    BadRequest(StatusCode),
    /// A `Host` that is not served.
    Host,
    /// An `Origin` that may not connect.
    Origin,
    /// As many connections as are served are open, or as many handshakes in progress as may be.
    Busy,
    /// The server shuts down.
    ShuttingDown,
    /// The application refused, with this status.
    Refused(StatusCode),
    /// The server failed: a panic, an answer that cannot be sent. Client: its factory built no protocol.
    Failed,
    /// No whole request, or no answer, in time.
    Timeout,
    /// The peer went away meanwhile.
    Lost,
    /// Client: the server's answer, or the proxy's, was not an acceptance; this was its status, if it had one.
    Rejected(Option<StatusCode>),
}

impl HandshakeFailure {
    /// A short word, for the label of a counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Busy => "busy",
            Self::ShuttingDown => "shutting_down",
            Self::Refused(_) => "refused",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Lost => "lost",
            Self::Rejected(_) => "rejected",
        }
    }

    /// Why a client's handshake failed, by what its protocol is told.
    pub(crate) fn of_client(reason: &Failure) -> Self {
        let cause = reason.value::<WebSocketClosed>().map_or(reason, |closed| &closed.cause);
        let rejected = |error: &HandshakeError| match error {
            HandshakeError::Redirect { status, .. } => Some(*status),
            other => other.rejection().map(|rejection| rejection.status),
        };
        if let Some(error) = cause.value::<HandshakeError>() {
            Self::Rejected(rejected(error))
        } else if let Some(refused) = cause.value::<RedirectRefused>() {
            Self::Rejected(Some(refused.status))
        } else if cause.check::<ExtensionError>() {
            Self::Rejected(None)
        } else if cause.check::<LimitExceeded>() {
            Self::Timeout
        } else {
            Self::Lost
        }
    }

    pub(crate) fn bad_request(answer: &Response) -> Self {
        Self::BadRequest(answer.status_code())
    }
}

/// An [`Observer`], and what it has not been told yet.
pub(crate) struct Observed {
    observer: Box<dyn Observer>,
    pub(crate) traffic: Cell<Traffic>,
    /// The traffic is going to be told.
    pub(crate) due: Cell<bool>,
    /// It has panicked before.
    careless: Cell<bool>,
}

impl Observed {
    pub(crate) fn by(observer: impl Observer + 'static) -> Self {
        Self {
            observer: Box::new(observer),
            traffic: Cell::default(),
            due: Cell::new(false),
            careless: Cell::new(false),
        }
    }

    /// Calls the observer. Its panics are its own affair, and told of once: it may panic at whatever a peer does.
    pub(crate) fn tell(&self, call: impl FnOnce(&dyn Observer)) {
        let panicked = catch_unwind(AssertUnwindSafe(|| call(&*self.observer))).is_err();
        if panicked && !self.careless.replace(true) {
            log::error!("an observer panicked, and missed something");
        }
    }
}
