//! `Site`: the HTTP/1.1 front of a port.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use ::http::{Method, StatusCode};
use twistor_reactor::{Address, DelayedCall, Factory, Failure, Protocol, Transport};

use crate::closing::linger;
use crate::connections::{Connections, Membership, Tally, Visits};
use crate::handshake::is_upgrade;
use crate::http::{Connection, Limits, Request, Response};
use crate::observer::{HandshakeFailure, Observed, Observer};
use crate::resource::Resource;
use crate::server::{Handshake, busy};

/// Serves a tree of [`Resource`]s, WebSockets among them: `twisted.web.server.Site`. A factory for
/// [`listen_tcp`](twistor_reactor::Reactor::listen_tcp).
///
/// It speaks HTTP/1.1 and 1.0: persistent and pipelined requests, answered in order; bodies with a `Content-Length`. A
/// bad request gets an answer that says what was expected, and the connection is closed.
///
/// ```no_run
/// use twistor_reactor::Reactor;
/// use twistor_websocket::{Resource, Site, http::Response};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let root = Resource::new().render_get(|_| Response::text("hello\n"));
/// reactor.listen_tcp(8080, Site::new(root))?;
/// reactor.run()?;
/// # Ok(()) }
/// ```
pub struct Site {
    shared: Rc<Shared>,
}

struct Shared {
    root: RefCell<Resource>,
    options: SiteOptions,
    /// Connections from which a request is awaited.
    requests: Cell<usize>,
    /// The same by their address, if that is limited.
    by_address: RefCell<Tally>,
    observed: OnceCell<Observed>,
    /// Whose port this is, where a WebSocket is all there is: all connections are its own.
    server: Option<Rc<Connections>>,
}

/// A request in progress; counted until it is dropped.
struct InProgress {
    site: Rc<Shared>,
    address: Option<IpAddr>,
}

impl InProgress {
    /// One more, if there may be.
    fn begin(site: &Rc<Shared>, transport: &Transport) -> Option<Self> {
        let (others, options) = (site.requests.get(), &site.options);
        if options.max_requests.is_some_and(|most| others >= most) {
            return None;
        }
        let address = options.max_requests_per_address.and_then(|_| transport.peer().ip());
        if let (Some(address), Some(most)) = (address, options.max_requests_per_address) {
            if !site.by_address.borrow_mut().add(address, most) {
                return None;
            }
        }
        site.requests.set(others + 1);
        Some(Self { site: site.clone(), address })
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.site.requests.set(self.site.requests.get() - 1);
        if let Some(address) = self.address {
            self.site.by_address.borrow_mut().remove(address);
        }
    }
}

/// How a [`Site`] treats its connections.
/// ```
/// let options = twistor_websocket::SiteOptions { max_requests_per_address: Some(20), ..Default::default() };
/// ```
#[derive(Debug, Clone)]
pub struct SiteOptions {
    /// Sizes of heads and bodies: 16 KiB and 64 KiB.
    pub limits: Limits,
    /// From the connection, or from a request's first byte, to the end of the request or the WebSocket handshake:
    /// default 10 s, then 408. A WebSocket resource's own
    /// [`open_handshake_timeout`](crate::Options::open_handshake_timeout) bounds what it decides later. `None`: no
    /// limit.
    pub request_timeout: Option<Duration>,
    /// How long a connection may idle between two requests: default 60 s, as `twisted.web`. `None`: no limit.
    pub idle_timeout: Option<Duration>,
    /// How long an answer may wait without the peer taking of it, at least 256 bytes a second: default 15 s, then the
    /// connection is aborted. `None`: no limit.
    pub write_timeout: Option<Duration>,
    /// Requests in progress at once, WebSocket handshakes included: connections from which a request, or the rest of
    /// one, is awaited; idle ones are not counted. More are answered 503 with `Retry-After`. Default 4096, as
    /// [`Options::max_handshakes`](crate::Options::max_handshakes). `None`: no limit.
    pub max_requests: Option<usize>,
    /// The same from one IP address (of IPv6, one /64). Default `None`: behind a proxy all have one. A
    /// [`WebSocketServerFactory`](crate::WebSocketServerFactory) takes
    /// [`Options::max_connections_per_address`](crate::Options::max_connections_per_address).
    pub max_requests_per_address: Option<usize>,
}

impl Default for SiteOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            request_timeout: Some(Duration::from_secs(10)),
            idle_timeout: Some(Duration::from_secs(60)),
            write_timeout: Some(Duration::from_secs(15)),
            max_requests: Some(4096),
            max_requests_per_address: None,
        }
    }
}

impl Site {
    /// Serves `root` for `/`, and what is below it.
    pub fn new(root: Resource) -> Self {
        Self::with_options(root, SiteOptions::default())
    }

    /// `new` with options.
    pub fn with_options(root: Resource, options: SiteOptions) -> Self {
        Self::build(root, options, None)
    }

    /// The site of a WebSocket alone, whose shutdown is the site's.
    pub(crate) fn of_server(root: Resource, options: SiteOptions, server: Rc<Connections>) -> Self {
        Self::build(root, options, Some(server))
    }

    fn build(root: Resource, options: SiteOptions, server: Option<Rc<Connections>>) -> Self {
        let (root, requests, by_address, observed) =
            (RefCell::new(root), Cell::new(0), RefCell::default(), OnceCell::new());
        Self { shared: Rc::new(Shared { root, options, requests, by_address, observed, server }) }
    }

    /// Lets somebody count connections that end, or are refused, before their first request is whole:
    /// [`Observer::handshake_failed`]. The first one given stays. WebSockets are told to
    /// [`WebSocketResource::observer`](crate::WebSocketResource::observer).
    #[must_use]
    pub fn observer(self, observer: impl Observer + 'static) -> Self {
        let _ = self.shared.observed.set(Observed::by(observer));
        self
    }
}

impl Factory for Site {
    type Protocol = HttpChannel;

    fn build_protocol(&mut self, peer: &Address) -> Option<HttpChannel> {
        Some(HttpChannel {
            connection: Connection::new(Some(peer.clone()), self.shared.options.limits.clone()),
            site: self.shared.clone(),
            deadline: None,
            request: None,
            place: None,
            served: false,
            over: false,
        })
    }

    fn start_factory(&mut self) {
        self.shared.root.borrow_mut().each_websocket(&mut |websocket| websocket.start());
    }

    fn stop_factory(&mut self) {
        self.shared.root.borrow_mut().each_websocket(&mut |websocket| websocket.stop());
    }
}

/// One connection of a [`Site`], until it becomes a WebSocket: `twisted.web.http.HTTPChannel`.
pub struct HttpChannel {
    connection: Connection,
    site: Rc<Shared>,
    deadline: Option<DelayedCall>,
    /// A request is awaited, and the deadline is its: not an idle connection's.
    request: Option<InProgress>,
    /// Among the connections of the server whose port this is, until it is a WebSocket's.
    place: Option<Membership>,
    /// At least one request has been answered.
    served: bool,
    /// The last answer is written: what still comes is ignored.
    over: bool,
}

impl HttpChannel {
    fn set_deadline(&mut self, transport: &Transport, timeout: Option<Duration>) {
        self.cancel_deadline();
        let handle = transport.protocol::<Self>();
        self.deadline = timeout.map(|timeout| handle.call_later(timeout, Self::expired));
    }

    /// A request is awaited from here on. False: there are too many, and this one is refused.
    fn begin_request(&mut self, transport: &Transport) -> bool {
        self.request = InProgress::begin(&self.site, transport);
        if self.request.is_none() {
            self.not_served(transport, HandshakeFailure::Busy);
            return false;
        }
        let timeout = self.site.options.request_timeout;
        self.set_deadline(transport, timeout);
        true
    }

    /// Answers 503 without waiting for the request.
    fn not_served(&mut self, transport: &Transport, why: HandshakeFailure) {
        let answer = self.site.server.as_ref().map_or_else(|| busy(why), |server| server.refuse(why).1);
        self.failed(transport, why);
        self.refuse(transport, &answer, false);
    }

    /// There was no whole request.
    fn failed(&self, transport: &Transport, why: HandshakeFailure) {
        if let Some(observed) = self.site.observed.get().filter(|_| !self.served) {
            observed.tell(|observer| observer.handshake_failed(transport.peer(), why));
        }
    }

    fn cancel_deadline(&mut self) {
        if let Some(deadline) = self.deadline.take() {
            let _ = deadline.cancel();
        }
    }

    fn expired(&mut self, transport: &Transport) {
        if self.connection.is_idle() && transport.buffered() > 0 {
            // not idle: it takes its time to read the last answer
            let timeout = self.site.options.idle_timeout;
            return self.set_deadline(transport, timeout);
        }
        self.failed(transport, HandshakeFailure::Timeout);
        if self.connection.is_idle() {
            log::debug!("{}: no request in time", transport.peer());
            self.over = true;
            return transport.lose_connection();
        }
        let text = "expected a whole request in time, but only a part of one came";
        self.refuse(transport, &Response::error(StatusCode::REQUEST_TIMEOUT, text), false);
    }

    /// Writes the last answer of the connection.
    fn refuse(&mut self, transport: &Transport, answer: &Response, head_only: bool) {
        log::debug!("{}: {}", transport.peer(), answer.status_code());
        let mut out = Vec::new();
        answer.encode(&mut out, head_only, false);
        transport.write(out);
        self.over = true;
        self.request = None;
        self.cancel_deadline();
        self.deadline = Some(linger(transport));
    }

    /// Answers a request. True when the connection is another protocol's from here on.
    fn answer(&mut self, transport: &Transport, request: Request, input: &[u8]) -> bool {
        let site = self.site.clone();
        let mut root = site.root.borrow_mut();
        let head_only = request.method() == Method::HEAD;
        let keep_alive = request.keep_alive();
        let answer = match root.find(request.path_segments()) {
            None => Response::not_found(),
            Some(resource) => match resource.websocket_mut().filter(|_| is_upgrade(&request)) {
                None => {
                    let answer = resource.respond(&request);
                    if answer.status_code() == StatusCode::UPGRADE_REQUIRED {
                        self.failed(transport, HandshakeFailure::bad_request(&answer));
                    }
                    answer
                }
                Some(websocket) => {
                    let deadline = self.deadline.as_ref().filter(|_| self.request.is_some()).map(DelayedCall::time);
                    let left = deadline.map(|deadline| deadline.saturating_duration_since(transport.reactor().now()));
                    let handshake = Handshake { transport, request: &request, early: input, left };
                    match websocket.upgrade(handshake) {
                        Ok(()) => {
                            self.cancel_deadline();
                            return true;
                        }
                        Err(answer) => answer.close(),
                    }
                }
            },
        };
        drop(root);
        self.served = true;
        if answer.closes() || !keep_alive {
            self.refuse(transport, &answer, head_only);
            return false;
        }
        let mut out = Vec::new();
        answer.encode(&mut out, head_only, true);
        transport.write(out);
        false
    }
}

impl Visits for HttpChannel {
    fn turn_away(&mut self, transport: &Transport) {
        if !self.over {
            self.not_served(transport, HandshakeFailure::ShuttingDown);
        }
    }
}

impl Protocol for HttpChannel {
    fn connection_made(&mut self, transport: &Transport) {
        transport.set_write_timeout(self.site.options.write_timeout);
        if let Some(server) = &self.site.server {
            if server.closing.get() {
                // who comes now is not waited for: more could come all the time
                return self.not_served(transport, HandshakeFailure::ShuttingDown);
            }
            self.place = Some(server.visit::<Self>(transport));
        }
        self.begin_request(transport);
    }

    fn data_received(&mut self, transport: &Transport, mut input: &[u8]) {
        let was_idle = self.connection.is_idle() && self.served;
        let mut answered = false;
        while !self.over {
            if transport.buffered() > transport.buffer_limits().high {
                // a peer that sends requests and reads no answers: not one answer more for now
                transport.pause_producing();
                transport.notify_drained();
                return transport.unread(input);
            }
            match self.connection.feed(&mut input) {
                Ok(Some(request)) => {
                    if self.answer(transport, request, input) {
                        return;
                    }
                    answered = true;
                    self.request = None;
                }
                Ok(None) => break,
                Err(answer) => {
                    self.failed(transport, HandshakeFailure::bad_request(&answer));
                    return self.refuse(transport, &answer, false);
                }
            }
        }
        if self.over {
            return;
        }
        if let Some(interim) = self.connection.interim() {
            transport.write(interim);
        }
        if self.connection.is_idle() {
            // empty lines are no sign of life
            if answered {
                let timeout = self.site.options.idle_timeout;
                self.set_deadline(transport, timeout);
            }
        } else if was_idle || answered {
            // a request has begun in here
            self.begin_request(transport);
        }
    }

    fn output_drained(&mut self, transport: &Transport) {
        transport.resume_producing();
    }

    fn callback_panicked(&mut self, transport: &Transport, _: &Failure) {
        self.failed(transport, HandshakeFailure::Failed);
        let answer = Response::error(StatusCode::INTERNAL_SERVER_ERROR, "the server failed to answer this request");
        self.refuse(transport, &answer, false);
    }

    fn connection_lost(&mut self, transport: &Transport, _: &Failure) {
        self.cancel_deadline();
        if !self.over {
            self.failed(transport, HandshakeFailure::Lost);
        }
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Site({} requests in progress)", self.shared.requests.get())
    }
}

impl fmt::Debug for HttpChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpChannel").field("connection", &self.connection).field("over", &self.over).finish()
    }
}
