//! `WebSocketProtocol`: what a user writes.

use std::any::{Any, TypeId};

use ::http::{HeaderMap, StatusCode};
use twistor_reactor::{Address, Deferred, Failure};

use crate::handshake::{Accepted, ClientRequest};
use crate::http::{InvalidHeader, Request, Response};
use crate::message::Frame;
use crate::socket::WebSocket;

/// One WebSocket's behaviour. Only `frame_received` must be written.
///
/// Callbacks come in this order: `negotiate` (server) or `handshake_accepted` (client), `connection_made`, any number
/// of the others, exactly one `connection_lost`. Each starts from the reactor's loop with no other callback on the
/// stack; a panic ends this connection, with close code 1011, and no other.
///
/// ```
/// use twistor_websocket::{Frame, WebSocket, WebSocketProtocol};
///
/// struct Echo;
///
/// impl WebSocketProtocol for Echo {
///     fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
///         socket.send_message(frame);
///     }
/// }
/// ```
#[allow(unused_variables)] // the defaults ignore what they are given; the names document it
pub trait WebSocketProtocol: 'static {
    /// Server: a client asks for the WebSocket. The request is well-formed and its origin allowed. The default takes
    /// the first of the options' subprotocols that the client offers.
    fn negotiate(&mut self, request: &Request) -> Negotiation {
        Negotiation::Accept(Accept::default())
    }

    /// Client: the TCP connection is there (through the proxy, if there is one), and `request` is about to be sent; if
    /// this gives another, that is. For what each attempt is to have anew, such as a token that expires. It is asked
    /// again where it is redirected, with the request for there; what has its credentials stripped for another origin
    /// should stay without. Default `None`.
    ///
    /// ```
    /// # use twistor_reactor::Address;
    /// # use twistor_websocket::{Frame, WebSocket, WebSocketProtocol, handshake::ClientRequest};
    /// # struct Ticker;
    /// # fn fresh_token() -> String { "Bearer abc".into() }
    /// impl WebSocketProtocol for Ticker {
    ///     fn connecting(&mut self, _peer: &Address, request: &ClientRequest) -> Option<ClientRequest> {
    ///         request.clone().header("Authorization", &fresh_token()).ok()
    ///     }
    /// #   fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {}
    /// }
    /// ```
    fn connecting(&mut self, peer: &Address, request: &ClientRequest) -> Option<ClientRequest> {
        None
    }

    /// Client: the server has accepted, with this subprotocol and these headers.
    fn handshake_accepted(&mut self, socket: &WebSocket, response: &Accepted) {}

    /// The opening handshake is done: messages may be sent from here on.
    fn connection_made(&mut self, socket: &WebSocket) {}

    /// A whole message has come.
    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>);

    /// Whether messages are to come as they arrive, through `piece_received`, instead of whole. Asked once, before
    /// `connection_made`. For uploads too large to be put together; the message limits still hold.
    fn wants_pieces(&self) -> bool {
        false
    }

    /// A piece of a message, for protocols that want them.
    fn piece_received(&mut self, socket: &WebSocket, piece: Piece<'_>) {}

    /// A ping came. It has been answered.
    fn ping_received(&mut self, socket: &WebSocket, payload: &[u8]) {}

    /// A pong came: an answer to [`WebSocket::ping`], or unasked.
    fn pong_received(&mut self, socket: &WebSocket, payload: &[u8]) {}

    /// The peer has sent its Close, with this code and reason (none: 1005, empty). It has been answered;
    /// `connection_lost` follows.
    fn close_received(&mut self, socket: &WebSocket, code: u16, reason: &str) {}

    /// More output is queued than [`BufferLimits::high`](twistor_reactor::BufferLimits::high): send less.
    fn output_high(&mut self, socket: &WebSocket) {}

    /// The output has drained to [`BufferLimits::low`](twistor_reactor::BufferLimits::low) after `output_high`.
    fn output_drained(&mut self, socket: &WebSocket) {}

    /// The connection is over; the last callback. How it ended: [`WebSocket::close_status`], which is also in
    /// `reason` as a [`WebSocketClosed`](crate::WebSocketClosed). A client whose handshake failed gets this alone.
    fn connection_lost(&mut self, socket: &WebSocket, reason: &Failure) {}

    /// For adapters: the protocol inside, as [`Protocol::inner`](twistor_reactor::Protocol::inner).
    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        None
    }
}

/// A piece of a message, for [`WebSocketProtocol::wants_pieces`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A message begins.
    Begin {
        /// Whether it is binary; text is checked to be UTF-8 as it comes, though a piece may end within a character.
        is_binary: bool,
    },
    /// A frame of it begins, of this many bytes (before inflation).
    FrameBegin {
        /// The frame's payload length as declared.
        length: u64,
    },
    /// Some of its payload.
    Data(&'a [u8]),
    /// The frame has ended.
    FrameEnd,
    /// The message has ended.
    End,
}

/// A server's answer to an opening handshake.
#[derive(Debug)]
pub enum Negotiation {
    /// 101.
    Accept(Accept),
    /// An HTTP error.
    Refuse(Refusal),
    /// Not decided yet: the answer comes with a [`Deferred`], from a timer, a thread, another connection. The client
    /// waits, and nothing of it is read meanwhile; the handshake's deadline holds. A failure refuses with 500.
    Later(Deferred<Self>),
}

impl From<Accept> for Negotiation {
    fn from(accept: Accept) -> Self {
        Self::Accept(accept)
    }
}

impl From<Refusal> for Negotiation {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

/// What goes into the 101.
///
/// ```
/// use twistor_websocket::{Accept, Negotiation, http::Request};
/// # use twistor_websocket::{Frame, WebSocket, WebSocketProtocol};
/// # struct Chat;
/// # impl WebSocketProtocol for Chat {
/// # fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {}
///
/// fn negotiate(&mut self, request: &Request) -> Negotiation {
///     let decline_compression = request.path() == "/account"; // secrets there: no CRIME
///     let mut accept = Accept { decline_compression, ..Accept::default() }; // the subprotocol: by the options
///     if let Ok(cookie) = "seen=yes; Secure; HttpOnly".parse() {
///         accept.headers.insert("set-cookie", cookie);
///     }
///     accept.into()
/// }
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Accept {
    /// The subprotocol, one that the client offers; `None` takes the first of [`Options::protocols`](crate::Options)
    /// that it offers, if there is one.
    pub protocol: Option<String>,
    /// Further header fields, such as cookies.
    pub headers: HeaderMap,
    /// Declines permessage-deflate, though [`Options::compression`](crate::Options) would accept it: for this
    /// connection alone, by its path or its user. Default no.
    pub decline_compression: bool,
}

impl Accept {
    /// With a subprotocol.
    pub fn protocol(name: impl Into<String>) -> Self {
        Self { protocol: Some(name.into()), ..Self::default() }
    }
}

/// A refused handshake: Autobahn's `ConnectionDeny`.
///
/// ```
/// use twistor_websocket::http::{Response, StatusCode};
/// use twistor_websocket::{Negotiation, Refusal};
///
/// let stranger = Refusal::new(StatusCode::FORBIDDEN, "expected a token, but none came");
/// let full = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "full").header("Retry-After", "30")?; // seconds
/// let moved = Refusal::from(Response::redirect("/v2/chat")?); // browsers do not follow it
/// let answer = Negotiation::from(stranger); // what `negotiate` returns
/// # drop((full, moved, answer));
/// # Ok::<(), twistor_websocket::http::InvalidHeader>(())
/// ```
#[derive(Debug, Clone)]
pub struct Refusal {
    response: Response,
}

impl Refusal {
    /// With a status and a text: `Refusal::new(StatusCode::FORBIDDEN, "no token")`.
    pub fn new(status: StatusCode, body: impl Into<String>) -> Self {
        Self { response: Response::error(status, body) }
    }

    /// With a further header field.
    ///
    /// # Errors
    /// As [`Response::header`].
    pub fn header(self, name: &str, value: &str) -> Result<Self, InvalidHeader> {
        Ok(Self { response: self.response.header(name, value)? })
    }

    pub(crate) fn into_response(self) -> Response {
        self.response
    }
}

impl From<Response> for Refusal {
    /// Any response; the connection is closed after it.
    fn from(response: Response) -> Self {
        Self { response: response.close() }
    }
}
