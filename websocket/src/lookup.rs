//! `lookup_protocol`: several protocols at one place, chosen by the request.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::rc::Rc;

use ::http::{StatusCode, header};
use twistor_reactor::{Factory, Failure, for_protocol};

use crate::forwarding::{Nobody, forward_callbacks};
use crate::http::{Request, list};
use crate::protocol::{Accept, Negotiation, Refusal, WebSocketProtocol};
use crate::socket::WebSocket;

/// A [`WebSocketProtocol`] of some type, as [`lookup_protocol`] wants them; every one is.
pub trait AnyWebSocketProtocol: WebSocketProtocol {
    /// It, or the protocol inside, if that is of the type `wanted`: what [`WebSocket::protocol`] looks for.
    fn find(&mut self, wanted: TypeId) -> Option<&mut dyn Any>;
}

impl<P: WebSocketProtocol> AnyWebSocketProtocol for P {
    fn find(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        if wanted == TypeId::of::<P>() { Some(self) } else { self.inner(wanted) }
    }
}

type LookupProtocol = dyn FnMut(&[&str], &Request) -> Option<(Box<dyn AnyWebSocketProtocol>, Option<String>)>;

/// A factory whose protocols are of several types, by the request: `WebSocketsResource(lookupProtocol)` of Twisted's
/// ticket #4173 is `WebSocketResource::new(lookup_protocol(lookup))`. For servers.
///
/// `lookup` is called with the subprotocols that the client offers, the preferred first, and the request; it returns a
/// protocol and the name that it is to be told, or `None`, which is answered 502 as in the original. Any kind of
/// protocol will do, be it a [`WebSocketProtocol`], a [`Frames`](crate::Frames), a [`Twisted`](crate::Twisted) or an
/// [`Autobahn`](crate::Autobahn).
///
/// ```
/// use twistor_websocket::sansio::OpCode;
/// use twistor_websocket::{Frame, FrameReceiver, Frames, WebSocket, WebSocketProtocol, WebSocketResource};
/// use twistor_websocket::lookup_protocol;
///
/// struct Chat;
/// impl FrameReceiver for Chat {
///     fn frame_received(&mut self, transport: &WebSocket, opcode: OpCode, data: &[u8], fin: bool) {}
/// }
///
/// struct Echo;
/// impl WebSocketProtocol for Echo {
///     fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
///         socket.send_message(frame);
///     }
/// }
///
/// let resource = WebSocketResource::new(lookup_protocol(|names, request| match request.path() {
///     "/chat" if names.contains(&"chat") => Some((Box::new(Frames::new(Chat)), Some("chat".into()))),
///     "/echo" => Some((Box::new(Echo), None)),
///     _ => None,
/// }));
/// # let _ = resource;
/// ```
///
/// The protocol is then asked as ever: its `negotiate` may refuse, decide later, add headers, or choose another
/// subprotocol, which counts. A name that the client did not offer is answered 500, as
/// [`Accept::protocol`] has it; without a name there is no subprotocol, unless
/// [`Options::protocols`](crate::Options::protocols) has one. A panic in `lookup` ends the connection and no other.
///
/// `lookupProtocolForFactory(factory)` is the factory itself, without this.
pub fn lookup_protocol(
    lookup: impl FnMut(&[&str], &Request) -> Option<(Box<dyn AnyWebSocketProtocol>, Option<String>)> + 'static,
) -> impl Factory<Protocol: WebSocketProtocol> {
    let lookup: Rc<RefCell<LookupProtocol>> = Rc::new(RefCell::new(lookup));
    for_protocol(move || Lookup { lookup: lookup.clone(), found: Box::new(Nobody) })
}

/// The adapter around what is found.
struct Lookup {
    lookup: Rc<RefCell<LookupProtocol>>,
    found: Box<dyn AnyWebSocketProtocol>,
}

impl WebSocketProtocol for Lookup {
    forward_callbacks!(found);

    fn negotiate(&mut self, request: &Request) -> Negotiation {
        let offered = list(request.headers(), header::SEC_WEBSOCKET_PROTOCOL);
        let names: Vec<&str> = offered.filter_map(|name| std::str::from_utf8(name).ok()).collect();
        let found = (self.lookup.borrow_mut())(&names, request);
        let Some((protocol, name)) = found else {
            return Refusal::new(StatusCode::BAD_GATEWAY, "no protocol is served for this request").into();
        };
        self.found = protocol;
        let negotiation = self.found.negotiate(request);
        match name {
            Some(name) => named(negotiation, name),
            None => negotiation,
        }
    }

    fn connection_made(&mut self, socket: &WebSocket) {
        self.found.connection_made(socket);
    }

    fn connection_lost(&mut self, socket: &WebSocket, reason: &Failure) {
        self.found.connection_lost(socket, reason);
    }

    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        self.found.find(wanted)
    }
}

/// With this subprotocol, unless it has chosen one itself.
fn named(negotiation: Negotiation, name: String) -> Negotiation {
    match negotiation {
        Negotiation::Accept(accept) => Accept { protocol: accept.protocol.or(Some(name)), ..accept }.into(),
        Negotiation::Later(answer) => Negotiation::Later(answer.add_callback(|answer| named(answer, name))),
        refused @ Negotiation::Refuse(_) => refused,
    }
}
