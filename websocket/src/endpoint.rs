//! `WebSocketClientEndpoint`: a connection as the result of a call; and `WhenConnected`, which makes one of any client.

use std::any::{Any, TypeId};
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use twistor_reactor::{
    Address, ClientFactory, ConnectOptions, Connector, Deferred, Factory, Failure, Reactor, Resolver, for_protocol,
};

use crate::client::{ClientError, WebSocketClientFactory};
use crate::closed::WebSocketClosed;
use crate::forwarding::{Nobody, forward_callbacks};
use crate::handshake::UrlError;
use crate::http::Request;
use crate::options::Options;
use crate::protocol::{Negotiation, WebSocketProtocol};
use crate::socket::WebSocket;

/// Where a client connects to, as often as it is asked to: `twisted.web.websocket.WebSocketClientEndpoint`, and
/// Autobahn's `create_client_agent(reactor).open(..)`.
///
/// ```no_run
/// use twistor_reactor::{Failure, Reactor, for_protocol};
/// use twistor_websocket::handshake::HandshakeError;
/// use twistor_websocket::{TwistedFactory, TwistedProtocol, TwistedTransport, WebSocket, WebSocketClientEndpoint};
///
/// struct Hello;
/// impl TwistedProtocol for Hello {
///     fn text_message_received(&mut self, _: &WebSocket, message: &str) {
///         println!("{message}");
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let endpoint = WebSocketClientEndpoint::new(&reactor, "ws://localhost:8000/chat")?;
/// let chat = reactor.spawn(async move {
///     let socket = endpoint.connect(TwistedFactory(for_protocol(|| Hello))).await?;
///     socket.send_text_message("hello");
///     socket.protocol::<Hello>().post(|_hello, _transport| println!("connected"));
///     Ok::<(), Failure>(())
/// });
/// let _ = chat.add_callback(|outcome| {
///     let Err(reason) = outcome else { return };
///     match reason.value::<HandshakeError>() {
///         Some(HandshakeError::Status(response)) => println!("{}: {:?}", response.status, response.body),
///         _ => println!("{reason}"),
///     }
/// });
/// reactor.run()?;
/// # Ok(()) }
/// ```
///
/// What is not said here, such as header fields or redirects, is said to a [`WebSocketClientFactory`]: see
/// [`WhenConnected`].
#[derive(Debug, Clone)]
pub struct WebSocketClientEndpoint {
    reactor: Reactor,
    client: Rc<WebSocketClientFactory<()>>,
    connect_options: ConnectOptions,
}

impl WebSocketClientEndpoint {
    /// For a URL such as `ws://host:port/path?query`, with the default options.
    ///
    /// # Errors
    /// As [`WebSocketClientFactory::new`].
    pub fn new(reactor: &Reactor, url: &str) -> Result<Self, ClientError> {
        Self::with_options(reactor, url, Options::default())
    }

    /// `new` with options.
    ///
    /// # Errors
    /// As [`WebSocketClientFactory::with_options`].
    pub fn with_options(reactor: &Reactor, url: &str, options: Options) -> Result<Self, ClientError> {
        let client = WebSocketClientFactory::with_options(url, for_protocol(|| Nobody), options)?.with_factory(());
        Ok(Self { reactor: reactor.clone(), client: Rc::new(client), connect_options: ConnectOptions::default() })
    }

    /// Goes through an HTTP proxy, said as `http://user:password@host:port`: [`WebSocketClientFactory::proxy`].
    ///
    /// # Errors
    /// As there.
    pub fn proxy(self, url: &str) -> Result<Self, UrlError> {
        Ok(Self { client: Rc::new(self.client.with_factory(()).proxy(url)?), ..self })
    }

    /// How to connect: Twisted's `connectTimeout` and `bindAddress`. Default [`ConnectOptions::default`], which waits
    /// for 30 s.
    #[must_use]
    pub fn connect_options(self, connect_options: ConnectOptions) -> Self {
        Self { connect_options, ..self }
    }

    /// Connects, and shakes hands: the WebSocket, or why there is none, as [`WhenConnected`] tells it. From there
    /// [`socket.protocol::<P>()`](WebSocket::protocol) leads to the protocol, which is what Twisted's gives. The
    /// connection goes on if the Deferred is dropped.
    pub fn connect<F>(&self, factory: F) -> Deferred<WebSocket>
    where
        F: ClientFactory<Protocol: WebSocketProtocol>,
    {
        let (factory, connected) = WhenConnected::new(&self.reactor, factory);
        let (host, port) = self.client.destination();
        self.reactor.connect_tcp_with(&host, port, self.client.with_factory(factory), self.connect_options.clone());
        connected
    }
}

/// Tells of the first connection of a factory by a [`Deferred`]: Twisted's `whenConnected`, Autobahn's `is_open`. It
/// goes inside the [`WebSocketClientFactory`], and is around the factory as well as around what that builds.
///
/// ```no_run
/// # use twistor_reactor::{Failure, Reactor, for_protocol};
/// # use twistor_websocket::{Frame, WebSocket, WebSocketProtocol};
/// use twistor_websocket::{WebSocketClientFactory, WhenConnected, connect_ws};
/// # struct Hello;
/// # impl WebSocketProtocol for Hello { fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {} }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let reactor = Reactor::new()?;
/// let (factory, connected) = WhenConnected::new(&reactor, for_protocol(|| Hello));
/// let factory = WebSocketClientFactory::new("ws://localhost:8000", factory)?.header("Cookie", "id=1")?;
/// let connector = connect_ws(&reactor, factory);
/// let done = reactor.spawn(async move {
///     let socket = connected.await?;
///     socket.send_text("hello");
///     Ok::<(), Failure>(())
/// });
/// # drop((done, connector));
/// # Ok(()) }
/// ```
///
/// The Deferred gives the [`WebSocket`] after its protocol's `connection_made`, from the queue: the protocol may have
/// been given messages by then. It fails
///
/// * when there is no TCP connection, with the reason of
///   [`client_connection_failed`](ClientFactory::client_connection_failed);
/// * when the handshake fails, with what is the [`WebSocketClosed::cause`] in the protocol's `connection_lost`: for a
///   server that refuses [`HandshakeError::Status`](crate::handshake::HandshakeError), which has the status, headers
///   and body (Twisted's `ConnectionRejected.response`);
/// * when the connection ends otherwise before that: the factory builds nothing, or `connection_made` panics.
///
/// [`ConnectOptions::timeout`] and [`Options::open_handshake_timeout`] bound the wait. Factory and protocol are called
/// as ever. Without the Deferred the connection goes on: it is made, or fails, for its protocol and factory, and the
/// failure is logged. To give it up, [`disconnect`](Connector::disconnect) the connector, which
/// [`started_connecting`](ClientFactory::started_connecting) has, too.
///
/// The Deferred is of the first attempt. A [`ReconnectingClientFactory`](crate::ReconnectingClientFactory) goes on
/// trying when that has failed, and has [hooks of its own](crate::ReconnectingClientFactory::on_retry).
pub struct WhenConnected<T> {
    inner: T,
    waiting: Rc<Cell<Option<Resolver<WebSocket>>>>,
}

impl<F: ClientFactory<Protocol: WebSocketProtocol>> WhenConnected<F> {
    /// Around a factory.
    pub fn new(reactor: &Reactor, factory: F) -> (Self, Deferred<WebSocket>) {
        let (resolver, connected) = reactor.deferred();
        (Self { inner: factory, waiting: Rc::new(Cell::new(Some(resolver))) }, connected)
    }
}

impl<T> WhenConnected<T> {
    fn failed(&self, reason: &Failure) {
        if let Some(resolver) = self.waiting.take() {
            resolver.fail(reason.clone());
        }
    }
}

impl<F: ClientFactory<Protocol: WebSocketProtocol>> Factory for WhenConnected<F> {
    type Protocol = WhenConnected<F::Protocol>;

    fn build_protocol(&mut self, peer: &Address) -> Option<Self::Protocol> {
        let inner = self.inner.build_protocol(peer)?;
        Some(WhenConnected { inner, waiting: self.waiting.clone() })
    }

    fn start_factory(&mut self) {
        self.inner.start_factory();
    }

    fn stop_factory(&mut self) {
        self.inner.stop_factory();
    }

    fn identity(&self) -> Option<*const ()> {
        self.inner.identity()
    }
}

impl<F: ClientFactory<Protocol: WebSocketProtocol>> ClientFactory for WhenConnected<F> {
    fn started_connecting(&mut self, connector: &Connector) {
        self.inner.started_connecting(connector);
    }

    fn client_connection_failed(&mut self, connector: &Connector, reason: &Failure) {
        self.failed(reason);
        self.inner.client_connection_failed(connector, reason);
    }

    fn client_connection_lost(&mut self, connector: &Connector, reason: &Failure) {
        self.failed(reason); // unless its protocol has told: it has none
        self.inner.client_connection_lost(connector, reason);
    }
}

impl<P: WebSocketProtocol> WebSocketProtocol for WhenConnected<P> {
    forward_callbacks!(inner);

    fn negotiate(&mut self, request: &Request) -> Negotiation {
        self.inner.negotiate(request)
    }

    fn connection_made(&mut self, socket: &WebSocket) {
        self.inner.connection_made(socket);
        if let Some(resolver) = self.waiting.take() {
            resolver.resolve(socket.clone());
        }
    }

    fn connection_lost(&mut self, socket: &WebSocket, reason: &Failure) {
        self.failed(reason.value::<WebSocketClosed>().map_or(reason, |closed| &closed.cause));
        self.inner.connection_lost(socket, reason);
    }

    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        if wanted == TypeId::of::<P>() { Some(&mut self.inner) } else { self.inner.inner(wanted) }
    }
}

impl<T> fmt::Debug for WhenConnected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WhenConnected<{}>", std::any::type_name::<T>())
    }
}
