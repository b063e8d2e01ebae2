//! The closing handshake and the other ends: RFC 6455, 7.

use twistor_reactor::{ConnectionAborted, ConnectionDone, ConnectionLost};
use twistor_websocket::sansio::FrameError;
use twistor_websocket::{Initiator, InvalidCloseCode, LimitExceeded, Options, WebSocketClosed, WebSocketState};

use crate::support::{CLOSE, Client, Event, Recorder, Server, binary, close, frame, ping, text};

/// Autobahn's words.
const DROPPED: &str = "connection was closed uncleanly (\"peer dropped the TCP connection without previous WebSocket \
                       closing handshake\")";

// P258
#[test]
fn a_close_of_the_peer_is_answered_and_told() {
    let server = Server::new();
    let peer = server.open();
    peer.frame(&close(1001, "going home"));
    assert_eq!(peer.lines(), ["close 1001 going home"], "as twisted.web does, and Autobahn when it is asked to");
    assert!(peer.saw_end(), "RFC 6455, 7.1.1: the server closes first");
    assert_eq!(server.log.take(), ["made", "close 1001 going home", "lost"]);
    let status = server.log.last_status();
    assert_eq!((status.was_clean, status.code, &*status.reason), (true, 1001, "going home"));
    assert_eq!(status.initiator, Initiator::Peer);
    assert!(server.log.last_reason().check::<ConnectionDone>());
    assert_eq!(server.log.socket(0).close_status(), Some(status));
    assert_eq!(server.log.socket(0).state(), WebSocketState::Gone);
    assert_eq!((server.handle.connection_count(), server.reactor.pending_calls()), (0, 0));
}

// P264
#[test]
fn a_close_without_a_code_is_1005_and_answered_without_one() {
    let server = Server::new();
    let peer = server.open();
    peer.frame(&frame(CLOSE, ""));
    let got = peer.got();
    assert_eq!((got.len(), &*got[0].payload), (1, &[][..]));
    assert_eq!(server.log.take(), ["made", "close 1005", "lost"]);
    let status = server.log.last_status();
    assert_eq!((status.was_clean, status.code, &*status.reason), (true, 1005, ""));
}

// P258
#[test]
fn our_close_waits_for_the_answer_of_the_peer() {
    let server = Server::new();
    let peer = server.open();
    let socket = server.log.socket(0);
    socket.lose_connection(4000, "enough").unwrap();
    assert_eq!(socket.state(), WebSocketState::Closing);
    server.reactor.settle();
    assert_eq!(peer.lines(), ["close 4000 enough"]);
    assert!(!peer.is_over());
    assert_eq!(socket.close_status(), None);
    // messages that were under way are not delivered any more
    peer.frames(&[text("crossing"), close(4000, "")]);
    assert!(peer.saw_end());
    assert_eq!(server.log.take(), ["made", "close 4000", "lost"]);
    let status = server.log.last_status();
    assert_eq!((status.was_clean, status.code, &*status.reason), (true, 4000, ""));
    assert_eq!(status.initiator, Initiator::Local);
    assert_eq!(server.reactor.pending_calls(), 0);
}

// P258
#[test]
fn closes_that_cross_are_a_clean_end() {
    let server = Server::new();
    let peer = server.open();
    server.log.socket(0).close();
    peer.frame(&close(1001, "me first"));
    assert_eq!(peer.lines(), ["close 1000"], "one each");
    assert_eq!(server.only_end(), (true, 1001, "me first".into()));
}

// P258
#[test]
fn a_client_waits_for_the_server_to_close_the_connection() {
    let client = Client::open();
    client.server.frame(&close(1000, "bye"));
    assert_eq!(client.server.lines(), ["close 1000 bye"]);
    assert!(!client.server.is_over());
    assert_eq!(client.log.count("lost"), 0);
    client.server.close();
    client.reactor.settle();
    assert_eq!(client.log.take()[2..4], ["close 1000 bye", "lost"]);
    assert!(client.log.last_status().was_clean);
    assert_eq!(client.reactor.pending_calls(), 0);
}

// P265
#[test]
fn a_server_that_does_not_close_the_connection_is_left_after_five_seconds() {
    for ours_first in [false, true] {
        let client = Client::open();
        if ours_first {
            client.log.socket(0).close();
        }
        client.server.frame(&close(1000, ""));
        client.server.wait(4.9);
        assert!(!client.server.is_over());
        client.server.wait(0.2);
        assert!(client.server.saw_reset());
        let status = client.log.last_status();
        assert!(!status.was_clean, "{status}");
        assert!(client.log.last_reason().check::<LimitExceeded>());
    }
}

// P264
#[test]
fn t36_close_codes_that_may_not_be_sent_are_refused() {
    let valid = |code: u16| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    let edges = [0, 1, 999, 1000, 1003, 1004, 1005, 1006, 1007, 1011, 1012, 1013, 1014, 1015, 1016, 1100, 2000, 2999];
    for code in edges.into_iter().chain([3000, 3999, 4000, 4999, 5000, 65535]) {
        let server = Server::new();
        let peer = server.open();
        peer.frame(&close(code, "x"));
        let answer = if valid(code) { code } else { 1002 };
        assert_eq!(peer.closed_with().0, answer, "{code}");
        assert_eq!(server.log.count("close"), usize::from(valid(code)));

        let server = Server::new();
        let peer = server.open();
        let outcome = server.log.socket(0).lose_connection(code, "");
        assert_eq!(outcome.is_ok(), valid(code), "{code}");
        assert_eq!(server.log.socket(0).is_open(), !valid(code), "a code that is refused closes nothing");
        if !valid(code) {
            assert_eq!(outcome, Err(InvalidCloseCode(code)));
        }
        server.reactor.settle();
        assert_eq!(peer.got().len(), usize::from(valid(code)));
    }
}

#[test]
fn t36_a_close_of_one_byte_is_refused() {
    let peer = Server::new().open();
    peer.frame(&frame(CLOSE, [3]));
    assert_eq!(peer.closed_with().0, 1002);
}

// P264
#[test]
fn a_long_reason_is_cut_between_characters() {
    let server = Server::new();
    let peer = server.open();
    server.log.socket(0).lose_connection(3000, &"é".repeat(100)).unwrap();
    server.reactor.settle();
    assert_eq!(peer.closed_with(), (3000, "é".repeat(61)));
}

#[test]
fn t37_what_follows_a_close_is_ignored() {
    let server = Server::echo();
    let peer = server.open();
    peer.frames(&[text("a"), close(1000, "first"), text("b"), ping("c"), close(1001, "second")]);
    peer.frame(&text("d"));
    assert_eq!(peer.lines(), ["text a", "close 1000 first"]);
    assert_eq!(server.log.take(), ["made", "text a", "close 1000 first", "lost"]);
}

#[test]
fn t37_a_ping_after_our_close_is_not_answered() {
    let server = Server::new();
    let peer = server.open();
    server.log.socket(0).close();
    peer.frame(&ping("still there?"));
    assert_eq!(peer.lines(), ["close 1000"]);
}

#[test]
fn t37_a_close_amid_a_big_message_ends_it() {
    let server = Server::echo();
    let peer = server.open();
    peer.frame(&text("begun").more());
    peer.frame(&close(1000, ""));
    assert_eq!(peer.lines(), ["close 1000"]);
    assert_eq!(server.log.count("text"), 0);
}

#[test]
fn t37_our_close_comes_behind_all_that_was_sent_before_it() {
    let server = Server::new();
    let peer = server.open();
    let socket = server.log.socket(0);
    peer.set_room(1000);
    for _ in 0..10 {
        socket.send_binary(&[7; 60_000]);
    }
    socket.close();
    socket.send_text("after the Close");
    server.reactor.settle();
    peer.set_room(usize::MAX);
    server.reactor.settle();
    let lines = peer.lines();
    assert_eq!(lines.len(), 11, "{lines:?}");
    assert_eq!(lines[9..], ["binary [60000 bytes]", "close 1000"]);
    peer.frame(&close(1000, ""));
    assert!(server.only_end().0);
}

#[test]
fn t37_a_close_of_the_peer_overtakes_what_waits_for_it() {
    let server = Server::new();
    let peer = server.open();
    peer.set_room(0);
    for _ in 0..10 {
        server.log.socket(0).send_binary(&[7; 60_000]);
    }
    peer.frame(&close(1000, ""));
    peer.set_room(usize::MAX);
    server.reactor.settle();
    let lines = peer.lines();
    assert_eq!(lines.last().map(String::as_str), Some("close 1000"));
    assert!(lines.len() < 5, "what was not under way is not sent: {}", lines.len());
    assert!(peer.saw_end() && server.only_end().0);
}

// P265
#[test]
fn t38_a_peer_that_never_answers_a_close_is_dropped_after_five_seconds() {
    let server = Server::new();
    let peer = server.open();
    server.log.socket(0).close();
    peer.wait(4.9);
    // what it sends meanwhile does not help
    peer.frame(&text("busy"));
    assert!(!peer.is_over());
    peer.wait(0.2);
    assert!(peer.saw_reset());
    let (was_clean, _, reason) = server.only_end();
    assert!(!was_clean);
    assert!(reason.contains("closing handshake timeout"), "{reason}");
    assert!(server.log.last_reason().check::<LimitExceeded>());
    peer.wait(100.0);
    assert_eq!((server.log.count("lost"), server.reactor.pending_calls()), (1, 0));
}

// P258
#[test]
fn a_drop_of_the_peer_is_an_unclean_end() {
    let server = Server::new();
    let peer = server.open();
    peer.close();
    server.reactor.settle();
    assert_eq!(server.only_end(), (false, 1006, DROPPED.into()));
    assert_eq!(server.log.last_status().initiator, Initiator::Network);
    assert!(server.log.last_reason().check::<ConnectionDone>());
}

#[test]
fn a_reset_of_the_peer_is_an_unclean_end() {
    let server = Server::new();
    let peer = server.open();
    peer.reset();
    server.reactor.settle();
    let (was_clean, code, reason) = server.only_end();
    assert_eq!((was_clean, code), (false, 1006));
    assert!(reason.starts_with("connection was closed uncleanly (\"Connection to the other side was lost"), "{reason}");
    assert!(server.log.last_reason().check::<ConnectionLost>());
}

#[test]
fn an_abort_resets_and_drops_what_was_queued() {
    let server = Server::new();
    let peer = server.open();
    server.log.socket(0).send_text("never sent");
    server.log.socket(0).abort();
    server.reactor.settle();
    assert!(peer.saw_reset());
    assert_eq!(server.only_end().1, 1006);
    assert!(server.log.last_reason().check::<ConnectionAborted>());
}

// T47
#[test]
fn messages_before_a_half_close_are_delivered_and_answered() {
    let server = Server::echo();
    let peer = server.open();
    peer.send(peer.encode(&[text("a"), text("b")]));
    peer.frame(&text("c"));
    peer.finish();
    server.reactor.settle();
    assert_eq!(peer.lines(), ["text a", "text b", "text c"]);
    assert!(peer.saw_end());
    assert_eq!(server.only_end(), (false, 1006, DROPPED.into()));
}

// T46, T47
#[test]
fn an_end_of_the_connection_in_any_state_is_told_once() {
    type Step = fn(&Server, &crate::support::Peer);
    let states: [(&str, Step); 5] = [
        ("open", |_, _| {}),
        ("amid a header", |_, peer| peer.send([0x81])),
        ("amid a frame", |_, peer| peer.send(&text("whole").masked()[..8])),
        ("amid a message", |_, peer| peer.frame(&text("begun").more())),
        ("closing", |server, _| server.log.socket(0).close()),
    ];
    for (name, enter) in states {
        for reset in [false, true] {
            let server = Server::new();
            let peer = server.open();
            enter(&server, &peer);
            if reset {
                peer.reset();
            } else {
                peer.close();
            }
            server.reactor.settle();
            server.wait(100.0);
            let (was_clean, code, _) = server.only_end();
            assert_eq!((was_clean, code), (false, 1006), "{name}, reset: {reset}");
            assert_eq!((server.handle.connection_count(), server.reactor.pending_calls()), (0, 0), "{name}");
        }
    }
}

/// After a violation the peer gets to read why, though it goes on sending; then the connection ends.
#[test]
fn a_violation_is_told_to_both_sides() {
    let server = Server::new();
    let peer = server.open();
    peer.frame(&text(b"\xff"));
    let (code, told) = peer.closed_with();
    assert_eq!((code, &*told), (1007, "expected UTF-8 in a text message, got other bytes"));
    assert!(peer.saw_end() && !peer.saw_reset());
    peer.send(vec![0; 1 << 20]);
    assert_eq!(server.log.count("lost"), 0, "it may still be reading");
    peer.wait(2.1);
    assert_eq!(server.only_end(), (false, 1007, told));
    let reason = server.log.last_reason();
    assert!(reason.check::<FrameError>());
    assert_eq!(reason.value::<WebSocketClosed>().unwrap().cause.value(), Some(&FrameError::InvalidText));
    assert_eq!(server.log.last_status().initiator, Initiator::Local);
}

#[test]
fn a_violation_is_over_as_soon_as_the_peer_leaves() {
    let server = Server::new();
    let peer = server.open();
    peer.frame(&text(b"\xff"));
    peer.frame(&close(1007, ""));
    peer.finish();
    server.reactor.settle();
    assert_eq!(server.only_end().1, 1007);
    assert_eq!(server.reactor.pending_calls(), 0);
}

/// What a callback does to a connection that ends: nothing, and without harm (T56).
#[test]
fn handles_do_nothing_after_the_end() {
    let server = Server::with(Options::default(), |mould: Recorder| {
        mould.acting(|socket, event| {
            if matches!(event, Event::Close(..) | Event::Lost) {
                socket.send_text("too late");
                socket.ping(b"too late").unwrap();
                socket.send_latest(1, "too late");
                socket.begin_message(false).unwrap();
                socket.end_message(b"too late").unwrap();
                socket.close();
                socket.lose_connection(4000, "").unwrap();
                socket.pause_producing();
                socket.resume_producing();
            }
        })
    });
    let peer = server.open();
    peer.frame(&close(1000, ""));
    assert_eq!(peer.lines(), ["close 1000"]);
    assert!(server.only_end().0);
    let socket = server.log.socket(0);
    socket.send_binary(&[0; 1 << 20]);
    socket.abort();
    server.reactor.settle();
    assert_eq!((socket.buffered(), socket.state()), (0, WebSocketState::Gone));
}

#[test]
fn a_close_in_any_callback_ends_the_connection() {
    for when in ["made", "text", "ping", "close"] {
        let server = Server::with(Options::default(), move |mould| {
            mould.acting(move |socket, event| {
                if event.to_string().starts_with(when) {
                    socket.lose_connection(4000 + when.len() as u16, "").unwrap();
                }
            })
        });
        let peer = server.open();
        peer.frames(&[text("text"), ping("ping"), binary(""), close(1000, "")]);
        let closes: Vec<String> = peer.lines().into_iter().filter(|line| line.starts_with("close")).collect();
        let expected = if when == "close" { 1000 } else { 4000 + when.len() };
        assert_eq!(closes, [format!("close {expected}")], "{when}");
        assert_eq!(server.only_end().1, 1000);
    }
}
