//! Autobahn's dialect, and both ends of a connection at once.

use twistor_reactor::testing::Pump;
use twistor_reactor::{Address, Factory};
use twistor_websocket::handshake::Accepted;
use twistor_websocket::http::Request;
use twistor_websocket::{
    Accept, AutobahnFactory, AutobahnProtocol, Negotiation, Options, WebSocket, WebSocketClientFactory,
    WebSocketServerFactory,
};

use crate::support::Log;

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
    let factory = AutobahnFactory(twistor_reactor::for_protocol(move || client.clone()));
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
