//! `lookup_protocol`: protocols of several types at one place.

use std::cell::Cell;
use std::rc::Rc;

use http::{HeaderValue, StatusCode};
use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{ListeningPort, WithError};
use twistor_websocket::http::Request;
use twistor_websocket::sansio::OpCode;
use twistor_websocket::{
    Accept, AnyWebSocketProtocol, Autobahn, AutobahnProtocol, Frame, FrameReceiver, FrameTransport, Frames,
    Negotiation, Options, Refusal, Resource, ServerHandle, Twisted, TwistedProtocol, TwistedTransport, WebSocket,
    WebSocketProtocol, WebSocketResource, WebSocketServerFactory, lookup_protocol,
};

use crate::support::{Log, Pages, Peer, Recorder, close, ping, pong, text, upgrade};

/// A server of what a lookup finds, on every path.
struct World {
    reactor: Rc<MemoryReactor>,
    port: ListeningPort,
    handle: ServerHandle,
}

type Found = Option<(Box<dyn AnyWebSocketProtocol>, Option<String>)>;

impl World {
    fn new(lookup: impl FnMut(&[&str], &Request) -> Found + 'static) -> Self {
        Self::with(Options::default(), lookup)
    }

    fn with(options: Options, lookup: impl FnMut(&[&str], &Request) -> Found + 'static) -> Self {
        let reactor = Rc::new(MemoryReactor::new());
        let factory = WebSocketServerFactory::with_options(lookup_protocol(lookup), options);
        let handle = factory.handle();
        let port = reactor.listen_tcp(80, factory).expect("a port");
        Self { reactor, port, handle }
    }

    fn connect(&self) -> Peer {
        Peer::client(&self.reactor, self.reactor.connect_to(&self.port))
    }

    /// The subprotocol that is agreed on with a client that offers these.
    fn agreed(&self, path: &str, names: &str) -> Option<String> {
        let response = self.connect().open(path, &[&offer(names)]);
        response.header("Sec-WebSocket-Protocol").map(str::to_owned)
    }

    /// The answer to a client that is refused.
    fn refusal(&self, path: &str, extra: &[&str]) -> (u16, String) {
        let peer = self.connect();
        peer.send(upgrade(path, extra));
        let answer = peer.http();
        assert!(peer.saw_end());
        (answer.status(), answer.body)
    }
}

fn offer(names: &str) -> String {
    format!("Sec-WebSocket-Protocol: {names}")
}

/// A protocol in each dialect; each says who it is.
struct Native;
struct Twisty;
struct Bahn;
struct Receiver;

impl WebSocketProtocol for Native {
    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        socket.send_text(&format!("native {}", frame.decode()));
    }
}

impl TwistedProtocol for Twisty {
    fn text_message_received(&mut self, transport: &WebSocket, message: &str) {
        transport.send_text_message(&format!("twisted {message}"));
    }
}

impl AutobahnProtocol for Bahn {
    fn on_message(&mut self, socket: &WebSocket, payload: &[u8], _: bool) {
        socket.send_message(format!("autobahn {}", payload.escape_ascii()));
    }
}

impl FrameReceiver for Receiver {
    fn frame_received(&mut self, transport: &WebSocket, _: OpCode, data: &[u8], _: bool) {
        let sent = transport.send_frame(OpCode::Text, &[b"frames ", data].concat(), true);
        sent.expect("in order");
    }
}

#[test]
fn each_request_gets_the_protocol_that_is_looked_up_for_it() {
    let websocket = WebSocketResource::new(lookup_protocol(|_, request| match request.query()? {
        "native" => Some((Box::new(Native), None)),
        "twisted" => Some((Box::new(Twisted(Twisty)), None)),
        "autobahn" => Some((Box::new(Autobahn::new(Bahn)), None)),
        "frames" => Some((Box::new(Frames::new(Receiver)), None)),
        _ => None,
    }));
    let handle = websocket.handle();
    let pages = Pages::new(Resource::new().leaf().websocket(websocket));
    let peers = ["native", "twisted", "autobahn", "frames"].map(|kind| {
        let peer = pages.connect();
        let response = peer.open(&format!("/ws?{kind}"), &[&offer("a, b")]);
        assert_eq!(response.header("Sec-WebSocket-Protocol"), None, "no name was chosen");
        (kind, peer)
    });
    for (kind, peer) in &peers {
        peer.frame(&text("hello"));
        assert_eq!(peer.lines(), [format!("text {kind} hello")]);
    }
    assert_eq!(handle.connection_count(), 4);
}

// P267
#[test]
fn the_lookup_has_the_names_in_their_order_and_chooses_one() {
    let log = Log::default();
    let noted = log.clone();
    let world = World::new(move |names, request| {
        noted.add(format!("{} {names:?}", request.path()));
        Some((Box::new(Native), names.last().map(|name| (*name).to_owned())))
    });
    assert_eq!(world.agreed("/a", "v3, v1,\tv2"), Some("v2".into()));
    let two_lines = world.connect().open("/b", &[&offer("x"), &offer("y, z")]);
    assert_eq!(two_lines.header("Sec-WebSocket-Protocol"), Some("z"));
    assert_eq!(world.connect().open("/c", &[]).header("Sec-WebSocket-Protocol"), None);
    assert_eq!(log.take(), ["/a [\"v3\", \"v1\", \"v2\"]", "/b [\"x\", \"y\", \"z\"]", "/c []"]);
}

// P267
#[test]
fn without_a_chosen_name_the_options_have_their_say() {
    let options = Options { protocols: vec!["v1".into()], ..Options::default() };
    let world = World::with(options, |_, request| Some((Box::new(Native), request.query().map(str::to_owned))));
    assert_eq!(world.agreed("/", "v2, v1"), Some("v1".into()));
    assert_eq!(world.agreed("/?v2", "v2, v1"), Some("v2".into()));
}

// P270
#[test]
fn what_is_not_found_is_answered_502() {
    let world = World::new(|names, _| names.contains(&"chat").then(|| (Box::new(Native) as _, Some("chat".into()))));
    let (status, body) = world.refusal("/", &[&offer("other")]);
    assert_eq!((status, &*body), (502, "no protocol is served for this request\n"));
    assert_eq!((world.handle.connection_count(), world.handle.accepted()), (0, 0));
    assert_eq!(world.agreed("/", "other, chat"), Some("chat".into()));
}

// P267
#[test]
fn a_chosen_name_that_was_not_offered_is_answered_500() {
    let world = World::new(|_, _| Some((Box::new(Native), Some("chat".into()))));
    assert_eq!(world.refusal("/", &[&offer("other")]).0, 500);
    assert_eq!(world.refusal("/", &[]).0, 500);
    assert_eq!(world.handle.connection_count(), 0);
}

#[test]
fn bad_handshakes_are_not_looked_up() {
    let world = World::new(|_, _| panic!("not to be called"));
    assert_eq!(world.refusal("/", &[&offer("twice, twice")]).0, 400);
    assert_eq!(world.refusal("/", &[&offer("no token")]).0, 400);
}

/// A protocol is found that says this to the request; its name is `looked-up` if the client offers any.
fn deciding(decide: impl Fn(&Request) -> Negotiation + 'static) -> World {
    let recorder = Recorder::new(&Log::default()).deciding(decide);
    World::new(move |names, _| Some((Box::new(recorder.clone()), names.first().map(|_| "looked-up".into()))))
}

// P270
#[test]
fn the_protocol_that_is_found_is_asked_too() {
    let world = deciding(|request| match request.path() {
        "/no" => Refusal::new(StatusCode::FORBIDDEN, "not you").into(),
        "/own" => Accept::protocol("own").into(),
        _ => {
            let mut accept = Accept::default();
            accept.headers.append("set-cookie", HeaderValue::from_static("a=1"));
            accept.into()
        }
    });
    assert_eq!(world.refusal("/no", &[&offer("looked-up")]), (403, "not you\n".into()));
    assert_eq!(world.refusal("/no", &[]), (403, "not you\n".into()));
    assert_eq!(world.agreed("/own", "looked-up, own"), Some("own".into()));
    let response = world.connect().open("/", &[&offer("looked-up")]);
    assert_eq!(response.header("Sec-WebSocket-Protocol"), Some("looked-up"));
    assert_eq!(response.header("Set-Cookie"), Some("a=1"));
}

// P270
#[test]
fn the_protocol_that_is_found_may_decide_later() {
    let decision = Rc::new(Cell::new(None));
    let taken = decision.clone();
    let world = deciding(move |_| taken.take().expect("a decision"));
    let (first, answer) = world.reactor.deferred();
    decision.set(Some(Negotiation::Later(answer)));
    let peer = world.connect();
    peer.send(upgrade("/", &[&offer("looked-up")]));
    let (second, answer) = world.reactor.deferred();
    first.resolve(Negotiation::Later(answer));
    world.reactor.settle();
    assert!(peer.bytes().is_empty());
    second.resolve(Accept::default().into());
    world.reactor.settle();
    assert_eq!(peer.http().header("Sec-WebSocket-Protocol"), Some("looked-up"));
}

#[test]
fn every_callback_reaches_the_protocol_that_was_found() {
    let log = Log::default();
    let recorder = Recorder::new(&log).in_pieces();
    let world = World::new(move |_, _| Some((Box::new(recorder.clone()), None)));
    let peer = world.connect();
    peer.open("/", &[]);
    peer.frames(&[ping("1"), pong("2"), text("3")]);
    let socket = log.socket(0);
    peer.set_room(0);
    socket.send_binary(&[0; 100_000]);
    world.reactor.settle();
    peer.set_room(usize::MAX);
    let _ = peer.drain();
    peer.frame(&close(1000, "bye"));
    let pieces = ["Begin { is_binary: false }", "FrameBegin { length: 1 }", "data 3", "FrameEnd", "End"];
    let told = log.take();
    assert_eq!(told[..3], ["made", "ping 1", "pong 2"]);
    assert_eq!(told[3..8], pieces);
    assert_eq!(told[8..], ["high", "drained", "close 1000 bye", "lost"]);
}

#[test]
fn a_handle_finds_the_protocol_by_its_own_type() {
    let log = Log::default();
    let recorder = Recorder::new(&log);
    let world = World::new(move |_, _| Some((Box::new(recorder.clone()), None)));
    world.connect().open("/", &[]);
    let socket = log.socket(0);
    assert!(socket.protocol::<Recorder>().with(|_, _| ()).is_ok());
    assert_eq!(socket.protocol::<Native>().with(|_, _| ()), Err(WithError::ProtocolGone));
}

#[test]
fn t55_a_panic_in_the_lookup_ends_its_connection_and_no_other() {
    let world = World::new(|_, request| {
        assert_ne!(request.path(), "/bad", "on purpose");
        Some((Box::new(Native), None))
    });
    let good = world.connect();
    good.open("/", &[]);
    let bad = world.connect();
    bad.send(upgrade("/bad", &[]));
    assert!(bad.is_over());
    good.frame(&text("still served"));
    assert_eq!(good.lines(), ["text native still served"]);
    assert_eq!(world.agreed("/", "a"), None);
    assert_eq!(world.handle.connection_count(), 2);
}
