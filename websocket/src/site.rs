//! `Site`: the HTTP/1.1 front of a port.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::{Address, Factory};

use crate::channel::HttpChannel;
use crate::connections::{Connections, Tally};
use crate::http::Limits;
use crate::observer::{Observed, Observer};
use crate::resource::Resource;

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

/// What the connections of a site share.
pub(crate) struct Shared {
    pub(crate) root: RefCell<Resource>,
    pub(crate) options: SiteOptions,
    /// Connections from which a request is awaited.
    pub(crate) requests: Cell<usize>,
    /// The same by their address, if that is limited.
    pub(crate) by_address: RefCell<Tally>,
    pub(crate) observed: OnceCell<Observed>,
    /// Whose port this is, where a WebSocket is all there is: all connections are its own.
    pub(crate) server: Option<Rc<Connections>>,
}

/// How a [`Site`] treats its connections.
///
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
        Some(HttpChannel::new(self.shared.clone(), peer))
    }

    fn start_factory(&mut self) {
        self.shared.root.borrow_mut().each_websocket(&mut |websocket| websocket.start());
    }

    fn stop_factory(&mut self) {
        self.shared.root.borrow_mut().each_websocket(&mut |websocket| websocket.stop());
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Site({} requests in progress)", self.shared.requests.get())
    }
}
