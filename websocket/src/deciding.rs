//! The application's answer to a handshake, at once or later.

use std::rc::Rc;
use std::time::Duration;

use ::http::StatusCode;
use twistor_reactor::{Deferred, DelayedCall, Failure, Protocol, Transport};

use crate::closing::linger;
use crate::connections::{Membership, Visits};
use crate::handshake::{Upgrade, response};
use crate::http::Response;
use crate::observer::HandshakeFailure;
use crate::protocol::{Accept, Negotiation, WebSocketProtocol};
use crate::sansio::Role;
use crate::sansio::deflate::{Agreed, accept_offer};
use crate::server::{Endpoint, Refused};
use crate::session::Session;

/// A handshake that lacks the application's answer.
pub(crate) struct Opening<P> {
    pub(crate) protocol: P,
    pub(crate) upgrade: Upgrade,
    pub(crate) membership: Membership,
    pub(crate) endpoint: Rc<Endpoint>,
}

/// What is agreed on, and the 101 that says so.
struct Answer {
    agreed: Option<Agreed>,
    protocol: Option<String>,
    out: Vec<u8>,
}

impl<P: WebSocketProtocol> Opening<P> {
    /// Answers 101, and makes the connection a WebSocket; or gives back its place, for one that is refused.
    pub(crate) fn accept(
        self,
        transport: &Transport,
        accept: Accept,
        early: &[u8],
    ) -> Result<(), (Refused, Membership)> {
        let Answer { agreed, protocol, out } = match self.answer(transport, accept) {
            Ok(answer) => answer,
            Err(refused) => return Err((refused, self.membership)),
        };
        transport.write(out);
        self.membership.decided();
        let options = &self.endpoint.options;
        let session = Session::new(self.protocol, transport, Role::Server, options, protocol, agreed);
        transport.switch_protocol(session.with_membership(self.membership), early);
        Ok(())
    }

    fn answer(&self, transport: &Transport, accept: Accept) -> Result<Answer, Refused> {
        if self.membership.is_closing() {
            return Err(self.membership.turn_away());
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
            .filter(|_| !accept.decline_compression)
            .and_then(|deflate| accept_offer(self.upgrade.extensions.iter().map(String::as_str), deflate))
            .unzip();
        let mut out = Vec::new();
        let encoded =
            response(&self.upgrade.key, protocol.as_deref(), extensions.as_deref(), &accept.headers, &mut out);
        if let Err(error) = encoded {
            log::error!("{}: {error}", transport.peer());
            return Err(failed());
        }
        Ok(Answer { agreed, protocol, out })
    }
}

fn failed() -> Refused {
    let text = "the server failed to answer this handshake";
    (HandshakeFailure::Failed, Response::error(StatusCode::INTERNAL_SERVER_ERROR, text))
}

pub(crate) fn refused(answer: Response) -> Refused {
    (HandshakeFailure::Refused(answer.status_code()), answer)
}

/// The protocol of a connection whose handshake waits for [`Negotiation::Later`].
pub(crate) struct Pending<P> {
    pub(crate) endpoint: Rc<Endpoint>,
    /// `None` once it is decided.
    pub(crate) opening: Option<Opening<P>>,
    /// Once it is refused: kept until the peer has read why.
    pub(crate) place: Option<Membership>,
    pub(crate) answer: Option<Deferred<Negotiation>>,
    pub(crate) left: Option<Duration>,
    pub(crate) timer: Option<DelayedCall>,
}

impl<P: WebSocketProtocol> Pending<P> {
    fn wait(&mut self, transport: &Transport, answer: Deferred<Negotiation>) {
        let handle = transport.protocol::<Self>();
        drop(answer.add_both(handle.bind(|this: &mut Self, transport, answer| this.decided(transport, answer))));
    }

    fn decided(&mut self, transport: &Transport, answer: Result<Negotiation, Failure>) {
        let closing = |opening: &Opening<P>| opening.membership.is_closing();
        if self.opening.as_ref().is_none_or(closing) || transport.disconnecting() {
            return; // too late: refused already or about to be, or the peer is gone
        }
        let outcome = match answer {
            Ok(Negotiation::Later(answer)) => return self.wait(transport, answer),
            Ok(Negotiation::Refuse(refusal)) => Err(refused(refusal.into_response())),
            Ok(Negotiation::Accept(accept)) => match self.opening.take().map(|it| it.accept(transport, accept, &[])) {
                Some(Err((refused, place))) => {
                    self.place = Some(place);
                    Err(refused)
                }
                _ => Ok(()),
            },
            Err(failure) => {
                log::error!("{}: negotiation failed: {failure}", transport.peer());
                Err(failed())
            }
        };
        match outcome {
            Ok(()) => {
                self.cancel();
                transport.resume_producing();
            }
            Err(refused) => self.refuse(transport, &refused),
        }
    }

    fn refuse(&mut self, transport: &Transport, (why, answer): &Refused) {
        log::debug!("{}: {}", transport.peer(), answer.status_code());
        self.endpoint.options.handshake_failed(transport.peer(), *why);
        let mut out = Vec::new();
        answer.encode(&mut out, false, false);
        transport.write(out);
        let protocol = self.opening.take().map(|Opening { protocol, membership, .. }| {
            self.place = Some(membership);
            protocol
        });
        if let Some(place) = &mut self.place {
            place.refused::<Self>(transport);
        }
        self.cancel();
        self.timer = Some(linger(transport));
        drop(protocol); // user code, which may panic: last
    }

    fn cancel(&mut self) {
        if let Some(timer) = self.timer.take() {
            let _ = timer.cancel();
        }
    }
}

impl<P: WebSocketProtocol> Visits for Pending<P> {
    fn turn_away(&mut self, transport: &Transport) {
        let refused = self.opening.as_ref().map(|opening| opening.membership.turn_away());
        if let Some(refused) = refused {
            self.refuse(transport, &refused);
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
        // undecided, or accepted too late for the 101 to be sent
        if self.place.is_none() {
            self.endpoint.options.handshake_failed(transport.peer(), HandshakeFailure::Lost);
        }
    }
}
