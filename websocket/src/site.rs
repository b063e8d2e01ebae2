//! `Site`: the HTTP/1.1 front of a port.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ::http::{Method, StatusCode};
use twistor_reactor::{Address, DelayedCall, Factory, Failure, Protocol, Transport};

use crate::closing::linger;
use crate::handshake::is_upgrade;
use crate::http::{Connection, Limits, Request, Response};
use crate::resource::Resource;
use crate::server::Handshake;

/// Serves a tree of [`Resource`]s, WebSockets among them: `twisted.web.server.Site`. A factory for
/// [`listen_tcp`](twistor_reactor::Reactor::listen_tcp).
///
/// It speaks HTTP/1.1 and 1.0: persistent and pipelined requests, answered in order; bodies with a `Content-Length`. A bad
/// request gets an answer that says what was expected, and the connection is closed.
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
#[derive(Debug)]
pub struct Site {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: RefCell<Resource>,
    options: SiteOptions,
}

/// How a [`Site`] treats its connections.
#[derive(Debug, Clone)]
pub struct SiteOptions {
    /// Sizes of heads and bodies: 16 KiB and 64 KiB.
    pub limits: Limits,
    /// From the connection, or from a request's first byte, to the end of the request or the WebSocket handshake: default
    /// 10 s, then 408. A WebSocket resource's own
    /// [`open_handshake_timeout`](crate::Options::open_handshake_timeout) bounds what it decides later. `None`: no limit.
    pub request_timeout: Option<Duration>,
    /// How long a connection may idle between two requests: default 60 s, as `twisted.web`. `None`: no limit.
    pub idle_timeout: Option<Duration>,
    /// How long an answer may wait without the peer taking of it, at least 256 bytes a second: default 15 s, then the
    /// connection is aborted. `None`: no limit.
    pub write_timeout: Option<Duration>,
}

impl Default for SiteOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            request_timeout: Some(Duration::from_secs(10)),
            idle_timeout: Some(Duration::from_secs(60)),
            write_timeout: Some(Duration::from_secs(15)),
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
        Self { shared: Rc::new(Shared { root: RefCell::new(root), options }) }
    }
}

impl Factory for Site {
    type Protocol = HttpChannel;

    fn build_protocol(&mut self, peer: &Address) -> Option<HttpChannel> {
        Some(HttpChannel {
            connection: Connection::new(Some(peer.clone()), self.shared.options.limits.clone()),
            site: self.shared.clone(),
            deadline: None,
            in_request: true,
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
#[derive(Debug)]
pub struct HttpChannel {
    connection: Connection,
    site: Rc<Shared>,
    deadline: Option<DelayedCall>,
    /// The deadline is a request's, not an idle connection's.
    in_request: bool,
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
        if self.connection.is_idle() {
            log::debug!("{}: no request in time", transport.peer());
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
                None => resource.respond(&request),
                Some(websocket) => {
                    let deadline = self.deadline.as_ref().filter(|_| self.in_request).map(DelayedCall::time);
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

impl Protocol for HttpChannel {
    fn connection_made(&mut self, transport: &Transport) {
        transport.set_write_timeout(self.site.options.write_timeout);
        let timeout = self.site.options.request_timeout;
        self.set_deadline(transport, timeout);
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
                    self.in_request = false;
                }
                Ok(None) => break,
                Err(answer) => return self.refuse(transport, &answer, false),
            }
        }
        if self.over {
            return;
        }
        if let Some(interim) = self.connection.interim() {
            transport.write(interim);
        }
        let options = &self.site.options;
        if self.connection.is_idle() {
            // empty lines are no sign of life
            if answered {
                let timeout = options.idle_timeout;
                self.set_deadline(transport, timeout);
            }
        } else if was_idle || answered {
            // a request has begun in here
            self.in_request = true;
            let timeout = options.request_timeout;
            self.set_deadline(transport, timeout);
        }
    }

    fn output_drained(&mut self, transport: &Transport) {
        transport.resume_producing();
    }

    fn callback_panicked(&mut self, transport: &Transport, _: &Failure) {
        let answer = Response::error(StatusCode::INTERNAL_SERVER_ERROR, "the server failed to answer this request");
        self.refuse(transport, &answer, false);
    }

    fn connection_lost(&mut self, _: &Transport, _: &Failure) {
        self.cancel_deadline();
    }
}
