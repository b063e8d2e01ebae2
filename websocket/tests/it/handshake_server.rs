//! The opening handshake as a server answers it: RFC 6455, 4.2.

use std::net::{IpAddr, Ipv4Addr};

use twistor_websocket::handshake::{HostPolicy, OriginPolicy, tokens_match};
use twistor_websocket::http::Response;
use twistor_websocket::{Accept, Options, Refusal};

use crate::support::{ACCEPT, KEY, Log, Server, continuation, frame, get, text, upgrade, without};

fn with_key(key: &str) -> String {
    upgrade("/", &[]).replace(KEY, key)
}

// P255
#[test]
fn the_example_of_the_rfc_is_answered_as_in_the_rfc() {
    let server = Server::new();
    let peer = server.connect();
    let response = peer.open("/chat", &[]);
    assert_eq!(response.start, "HTTP/1.1 101 Switching Protocols");
    assert_eq!(response.header("Upgrade"), Some("websocket"));
    assert_eq!(response.header("Connection"), Some("Upgrade"));
    assert_eq!(response.header("Sec-WebSocket-Accept"), Some(ACCEPT));
    assert_eq!(response.headers.len(), 3, "{response}");
    assert_eq!(server.log.take(), ["made"]);
    assert_eq!((server.handle.connection_count(), server.handle.accepted()), (1, 1));
}

// P255, T50
#[test]
fn a_handshake_and_a_frame_byte_by_byte_are_understood() {
    let server = Server::echo();
    let peer = server.connect();
    peer.drip(upgrade("/", &[]));
    assert_eq!(peer.http().status(), 101);
    peer.drip(text("Hello").masked());
    assert_eq!(peer.lines(), ["text Hello"]);
}

#[test]
fn t07_a_key_that_is_not_one_of_sixteen_bytes_is_refused() {
    let server = Server::new();
    let keys = [
        "AAAAAAAAAAAAAAAAAAAA",     // 15 bytes
        "AAAAAAAAAAAAAAAAAAAAAAAA", // 18
        "AAAAAAAAAAAAAAAAAAAAA!==",
        "",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
    ];
    for key in keys {
        assert_eq!(server.refusal_of(with_key(key)).status(), 400, "{key}");
    }
    assert_eq!(server.refusal_of(without("Sec-WebSocket-Key")).status(), 400);
    let again = format!("Sec-WebSocket-Key: {KEY}");
    assert_eq!(server.refusal_of(upgrade("/", &[&again])).status(), 400);
}

#[test]
fn t08_other_versions_are_told_the_one_that_is_spoken() {
    let server = Server::new();
    let version = |version: &str| upgrade("/", &[]).replace("Version: 13", &format!("Version: {version}"));
    let requests = [
        (version("8"), 426),
        (version("130"), 426),
        (version(""), 426),
        (without("Sec-WebSocket-Version"), 426),
        (upgrade("/", &["Sec-WebSocket-Version: 13"]), 400),
        (upgrade("/", &["Sec-WebSocket-Version: 8"]), 400),
    ];
    for (request, status) in requests {
        let answer = server.refusal_of(&request);
        assert_eq!(answer.status(), status, "{request}");
        assert_eq!(answer.header("Sec-WebSocket-Version"), Some("13"), "{answer}");
    }
}

#[test]
fn t09_what_browsers_and_proxies_make_of_connection_and_upgrade_is_accepted() {
    let variants = [
        ("Connection: Upgrade", "Connection: keep-alive, Upgrade"),
        ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"),
        ("Connection: Upgrade", "Connection:\tUPGRADE\t"),
        ("Connection: Upgrade", "Connection:upgrade,"),
        ("Upgrade: websocket", "uPgRaDe: WebSocket"),
        ("Upgrade: websocket", "Upgrade: h2c, websocket"),
    ];
    for (usual, odd) in variants {
        let peer = Server::new().connect();
        peer.send(upgrade("/", &[]).replacen(usual, odd, 1));
        assert_eq!(peer.http().status(), 101, "{odd}");
    }
}

#[test]
fn t12_a_request_behind_the_handshake_is_refused_and_never_routed() {
    let server = Server::new();
    let answer = server.refusal_of(upgrade("/", &[]) + &get("/admin"));
    assert_eq!(answer.status(), 400);
    assert!(server.log.take().is_empty());
    // nor when it comes a segment later: what follows the 101 is frames
    let peer = server.open();
    peer.send(get("/admin"));
    assert_eq!(peer.closed_with().0, 1002);
}

// P276
#[test]
fn t13_frames_in_the_segment_of_the_handshake_are_delivered() {
    let server = Server::echo();
    let peer = server.connect();
    let frames = peer.encode(&[text("early"), text("bird")]);
    let mut bytes = upgrade("/", &[]).into_bytes();
    bytes.extend(&frames[..frames.len() - 2]);
    peer.send(bytes);
    assert_eq!(peer.http().status(), 101);
    assert_eq!(peer.lines(), ["text early"]);
    peer.send(&frames[frames.len() - 2..]);
    assert_eq!(peer.lines(), ["text bird"]);
    assert_eq!(server.log.take(), ["made", "text early", "text bird"]);
}

/// What cannot be a client's frame is taken for a request that a proxy in front never saw.
#[test]
fn t13_other_bytes_in_the_segment_of_the_handshake_are_refused() {
    let early = [
        ("a line's end", b"\r\n".to_vec()),
        ("TLS", b"\x16\x03\x01\x02\x00\x01".to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("HTTP", b"HEAD / HTTP/1.1\r\n\r\n".to_vec()),
        ("nothing", vec![0; 100]),
        ("an unmasked frame", text("early").plain()),
        ("a frame of an unknown opcode", frame(3, "early").masked()),
        ("a frame with RSV2", text("early").rsv(2).masked()),
        ("a continuation of nothing", continuation("early").masked()),
    ];
    for (what, early) in early {
        let server = Server::new();
        let answer = server.refusal_of([upgrade("/", &[]).as_bytes(), &early].concat());
        assert_eq!(answer.status(), 400, "{what}");
        assert!(answer.body.contains("expected nothing before the handshake is answered"), "{what}: {answer}");
        assert!(server.log.take().is_empty(), "{what}");
        assert_eq!(server.handle.accepted(), 0, "{what}");
    }
}

// P268
#[test]
fn t14_pages_of_other_origins_are_refused_and_programs_are_not() {
    let server = Server::new();
    let origins = [
        ("http://server.example", 101),
        ("https://server.example", 101), // a Host without a port has the page's default one
        ("http://SERVER.example:80", 101),
        ("http://server.example:81", 403),
        ("http://evil.example", 403),
        ("http://server.example.evil.example", 403),
        ("null", 403),
        ("nonsense", 403),
    ];
    for (origin, status) in origins {
        let peer = server.connect();
        peer.send(upgrade("/", &[&format!("Origin: {origin}")]));
        assert_eq!(peer.http().status(), status, "{origin}");
    }
    let twice = upgrade("/", &["Origin: http://server.example", "Origin: http://server.example"]);
    assert_eq!(server.refusal_of(twice).status(), 403);
    server.open();
}

// P268
#[test]
fn t14_origins_from_a_list_are_allowed() {
    let origins = OriginPolicy::list(["https://*.friend.example"]).unwrap();
    let server = Server::with(Options { origins, ..Options::default() }, |mould| mould);
    server.connect().open("/", &["Origin: https://a.friend.example"]);
    for origin in ["https://friend.example", "http://a.friend.example", "http://server.example", "null"] {
        assert_eq!(server.refusal_of(upgrade("/", &[&format!("Origin: {origin}")])).status(), 403, "{origin}");
    }
    let server = Server::with(Options { origins: OriginPolicy::Any, ..Options::default() }, |mould| mould);
    server.connect().open("/", &["Origin: null"]);
}

#[test]
fn t15_a_host_that_is_not_served_is_refused_421() {
    let hosts = HostPolicy::list(["server.example"]).unwrap();
    let server = Server::with(Options { hosts, ..Options::default() }, |mould| mould);
    server.open();
    assert_eq!(server.refusal_of(upgrade("/", &[]).replace("server.example", "rebound.example")).status(), 421);
}

// P267
#[test]
fn t16_subprotocols_that_are_no_set_of_tokens_are_refused() {
    let server = Server::new();
    let thousand: Vec<String> = (0..1000).map(|number| format!("p{number}")).collect();
    for protocols in ["a, a", "a b", ", a", "", "caf\u{e9}", "a,\"b\"", &thousand.join(",")] {
        let answer = server.refusal_of(upgrade("/", &[&format!("Sec-WebSocket-Protocol: {protocols}")]));
        assert_eq!(answer.status(), 400, "{protocols}");
    }
}

#[test]
fn t17_extension_headers_made_to_hurt_are_declined() {
    let compression = Some(twistor_websocket::sansio::deflate::DeflateOptions::default());
    let server = Server::with(Options { compression, ..Options::default() }, |mould| mould);
    let thousand = vec!["x; y=\"z\""; 800].join(", ");
    let offers = [
        "x; y=\"\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\",
        "permessage-deflate; client_max_window_bits=0",
        "permessage-deflate; client_max_window_bits=99",
        "permessage-deflate; client_max_window_bits=abc",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; unknown",
        ";;;,,,===",
        &thousand,
    ];
    for offer in offers {
        let peer = server.connect();
        peer.send(upgrade("/", &[&format!("Sec-WebSocket-Extensions: {offer}")]));
        let answer = peer.http();
        assert!(matches!(answer.status(), 101 | 400), "{answer}");
        assert_eq!(answer.header("Sec-WebSocket-Extensions"), None, "{offer}");
    }
    // 8 bits are zlib's trap: see compression.rs
    let response =
        server.connect().open("/", &["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=8"]);
    assert!(response.header("Sec-WebSocket-Extensions").is_some_and(|agreed| agreed.starts_with("permessage-deflate")));
}

#[test]
fn t18_a_line_end_in_a_header_of_ours_is_an_error_where_it_is_made() {
    let bad = "a\r\nSet-Cookie: b";
    assert!(Response::text("").header("X-A", bad).is_err());
    assert!(Response::text("").add_header("X-A", bad).is_err());
    assert!(Response::text("").header("X-A: b\r\nX", "c").is_err());
    assert!(Response::redirect(bad).is_err());
    assert!(Response::bytes(bad, "").is_err());
    assert!(Refusal::new(http::StatusCode::FORBIDDEN, "").header("X-A", bad).is_err());
    assert!(http::HeaderValue::from_str(bad).is_err(), "what Accept::headers takes");
}

#[test]
fn t18_headers_that_the_handshake_writes_itself_cannot_be_overwritten() {
    for name in ["sec-websocket-accept", "content-length", "connection", "transfer-encoding"] {
        let server = Server::with(Options::default(), |mould| {
            mould.deciding(move |_| {
                let mut accept = Accept::default();
                accept.headers.insert(name, http::HeaderValue::from_static("5"));
                accept.into()
            })
        });
        assert_eq!(server.refusal_of(upgrade("/", &[])).status(), 500, "{name}");
    }
}

// P269
#[test]
fn t20_only_the_addresses_that_trusted_proxies_wrote_are_believed() {
    let seen = Log::default();
    let writes = seen.clone();
    let server = Server::with(Options::default(), |mould| {
        mould.deciding(move |request| {
            let address = |hops| request.forwarded_for(hops).map(|address| address.to_string());
            writes.add(format!("{:?} {:?}", address(1), address(2)));
            let peer = request.peer().and_then(twistor_reactor::Address::ip);
            assert_eq!(peer, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
            Accept::default().into()
        })
    });
    server.connect().open("/", &["X-Forwarded-For: 6.6.6.6, 1.1.1.1", "X-Forwarded-For: 2.2.2.2"]);
    server.connect().open("/", &["X-Forwarded-For: spoofed"]);
    server.open();
    let expected = [r#"Some("2.2.2.2") Some("1.1.1.1")"#, "None None", "None None"];
    assert_eq!(seen.take(), expected);
}

// P267
#[test]
fn the_first_of_our_subprotocols_that_the_client_offers_is_chosen() {
    let options = Options { protocols: vec!["v2".into(), "v1".into()], ..Options::default() };
    let server = Server::with(options, |mould| mould);
    let response = server.connect().open("/", &["Sec-WebSocket-Protocol: v1, v2"]);
    assert_eq!(response.header("Sec-WebSocket-Protocol"), Some("v2"));
    assert_eq!(server.log.socket(0).subprotocol(), Some("v2"));
    // RFC 6455, 4.2.2: no header at all when none is agreed on
    let response = server.connect().open("/", &["Sec-WebSocket-Protocol: v3"]);
    assert_eq!(response.header("Sec-WebSocket-Protocol"), None);
    assert_eq!(server.log.socket(1).subprotocol(), None);
}

// P259
#[test]
fn a_plain_get_is_told_that_an_upgrade_is_required() {
    let answer = Server::new().refusal_of(get("/"));
    assert_eq!((answer.status(), answer.header("Upgrade")), (426, Some("websocket")));
    assert!(!answer.body.is_empty());
}

#[test]
fn t72_tokens_are_compared_by_their_whole() {
    // that it takes the same time is the promise of `subtle`
    assert!(tokens_match(b"secret", b"secret"));
    for wrong in ["secreT", "Secret", "secre", "secret1", ""] {
        assert!(!tokens_match(b"secret", wrong.as_bytes()), "{wrong}");
    }
}
