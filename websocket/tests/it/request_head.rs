//! The request head as it comes in, and the time it may take: RFC 9112, 2 to 6.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use twistor_reactor::Address;
use twistor_websocket::handshake::HostPolicy;
use twistor_websocket::http::{Connection, HeadLimits, Limits, Request, Response};
use twistor_websocket::sansio::deflate::DeflateOptions;
use twistor_websocket::{Accept, HandshakeFailure, Observer, Options, Resource};

use crate::site::pages;
use crate::support::{Client, Pages, Server, get, heap, request, text, upgrade, without};

#[test]
fn t01_a_head_that_trickles_in_is_answered_408_ten_seconds_after_the_connection() {
    let server = Server::echo();
    let (slow, other) = (server.connect(), server.open());
    slow.send("GET / HT");
    let before = heap::held();
    for _ in 0..9 {
        slow.wait(1.0);
        slow.send("T");
        other.frame(&text("served"));
        assert_eq!(other.lines(), ["text served"]);
    }
    assert!(heap::held() < before + 4096, "{} bytes for nine", heap::held() - before);
    assert_eq!(slow.bytes(), b"");
    slow.wait(1.0);
    assert_eq!(slow.http().status(), 408);
    assert!(slow.saw_end());
    assert!(other.received().is_empty() && !other.is_over());
}

// P265
#[test]
fn t02_a_connection_that_says_nothing_is_closed_after_ten_seconds() {
    let server = Server::new();
    let peer = server.connect();
    peer.wait(9.9);
    assert!(!peer.is_over());
    peer.wait(0.2);
    assert!(peer.saw_end());
    assert_eq!(peer.bytes(), b"");
    assert_eq!(server.reactor.pending_calls(), 0);
    assert!(server.log.take().is_empty());
}

// P265
#[test]
fn the_open_timeout_is_an_option() {
    for (timeout, ends) in [(Some(Duration::from_secs(2)), true), (None, false)] {
        let server = Server::with(Options { open_handshake_timeout: timeout, ..Options::default() }, |mould| mould);
        let peer = server.connect();
        peer.send("GET");
        peer.wait(1000.0);
        assert_eq!(peer.is_over(), ends);
    }
}

// P271
#[test]
fn a_connection_that_drops_in_its_handshake_leaves_no_timer_behind() {
    let server = Server::new();
    for reset in [false, true] {
        let peer = server.connect();
        peer.send("GET / HTTP/1.1\r\nHost:");
        if reset {
            peer.reset();
        } else {
            peer.close();
        }
        server.reactor.settle();
        assert_eq!(server.reactor.pending_calls(), 0);
    }
    assert!(server.log.take().is_empty());
}

#[test]
fn t03_an_endless_header_line_is_answered_431() {
    let server = Server::new();
    let peer = server.connect();
    peer.send("GET / HTTP/1.1\r\nX: ");
    let before = heap::held();
    let sent = (0..1000).take_while(|_| {
        peer.send([b'A'; 1024]);
        assert!(heap::held() < before + 64 * 1024);
        !peer.saw_end()
    });
    assert_eq!(sent.count(), 7, "KiB before the eighth, which is beyond the limit of a line");
    assert_eq!(peer.http().status(), 431);
}

#[test]
fn t03_a_head_of_many_lines_is_answered_431_at_16_kib() {
    let line = format!("X: {}\r\n", "A".repeat(995));
    let server = Server::new();
    let peer = server.connect();
    peer.send("GET / HTTP/1.1\r\n");
    let enough = (0..1000).take_while(|_| {
        peer.send(&line);
        !peer.saw_end()
    });
    assert_eq!(enough.count(), 16, "lines of 1000 bytes before the last");
    assert_eq!(peer.http().status(), 431);
}

#[test]
fn t04_two_thousand_headers_are_answered_431() {
    let lines = vec!["A: b"; 2000];
    assert_eq!(Server::new().refusal_of(request("GET", "/", &lines)).status(), 431);
    // 95 more than the five of the handshake are still a hundred
    let fillers = vec!["A: b"; 95];
    Server::new().connect().open("/", &fillers);
    let fillers = vec!["A: b"; 96];
    assert_eq!(Server::new().refusal_of(upgrade("/", &fillers)).status(), 431);
}

// How often the head is parsed is counted in http/head_tests.rs.
#[test]
fn t05_a_large_head_in_single_bytes_is_read_in_time() {
    let server = Server::new();
    let peer = server.connect();
    let filler = format!("X: {}", "A".repeat(7000));
    peer.drip(upgrade("/", &[&filler, &filler]));
    assert_eq!(peer.http().status(), 101);
}

#[test]
fn t06_other_methods_and_versions_are_refused() {
    let server = Server::new();
    let post = server.refusal_of(upgrade("/", &[]).replace("GET ", "POST "));
    assert_eq!((post.status(), post.header("Allow")), (405, Some("GET")));
    assert_eq!(server.refusal_of(upgrade("/", &[]).replace("HTTP/1.1", "HTTP/1.0")).status(), 505);
    assert_eq!(server.refusal_of(upgrade("/", &[]).replace("HTTP/1.1", "HTTP/2.0")).status(), 505);
    assert_eq!(server.refusal_of("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status(), 505);
    assert_eq!(server.refusal_of(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").status(), 400);
    assert_eq!(server.refusal_of("hello\r\n\r\n").status(), 400);
    assert!(server.log.take().is_empty());
}

#[test]
fn t10_ambiguous_hosts_targets_and_lines_are_refused() {
    let server = Server::new();
    let host = "Host: server.example";
    let replaced = |from: &str, to: &str| upgrade("/", &[]).replace(from, to);
    let requests = [
        without("Host"),
        upgrade("/", &[host]),
        replaced(host, "Host: a b"),
        replaced(host, "Host: a/b"),
        replaced(host, "Host : server.example"),
        replaced(host, "Host: server.example\r\n folded"),
        replaced(host, "Host: server\0example"),
        replaced("GET / ", "GET http://server.example/ "),
        replaced("GET / ", "GET /#fragment "),
        replaced("GET / ", "GET * "),
    ];
    for request in requests {
        assert_eq!(server.refusal_of(&request).status(), 400, "{request:?}");
    }
}

#[test]
fn t11_a_handshake_with_a_body_is_refused() {
    let server = Server::new();
    for line in ["Content-Length: 5", "Transfer-Encoding: chunked", "Content-Length: +0", "Content-Length: 1, 1"] {
        let mut handshake = upgrade("/", &[line]);
        handshake += "hello";
        assert_eq!(server.refusal_of(handshake).status(), 400, "{line}");
    }
}

/// Whom a server takes for the peer of a handshake that it refuses, and why it does.
#[derive(Clone, Default)]
struct Refused(Rc<RefCell<Vec<(Address, HandshakeFailure)>>>);

impl Observer for Refused {
    fn handshake_failed(&self, peer: &Address, why: HandshakeFailure) {
        self.0.borrow_mut().push((peer.clone(), why));
    }
}

/// What comes is refused with this status, the application is not asked, and the peer's address is the socket's.
fn refused_as_it_stands(wire: &[u8], status: u16) {
    let (seen, asked) = (Refused::default(), Rc::new(Cell::new(false)));
    let (observer, asks) = (seen.clone(), asked.clone());
    let decide = move |_: &Request| {
        asks.set(true);
        Accept::default().into()
    };
    let server = Server::custom(Options::default(), |mould| mould.deciding(decide), |it| it.observer(observer));
    let answer = server.refusal_of(wire);
    assert_eq!(answer.status(), status, "{}", wire.escape_ascii());
    let peer = server.connect();
    peer.drip(wire);
    assert_eq!(peer.http().status(), status, "{} byte by byte", wire.escape_ascii());
    assert!(peer.saw_end() && peer.bytes().is_empty());
    let seen = seen.0.take();
    assert_eq!(seen.len(), 2);
    for (peer, why) in seen {
        assert_eq!(why, HandshakeFailure::BadRequest(StatusCode::from_u16(status).expect("a status")));
        let peer = peer.socket_addr().expect("a TCP address");
        assert!(peer.ip().is_loopback() && peer.port() >= 50_000, "{peer}, where peers in memory have such ports");
    }
    assert!(!asked.get() && server.log.take().is_empty() && server.handle.accepted() == 0);
}

// The PROXY protocol is not spoken: what it says of a connection is no request, in whichever version, right or wrong.
const PROXY_V1: &str = "PROXY TCP4 203.0.113.7 192.0.2.1 4321 80\r\n";
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01\x10\xe1\0\x50";

#[test]
fn t19_a_proxy_header_is_answered_400_and_does_not_say_who_the_peer_is() {
    let with_v2 = |at: usize, other: &[u8]| [&PROXY_V2[..at], other, &PROXY_V2[at + other.len()..]].concat();
    let headers = [
        PROXY_V1.into(),
        "PROXY TCP6 2001:db8::7 2001:db8::1 4321 80\r\n".into(),
        "PROXY UNKNOWN\r\n".into(),
        "PROXY TCP4 2001:db8::7 192.0.2.1 4321 80\r\n".into(), // of the other family
        "PROXY TCP4 203.0.113.7 192.0.2.1 4321 80\n".into(),
        PROXY_V1.repeat(2).into(),
        PROXY_V2.to_vec(),
        with_v2(12, b"\x20"),     // LOCAL
        with_v2(12, b"\x11"),     // version 1
        with_v2(13, b"\x21"),     // IPv6, whose addresses are longer
        with_v2(13, b"\x41"),     // of no family there is
        with_v2(14, b"\0\x24"),   // longer than it is
        with_v2(14, b"\xff\xff"), // longer than anything
        PROXY_V2.repeat(2),
        [PROXY_V1.as_bytes(), PROXY_V2].concat(),
        [PROXY_V2, PROXY_V1.as_bytes()].concat(),
    ];
    for header in headers {
        refused_as_it_stands(&[&header, upgrade("/", &[]).as_bytes()].concat(), 400);
    }
}

/// The request follows where the header is cut off. What is left may make another method of its `GET`, or be the empty
/// lines that RFC 9112, 2.2 wants ignored: then there is no PROXY header.
#[test]
fn t19_a_truncated_proxy_header_is_no_request_either() {
    let upgrade = upgrade("/", &[]);
    for cut in 1..PROXY_V1.len() {
        let status = if cut <= "PROXY".len() { 405 } else { 400 };
        refused_as_it_stands((PROXY_V1[..cut].to_owned() + &upgrade).as_bytes(), status);
    }
    for cut in 5..PROXY_V2.len() {
        refused_as_it_stands(&[&PROXY_V2[..cut], upgrade.as_bytes()].concat(), 400);
        refused_as_it_stands(&PROXY_V2[..cut], 400);
    }
    let server = Server::new();
    let peer = server.connect();
    peer.send([&PROXY_V2[..4], upgrade.as_bytes()].concat());
    assert_eq!(peer.http().status(), 101);
    assert!(server.log.socket(0).peer().ip().is_some_and(|ip| ip.is_loopback()));
    // a line alone is a head that is not whole
    let peer = server.connect();
    peer.send(PROXY_V1);
    peer.wait(10.0);
    assert_eq!(peer.http().status(), 408);
    assert!(peer.saw_end());
}

#[test]
fn t19_a_proxy_header_between_two_requests_is_answered_400_and_the_second_is_not_routed() {
    for header in [PROXY_V1.as_bytes(), PROXY_V2] {
        let peer = pages().connect();
        peer.send([get("/data").as_bytes(), header, get("/data").as_bytes()].concat());
        assert_eq!((peer.http().status(), peer.http().status()), (200, 400));
        assert!(peer.saw_end() && peer.bytes().is_empty());
    }
}

/// A refused peer may still be sending: it gets the answer, not a reset, and then the connection does end.
#[test]
fn a_refusal_is_not_overtaken_by_a_reset() {
    let server = Server::new();
    let peer = server.connect();
    peer.send("nonsense\r\n\r\n");
    peer.send(vec![0; 100_000]);
    assert_eq!(peer.http().status(), 400);
    assert!(peer.saw_end() && !peer.saw_reset());
    peer.wait(10.0);
    assert_eq!(server.reactor.pending_calls(), 0);
}

#[test]
fn a_cookie_is_found_beside_one_that_is_not_ascii() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nCookie: name=Jos\u{e9}; session=s3cret\r\n\r\n";
    let request = Request::parse(head.as_bytes()).unwrap();
    assert_eq!(request.cookie("session"), Some("s3cret"));
}

#[test]
fn a_host_without_a_port_is_at_the_default_port() {
    let policy = HostPolicy::list(["chat.example:80", "[::1]:443", "localhost:9000"]).unwrap();
    for (host, allowed) in [
        ("chat.example:80", true),
        ("chat.example", true),
        ("chat.example:", true),
        ("[::1]", true),
        ("localhost", false),
    ] {
        let request = Request::parse(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(policy.check(&request), allowed, "{host}");
    }
}

// T3
#[test]
fn more_fields_than_a_header_map_holds_are_refused_and_no_panic() {
    let head = HeadLimits { max_bytes: 1 << 20, max_headers: usize::MAX, ..HeadLimits::default() };
    let mut connection = Connection::new(None, Limits { head, ..Limits::default() });
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a:\r\n".repeat(40_000));
    let answer = connection.feed(&mut text.as_bytes()).expect_err("refused");
    assert_eq!(answer.status_code(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[test]
fn empty_elements_of_lists_are_ignored() {
    let options = Options { compression: Some(DeflateOptions::default()), ..Options::default() };
    let client = Client::with(options, |recorder| recorder);
    client.server.accept(&["Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover,"], &[]);
    assert_eq!(client.log.count("made"), 1, "{:?}", client.log.take());
    let root = Resource::new().render_post(|_| Response::text("page"));
    let peer = Pages::new(root).connect();
    peer.send(request("POST", "/", &["Host: x", "Content-Length: 2", "Expect: 100-continue,"]));
    assert_eq!(peer.http().status(), 100);
}
