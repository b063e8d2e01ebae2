//! Autobahn's dialect, and both ends of a connection at once.

use std::rc::Rc;

use twistor_reactor::testing::{MemoryReactor, Pump};
use twistor_reactor::{Address, Factory, for_protocol};
use twistor_websocket::handshake::Accepted;
use twistor_websocket::http::Request;
use twistor_websocket::sansio::deflate::DeflateOptions;
use twistor_websocket::{
    Accept, AutobahnFactory, AutobahnProtocol, AutobahnTransport, Negotiation, Options, WebSocket,
    WebSocketClientFactory, WebSocketServerFactory,
};

use crate::compression::deflated;
use crate::support::{CLOSE, Event, Got, Log, Peer, Server, binary, close, continuation, frame, ping, text};

/// The callbacks by Autobahn's names.
#[derive(Clone)]
struct Named {
    log: Log,
    name: &'static str,
    on_message: fn(&WebSocket, &[u8]),
    seen: u32,
}

impl Named {
    fn new(log: &Log, name: &'static str, on_message: fn(&WebSocket, &[u8])) -> Self {
        Self { log: log.clone(), name, on_message, seen: 0 }
    }

    fn add(&self, what: &str) {
        self.log.add(format!("{} {what}", self.name));
    }
}

impl AutobahnProtocol for Named {
    fn on_connect(&mut self, request: &Request) -> Negotiation {
        self.add(&format!("onConnect {}", request.path()));
        Accept::default().into()
    }

    fn on_connected(&mut self, _: &WebSocket, response: &Accepted) {
        self.add(&format!("onConnect {:?}", response.protocol));
    }

    fn on_open(&mut self, socket: &WebSocket) {
        self.add("onOpen");
        if self.name == "client" {
            socket.send_message("Hello");
            socket.send_message([1, 2, 3]);
            let _ = socket.ping(b"p");
        }
    }

    fn on_message(&mut self, socket: &WebSocket, payload: &[u8], is_binary: bool) {
        self.seen += 1;
        self.add(&format!("onMessage {payload:?} {is_binary}"));
        (self.on_message)(socket, payload);
    }

    fn on_ping(&mut self, _: &WebSocket, payload: &[u8]) {
        self.add(&format!("onPing {payload:?}"));
    }

    fn on_pong(&mut self, _: &WebSocket, payload: &[u8]) {
        self.add(&format!("onPong {payload:?}"));
    }

    fn on_close(&mut self, _: &WebSocket, was_clean: bool, code: u16, reason: &str) {
        self.add(&format!("onClose {was_clean} {code} {reason}"));
    }
}

fn joined(server: Named, client: Named, chunk: usize) -> Pump {
    joined_with(server, client, chunk, Options::default())
}

fn joined_with(server: Named, client: Named, chunk: usize, options: Options) -> Pump {
    let peer = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
    let factory = AutobahnFactory(move |_: &Address| Some(server.clone()));
    let server = WebSocketServerFactory::with_options(factory, options).build_protocol(&peer);
    let factory = AutobahnFactory(for_protocol(move || client.clone()));
    let client = WebSocketClientFactory::new("ws://server.example/room", factory).expect("a URL").build_protocol(&peer);
    let pump = Pump::with_chunks(server.expect("a server"), client.expect("a client"), chunk);
    pump.flush();
    pump
}

fn nothing(_: &WebSocket, _: &[u8]) {}

// P258; the order of callbacks is Autobahn's, as measured.
#[test]
fn the_callbacks_of_both_ends_come_in_autobahns_order() {
    for chunk in [1, 7, usize::MAX] {
        let log = Log::default();
        let close = |socket: &WebSocket, payload: &[u8]| {
            if payload == [1, 2, 3] {
                socket.lose_connection(4000, "enough").unwrap();
            }
        };
        let pump = joined(Named::new(&log, "server", close), Named::new(&log, "client", nothing), chunk);
        let all = log.take();
        let of = |name: &str| -> Vec<String> {
            let own = all.iter().filter_map(|entry| entry.strip_prefix(name));
            own.map(|entry| entry.trim().to_owned()).collect()
        };
        let server = of("server");
        assert_eq!(
            server[..4],
            ["onConnect /room", "onOpen", "onMessage [72, 101, 108, 108, 111] false", "onMessage [1, 2, 3] true",]
        );
        // the initiator sees the reply, which has the code and reason of its own Close
        assert_eq!(server.last().map(String::as_str), Some("onClose true 4000 enough"), "{chunk}");
        let client = of("client");
        assert_eq!(client[..2], ["onConnect None", "onOpen"]);
        assert_eq!(client.last().map(String::as_str), Some("onClose true 4000 enough"), "{chunk}");
        assert_eq!(pump.reactor.pending_calls(), 0, "both are over without a timer's help");
    }
}

// P257
#[test]
fn pings_and_pongs_are_told_on_their_sides() {
    let log = Log::default();
    let _pump = joined(Named::new(&log, "server", nothing), Named::new(&log, "client", nothing), usize::MAX);
    assert_eq!((log.count("server onPing [112]"), log.count("client onPong [112]")), (1, 1));
}

/// onClose's triples for what is not a clean end (2.15 of the parity list).
#[test]
fn on_close_says_what_autobahn_says() {
    let log = Log::default();
    let pump = joined(Named::new(&log, "server", nothing), Named::new(&log, "client", nothing), usize::MAX);
    let _ = log.take();
    pump.client.lose_connection(); // the TCP connection, without a Close
    pump.flush();
    let dropped = "connection was closed uncleanly (\"peer dropped the TCP connection without previous WebSocket closing \
                   handshake\")";
    assert_eq!(log.count(&format!("server onClose false 1006 {dropped}")), 1, "{:?}", log.take());
}

// P262: what Autobahn calls failByDrop=False.
#[test]
fn both_sides_are_told_of_a_message_that_is_too_long() {
    let log = Log::default();
    let options = Options { max_message: 2, ..Options::default() };
    let (server, client) = (Named::new(&log, "server", nothing), Named::new(&log, "client", nothing));
    let pump = joined_with(server, client, usize::MAX, options);
    pump.reactor.advance(std::time::Duration::from_secs(6));
    let all = log.take();
    assert!(
        all.contains(&"client onClose true 1009 expected a message of at most 2 bytes, got more".to_owned()),
        "{all:?}"
    );
    assert!(
        all.contains(&"server onClose false 1009 expected a message of at most 2 bytes, got more".to_owned()),
        "{all:?}"
    );
}

/// `self`, for later: the user's protocol is found through Session and Autobahn.
#[test]
fn the_users_protocol_is_found_through_the_adapters() {
    let log = Log::default();
    let pump = joined(Named::new(&log, "server", nothing), Named::new(&log, "client", nothing), usize::MAX);
    let handle = pump.server.protocol::<Named>();
    assert_eq!(handle.with(|named, _| named.seen), Ok(2));
    assert!(pump.client.protocol::<Named>().with(|named, _| named.name).is_ok_and(|name| name == "client"));
    assert!(pump.server.protocol::<String>().with(|_, _| ()).is_err());
    handle.post(|named, _| named.add("posted"));
    handle.call_later(std::time::Duration::from_secs(1), |named, transport| {
        named.add("called");
        transport.abort_connection();
    });
    pump.reactor.advance(std::time::Duration::from_secs(1));
    assert_eq!((log.count("server posted"), log.count("server called"), log.count("server onClose")), (1, 1, 1));
    assert!(handle.with(|_, _| ()).is_err(), "gone with its connection");
}

#[test]
fn a_large_conversation_is_the_same_in_any_chunks() {
    let echo = |socket: &WebSocket, payload: &[u8]| {
        if payload.len() < 100_000 {
            socket.send_message([payload, payload, b"x"].concat());
        }
    };
    let run = |chunk| {
        let log = Log::default();
        let _pump = joined(Named::new(&log, "server", echo), Named::new(&log, "client", echo), chunk);
        log.take().len()
    };
    assert_eq!(run(1000), run(usize::MAX));
    assert!(run(usize::MAX) > 30);
}

/// Autobahn's three ways to receive: the hooks are all there, and what it wants decides which are called.
#[derive(Clone)]
struct Hooked {
    log: Log,
    pieces: bool,
    frames: bool,
}

impl AutobahnProtocol for Hooked {
    fn on_message(&mut self, socket: &WebSocket, payload: &[u8], is_binary: bool) {
        self.log.add(format!("onMessage {} {is_binary}", payload.escape_ascii()));
        if payload == b"much" {
            socket.send_message([0; 100_000]);
        }
    }

    fn wants_pieces(&self) -> bool {
        self.pieces
    }

    fn wants_frames(&self) -> bool {
        self.frames
    }

    fn on_message_begin(&mut self, _: &WebSocket, is_binary: bool) {
        self.log.add(format!("onMessageBegin {is_binary}"));
    }

    fn on_message_frame_begin(&mut self, _: &WebSocket, length: u64) {
        self.log.add(format!("onMessageFrameBegin {length}"));
    }

    fn on_message_frame_data(&mut self, _: &WebSocket, payload: &[u8]) {
        self.log.add(format!("onMessageFrameData {}", payload.escape_ascii()));
    }

    fn on_message_frame(&mut self, _: &WebSocket, payload: &[u8]) {
        self.log.add(format!("onMessageFrame {}", payload.escape_ascii()));
    }

    fn on_message_frame_end(&mut self, _: &WebSocket) {
        self.log.add("onMessageFrameEnd");
    }

    fn on_message_end(&mut self, _: &WebSocket) {
        self.log.add("onMessageEnd");
    }

    fn on_ping(&mut self, _: &WebSocket, payload: &[u8]) {
        self.log.add(format!("onPing {}", payload.escape_ascii()));
    }

    fn on_close_frame(&mut self, socket: &WebSocket, code: u16, reason: &str) {
        self.log.add(format!("onCloseFrame {code} {reason}, open: {}", socket.is_open()));
    }

    fn output_high(&mut self, _: &WebSocket) {
        self.log.add("high");
    }

    fn output_drained(&mut self, _: &WebSocket) {
        self.log.add("drained");
    }

    fn on_close(&mut self, _: &WebSocket, was_clean: bool, code: u16, reason: &str) {
        self.log.add(format!("onClose {was_clean} {code} {reason}"));
    }
}

fn hooked(pieces: bool, frames: bool, options: Options) -> (Peer, Log) {
    let log = Log::default();
    let mould = Hooked { log: log.clone(), pieces, frames };
    let factory = AutobahnFactory(for_protocol(move || mould.clone()));
    let reactor = Rc::new(MemoryReactor::new());
    let port = reactor.listen_tcp(80, WebSocketServerFactory::with_options(factory, options)).expect("a port");
    let peer = Peer::client(&reactor, reactor.connect_to(&port));
    peer.open("/", &["Sec-WebSocket-Extensions: permessage-deflate"]);
    (peer, log)
}

// P256: the order is Autobahn's.
#[test]
fn a_message_comes_whole_or_in_frames_or_as_it_arrives() {
    let receive = |pieces, frames, chunk| {
        let (peer, log) = hooked(pieces, frames, Options::default());
        peer.set_chunk(chunk);
        peer.frames(&[text("Hel").more(), ping("p"), continuation("lo").more(), continuation("")]);
        log.take()
    };
    let all = [
        "onMessageBegin false",
        "onMessageFrameBegin 3",
        "onMessageFrameData Hel",
        "onMessageFrame Hel",
        "onMessageFrameEnd",
        "onPing p",
        "onMessageFrameBegin 2",
        "onMessageFrameData lo",
        "onMessageFrame lo",
        "onMessageFrameEnd",
        "onMessageFrameBegin 0",
        "onMessageFrame ",
        "onMessageFrameEnd",
        "onMessageEnd",
    ];
    let but = |start| all.iter().filter(|line| !line.starts_with(start)).map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(receive(false, true, usize::MAX), all);
    assert_eq!(receive(true, true, usize::MAX), all);
    assert_eq!(receive(true, false, usize::MAX), but("onMessageFrame "));
    assert_eq!(receive(false, false, 1), ["onPing p", "onMessage Hello false"]);
    // in segments of a byte the data comes byte by byte, and a frame is whole all the same
    let (data, others): (Vec<_>, _) =
        receive(false, true, 1).into_iter().partition(|line| line.starts_with("onMessageFrameData"));
    assert_eq!((data.len(), others), (5, but("onMessageFrameData")));
}

// P262, T28, T39
#[test]
fn a_frame_that_is_collected_is_bounded_as_a_message_is() {
    let (peer, log) = hooked(false, true, Options { max_frame: 1000, ..Options::default() });
    peer.frame(&binary([b'a'; 1000]));
    peer.frame(&binary([b'b'; 1001]));
    assert_eq!(peer.closed_with().0, 1009);
    assert_eq!((log.count("onMessageFrame a"), log.count("onMessageFrameBegin")), (1, 1));

    let deflate = Some(DeflateOptions::default());
    let (peer, log) = hooked(false, true, Options { max_message: 1000, compression: deflate, ..Options::default() });
    peer.frame(&binary(deflated([b'a'; 1000])).rsv(4));
    let bomb = deflated([b'b'; 100_000]);
    assert!(bomb.len() < 1000);
    peer.frame(&binary(bomb).rsv(4));
    assert_eq!(peer.closed_with().0, 1009);
    assert_eq!((log.count("onMessageFrame a"), log.count("onMessageFrame b")), (1, 0));
}

// P258, P264
#[test]
fn the_peers_close_is_told_before_the_end() {
    let (peer, log) = hooked(false, false, Options::default());
    peer.frame(&close(4000, "enough"));
    assert_eq!(log.take(), ["onCloseFrame 4000 enough, open: false", "onClose true 4000 enough"]);
    let (peer, log) = hooked(false, false, Options::default());
    peer.frame(&frame(CLOSE, ""));
    assert_eq!(log.take(), ["onCloseFrame 1005 , open: false", "onClose true 1005 "]);
    let (peer, log) = hooked(false, false, Options::default());
    peer.finish();
    peer.settle();
    assert_eq!(log.count("onCloseFrame"), 0);
}

#[test]
fn a_protocol_is_told_when_its_output_is_high_and_when_it_has_drained() {
    let (peer, log) = hooked(false, false, Options::default());
    peer.set_room(0);
    peer.frame(&text("much"));
    assert_eq!(log.take(), ["onMessage much false", "high"]);
    peer.set_room(usize::MAX);
    peer.settle();
    assert_eq!(log.take(), ["drained"]);
}

#[test]
fn dropping_the_connection_sends_what_waits_and_no_close_and_receives_nothing_more() {
    let server = Server::with(Options::default(), |mould| {
        mould.acting(|socket, event| {
            if let Event::Message(_) = event {
                socket.send_text("last");
                (0..9).for_each(|_| socket.send_binary(&[0; 50_000]));
                socket.drop_connection(false);
            }
        })
    });
    let peer = server.open();
    peer.set_room(20_000);
    peer.frames(&[text("drop"), text("not delivered")]);
    peer.frame(&text("nor this"));
    assert!(!peer.is_over());
    let mut came = peer.drain();
    let got: Vec<String> = std::iter::from_fn(|| Got::take(&mut came)).map(|frame| frame.to_string()).collect();
    let expected = [&["text last"][..], &["binary [50000 bytes]"; 9]].concat();
    assert_eq!((got, came.len()), (expected.iter().map(ToString::to_string).collect(), 0));
    assert!(peer.saw_end());
    assert_eq!(server.log.count("text"), 1);
    assert!(matches!(server.only_end(), (false, 1006, _)));
}
