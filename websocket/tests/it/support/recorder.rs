//! A protocol that writes down what happens to it, and does what its test wants.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use twistor_reactor::{Address, ClientFactory, Connector, Factory, Failure};
use twistor_websocket::handshake::Accepted;
use twistor_websocket::http::Request;
use twistor_websocket::{
    Accept, CloseStatus, Frame, Negotiation, Piece, WebSocket, WebSocketClosed, WebSocketProtocol,
};

use super::frames::shown;

/// What happened, in order, and to which sockets.
#[derive(Clone, Default)]
pub(crate) struct Log(Rc<Logged>);

#[derive(Default)]
struct Logged {
    entries: RefCell<Vec<String>>,
    sockets: RefCell<Vec<WebSocket>>,
    reasons: RefCell<Vec<Failure>>,
}

impl Log {
    pub(crate) fn add(&self, entry: impl fmt::Display) {
        self.0.entries.borrow_mut().push(entry.to_string());
    }

    /// What happened since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        self.0.entries.take()
    }

    /// How many entries begin with `start`.
    pub(crate) fn count(&self, start: &str) -> usize {
        self.0.entries.borrow().iter().filter(|entry| entry.starts_with(start)).count()
    }

    /// The WebSocket that opened as the `index`th.
    pub(crate) fn socket(&self, index: usize) -> WebSocket {
        self.0.sockets.borrow()[index].clone()
    }

    /// How the WebSocket that ended last ended, as its `connection_lost` had it.
    pub(crate) fn last_reason(&self) -> Failure {
        self.0.reasons.borrow().last().expect("nothing was lost").clone()
    }

    pub(crate) fn last_status(&self) -> CloseStatus {
        let reason = self.last_reason();
        reason.value::<WebSocketClosed>().expect("a WebSocketClosed").status.clone()
    }
}

/// A callback of a protocol.
pub(crate) enum Event<'a> {
    Accepted(&'a Accepted),
    Made,
    Message(Frame<'a>),
    Piece(Piece<'a>),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    Close(u16, &'a str),
    High,
    Drained,
    Lost,
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(accepted) => write!(f, "accepted {:?}", accepted.protocol),
            Self::Made => f.write_str("made"),
            Self::Message(Frame::Text(text)) => f.write_str(&shown("text", text.as_bytes())),
            Self::Message(Frame::Binary(bytes)) => f.write_str(&shown("binary", bytes)),
            Self::Piece(Piece::Data(data)) => f.write_str(&shown("data", data)),
            Self::Piece(piece) => write!(f, "{piece:?}"),
            Self::Ping(payload) => f.write_str(&shown("ping", payload)),
            Self::Pong(payload) => f.write_str(&shown("pong", payload)),
            Self::Close(code, reason) => write!(f, "{}", format!("close {code} {reason}").trim_end()),
            Self::High => f.write_str("high"),
            Self::Drained => f.write_str("drained"),
            Self::Lost => f.write_str("lost"),
        }
    }
}

type Act = Rc<dyn Fn(&WebSocket, &Event<'_>)>;
type Decide = Rc<dyn Fn(&Request) -> Negotiation>;

/// The protocol; and, as it is cloned for each connection, its own factory's mould.
#[derive(Clone)]
pub(crate) struct Recorder {
    log: Log,
    act: Act,
    decide: Decide,
    pieces: bool,
}

impl Recorder {
    pub(crate) fn new(log: &Log) -> Self {
        Self { log: log.clone(), act: Rc::new(|_, _| {}), decide: Rc::new(|_| Accept::default().into()), pieces: false }
    }

    /// Does this in each callback, after writing it down.
    pub(crate) fn acting(self, act: impl Fn(&WebSocket, &Event<'_>) + 'static) -> Self {
        Self { act: Rc::new(act), ..self }
    }

    pub(crate) fn deciding(self, decide: impl Fn(&Request) -> Negotiation + 'static) -> Self {
        Self { decide: Rc::new(decide), ..self }
    }

    pub(crate) fn in_pieces(self) -> Self {
        Self { pieces: true, ..self }
    }

    /// Sends back what comes.
    pub(crate) fn echoing(self) -> Self {
        self.acting(|socket, event| {
            if let Event::Message(frame) = event {
                socket.send_message(frame);
            }
        })
    }

    fn on(&self, socket: &WebSocket, event: &Event<'_>) {
        self.log.add(event);
        (self.act)(socket, event);
    }
}

impl WebSocketProtocol for Recorder {
    fn negotiate(&mut self, request: &Request) -> Negotiation {
        (self.decide)(request)
    }

    fn handshake_accepted(&mut self, socket: &WebSocket, response: &Accepted) {
        self.on(socket, &Event::Accepted(response));
    }

    fn connection_made(&mut self, socket: &WebSocket) {
        self.log.0.sockets.borrow_mut().push(socket.clone());
        self.on(socket, &Event::Made);
    }

    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        self.on(socket, &Event::Message(frame));
    }

    fn wants_pieces(&self) -> bool {
        self.pieces
    }

    fn piece_received(&mut self, socket: &WebSocket, piece: Piece<'_>) {
        self.on(socket, &Event::Piece(piece));
    }

    fn ping_received(&mut self, socket: &WebSocket, payload: &[u8]) {
        self.on(socket, &Event::Ping(payload));
    }

    fn pong_received(&mut self, socket: &WebSocket, payload: &[u8]) {
        self.on(socket, &Event::Pong(payload));
    }

    fn close_received(&mut self, socket: &WebSocket, code: u16, reason: &str) {
        self.on(socket, &Event::Close(code, reason));
    }

    fn output_high(&mut self, socket: &WebSocket) {
        self.on(socket, &Event::High);
    }

    fn output_drained(&mut self, socket: &WebSocket) {
        self.on(socket, &Event::Drained);
    }

    fn connection_lost(&mut self, socket: &WebSocket, reason: &Failure) {
        self.log.0.reasons.borrow_mut().push(reason.clone());
        self.on(socket, &Event::Lost);
    }
}

/// Builds a [`Recorder`] for each connection, and writes down its own hooks.
pub(crate) struct Recorders(pub(crate) Recorder);

impl Factory for Recorders {
    type Protocol = Recorder;

    fn build_protocol(&mut self, _: &Address) -> Option<Recorder> {
        Some(self.0.clone())
    }

    fn start_factory(&mut self) {
        self.0.log.add("start factory");
    }

    fn stop_factory(&mut self) {
        self.0.log.add("stop factory");
    }
}

impl ClientFactory for Recorders {
    fn client_connection_failed(&mut self, _: &Connector, reason: &Failure) {
        self.0.log.add(format!("client failed: {reason}"));
    }

    fn client_connection_lost(&mut self, _: &Connector, reason: &Failure) {
        self.0.log.add(format!("client lost: {reason}"));
    }
}
