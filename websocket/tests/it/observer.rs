//! What an `Observer` is told.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Address, BufferLimits, Connector, Deferred, Failure, UserError, for_protocol};
use twistor_websocket::handshake::{HostPolicy, OriginPolicy};
use twistor_websocket::http::Request;
use twistor_websocket::{
    Accept, Frame, HandshakeFailure, LimitExceeded, Negotiation, Observer, Options, Overflow, Piece, PreparedMessage,
    Refusal, Resource, Site, Traffic, WebSocket, WebSocketClientFactory, WebSocketClosed, WebSocketProtocol,
    WebSocketResource, WebSocketServerFactory,
};

use crate::negotiation::later_with;
use crate::support::{
    Client, Event, Log, Pages, Peer, Recorder, Recorders, Server, close, continuation, frame, get, text, upgrade,
    without,
};

mod clients;

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Notes(Rc<RefCell<Vec<String>>>);

impl Notes {
    fn add(&self, note: String) {
        self.0.borrow_mut().push(note);
    }

    fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

impl Observer for Notes {
    fn connection_failed(&self, connector: &Connector, reason: &Failure) {
        let (host, port) = connector.target();
        self.add(format!("no {host}:{port}: {reason}"));
    }
    fn handshake_failed(&self, _: &Address, why: HandshakeFailure) {
        self.add(format!("{why:?}"));
    }
    fn opened(&self, socket: &WebSocket) {
        assert!(socket.is_open());
        self.add("opened".into());
    }
    fn traffic(&self, traffic: &Traffic) {
        let Traffic { messages_received: came, messages_sent: went, messages_dropped: dropped, .. } = traffic;
        let Traffic { bytes_received, bytes_sent, .. } = traffic;
        self.add(format!("{came} ({bytes_received}) in, {went} ({bytes_sent}) out, {dropped} dropped"));
    }
    fn round_trip(&self, socket: &WebSocket, time: Duration) {
        assert_eq!(socket.round_trip_time(), Some(time));
        self.add(format!("round trip {time:?}"));
    }
    fn closed(&self, _: &WebSocket, end: &WebSocketClosed) {
        let status = &end.status;
        let limit = end.cause.value::<LimitExceeded>().map(|limit| format!(" {limit:?}")).unwrap_or_default();
        self.add(format!("closed {} clean: {}{limit}", status.code, status.was_clean));
    }
}

fn observed(options: Options, mould: impl FnOnce(Recorder) -> Recorder) -> (Server, Notes) {
    let notes = Notes::default();
    (Server::custom(options, mould, |factory| factory.observer(notes.clone())), notes)
}

#[test]
fn connections_and_their_messages_are_counted_both_ways() {
    let (server, notes) = observed(Options::default(), Recorder::echoing);
    let peer = server.open();
    assert_eq!(notes.take(), ["opened"]);
    peer.frames(&[text("abc"), text("").more(), continuation("de")]);
    assert_eq!(notes.take(), ["2 (5) in, 2 (5) out, 0 dropped"], "summed up over a turn");
    peer.frame(&close(1000, ""));
    assert_eq!(notes.take(), ["closed 1000 clean: true"]);
    assert_eq!(peer.lines(), ["text abc", "text de", "close 1000"]);
    server.open().reset();
    server.reactor.settle();
    assert_eq!(notes.take(), ["opened", "closed 1006 clean: false"]);
}

#[test]
fn messages_in_pieces_and_messages_for_many_are_counted_too() {
    let (server, notes) = observed(Options::default(), |mould| {
        mould.in_pieces().acting(|socket, event| {
            if let Event::Piece(Piece::End) = event {
                socket.begin_message(true).unwrap();
                socket.send_piece(b"four").unwrap();
                socket.end_message(b"").unwrap();
                socket.send_prepared(&PreparedMessage::new("many"));
                socket.send_uncompressed("x");
                socket.ping(b"is no message").unwrap();
            }
        })
    });
    let peer = server.open();
    peer.frames(&[text("ab").more(), continuation("c")]);
    assert_eq!(notes.take(), ["opened", "1 (3) in, 3 (9) out, 0 dropped"]);
}

/// The one rule: no method of a handle runs code of the user's.
#[test]
fn an_observer_hears_nothing_before_a_handle_returns() {
    let notes = Notes::default();
    let heard = notes.clone();
    let mould = |mould: Recorder| {
        mould.acting(move |socket, event| {
            if let Event::Message(frame) = event {
                let before = heard.0.borrow().len();
                socket.send_message(frame);
                socket.close();
                assert_eq!(heard.0.borrow().len(), before);
            }
        })
    };
    let server = Server::custom(Options::default(), mould, |factory| factory.observer(notes.clone()));
    let peer = server.open();
    peer.frame(&text("a"));
    assert_eq!(notes.take(), ["opened", "1 (1) in, 1 (1) out, 0 dropped"]);
}

#[test]
fn what_slow_peers_miss_is_counted() {
    let buffer = BufferLimits { high: 100, low: 10, cap: 1000 };
    let options = Options { overflow: Overflow::DropNewest, buffer, ..Options::default() };
    let (server, notes) = observed(options, |mould| mould);
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    // the first is in the transport's hands, three wait
    (0..6).for_each(|_| socket.send_binary(&[0; 200]));
    server.reactor.settle();
    assert_eq!(notes.take(), ["opened", "0 (0) in, 1 (200) out, 2 dropped"]);
    assert_eq!(socket.dropped(), 2);
    assert_eq!(server.handle.buffered(), socket.buffered());
    peer.set_room(usize::MAX);
    server.reactor.settle();
    assert_eq!(notes.take(), ["0 (0) in, 3 (600) out, 0 dropped"], "counted when they go");
    assert_eq!(server.handle.buffered(), 0);
}

#[test]
fn superseded_values_are_counted_as_dropped() {
    let buffer = BufferLimits { high: 100, low: 10, cap: 1000 };
    let (server, notes) = observed(Options { buffer, ..Options::default() }, |mould| mould);
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    socket.send_binary(&[0; 200]);
    (0..3).for_each(|_| socket.send_latest(1, "value"));
    server.reactor.settle();
    assert_eq!(notes.take(), ["opened", "0 (0) in, 1 (200) out, 2 dropped"]);
}

#[test]
fn round_trips_are_told() {
    let (server, notes) = observed(Options::default(), |mould| mould);
    let peer = server.open();
    peer.wait(30.0);
    let ping = peer.got().remove(0);
    peer.wait(0.25);
    peer.frame(&frame(10, ping.payload));
    assert_eq!(notes.take(), ["opened", "round trip 250ms"]);
}

#[test]
fn refused_handshakes_are_told_by_their_reason() {
    let options = Options {
        hosts: HostPolicy::list(["server.example"]).unwrap(),
        origins: OriginPolicy::list(["https://good.example"]).unwrap(),
        max_connections: Some(1),
        ..Options::default()
    };
    let (server, notes) = observed(options, |mould| {
        mould.deciding(|request| match request.query_value("do").as_deref() {
            Some("refuse") => Refusal::new(StatusCode::UNAUTHORIZED, "no").into(),
            Some("panic") => panic!("a panic of the test's"),
            _ => Accept::protocol("never offered").into(),
        })
    });
    let cases: [(String, u16, &str); 8] = [
        ("nonsense\r\n\r\n".into(), 400, "BadRequest(400)"),
        (get("/"), 426, "BadRequest(426)"),
        (without("Sec-WebSocket-Key"), 400, "BadRequest(400)"),
        (upgrade("/", &[]).replace("server.example", "other.example"), 421, "Host"),
        (upgrade("/", &["Origin: https://evil.example"]), 403, "Origin"),
        (upgrade("/?do=refuse", &[]), 401, "Refused(401)"),
        (upgrade("/?do=panic", &[]), 500, "Failed"),
        (upgrade("/", &[]), 500, "Failed"),
    ];
    for (request, status, why) in cases {
        assert_eq!(server.refusal_of(&request).status(), status, "{request}");
        assert_eq!(notes.take(), [why], "{request}");
    }
    let (server, notes) = observed(Options { max_connections: Some(1), ..Options::default() }, |mould| mould);
    let _peer = server.open();
    server.refusal_of(upgrade("/", &[]));
    assert_eq!(notes.take(), ["opened", "Busy"]);
    drop(server.handle.shutdown(&server.reactor, Duration::from_secs(9), Duration::ZERO));
    server.refusal_of(upgrade("/", &[]));
    assert_eq!(notes.take(), ["ShuttingDown"]);
}

#[test]
fn timeouts_can_be_told_apart() {
    let options = || Options { close_handshake_timeout: Some(Duration::from_secs(5)), ..Options::default() };
    let (server, notes) = observed(options(), |mould| mould);
    let _silent = server.open();
    server.wait(61.0);
    assert_eq!(notes.take(), ["opened", "closed 1006 clean: false PingTimeout"]);
    let _deaf = server.open();
    server.log.socket(1).close();
    server.wait(6.0);
    assert_eq!(notes.take(), ["opened", "closed 1006 clean: false CloseTimeout"]);
}

// T2
#[test]
fn t2_handshakes_that_take_too_long_or_break_off_are_told() {
    let (server, notes) = observed(Options::default(), |mould| mould);
    let silent = server.connect();
    let slow = server.connect();
    slow.send("GET / HTTP/1.1\r\nHost:");
    let gone = server.connect();
    gone.send("GET / HT");
    gone.reset();
    server.reactor.settle();
    assert_eq!(notes.take(), ["Lost"]);
    server.wait(10.1);
    assert_eq!(notes.take(), ["Timeout", "Timeout"]);
    assert!(silent.saw_end());
    assert!(slow.received().starts_with(b"HTTP/1.1 408 "));
    server.wait(60.0);
    assert!(notes.take().is_empty());
}

#[test]
fn handshakes_that_are_decided_later_are_told_once() {
    let notes = Notes::default();
    let (server, promises) = later_with(Options::default(), |factory| factory.observer(notes.clone()));
    let ask = || {
        let peer = server.connect();
        peer.send(upgrade("/", &[]));
        server.reactor.settle();
        (peer, promises.next())
    };
    let (_refused, promise) = ask();
    promise.resolve(Refusal::new(StatusCode::FORBIDDEN, "no").into());
    let (_failed, promise) = ask();
    promise.fail(Failure::new(UserError::new()));
    let (gone, promise) = ask();
    gone.reset();
    server.reactor.settle();
    promise.resolve(Accept::default().into());
    let (_late, _promise) = ask();
    server.wait(11.0);
    assert_eq!(notes.take(), ["Refused(403)", "Failed", "Lost", "Timeout"]);
    let (_opened, promise) = ask();
    promise.resolve(Accept::default().into());
    let (undecided, _promise) = ask();
    assert_eq!(notes.take(), ["opened"]);
    drop(server.handle.shutdown(&server.reactor, Duration::from_secs(9), Duration::ZERO));
    server.reactor.settle();
    assert_eq!(undecided.http().status(), 503);
    assert!(undecided.saw_end());
    assert_eq!(notes.take(), ["ShuttingDown"]);
}

#[test]
fn clients_are_told_of_too() {
    let notes = Notes::default();
    let client = || {
        let observer = notes.clone();
        Client::custom(Options::default(), Recorder::echoing, |factory| factory.observer(observer))
    };
    let open = client();
    open.server.accept(&[], &[text("a")]);
    open.server.frame(&close(1000, ""));
    open.server.finish();
    open.reactor.settle();
    assert_eq!(notes.take(), ["opened", "1 (1) in, 1 (1) out, 0 dropped", "closed 1000 clean: true"]);
    let refused = client();
    refused.server.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let redirected = client();
    redirected.server.send("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n");
    let wrong = client();
    wrong.server.send("HTTP/1.1 101 Switching Protocols\r\n\r\n");
    let slow = client();
    slow.server.wait(10.1);
    let gone = client();
    gone.server.close();
    gone.reactor.settle();
    assert_eq!(notes.take(), ["Rejected(Some(403))", "Rejected(Some(302))", "Rejected(None)", "Timeout", "Lost"]);
    let through =
        |factory: WebSocketClientFactory<_>| factory.proxy("http://proxy.example").unwrap().observer(notes.clone());
    let proxy = Client::custom(Options::default(), |mould| mould, through);
    proxy.server.send("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(notes.take(), ["Rejected(Some(407))"]);
}

fn panicking(notes: &Notes) -> WebSocketResource {
    let recorder = Recorder::new(&Log::default()).deciding(|_| panic!("a panic of the test's"));
    WebSocketResource::new(Recorders(recorder)).observer(notes.clone())
}

#[test]
fn a_panic_is_told_to_the_resources_observer() {
    let notes = Notes::default();
    let peer = Pages::new(Resource::new().websocket(panicking(&notes))).connect();
    peer.send(upgrade("/", &[]));
    assert_eq!(peer.http().status(), 500);
    assert_eq!(notes.take(), ["Failed"]);
}

#[test]
fn a_panic_is_told_on_a_connection_that_has_been_served_a_page() {
    let notes = Notes::default();
    let mut root = Resource::new();
    root.put_child("ws", Resource::new().websocket(panicking(&notes)));
    let reactor = Rc::new(MemoryReactor::new());
    let port = reactor.listen_tcp(80, Site::new(root).observer(notes.clone())).unwrap();
    let peer = Peer::client(&reactor, reactor.connect_to(&port));
    peer.send(get("/page"));
    assert_eq!(peer.http().status(), 404);
    peer.send(upgrade("/ws", &[]));
    assert_eq!(peer.http().status(), 500);
    assert_eq!(notes.take(), ["Failed"]);
}

#[test]
fn an_acceptance_that_meets_the_end_of_the_connection_is_told() {
    let notes = Notes::default();
    let (server, promises) = later_with(Options::default(), |factory| factory.observer(notes.clone()));
    let peer = server.connect();
    peer.send(upgrade("/", &[]));
    peer.send("more"); // not read before it is decided, nor is the end behind it
    promises.next().resolve(Accept::default().into());
    peer.reset();
    server.reactor.settle();
    server.wait(60.0);
    assert_eq!((notes.take(), server.handle.connection_count()), (vec!["Lost".to_owned()], 0));
}

struct Explosive(Cell<Option<Deferred<Negotiation>>>);

impl WebSocketProtocol for Explosive {
    fn negotiate(&mut self, _: &Request) -> Negotiation {
        Negotiation::Later(self.0.take().expect("asked once"))
    }
    fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {}
}

impl Drop for Explosive {
    fn drop(&mut self) {
        panic!("a bug in a Drop");
    }
}

#[test]
fn a_refusal_whose_protocol_panics_when_it_is_dropped_is_told_once() {
    let (notes, reactor) = (Notes::default(), Rc::new(MemoryReactor::new()));
    let (resolver, deferred) = reactor.deferred();
    resolver.resolve(Refusal::new(StatusCode::FORBIDDEN, "no").into());
    let deferred = Cell::new(Some(deferred));
    let factory = for_protocol(move || Explosive(Cell::new(deferred.take())));
    let port = reactor.listen_tcp(80, WebSocketServerFactory::new(factory).observer(notes.clone())).unwrap();
    let peer = Peer::client(&reactor, reactor.connect_to(&port));
    peer.send(upgrade("/", &[]));
    reactor.settle();
    reactor.advance(Duration::from_secs(60));
    assert_eq!((notes.take(), peer.http().status()), (vec!["Refused(403)".to_owned()], 403));
}

#[test]
fn what_still_waited_at_the_end_is_told_as_dropped() {
    let (server, notes) = observed(Options::default(), |mould| mould);
    let peer = server.open();
    peer.set_room(0);
    (0..10).for_each(|_| server.log.socket(0).send_binary(&[0; 60_000]));
    peer.reset();
    server.wait(1.0);
    assert_eq!(server.log.socket(0).dropped(), 8);
    let notes = notes.take();
    assert!(notes.iter().any(|note| note.ends_with("8 dropped")), "{notes:?}");
}
