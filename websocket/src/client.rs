//! `WebSocketClientFactory`: clients of one URL.

use std::error::Error;
use std::fmt;
use std::rc::Rc;

use twistor_reactor::{Address, ClientFactory, Connector, Factory, Failure, Reactor};

use crate::following::Following;
use crate::handshake::{ClientRequest, ProxyConnect, RedirectPolicy, UrlError, WsUrl};
use crate::http::InvalidHeader;
use crate::observer::{HandshakeFailure, Observer};
use crate::options::Options;
use crate::protocol::WebSocketProtocol;
use crate::sansio::deflate::offer;
use crate::settings::Settings;

pub use crate::opening::{ExtensionError, WebSocketClient};

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
    /// The proxy's host and port, or the URL's.
    destination: (String, u16),
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
        let destination = (url.host.clone(), url.port);
        let mut request = ClientRequest::new(url);
        for protocol in &options.protocols {
            request = request.protocol(protocol).map_err(ClientError::Header)?;
        }
        if let Some(deflate) = &options.compression {
            request = request.extensions(&offer(deflate)).map_err(ClientError::Header)?;
        }
        let (request, options) = (Rc::new(request), Settings::new(options));
        Ok(Self { factory, request, options, proxy: None, destination, following: Following::default() })
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

    /// Follows redirects: when the server answers 301, 302, 303, 307 or 308 with a `Location` that the policy allows,
    /// the client connects there. Default: none is followed, and the handshake fails with
    /// [`HandshakeError::Redirect`](crate::handshake::HandshakeError::Redirect).
    ///
    /// Neither the factory nor its protocol notices: `build_protocol` was called once, and that protocol gets one
    /// `connection_made`, or, when a redirect is not followed ([`RedirectRefused`](crate::RedirectRefused)) or leads to
    /// where nobody answers, one `connection_lost`, after which comes the factory's `client_connection_lost`. Each
    /// place has the connector's timeout and [`Options::open_handshake_timeout`] for itself; [`RedirectPolicy::max`]
    /// bounds them all.
    ///
    /// At another origin `Authorization`, `Cookie`, `Proxy-Authorization` and `Host`, set by [`header`](Self::header),
    /// and the user and password of the URL are left out, also when it redirects back; other fields are sent. `wss`
    /// never leads to `ws`. Within the origin, and always when there is a proxy, the client connects to where it was
    /// connected; otherwise to the host and port of the location. A reconnection begins at the factory's URL, with all
    /// its fields.
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

impl<F> WebSocketClientFactory<F> {
    /// Goes through an HTTP proxy (CONNECT: RFC 9110, 9.3.6), Autobahn's `proxy`. It is said as
    /// `http://user:password@host:port`, as programs have it from `HTTP_PROXY`, which is not read here; the user and
    /// password, percent-encoded where need be, become Basic authentication there, and the port is 80 unless given.
    ///
    /// [`connect_ws`] then connects to the proxy, as do redirects and reconnections, and the connector's destination
    /// is the proxy; `connect_tcp` goes where it is told. The proxy looks up the URL's host. When it refuses, the
    /// handshake fails with [`HandshakeError::Proxy`](crate::handshake::HandshakeError::Proxy): 407 asks for other
    /// credentials.
    ///
    /// ```
    /// # use twistor_reactor::for_protocol;
    /// # use twistor_websocket::{Frame, WebSocket, WebSocketClientFactory, WebSocketProtocol};
    /// # struct Hello;
    /// # impl WebSocketProtocol for Hello { fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {} }
    /// let factory = WebSocketClientFactory::new("ws://chat.example", for_protocol(|| Hello))?;
    /// let factory = factory.proxy("http://me:s3cret@proxy.example:3128")?;
    /// assert_eq!(factory.destination(), ("proxy.example".to_owned(), 3128));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`UrlError::ProxyScheme`] for any but `http` (`https` would be TLS to the proxy), [`UrlError::ProxyPath`] for a
    /// path; else as [`WsUrl::parse`].
    pub fn proxy(mut self, url: &str) -> Result<Self, UrlError> {
        let proxy = WsUrl::parse_proxy(url)?;
        self.proxy = Some(Rc::new(ProxyConnect::new(self.request.url(), proxy.userinfo)));
        self.destination = (proxy.host, proxy.port);
        Ok(self)
    }

    /// The host and port that [`connect_ws`] connects to: the [`proxy`](Self::proxy)'s, or those of the
    /// [`url`](Self::url). For `connect_tcp_with`, or another factory around this one.
    pub fn destination(&self) -> (String, u16) {
        self.destination.clone()
    }

    /// The same settings for another factory.
    pub(crate) fn with_factory<G>(&self, factory: G) -> WebSocketClientFactory<G> {
        let (request, options, proxy) = (self.request.clone(), self.options.clone(), self.proxy.clone());
        let (destination, following) = (self.destination.clone(), self.following.fresh());
        WebSocketClientFactory { factory, request, options, proxy, destination, following }
    }
}

/// `reactor.connect_tcp` to the factory's [`destination`](WebSocketClientFactory::destination): the host and port of
/// its URL, or its proxy. Autobahn's `connectWS`.
pub fn connect_ws<F>(reactor: &Reactor, factory: WebSocketClientFactory<F>) -> Connector
where
    F: ClientFactory<Protocol: WebSocketProtocol>,
{
    let (host, port) = factory.destination();
    reactor.connect_tcp(&host, port, factory)
}

impl<F: ClientFactory<Protocol: WebSocketProtocol>> Factory for WebSocketClientFactory<F> {
    type Protocol = WebSocketClient<F::Protocol>;

    fn build_protocol(&mut self, peer: &Address) -> Option<Self::Protocol> {
        let course = self.following.built();
        let mut built = Built { settings: &self.options, peer, at_all: false };
        let inner = self.factory.build_protocol(peer)?;
        built.at_all = true;
        drop(built);
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

/// Tells the observer where a connection has found no protocol: there was none, or a panic.
struct Built<'a> {
    settings: &'a Settings,
    peer: &'a Address,
    at_all: bool,
}

impl Drop for Built<'_> {
    fn drop(&mut self) {
        if !self.at_all {
            self.settings.handshake_failed(self.peer, HandshakeFailure::Failed);
        }
    }
}

impl<F: ClientFactory<Protocol: WebSocketProtocol>> ClientFactory for WebSocketClientFactory<F> {
    fn started_connecting(&mut self, connector: &Connector) {
        self.following.started(connector);
        self.factory.started_connecting(connector);
    }

    fn client_connection_failed(&mut self, connector: &Connector, reason: &Failure) {
        self.following.failed(connector);
        if let Some(observed) = self.options.observer() {
            observed.tell(|observer| observer.connection_failed(connector, reason));
        }
        self.factory.client_connection_failed(connector, reason);
    }

    fn client_connection_lost(&mut self, connector: &Connector, reason: &Failure) {
        self.factory.client_connection_lost(connector, reason);
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
