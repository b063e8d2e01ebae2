//! What is no request, or no good one.

use std::time::Duration;

use twistor::websocket::SiteOptions;

use super::Scene;
use crate::support::Raw;

/// The first bytes of a TLS 1.3 ClientHello.
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x8d\x1c\x77";

fn request(lines: &[&str]) -> String {
    lines.join("\r\n") + "\r\n\r\n"
}

/// A handshake without one of its lines.
fn upgrade_without(name: &str) -> String {
    let lines = [
        "GET /tested HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let lines: Vec<&str> = lines.into_iter().filter(|line| !line.starts_with(name)).collect();
    request(&lines)
}

// T6, T7, T8, T10, T14, T66
#[test]
fn bad_requests_are_answered_with_their_status_and_the_connection_is_closed() {
    Scene::play(|scene| {
        let cases: [(u16, Vec<u8>); 11] = [
            (400, b"\x00\x01\x02garbage\r\n\r\n".to_vec()),
            (400, TLS_HELLO.to_vec()),
            (400, request(&["HELO there"]).into()),
            (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
            (400, request(&["GET / HTTP/1.1"]).into()),
            (400, request(&["GET / HTTP/1.1", "Host: a", "Host: b"]).into()),
            (400, request(&["GET / HTTP/1.1", "Host: a", "X : space before the colon"]).into()),
            (400, upgrade_without("Sec-WebSocket-Key").into()),
            (426, upgrade_without("Sec-WebSocket-Version").into()),
            (403, upgrade_without("Host").replace("\r\n\r\n", "\r\nHost: a\r\nOrigin: http://evil\r\n\r\n").into()),
            (411, request(&["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"]).into()),
        ];
        for (status, bytes) in cases {
            let mut peer = scene.connect();
            peer.send(&bytes);
            assert_eq!(peer.last_response().0, status, "to {}", bytes.escape_ascii());
        }
        assert_eq!(scene.log.entries(), [""; 0], "none was let in");
    });
}

#[test]
fn a_get_of_a_websocket_without_a_page_says_what_to_ask_for() {
    Scene::play(|scene| {
        let mut peer = scene.connect();
        peer.send("GET /tested HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let head = peer.head().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 426 ") && head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    });
}

// T3, T4
#[test]
fn a_head_without_end_is_refused_though_the_peer_goes_on_sending() {
    Scene::play(|scene| {
        let endless = |line: &str| {
            let mut peer = scene.connect();
            peer.send("GET / HTTP/1.1\r\nHost: localhost\r\n");
            peer.send_in_vain(line.repeat((1 << 20) / line.len()));
            peer.last_response().0
        };
        assert_eq!(endless("X-Long: "), 431, "1 MiB in one line");
        assert_eq!(endless("X: short\r\n"), 431, "1 MiB in many lines");
        let mut peer = scene.connect();
        peer.send("GET /");
        peer.send_in_vain("a".repeat(1 << 20));
        assert_eq!(peer.last_response().0, 414, "a target of 1 MiB");
    });
}

// T1, T2
#[test]
fn silence_ends_with_408_within_a_request_and_without_an_answer_before_it() {
    let impatient = SiteOptions { request_timeout: Some(Duration::from_millis(200)), ..SiteOptions::default() };
    Scene::play_with(Default::default(), impatient, |scene| {
        let mut half = scene.connect();
        half.send("GET / HTTP/1.1\r\nHost: loc");
        let mut silent = scene.connect();
        assert_eq!(half.last_response().0, 408);
        silent.end();
    });
}

// T12
#[test]
fn a_request_smuggled_behind_a_handshake_is_not_served() {
    Scene::play(|scene| {
        let mut peer = scene.connect();
        peer.send(upgrade_without("nothing") + "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let (status, body) = peer.last_response();
        assert_eq!(status, 400);
        assert!(!body.contains("page"), "{body}");
    });
}

// T46
#[test]
fn resets_within_a_request_are_nobodys_business() {
    Scene::play(|scene| {
        for bytes in ["", "GET / HTTP/1.1\r\nHo", &upgrade_without("nothing")] {
            let mut peer = scene.connect();
            peer.send(bytes);
            peer.reset();
        }
        let mut peer = Raw::connect(scene.server.address);
        peer.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(peer.last_response(), (200, "page\n".to_owned()));
    });
}
