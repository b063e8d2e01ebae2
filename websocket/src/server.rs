//! The server's half of the opening handshake: from a request to a `Session`.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ::http::{HeaderValue, StatusCode, header};
use twistor_reactor::{Address, Factory, Transport};

use crate::channel::HttpChannel;
use crate::connections::{Connections, RETRY_AFTER};
use crate::deciding::{Opening, Pending, refused};
use crate::handshake::{HostPolicy, OriginPolicy, check};
use crate::http::{Request, Response};
use crate::observer::{HandshakeFailure, Observer};
use crate::options::Options;
use crate::protocol::{Negotiation, WebSocketProtocol};
use crate::resource::Resource;
use crate::server_handle::ServerHandle;
use crate::settings::Settings;
use crate::site::{Site, SiteOptions};

/// A request for a WebSocket, on its way from the HTTP front.
pub(crate) struct Handshake<'a> {
    pub(crate) transport: &'a Transport,
    pub(crate) request: &'a Request,
    /// What followed the request in the same segment.
    pub(crate) early: &'a [u8],
    /// What is left of the request's time; of an idle connection's, it is not the request's.
    pub(crate) left: Option<Duration>,
}

/// Why there is no WebSocket, and what the client gets instead.
pub(crate) type Refused = (HandshakeFailure, Response);

/// A factory of any type, as a resource uses it.
trait Upgrader {
    fn upgrade(&self, handshake: Handshake<'_>) -> Result<(), Response>;
    fn start(&self);
    fn stop(&self);
}

/// WebSockets at one place of a [`Site`]: `twisted.web.websocket.WebSocketResource`. Made from a factory of
/// [`WebSocketProtocol`]s; mount it with [`Resource::websocket`].
///
/// ```
/// use twistor_reactor::for_protocol;
/// use twistor_websocket::{Options, Resource, WebSocketResource};
/// # use twistor_websocket::{Frame, WebSocket, WebSocketProtocol};
/// # struct Chat;
/// # impl WebSocketProtocol for Chat { fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {} }
///
/// let options = Options { max_message: 4096, ..Options::default() }; // of this place, not of the site
/// let chat = WebSocketResource::with_options(for_protocol(|| Chat), options);
/// let handle = chat.handle(); // now: the site will own the resource
/// let mut root = Resource::new();
/// root.put_child("chat", Resource::new().websocket(chat)); // ws://host/chat
/// # drop(handle);
/// ```
pub struct WebSocketResource {
    upgrader: Rc<dyn Upgrader>,
    settings: Rc<Settings>,
    connections: Rc<Connections>,
}

impl WebSocketResource {
    /// With the default options.
    pub fn new<F: Factory<Protocol: WebSocketProtocol>>(factory: F) -> Self {
        Self::with_options(factory, Options::default())
    }

    /// With options.
    pub fn with_options<F: Factory<Protocol: WebSocketProtocol>>(factory: F, options: Options) -> Self {
        let connections = Rc::new(Connections::default());
        let settings = Settings::new(options);
        let endpoint = Rc::new(Endpoint { options: settings.clone(), connections: connections.clone() });
        let upgrader = Rc::new(Server { factory: RefCell::new(factory), started: Cell::new(false), endpoint });
        Self { upgrader, settings, connections }
    }

    /// Lets somebody count what happens; the first one given stays. What ends before it gets here (too slow, malformed)
    /// is told to [`Site::observer`].
    #[must_use]
    pub fn observer(self, observer: impl Observer + 'static) -> Self {
        self.settings.observe(observer);
        self
    }

    /// A handle to all its connections, to count them and to shut them down.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(self.connections.clone())
    }

    pub(crate) fn settings(&self) -> Rc<Settings> {
        self.settings.clone()
    }

    pub(crate) fn upgrade(&mut self, handshake: Handshake<'_>) -> Result<(), Response> {
        self.upgrader.upgrade(handshake)
    }

    pub(crate) fn start(&mut self) {
        self.upgrader.start();
    }

    pub(crate) fn stop(&mut self) {
        self.upgrader.stop();
    }
}

impl<F: Factory<Protocol: WebSocketProtocol>> From<F> for WebSocketResource {
    fn from(factory: F) -> Self {
        Self::new(factory)
    }
}

impl fmt::Debug for WebSocketResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocketResource({} connections)", self.connections.count())
    }
}

struct Server<F> {
    factory: RefCell<F>,
    started: Cell<bool>,
    endpoint: Rc<Endpoint>,
}

/// What all connections of one resource share.
pub(crate) struct Endpoint {
    pub(crate) options: Rc<Settings>,
    connections: Rc<Connections>,
}

impl<F: Factory<Protocol: WebSocketProtocol>> Server<F> {
    fn try_upgrade(&self, handshake: Handshake<'_>) -> Result<(), Refused> {
        let Handshake { transport, request, early, left } = handshake;
        let options = &self.endpoint.options;
        let early_is_http = !early.is_empty() && !may_be_frame(early);
        let upgrade = check(request, if early_is_http { early } else { &[] })
            .map_err(|answer| (HandshakeFailure::bad_request(&answer), answer))?;
        if !options.hosts.check(request) {
            return Err((HandshakeFailure::Host, HostPolicy::refusal(request)));
        }
        if !options.origins.check(request) {
            return Err((HandshakeFailure::Origin, OriginPolicy::refusal(request)));
        }
        let membership = self.endpoint.connections.admit(transport, options)?;
        let built = self.factory.borrow_mut().build_protocol(transport.peer());
        let mut protocol =
            built.ok_or_else(|| refused(Response::error(StatusCode::FORBIDDEN, "this connection is refused")))?;
        let negotiation = protocol.negotiate(request);
        let opening = Opening { protocol, upgrade, membership, endpoint: self.endpoint.clone() };
        match negotiation {
            Negotiation::Accept(accept) => opening.accept(transport, accept, early).map_err(|(refused, _)| refused),
            Negotiation::Refuse(refusal) => Err(refused(refusal.into_response())),
            Negotiation::Later(answer) => {
                opening.membership.undecided::<Pending<F::Protocol>>(transport);
                let left = [left, options.open_handshake_timeout].into_iter().flatten().min();
                let endpoint = self.endpoint.clone();
                let (opening, answer) = (Some(opening), Some(answer));
                let pending = Pending { endpoint, opening, place: None, answer, left, timer: None };
                // nothing is read until it is decided: neither these early bytes nor others
                transport.pause_producing();
                transport.switch_protocol(pending, early);
                Ok(())
            }
        }
    }
}

impl<F: Factory<Protocol: WebSocketProtocol>> Upgrader for Server<F> {
    fn upgrade(&self, handshake: Handshake<'_>) -> Result<(), Response> {
        let transport = handshake.transport;
        self.try_upgrade(handshake).map_err(|(why, answer)| {
            self.endpoint.options.handshake_failed(transport.peer(), why);
            answer
        })
    }

    fn start(&self) {
        if !self.started.replace(true) {
            self.factory.borrow_mut().start_factory();
        }
    }

    fn stop(&self) {
        if self.started.replace(false) {
            self.factory.borrow_mut().stop_factory();
        }
    }
}

/// Whether bytes that came right behind the request may be a client's first frame. A client should wait for the 101,
/// and some do not; what is no frame may be a request that a proxy in front never saw, and is refused (RFC 9112, 11.2).
fn may_be_frame(early: &[u8]) -> bool {
    let opcode = early[0] & 0x0f;
    let known = matches!(opcode, 1 | 2 | 8 | 9 | 10) && early[0] & 0x30 == 0;
    known && early.get(1).is_none_or(|second| second & 0x80 != 0)
}

/// 503, and when to come again.
pub(crate) fn busy(why: HandshakeFailure) -> Response {
    let text = match why {
        HandshakeFailure::ShuttingDown => "the server is shutting down",
        _ => "expected fewer connections, but as many as are served are open",
    };
    let seconds = HeaderValue::from(RETRY_AFTER.as_secs());
    Response::error(StatusCode::SERVICE_UNAVAILABLE, text).with_header((header::RETRY_AFTER, seconds))
}

/// A server of WebSockets alone, on every path: Autobahn's `WebSocketServerFactory`. A factory for
/// [`listen_tcp`](twistor_reactor::Reactor::listen_tcp); a [`Site`] with one WebSocket for all paths.
///
/// ```no_run
/// use twistor_reactor::{Reactor, for_protocol};
/// use twistor_websocket::{Frame, WebSocket, WebSocketProtocol, WebSocketServerFactory};
///
/// struct Echo;
/// impl WebSocketProtocol for Echo {
///     fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
///         socket.send_message(frame);
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// reactor.listen_tcp(9000, WebSocketServerFactory::new(for_protocol(|| Echo)))?;
/// reactor.run()?;
/// # Ok(()) }
/// ```
pub struct WebSocketServerFactory {
    site: Site,
    settings: Rc<Settings>,
    handle: ServerHandle,
}

impl WebSocketServerFactory {
    /// With the default options.
    pub fn new<F: Factory<Protocol: WebSocketProtocol>>(factory: F) -> Self {
        Self::with_options(factory, Options::default())
    }

    /// With options.
    pub fn with_options<F: Factory<Protocol: WebSocketProtocol>>(factory: F, options: Options) -> Self {
        let mut site_options = SiteOptions {
            request_timeout: options.open_handshake_timeout,
            max_requests: options.max_handshakes,
            max_requests_per_address: options.max_connections_per_address,
            ..SiteOptions::default()
        };
        site_options.limits.head = options.head.clone();
        let websocket = WebSocketResource::with_options(factory, options);
        let (settings, connections) = (websocket.settings.clone(), websocket.connections.clone());
        let handle = websocket.handle();
        let site = Site::of_server(Resource::new().leaf().websocket(websocket), site_options, connections);
        Self { site, settings, handle }
    }

    /// Lets somebody count what happens; the first one given stays.
    #[must_use]
    pub fn observer(self, observer: impl Observer + 'static) -> Self {
        let observer = Rc::new(observer);
        self.settings.observe(observer.clone());
        Self { site: self.site.observer(observer), ..self }
    }

    /// A handle to all its connections, to count them and to shut them down.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }
}

impl fmt::Debug for WebSocketServerFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocketServerFactory({} connections)", self.handle.connection_count())
    }
}

impl Factory for WebSocketServerFactory {
    type Protocol = HttpChannel;

    fn build_protocol(&mut self, peer: &Address) -> Option<HttpChannel> {
        self.site.build_protocol(peer)
    }

    fn start_factory(&mut self) {
        self.site.start_factory();
    }

    fn stop_factory(&mut self) {
        self.site.stop_factory();
    }
}
