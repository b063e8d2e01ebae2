//! The server's half of the opening handshake: from a request to a `Session`.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ::http::{HeaderValue, StatusCode, header};
use twistor_reactor::{Address, DelayedCall, Factory, Failure, Protocol, Transport};

use crate::closing::linger;
use crate::connections::{Connections, Membership, RETRY_AFTER};
use crate::handshake::{HostPolicy, OriginPolicy, Upgrade, check, response};
use crate::http::{Request, Response};
use crate::observer::{HandshakeFailure, Observer, Settings};
use crate::options::Options;
use crate::protocol::{Accept, Negotiation, WebSocketProtocol};
use crate::resource::Resource;
use crate::sansio::Role;
use crate::sansio::deflate::{Agreed, accept_offer};
use crate::server_handle::ServerHandle;
use crate::session::Session;
use crate::site::{HttpChannel, Site, SiteOptions};

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
type Refused = (HandshakeFailure, Response);

/// A factory of any type, as a resource uses it.
trait Upgrader {
    fn upgrade(&self, handshake: Handshake<'_>) -> Result<(), Response>;
    fn start(&self);
    fn stop(&self);
}

/// WebSockets at one place of a [`Site`]: `twisted.web.websocket.WebSocketResource`. Made from a factory of
/// [`WebSocketProtocol`]s; mount it with [`Resource::websocket`].
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

    /// Lets somebody count what happens; the first one given stays. What ends before it gets here (too slow, malformed) is
    /// told to [`Site::observer`].
    #[must_use]
    pub fn observer(self, observer: impl Observer + 'static) -> Self {
        self.settings.observe(observer);
        self
    }

    /// A handle to all its connections, to count them and to shut them down.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(self.connections.clone())
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
struct Endpoint {
    options: Rc<Settings>,
    connections: Rc<Connections>,
}

impl Endpoint {
    fn failed(&self, transport: &Transport, why: HandshakeFailure) {
        if let Some(observer) = self.options.observer() {
            observer.handshake_failed(transport.peer(), why);
        }
    }
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
        let membership = self.endpoint.connections.admit(transport, options).map_err(|why| (why, busy()))?;
        let built = self.factory.borrow_mut().build_protocol(transport.peer());
        let mut protocol =
            built.ok_or_else(|| refused(Response::error(StatusCode::FORBIDDEN, "this connection is refused")))?;
        let negotiation = protocol.negotiate(request);
        let opening = Opening { protocol, upgrade, membership, endpoint: self.endpoint.clone() };
        match negotiation {
            Negotiation::Accept(accept) => opening.accept(transport, accept, early),
            Negotiation::Refuse(refusal) => Err(refused(refusal.into_response())),
            Negotiation::Later(answer) => {
                opening.membership.undecided(transport);
                let left = [left, options.open_handshake_timeout].into_iter().flatten().min();
                let endpoint = self.endpoint.clone();
                let pending = Pending { endpoint, opening: Some(opening), answer: Some(answer), left, timer: None };
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
            self.endpoint.failed(transport, why);
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

/// Whether bytes that came right behind the request may be a client's first frame. A client should wait for the 101, and
/// some do not; what is no frame may be a request that a proxy in front never saw, and is refused (RFC 9112, 11.2).
fn may_be_frame(early: &[u8]) -> bool {
    let opcode = early[0] & 0x0f;
    let known = matches!(opcode, 1 | 2 | 8 | 9 | 10) && early[0] & 0x30 == 0;
    known && early.get(1).is_none_or(|second| second & 0x80 != 0)
}

/// 503, and when to come again.
pub(crate) fn busy() -> Response {
    let text = "expected fewer connections, but as many as are served are open";
    let seconds = HeaderValue::from(RETRY_AFTER.as_secs());
    Response::error(StatusCode::SERVICE_UNAVAILABLE, text).with_header((header::RETRY_AFTER, seconds))
}

/// A handshake that lacks the application's answer.
struct Opening<P> {
    protocol: P,
    upgrade: Upgrade,
    membership: Membership,
    endpoint: Rc<Endpoint>,
}

impl<P: WebSocketProtocol> Opening<P> {
    /// Answers 101, and makes the connection a WebSocket.
    fn accept(self, transport: &Transport, accept: Accept, early: &[u8]) -> Result<(), Refused> {
        if self.membership.is_closing() {
            return Err((HandshakeFailure::ShuttingDown, busy()));
        }
        let options = &self.endpoint.options;
        let offered = |name: &String| self.upgrade.protocols.contains(name);
        let protocol = accept.protocol.or_else(|| options.protocols.iter().find(|name| offered(name)).cloned());
        if let Some(chosen) = protocol.as_ref().filter(|name| !offered(name)) {
            log::error!("{}: negotiate chose the subprotocol {chosen:?}, which was not offered", transport.peer());
            return Err(failed());
        }
        let (agreed, extensions): (Option<Agreed>, Option<String>) = options
            .compression
            .as_ref()
            .and_then(|deflate| accept_offer(self.upgrade.extensions.iter().map(String::as_str), deflate))
            .unzip();
        let mut out = Vec::new();
        let encoded =
            response(&self.upgrade.key, protocol.as_deref(), extensions.as_deref(), &accept.headers, &mut out);
        if let Err(error) = encoded {
            log::error!("{}: {error}", transport.peer());
            return Err(failed());
        }
        transport.write(out);
        let session = Session::new(self.protocol, transport, Role::Server, options, protocol, agreed);
        transport.switch_protocol(session.with_membership(self.membership), early);
        Ok(())
    }
}

fn failed() -> Refused {
    let text = "the server failed to answer this handshake";
    (HandshakeFailure::Failed, Response::error(StatusCode::INTERNAL_SERVER_ERROR, text))
}

fn refused(answer: Response) -> Refused {
    (HandshakeFailure::Refused(answer.status_code()), answer)
}

/// The protocol of a connection whose handshake waits for [`Negotiation::Later`].
struct Pending<P> {
    endpoint: Rc<Endpoint>,
    /// `None` once it is decided.
    opening: Option<Opening<P>>,
    answer: Option<twistor_reactor::Deferred<Negotiation>>,
    left: Option<Duration>,
    timer: Option<DelayedCall>,
}

impl<P: WebSocketProtocol> Pending<P> {
    fn wait(&mut self, transport: &Transport, answer: twistor_reactor::Deferred<Negotiation>) {
        let handle = transport.protocol::<Self>();
        drop(answer.add_both(handle.bind(|this: &mut Self, transport, answer| this.decided(transport, answer))));
    }

    fn decided(&mut self, transport: &Transport, answer: Result<Negotiation, Failure>) {
        if self.opening.is_none() || transport.disconnecting() {
            return; // too late: refused already
        }
        let outcome = match answer {
            Ok(Negotiation::Later(answer)) => return self.wait(transport, answer),
            Ok(Negotiation::Refuse(refusal)) => Err(refused(refusal.into_response())),
            Ok(Negotiation::Accept(accept)) => match self.opening.take() {
                Some(opening) => opening.accept(transport, accept, &[]),
                None => return,
            },
            Err(failure) => {
                log::error!("{}: negotiation failed: {failure}", transport.peer());
                Err(failed())
            }
        };
        self.cancel();
        match outcome {
            Ok(()) => transport.resume_producing(),
            Err(refused) => self.refuse(transport, &refused),
        }
    }

    fn refuse(&mut self, transport: &Transport, (why, answer): &Refused) {
        self.endpoint.failed(transport, *why);
        let mut out = Vec::new();
        answer.encode(&mut out, false, false);
        transport.write(out);
        self.opening = None;
        self.timer = Some(linger(transport));
    }

    fn cancel(&mut self) {
        if let Some(timer) = self.timer.take() {
            let _ = timer.cancel();
        }
    }
}

impl<P: WebSocketProtocol> Protocol for Pending<P> {
    fn connection_made(&mut self, transport: &Transport) {
        if let Some(left) = self.left {
            let expired = |this: &mut Self, transport: &Transport| {
                let answer = Response::error(StatusCode::REQUEST_TIMEOUT, "the server did not decide in time");
                this.refuse(transport, &(HandshakeFailure::Timeout, answer));
            };
            self.timer = Some(transport.protocol::<Self>().call_later(left, expired));
        }
        if let Some(answer) = self.answer.take() {
            self.wait(transport, answer);
        }
    }

    fn data_received(&mut self, _: &Transport, _: &[u8]) {} // paused, or refused

    fn connection_lost(&mut self, transport: &Transport, _: &Failure) {
        self.cancel();
        if let Some(opening) = self.opening.take() {
            let closing = opening.membership.is_closing();
            self.endpoint
                .failed(transport, if closing { HandshakeFailure::ShuttingDown } else { HandshakeFailure::Lost });
        }
    }
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
            ..SiteOptions::default()
        };
        site_options.limits.head = options.head.clone();
        let websocket = WebSocketResource::with_options(factory, options);
        let (settings, handle) = (websocket.settings.clone(), websocket.handle());
        let site = Site::with_options(Resource::new().leaf().websocket(websocket), site_options);
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
