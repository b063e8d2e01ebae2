//! What the library logs of its peers: escaped, no louder than `debug`, and a few lines for each connection, whatever
//! comes through it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use log::{Level, LevelFilter, Metadata, Record};
use twistor_reactor::BufferLimits;
use twistor_reactor::testing::MemoryReactor;
use twistor_websocket::handshake::HandshakeError;
use twistor_websocket::sansio::deflate::DeflateOptions;
use twistor_websocket::{
    Accept, Observer, Options, Overflow, ReconnectingClientFactory, Refusal, Resource, Traffic, WebSocket,
    WebSocketClientFactory, WebSocketResource, connect_ws,
};

use crate::negotiation::later;
use crate::site::tree;
use crate::support::{
    Client, Log, Pages, Peer, Recorder, Recorders, Server, Wire, binary, close, continuation, frame, get, ping, pong,
    request, text, upgrade,
};

thread_local! {
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

struct Keeping;

impl log::Log for Keeping {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &Record<'_>) {
        let line = (record.level(), record.args().to_string());
        let _ = LINES.try_with(|lines| lines.borrow_mut().push(line));
    }
    fn flush(&self) {}
}

const EVIL: &str = "\u{1b}[31mred\u{7}\r\n2026-01-01 ERROR all is lost";

pub(crate) fn logged(f: impl FnOnce()) -> Vec<(Level, String)> {
    // other tests run beside this one: theirs are other threads' lines
    let _ = log::set_logger(&Keeping);
    log::set_max_level(LevelFilter::Trace);
    LINES.take();
    f();
    let lines = LINES.take();
    assert!(!lines.is_empty());
    lines
}

fn assert_harmless(lines: &[(Level, String)]) {
    // what the port itself says is not a peer's doing
    for (level, line) in lines.iter().filter(|(_, line)| !line.starts_with("starting on")) {
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(*level >= Level::Debug, "a peer makes noise: {level} {line}");
        assert!(line.len() < 1000, "{line}");
    }
}

#[test]
fn t71_what_peers_write_is_escaped_and_quiet() {
    let lines = logged(|| {
        let server = Server::new();
        let peer = server.open();
        peer.frame(&close(4000, EVIL));
        assert_eq!(server.only_end().2, EVIL, "the application gets it as it came");
        let peer = server.open();
        peer.frame(&text(b"\xff"));
        let peer = server.connect();
        peer.send(upgrade("/\u{1b}[31m", &["X: \u{1b}"]));
        let peer = server.connect();
        peer.send(request("\u{1b}[31m", "/", &["Host: x"]));
        server.wait(20.0);
        let client = Client::open();
        client.server.frame(&close(4000, EVIL));
        client.server.close();
        client.reactor.settle();
    });
    assert_harmless(&lines);
}

/// The reason that an application is likely to log, too.
#[test]
fn t71_the_text_of_a_reason_is_escaped() {
    let server = Server::new();
    let peer = server.open();
    peer.frame(&close(4000, EVIL));
    let shown = server.log.last_reason().to_string();
    assert!(!shown.contains(char::is_control) && shown.contains("all is lost"), "{shown:?}");

    let client = Client::new();
    client
        .server
        .send("HTTP/1.1 403 No\r\nContent-Length: 45\r\n\r\n\u{1b}[31mred\u{7}\r\n2026-01-01 ERROR all is lost......");
    client.server.close();
    client.reactor.settle();
    assert!(client.log.last_reason().check::<HandshakeError>());
    let shown = client.log.last_reason().to_string();
    assert!(!shown.contains(char::is_control), "{shown:?}");
}

/// Heads with cookies and payloads are nobody's to log.
#[test]
fn t71_secrets_are_not_logged() {
    let lines = logged(|| {
        let server = Server::echo();
        let peer = server.connect();
        peer.open("/?token=hush", &["Cookie: hush", "Authorization: hush"]);
        peer.frame(&text("hush"));
        server.refusal_of(request("GET", "/?hush", &["Cookie: hush"]));
        peer.close();
        server.reactor.settle();
    });
    assert!(lines.iter().all(|(_, line)| !line.contains("hush")), "{lines:?}");
}

/// Of one connection: that it is open, does not keep up, is closed by us, has failed, how it ended, that its socket is
/// closed.
const MOST: usize = 6;

const MANY: usize = 10_000;

/// What is said of a single connection.
fn assert_few(flood: &str, lines: &[(Level, String)]) {
    assert!(lines.len() <= MOST, "{flood}: {} lines, the last of them {:?}", lines.len(), &lines[lines.len() - 3..]);
    assert_harmless(lines);
}

/// The lines of a connection that a peer makes, floods, and leaves, late.
fn lines_of(server: &Server, flood: impl FnOnce(&Peer)) -> Vec<(Level, String)> {
    logged(|| {
        let peer = server.connect();
        flood(&peer);
        server.wait(60.0);
        peer.reset();
        server.reactor.settle();
    })
}

/// Each in a turn of its own.
fn each(peer: &Peer, frame: &Wire) {
    let wire = peer.encode(std::slice::from_ref(frame));
    (0..MANY).for_each(|_| peer.send(&wire));
}

#[test]
fn t71_ten_thousand_frames_make_a_few_lines() {
    let compressed = "Sec-WebSocket-Extensions: permessage-deflate";
    let options = Options { compression: Some(DeflateOptions::default()), ..Options::default() };
    let floods = [
        ("reserved bits", text("x").rsv(2)),
        ("reserved opcodes", frame(3, EVIL)),
        ("other lengths", text("x").length_in(8)),
        ("too long", binary("").declaring(u64::MAX >> 1)),
        ("continuations of nothing", continuation(EVIL)),
        ("no text", text(b"\xff\x1b[31m")),
        ("not inflatable", text(EVIL).rsv(4)),
        ("fragments", text("x").more()),
        ("pings", ping(EVIL)),
        ("fragmented pings", ping(EVIL).more()),
        ("pongs", pong(EVIL)),
        ("closes", close(4000, EVIL)),
        ("closes that are none", close(1005, EVIL)),
        ("echoes", text(EVIL)),
        ("empty echoes", text("")),
    ];
    for (flood, frame) in floods {
        let server = Server::with(options.clone(), Recorder::echoing);
        let lines = lines_of(&server, |peer| {
            peer.open("/", &[compressed]);
            each(peer, &frame);
        });
        assert_few(flood, &lines);
    }
}

/// Within the rate, so that the connection lives on.
#[test]
fn t71_control_frames_for_minutes_make_a_few_lines() {
    let server = Server::new();
    let lines = lines_of(&server, |peer| {
        peer.open("/", &[]);
        for _ in 0..MANY / 100 {
            peer.frames(&vec![ping(EVIL); 50]);
            peer.frames(&vec![pong(EVIL); 50]);
            peer.wait(1.0);
        }
        assert!(!peer.is_over() && server.log.count("ping") == MANY / 2);
    });
    assert_few("pings", &lines);
}

/// A hundred times over it lets the output fill up, so that messages are dropped, and reads all that is left.
#[test]
fn t71_a_peer_that_is_slow_again_and_again_makes_a_few_lines() {
    for (overflow, latest) in [(Overflow::DropNewest, false), (Overflow::DropOldest, false), (Overflow::Close, true)] {
        let send = |socket: &WebSocket, number: u64| {
            if latest { socket.send_latest(number % 8, "x") } else { socket.send_text("x") }
        };
        let buffer = BufferLimits { high: 1000, low: 100, cap: 5000 };
        let server = Server::with(Options { overflow, buffer, ..Options::default() }, |mould| mould);
        let lines = lines_of(&server, |peer| {
            peer.open("/", &[]);
            let socket = server.log.socket(0);
            for round in 1..=100 {
                peer.set_room(0);
                (0..1000).for_each(|number| send(&socket, number));
                server.reactor.settle();
                peer.set_room(usize::MAX);
                server.reactor.settle();
                assert!(!peer.drain().is_empty() && socket.dropped() > round * 100, "{}", socket.dropped());
            }
        });
        assert_few(&format!("{overflow:?}"), &lines);
    }
}

/// A site with pages and a WebSocket.
fn site() -> Pages {
    let (mut root, factory) = (tree(), Recorders(Recorder::new(&Log::default())));
    root.put_child("ws", Resource::new().websocket(WebSocketResource::new(factory)));
    Pages::new(root)
}

#[test]
fn t71_ten_thousand_requests_make_a_few_lines() {
    let post = request("POST", "/form", &["Host: x", "Expect: 100-continue", "Content-Length: 1"]);
    let (lives, ends) = (true, false);
    let floods = [
        ("pages that are not there", get("/%1b%5b31m%0d%0a"), lives),
        ("no method for that page", request("DELETE", "/data", &["Host: x"]), lives),
        ("a page of a WebSocket", get("/ws"), ends),
        ("a handshake with a page", upgrade("/data", &[]), lives),
        ("a body", post + "x", lives),
        ("a handshake of another version", upgrade("/ws", &[]).replace("Version: 13", "Version: 8"), ends),
        ("a handshake without a key", upgrade("/ws", &[]).replace("Sec-WebSocket-Key", "X"), ends),
        ("a handshake from elsewhere", upgrade("/ws", &["Origin: http://evil.example"]), ends),
        ("an empty line", "\r\n".into(), ends),
        ("a letter", "A".into(), ends),
        ("no HTTP", format!("{EVIL}\r\n\r\n"), ends),
        ("TLS", "\u{16}\u{3}\u{1}".into(), ends),
    ];
    for (flood, asked, lives) in floods {
        let pages = site();
        let lines = logged(|| {
            let peer = pages.connect();
            for _ in 0..MANY {
                peer.send(&asked);
                let _ = peer.bytes();
            }
            assert_eq!(peer.is_over(), !lives, "{flood}");
            peer.wait(100.0);
            peer.reset();
            peer.settle();
        });
        assert_few(flood, &lines);
    }
}

/// As [`t71_ten_thousand_frames_make_a_few_lines`], where the peer is a server.
#[test]
fn t71_a_server_that_floods_its_client_makes_a_few_lines() {
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    let refusal = "HTTP/1.1 403 No\r\nContent-Length: 1000000\r\n\r\n";
    let floods = [
        ("messages", None, text(EVIL).plain()),
        ("masked messages", None, text(EVIL).masked()),
        ("closes", None, close(4000, EVIL).plain()),
        ("pings", None, ping(EVIL).plain()),
        ("hints", Some(""), hint.into()),
        ("a body", Some(refusal), EVIL.into()),
    ];
    for (flood, instead_of_101, wire) in floods {
        let client = Client::new();
        let lines = logged(|| {
            let server = &client.server;
            match instead_of_101 {
                Some(head) => server.send(head),
                None => drop(server.accept(&[], &[])),
            }
            (0..MANY).for_each(|_| server.send(&wire));
            server.wait(60.0);
            server.reset();
            client.reactor.settle();
        });
        assert_few(flood, &lines);
    }
}

/// Those who wait for the application's decision, and those that it refuses.
#[test]
fn t71_what_comes_before_or_after_a_decision_makes_a_few_lines() {
    let (server, promises) = later(Options::default());
    let lines = lines_of(&server, |peer| {
        peer.send(upgrade("/", &[]));
        each(peer, &text(EVIL));
        promises.next().resolve(Accept::default().into());
        peer.settle();
        assert_eq!(server.log.count("text"), MANY);
    });
    assert_few("early frames", &lines);
    let server =
        Server::with(Options::default(), |mould| mould.deciding(|_| Refusal::new(StatusCode::FORBIDDEN, "no").into()));
    let lines = lines_of(&server, |peer| (0..MANY).for_each(|_| peer.send(upgrade("/", &[]))));
    assert_few("refused", &lines);
}

/// What brought the peer down to trying again is of interest to more than who debugs: one line a wait, which grows.
#[test]
fn t71_a_server_that_refuses_its_client_again_and_again_is_told_of_once_a_try() {
    let reactor = Rc::new(MemoryReactor::new());
    let factory = ReconnectingClientFactory::new(Recorders(Recorder::new(&Log::default())));
    let connector = connect_ws(&reactor, WebSocketClientFactory::new("ws://server.example", factory).expect("a URL"));
    reactor.settle();
    let began = reactor.now();
    let mut tried = 0;
    let lines = logged(|| {
        while reactor.now() - began < Duration::from_secs(3600) {
            if reactor.connecting().is_empty() {
                reactor.advance(Duration::from_millis(100));
                continue;
            }
            tried += 1;
            let server = Peer::server(&reactor, reactor.accept(&connector));
            server.send(format!("HTTP/1.1 403 No\r\nContent-Length: {}\r\n\r\n{EVIL}", EVIL.len()));
        }
    });
    let (told, quiet): (Vec<_>, Vec<_>) = lines.into_iter().partition(|(level, _)| *level == Level::Info);
    assert!((60..600).contains(&tried) && told.len() == tried, "{tried} tries, {} lines", told.len());
    assert!(told.iter().all(|(_, line)| line.contains("will retry in") && !line.contains(char::is_control)));
    assert!(told.iter().all(|(_, line)| line.len() < 1000) && quiet.len() <= MOST * tried);
    assert_harmless(&quiet);
}

/// What panics is the application's, and an error; how often is not to be the peer's decision.
fn assert_one_error(panics: &str, mut lines: Vec<(Level, String)>) {
    lines.retain(|(level, _)| *level == Level::Error);
    assert_eq!(lines.len(), 1, "{panics}: the last is {:?}", lines.last());
}

#[test]
fn t71_a_peer_that_makes_a_callback_panic_is_told_of_once() {
    for provoke in [text("bad"), ping("bad"), pong("bad")] {
        let server = Server::with(Options::default(), |mould| {
            mould.acting(|_, event| assert!(!event.to_string().ends_with("bad"), "on purpose"))
        });
        let lines = lines_of(&server, |peer| {
            peer.open("/", &[]);
            each(peer, &provoke);
        });
        assert_one_error("a callback", lines);
    }
    let pages = Pages::new(Resource::new().render_get(|_| panic!("on purpose")));
    let lines = logged(|| {
        let peer = pages.connect();
        (0..MANY).for_each(|_| peer.send(get("/")));
    });
    assert_one_error("a page", lines);
}

struct Careless;

impl Observer for Careless {
    fn traffic(&self, _: &Traffic) {
        panic!("on purpose");
    }
}

#[test]
fn t71_an_observer_that_panics_is_told_of_once() {
    let server = Server::custom(Options::default(), |mould| mould, |factory| factory.observer(Careless));
    let lines = lines_of(&server, |peer| {
        peer.open("/", &[]);
        each(peer, &text("x"));
    });
    assert_one_error("an observer", lines);
}
