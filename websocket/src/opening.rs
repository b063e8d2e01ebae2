//! `WebSocketClient`: a client's connection during its opening handshake.

use std::any::{Any, TypeId};
use std::error::Error;
use std::fmt;
use std::rc::Rc;

use ::http::StatusCode;
use tungstenite::handshake::client::generate_key;
use twistor_reactor::{DelayedCall, Failure, Protocol, Transport};

use crate::backoff::State;
use crate::closed::LimitExceeded;
use crate::following::Course;
use crate::handshake::{Accepted, ClientRequest, HandshakeError, ProxyConnect, ResponseReader};
use crate::http::excerpt;
use crate::observer::HandshakeFailure;
use crate::protocol::WebSocketProtocol;
use crate::reconnecting::{Around, Reconnecting};
use crate::sansio::Role;
use crate::sansio::deflate::{Agreed, OfferError, check_response};
use crate::session::Session;
use crate::settings::Settings;
use crate::socket::WebSocket;

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
    /// The server or the proxy has refused, and its body comes.
    refused: Option<HandshakeError>,
    around: Around,
    deadline: Option<DelayedCall>,
}

impl<P: WebSocketProtocol> WebSocketClient<P> {
    pub(crate) fn new(
        inner: Option<P>,
        request: Rc<ClientRequest>,
        options: Rc<Settings>,
        proxy: Option<Rc<ProxyConnect>>,
        course: Course,
    ) -> Self {
        let reader = ResponseReader::new(options.head.clone());
        let (key, tunnelled, refused, around, deadline) = (generate_key(), false, None, Around::default(), None);
        Self { inner, request, options, key, reader, proxy, tunnelled, course, refused, around, deadline }
    }

    fn send_request(&mut self, transport: &Transport) {
        let own = self.inner.as_mut().and_then(|inner| inner.connecting(transport.peer(), &self.request));
        if let Some(own) = own {
            self.request = Rc::new(own);
        }
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

    /// What comes back if this fails, around this or inside it.
    fn reconnecting(&mut self) -> Option<Rc<State>> {
        let inside = |inner: &mut P| inner.inner(TypeId::of::<Rc<State>>())?.downcast_ref::<Rc<State>>().cloned();
        self.around.clone().or_else(|| inside(self.inner.as_mut()?))
    }

    /// The server is elsewhere: the protocol goes there if it may, with a new key, and leaves this connection behind.
    fn redirected(&mut self, transport: &Transport, status: StatusCode, location: String) {
        if self.reconnecting().is_some_and(|state| !state.trying.get()) {
            return transport.abort_with(Failure::new(HandshakeError::Redirect { status, location }));
        }
        let (request, course) = match self.course.next(&self.request, status, location) {
            Ok(next) => next,
            Err(failure) => return transport.abort_with(failure),
        };
        log::debug!("{}: redirected to {}", transport.peer(), excerpt(request.url().host_header().as_bytes()));
        self.cancel_deadline();
        let proxy = self.proxy.as_ref().map(|proxy| Rc::new(proxy.redirected(request.url())));
        let stays = proxy.is_some() || request.url().same_origin(self.request.url());
        let request = Rc::new(request);
        let mut successor = Self::new(self.inner.take(), request.clone(), self.options.clone(), proxy, course);
        successor.around = self.around.clone();
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
        match self.around.take() {
            // what was around this one is left behind with it, and goes on inside
            Some(state) => self.switch(transport, Reconnecting::new(inner, state), accepted, agreed, input),
            None => self.switch(transport, inner, accepted, agreed, input),
        }
    }

    fn switch(
        &self,
        transport: &Transport,
        inner: impl WebSocketProtocol,
        accepted: Accepted,
        agreed: Option<Agreed>,
        input: &[u8],
    ) {
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
        let (mut error, body) = match self.refused.take() {
            Some(error) => (error, data),
            None => match self.read(transport, data) {
                Ok(()) => return,
                Err(HandshakeError::Redirect { status, location }) => {
                    return self.redirected(transport, status, location);
                }
                Err(error) => (error, &[][..]), // what came of its body it has
            },
        };
        if error.feed(body) {
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
        let Some(mut inner) = self.inner.take() else { return };
        let socket = WebSocket::new(transport.clone(), Role::Client, self.options.clone(), None, None);
        // a refusal stands, whatever became of its body
        let refusal = self.refused.take().map(Failure::new);
        let closed = socket.gone(refusal.as_ref().unwrap_or(reason));
        if let Some(observed) = self.options.observer() {
            match self.course.connecting() {
                Some(connector) => observed.tell(|observer| observer.connection_failed(&connector, reason)),
                None => self.options.handshake_failed(transport.peer(), HandshakeFailure::of_client(&closed)),
            }
        }
        if let Some(state) = self.around.take() {
            state.closed.set(Some(closed.clone()));
        }
        inner.connection_lost(&socket, &closed);
    }

    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        if wanted == TypeId::of::<Around>() {
            return Some(&mut self.around);
        }
        let inner = self.inner.as_mut()?;
        if wanted == TypeId::of::<P>() { Some(inner) } else { inner.inner(wanted) }
    }
}

impl<P> fmt::Debug for WebSocketClient<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocketClient({})", self.request.url())
    }
}

/// The server answered the offer of permessage-deflate in a way that was not offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionError(pub OfferError);

impl fmt::Display for ExtensionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for ExtensionError {}
