//! `HttpChannel`: one connection of a `Site`, until it becomes a WebSocket.

use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use ::http::{Method, StatusCode};
use twistor_reactor::{Address, DelayedCall, Failure, Protocol, Transport};

use crate::closing::linger;
use crate::connections::{Membership, Visits};
use crate::handshake::is_upgrade;
use crate::http::{Connection, Request, Response};
use crate::observer::HandshakeFailure;
use crate::server::{Handshake, busy};
use crate::settings::Settings;
use crate::site::Shared;

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

/// One connection of a [`Site`](crate::Site), until it becomes a WebSocket: `twisted.web.http.HTTPChannel`.
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
    /// The WebSocket resource that a handshake has come to: what becomes of it is told there.
    asked: Option<Rc<Settings>>,
}

impl HttpChannel {
    pub(crate) fn new(site: Rc<Shared>, peer: &Address) -> Self {
        let connection = Connection::new(Some(peer.clone()), site.options.limits.clone());
        let (deadline, request, place, asked) = (None, None, None, None);
        Self { connection, site, deadline, request, place, served: false, over: false, asked }
    }

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

    /// There was no whole request, or no answer to the handshake.
    fn failed(&self, transport: &Transport, why: HandshakeFailure) {
        if let Some(asked) = &self.asked {
            return asked.handshake_failed(transport.peer(), why);
        }
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
                    self.asked = Some(websocket.settings());
                    match websocket.upgrade(handshake) {
                        Ok(()) => {
                            self.cancel_deadline();
                            return true;
                        }
                        Err(answer) => {
                            self.asked = None; // and has been told
                            answer.close()
                        }
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
        transport.set_close_timeout(None); // the write timeout bounds the last answer, too
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
                // a peer that sends requests and reads no answers: no other is answered before it does
                transport.pause_producing();
                transport.notify_drained();
                if answered {
                    // nothing may come after this answer; `expired` waits while it is taken
                    let timeout = self.site.options.idle_timeout;
                    self.set_deadline(transport, timeout);
                }
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

impl fmt::Debug for HttpChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpChannel").field("connection", &self.connection).field("over", &self.over).finish()
    }
}
