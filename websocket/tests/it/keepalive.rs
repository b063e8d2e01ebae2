//! Pings of the library's own, and who is alive.

use std::time::Duration;

use twistor_websocket::{LimitExceeded, Options};

use crate::support::{Got, Peer, Server, binary, frame, ping, pong, text};

const SILENT: &str = "WebSocket ping timeout (peer did not respond with pong in time)";

fn every(seconds: u64, timeout: u64) -> Server {
    let options = Options {
        ping_interval: Some(Duration::from_secs(seconds)),
        ping_timeout: Duration::from_secs(timeout),
        ..Options::default()
    };
    Server::with(options, |mould| mould)
}

fn pong_of(peer: &Peer) -> Got {
    let frames = peer.got();
    let [ping] = &frames[..] else { panic!("expected a ping, got {frames:?}") };
    assert_eq!(ping.opcode, 9);
    ping.clone()
}

// P266
#[test]
fn silence_is_broken_with_a_ping_and_its_pong_saves_the_connection() {
    let server = Server::new();
    let peer = server.open();
    for _ in 0..5 {
        peer.wait(30.0);
        let payload = pong_of(&peer).payload;
        peer.wait(14.0);
        peer.frame(&frame(10, payload));
        assert_eq!(server.log.socket(0).round_trip_time(), Some(Duration::from_secs(14)));
        peer.wait(1.1);
    }
    assert_eq!(server.log.take(), ["made"], "the pongs are not the application's");
}

// P266
#[test]
fn silence_after_a_ping_ends_the_connection() {
    let server = every(1, 1);
    let peer = server.open();
    peer.wait(1.0);
    pong_of(&peer);
    peer.wait(0.9);
    assert!(!peer.is_over());
    peer.wait(0.2);
    assert!(peer.saw_reset());
    assert_eq!(server.log.count("lost"), 1);
    let status = server.log.last_status();
    assert_eq!((status.was_clean, status.code, &*status.reason), (false, 1006, SILENT));
    assert!(server.log.last_reason().check::<LimitExceeded>());
    assert_eq!(server.reactor.pending_calls(), 0);
}

// P266
#[test]
fn any_byte_is_a_sign_of_life() {
    let signs = [text("x").masked(), ping("").masked(), pong("unasked").masked(), vec![0x81]];
    for sign in signs {
        let server = every(1, 1);
        let peer = server.open();
        peer.wait(1.0);
        pong_of(&peer);
        peer.wait(0.5);
        peer.send(&sign);
        peer.wait(0.6);
        assert!(!peer.is_over(), "{sign:02x?}");
    }
}

#[test]
fn a_busy_connection_is_never_pinged() {
    let server = every(1, 1);
    let peer = server.open();
    for _ in 0..20 {
        peer.wait(0.5);
        peer.frame(&binary(""));
    }
    assert!(peer.got().is_empty());
}

#[test]
fn pings_can_be_turned_off() {
    let server = Server::with(Options { ping_interval: None, ..Options::default() }, |mould| mould);
    let peer = server.open();
    server.reactor.advance(Duration::from_secs(1_000_000));
    assert!(peer.got().is_empty() && !peer.is_over());
    assert_eq!(server.reactor.pending_calls(), 0);
}

#[test]
fn a_wrong_pong_is_life_but_no_measure() {
    let server = every(1, 1);
    let peer = server.open();
    peer.wait(1.0);
    pong_of(&peer);
    peer.frame(&pong("another"));
    assert_eq!(server.log.take(), ["made", "pong another"]);
    assert_eq!(server.log.socket(0).round_trip_time(), None);
}

/// 50 MB to a peer that takes 1 MB a second and says nothing meanwhile.
#[test]
fn t43_a_big_message_that_makes_progress_is_not_killed_by_the_keepalive() {
    let server = every(1, 1);
    let peer = server.open();
    peer.set_room(250_000);
    server.log.socket(0).send_binary(&vec![0; 50_000_000]);
    server.reactor.settle();
    let mut bytes = Vec::new();
    while bytes.len() < 50_000_010 {
        bytes.extend(peer.bytes());
        peer.wait(0.25);
        assert!(!peer.is_over(), "after {} bytes", bytes.len());
    }
    // a ping only behind the message
    assert_eq!(bytes[..2], [0x82, 127]);
    let mut rest = bytes.split_off(50_000_010);
    rest.extend(peer.bytes());
    while let Some(ping) = Got::take(&mut rest) {
        assert_eq!(ping.opcode, 9);
    }
    assert!(rest.is_empty());
}

/// An application that pauses reading cannot hear the pong: that is not the peer's silence.
#[test]
fn a_paused_connection_is_not_taken_for_dead() {
    let server = Server::new();
    let peer = server.open();
    server.log.socket(0).pause_producing();
    for _ in 0..20 {
        peer.wait(10.0);
        for got in peer.got() {
            peer.frame(&frame(10, got.payload));
        }
    }
    assert_eq!(server.log.count("lost"), 0, "{:?}", server.log.take());
    server.log.socket(0).resume_producing();
    peer.frame(&text("still here"));
    assert_eq!(server.log.count("text still here"), 1);
}

#[test]
fn busy_connections_are_pinged_for_their_round_trip_time_if_asked() {
    let server = Server::with(Options { ping_when_busy: true, ..Options::default() }, |mould| mould);
    let peer = server.open();
    for round in 1..4_u64 {
        for _ in 0..29 {
            peer.frame(&text("busy"));
            peer.wait(1.0);
        }
        assert!(peer.got().is_empty());
        peer.wait(1.0);
        let payload = pong_of(&peer).payload;
        let took = Duration::from_millis(100 * round);
        server.reactor.advance(took);
        peer.frame(&frame(10, payload));
        assert_eq!(server.log.socket(0).round_trip_time(), Some(took));
        server.reactor.advance(Duration::from_secs(1) - took);
        peer.frame(&text("busy"));
        peer.wait(1.0);
        for _ in 0..28 {
            peer.frame(&text("busy"));
            peer.wait(1.0);
        }
        // every interval; this one is not answered, and the connection is alive all the same
        pong_of(&peer);
    }
    assert_eq!(server.log.count("lost"), 0);
}

#[test]
fn a_busy_peers_ping_has_the_whole_ping_timeout() {
    let options = Options {
        ping_interval: Some(Duration::from_secs(2)),
        ping_timeout: Duration::from_secs(10),
        ping_when_busy: true,
        ..Options::default()
    };
    let server = Server::with(options, |mould| mould);
    let peer = server.open();
    for _ in 0..2 {
        peer.frame(&text("busy"));
        peer.wait(1.0);
    }
    assert_eq!(peer.got().len(), 1, "a ping, at 2 s");
    peer.wait(9.0);
    assert_eq!(server.log.count("lost"), 0, "{:?}", server.log.take());
}

#[test]
fn a_late_pong_is_not_the_applications() {
    let options = Options {
        ping_interval: Some(Duration::from_secs(2)),
        ping_timeout: Duration::from_secs(10),
        ping_when_busy: true,
        ..Options::default()
    };
    let server = Server::with(options, |m| m);
    let peer = server.open();
    for _ in 0..2 {
        peer.frame(&text("busy"));
        peer.wait(1.0);
    }
    let got = peer.got();
    assert_eq!(got.len(), 1);
    peer.frame(&text("busy"));
    peer.wait(1.25);
    peer.frame(&pong(&got[0].payload));
    println!(
        "{:?} {:?}",
        server.log.take().iter().filter(|l| l.starts_with("pong")).collect::<Vec<_>>(),
        server.log.socket(0).round_trip_time()
    );
    assert!(server.log.socket(0).round_trip_time().is_some());
}

#[test]
fn a_pong_that_is_read_after_a_pause_is_not_the_applications() {
    let server = Server::new();
    let peer = server.open();
    peer.wait(30.0);
    let got = peer.got();
    server.log.socket(0).pause_producing();
    peer.frame(&pong(&got[0].payload));
    peer.wait(20.0);
    server.log.socket(0).resume_producing();
    peer.wait(0.25);
    let log = server.log.take();
    assert_eq!(log, ["made"]);
}

#[test]
fn what_came_during_a_pause_is_read_before_the_time_is_up() {
    let server = Server::new();
    let peer = server.open();
    peer.wait(30.0);
    let got = peer.got();
    let socket = server.log.socket(0);
    socket.pause_producing();
    let s = socket.clone();
    socket.reactor().call_later(Duration::from_millis(14_999), move || s.resume_producing());
    peer.frame(&pong(&got[0].payload));
    server.reactor.advance(Duration::from_secs(16));
    let log = server.log.take();
    assert_eq!(server.log.count("lost"), 0, "{log:?}");
    assert!(socket.is_open(), "{log:?}");
}
