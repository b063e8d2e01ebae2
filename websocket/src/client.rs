//! The client's half of the opening handshake, and `WebSocketClientFactory`.

use std::any::{Any, TypeId};
use std::error::Error;
use std::fmt;
use std::rc::Rc;

use ::http::StatusCode;
use tungstenite::handshake::client::generate_key;
use twistor_reactor::{Address, ClientFactory, Connector, DelayedCall, Factory, Failure, Protocol, Reactor, Transport};

use crate::closed::LimitExceeded;
use crate::following::{Course, Following};
use crate::handshake::{
    Accepted, ClientRequest, HandshakeError, ProxyConnect, RedirectPolicy, ResponseReader, UrlError, WsUrl,
};
use crate::http::InvalidHeader;
use crate::observer::{HandshakeFailure, Observer};
use crate::options::Options;
use crate::protocol::WebSocketProtocol;
use crate::sansio::Role;
use crate::sansio::deflate::{Agreed, OfferError, check_response, offer};
use crate::session::Session;
use crate::settings::Settings;
use crate::socket::WebSocket;

/// Makes client connections to one URL: Autobahn's `WebSocketClientFactory`. Wraps a factory of
/// [`WebSocketProtocol`]s, whose `client_connection_failed` and `client_connection_lost` it calls; give it to
/// [`connect_tcp`](Reactor::connect_tcp), or to [`connect_ws`].
///
/// ```no_run
/// use twistor_reactor::{Reactor, for_protocol};
/// use twistor_websocket::{Frame, WebSocket, WebSocketClientFactory, WebSocketProtocol};
///
/// struct Hello;
/// impl WebSocketProtocol for Hello {
///     fn connection_made(&mut self, socket: &WebSocket) {
///         socket.send_message("hello");
///     }
///     fn frame_received(&mut self, _: &WebSocket, frame: Frame<'_>) {
///         println!("{}", frame.decode());
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let factory = WebSocketClientFactory::new("ws://localhost:8000/chat", for_protocol(|| Hello))?;
/// reactor.connect_tcp("localhost", 8000, factory);
/// reactor.run()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct WebSocketClientFactory<F> {
    factory: F,
    request: Rc<ClientRequest>,
    options: Rc<Settings>,
    proxy: Option<Rc<ProxyConnect>>,
    following: Following,
}

impl<F: ClientFactory<Protocol: WebSocketProtocol>> WebSocketClientFactory<F> {
    /// For a URL such as `ws://host:port/path?query`. A user and password in it become Basic authentication.
    ///
    /// # Errors
    /// [`ClientError::Url`] for a URL that is not one, [`ClientError::Tls`] for `wss:`, which needs TLS.
    pub fn new(url: &str, factory: F) -> Result<Self, ClientError> {
        Self::with_options(url, factory, Options::default())
    }

    /// `new` with options: the subprotocols and the compression that they name are offered.
    ///
    /// # Errors
    /// As `new`, and [`ClientError::Header`] for a subprotocol that is no token.
    pub fn with_options(url: &str, factory: F, options: Options) -> Result<Self, ClientError> {
        let url = WsUrl::parse(url).map_err(ClientError::Url)?;
        if url.secure {
            return Err(ClientError::Tls);
        }
        let mut request = ClientRequest::new(url);
        for protocol in &options.protocols {
            request = request.protocol(protocol).map_err(ClientError::Header)?;
        }
        if let Some(deflate) = &options.compression {
            request = request.extensions(&offer(deflate)).map_err(ClientError::Header)?;
        }
        let (request, options) = (Rc::new(request), Settings::new(options));
        Ok(Self { factory, request, options, proxy: None, following: Following::default() })
    }

    /// Sends a header field with the handshake, such as `Cookie`, `Authorization` or `Origin`.
    ///
    /// # Errors
    /// As [`ClientRequest::header`].
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, InvalidHeader> {
        let request = (*self.request).clone().header(name, value)?;
        self.request = Rc::new(request);
        Ok(self)
    }

    /// Connects through an HTTP proxy (CONNECT), perhaps with a user and password for it: `connect_tcp` goes to the
    /// proxy then.
    #[must_use]
    pub fn proxy(mut self, credentials: Option<(String, String)>) -> Self {
        self.proxy = Some(Rc::new(ProxyConnect::new(self.request.url(), credentials)));
        self
    }

    /// Follows redirects: when the server answers 301, 302, 303, 307 or 308 with a `Location` that the policy allows,
    /// the client connects there. Default: none is followed, and the handshake fails with
    /// [`HandshakeError::Redirect`].
    ///
    /// Neither the factory nor its protocol notices: `build_protocol` was called once, and that protocol gets one
    /// `connection_made`, or, when a redirect is not followed ([`RedirectRefused`](crate::RedirectRefused)) or leads to
    /// where nobody answers, one `connection_lost`, after which comes the factory's `client_connection_lost`. Each
    /// place has the connector's timeout and [`Options::open_handshake_timeout`] for itself; [`RedirectPolicy::max`]
    /// bounds them all.
    ///
    /// At another origin `Authorization`, `Cookie`, `Proxy-Authorization` and `Host`, set by [`header`](Self::header),
    /// and the user and password of the URL are left out, also when it redirects back; other fields are sent. `wss`
    /// never leads to `ws`. Within the origin the client connects to where it was connected, through a proxy also
    /// beyond; otherwise to the host and port of the location. A reconnection begins at the factory's URL, with all its
    /// fields.
    ///
    /// ```
    /// use twistor_websocket::handshake::RedirectPolicy;
    /// # use twistor_reactor::for_protocol;
    /// # use twistor_websocket::{Frame, WebSocket, WebSocketClientFactory, WebSocketProtocol};
    /// # struct Hello;
    /// # impl WebSocketProtocol for Hello { fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {} }
    /// let factory = WebSocketClientFactory::new("ws://chat.example", for_protocol(|| Hello))?;
    /// let factory = factory.follow_redirects(RedirectPolicy::follow_up_to(3, false)); // within ws://chat.example
    /// # drop(factory);
    /// # Ok::<(), twistor_websocket::ClientError>(())
    /// ```
    #[must_use]
    pub fn follow_redirects(mut self, policy: RedirectPolicy) -> Self {
        self.following = Following::new(policy);
        self
    }

    /// Lets somebody count what happens; the first one given stays.
    #[must_use]
    pub fn observer(self, observer: impl Observer + 'static) -> Self {
        self.options.observe(observer);
        self
    }

    /// Where to.
    pub fn url(&self) -> &WsUrl {
        self.request.url()
    }
}

/// `reactor.connect_tcp` to the host and port of the factory's URL: Autobahn's `connectWS`.
pub fn connect_ws<F>(reactor: &Reactor, factory: WebSocketClientFactory<F>) -> Connector
where
    F: ClientFactory<Protocol: WebSocketProtocol>,
{
    let (host, port) = (factory.url().host.clone(), factory.url().port);
    reactor.connect_tcp(&host, port, factory)
}

impl<F: ClientFactory<Protocol: WebSocketProtocol>> Factory for WebSocketClientFactory<F> {
    type Protocol = WebSocketClient<F::Protocol>;

    fn build_protocol(&mut self, peer: &Address) -> Option<Self::Protocol> {
        let course = self.following.built();
        let inner = self.factory.build_protocol(peer)?;
        let (request, options, proxy) = (self.request.clone(), self.options.clone(), self.proxy.clone());
        Some(WebSocketClient::new(Some(inner), request, options, proxy, course))
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

impl<F: ClientFactory<Protocol: WebSocketProtocol>> ClientFactory for WebSocketClientFactory<F> {
    fn started_connecting(&mut self, connector: &Connector) {
        self.following.started(connector);
        self.factory.started_connecting(connector);
    }

    fn client_connection_failed(&mut self, connector: &Connector, reason: &Failure) {
        self.following.failed(connector);
        self.factory.client_connection_failed(connector, reason);
    }

    fn client_connection_lost(&mut self, connector: &Connector, reason: &Failure) {
        self.factory.client_connection_lost(connector, reason);
    }
}

/// A client's connection during its opening handshake. Then it becomes a WebSocket.
pub struct WebSocketClient<P> {
    inner: Option<P>,
    request: Rc<ClientRequest>,
    options: Rc<Settings>,
    key: String,
    reader: ResponseReader,
    proxy: Option<Rc<ProxyConnect>>,
    /// The proxy, which must answer first, has done so.
    tunnelled: bool,
    course: Course,
    /// The server has refused, and its body comes.
    refused: Option<HandshakeError>,
    deadline: Option<DelayedCall>,
}

impl<P: WebSocketProtocol> WebSocketClient<P> {
    fn new(
        inner: Option<P>,
        request: Rc<ClientRequest>,
        options: Rc<Settings>,
        proxy: Option<Rc<ProxyConnect>>,
        course: Course,
    ) -> Self {
        let reader = ResponseReader::new(options.head.clone());
        let (key, tunnelled) = (generate_key(), false);
        Self { inner, request, options, key, reader, proxy, tunnelled, course, refused: None, deadline: None }
    }

    fn send_request(&self, transport: &Transport) {
        let mut out = Vec::new();
        self.request.encode(&self.key, &mut out);
        transport.write(out);
    }

    fn read(&mut self, transport: &Transport, mut input: &[u8]) -> Result<(), HandshakeError> {
        while let Some(head) = self.reader.read(&mut input)? {
            if let Some(proxy) = self.proxy.as_ref().filter(|_| !self.tunnelled) {
                proxy.check(head, input)?;
                self.tunnelled = true;
                self.reader = ResponseReader::new(self.options.head.clone());
                self.send_request(transport);
                continue;
            }
            let accepted = self.request.check_response(&self.key, head, input)?;
            self.open(transport, accepted, input);
            return Ok(());
        }
        Ok(())
    }

    /// The server is elsewhere: the protocol goes there if it may, with a new key, and leaves this connection behind.
    fn redirected(&mut self, transport: &Transport, status: StatusCode, location: String) {
        let (request, course) = match self.course.next(&self.request, status, location) {
            Ok(next) => next,
            Err(failure) => return transport.abort_with(failure),
        };
        log::debug!("{}: redirected to {}", transport.peer(), request.url());
        self.cancel_deadline();
        let proxy = self.proxy.as_ref().map(|proxy| Rc::new(proxy.redirected(request.url())));
        let stays = proxy.is_some() || request.url().same_origin(self.request.url());
        let request = Rc::new(request);
        let successor = Self::new(self.inner.take(), request.clone(), self.options.clone(), proxy, course);
        if let Err(successor) = self.course.go(&request, stays, successor) {
            self.inner = successor.inner;
        }
    }

    fn open(&mut self, transport: &Transport, accepted: Accepted, input: &[u8]) {
        let agreed = match self.agree(&accepted) {
            Ok(agreed) => agreed,
            Err(error) => return transport.abort_with(Failure::new(ExtensionError(error))),
        };
        let Some(inner) = self.inner.take() else { return };
        self.cancel_deadline();
        let protocol = accepted.protocol.clone();
        let session = Session::new(inner, transport, Role::Client, &self.options, protocol, agreed);
        transport.switch_protocol(session.with_response(accepted), input);
    }

    fn agree(&self, accepted: &Accepted) -> Result<Option<Agreed>, OfferError> {
        match (&accepted.extensions, &self.options.compression) {
            (Some(extensions), Some(options)) => check_response(extensions, options),
            (None, _) => Ok(None),
            (Some(_), None) => Err(OfferError::UnrequestedExtension),
        }
    }

    fn cancel_deadline(&mut self) {
        if let Some(deadline) = self.deadline.take() {
            let _ = deadline.cancel();
        }
    }
}

impl<P: WebSocketProtocol> Protocol for WebSocketClient<P> {
    fn connection_made(&mut self, transport: &Transport) {
        if let Some(timeout) = self.options.open_handshake_timeout {
            let expire = |this: &mut Self, transport: &Transport| {
                let reason = this.refused.take().map_or_else(|| Failure::new(LimitExceeded::OpenTimeout), Failure::new);
                transport.abort_with(reason);
            };
            self.deadline = Some(transport.protocol::<Self>().call_later(timeout, expire));
        }
        match &self.proxy {
            Some(proxy) => {
                let mut out = Vec::new();
                proxy.encode(&mut out);
                transport.write(out);
            }
            None => self.send_request(transport),
        }
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        let (error, complete) = match self.refused.take() {
            Some(HandshakeError::Status(mut rejection)) => {
                let complete = rejection.feed(data);
                (HandshakeError::Status(rejection), complete)
            }
            Some(error) => (error, true),
            None => match self.read(transport, data) {
                Ok(()) => return,
                Err(HandshakeError::Redirect { status, location }) => {
                    return self.redirected(transport, status, location);
                }
                Err(HandshakeError::Status(mut rejection)) => {
                    let complete = rejection.feed(&[]);
                    (HandshakeError::Status(rejection), complete)
                }
                Err(error) => (error, true),
            },
        };
        if complete {
            transport.abort_with(Failure::new(error));
        } else {
            self.refused = Some(error);
        }
    }

    fn read_connection_lost(&mut self, transport: &Transport) {
        match self.refused.take() {
            Some(error) => transport.abort_with(Failure::new(error)),
            None => transport.lose_connection(),
        }
    }

    fn connection_lost(&mut self, transport: &Transport, reason: &Failure) {
        self.cancel_deadline();
        if let Some(mut inner) = self.inner.take() {
            let socket = WebSocket::new(transport.clone(), Role::Client, self.options.clone(), None, None);
            let reason = socket.gone(reason);
            if let Some(observed) = self.options.observer() {
                let why = HandshakeFailure::of_client(&reason);
                observed.tell(|observer| observer.handshake_failed(transport.peer(), why));
            }
            inner.connection_lost(&socket, &reason);
        }
    }

    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        let inner = self.inner.as_mut()?;
        if wanted == TypeId::of::<P>() { Some(inner) } else { inner.inner(wanted) }
    }
}

impl<P> fmt::Debug for WebSocketClient<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocketClient({})", self.request.url())
    }
}

/// Why a client cannot be made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL is not a WebSocket URL.
    Url(UrlError),
    /// The URL begins with `wss:`, and this version has no TLS.
    Tls,
    /// A header field or a subprotocol cannot be sent.
    Header(InvalidHeader),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(error) => error.fmt(f),
            Self::Tls => f.write_str("expected a ws: URL, got a wss: one, and TLS is not supported"),
            Self::Header(error) => error.fmt(f),
        }
    }
}

impl Error for ClientError {}

/// The server answered the offer of permessage-deflate in a way that was not offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionError(pub OfferError);

impl fmt::Display for ExtensionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for ExtensionError {}
