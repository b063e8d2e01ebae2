//! Messages in pieces, received and sent, and pauses in the middle of them.

use twistor_reactor::BufferLimits;
use twistor_websocket::{Frame, Options, Overflow, Piece, PreparedMessage, Room};

use crate::support::{Event, Recorder, Server, binary, close, continuation, ping, text};

// P256
#[test]
fn a_protocol_that_wants_pieces_gets_them_as_they_come() {
    let server = Server::with(Options::default(), Recorder::in_pieces);
    let peer = server.open();
    peer.frame(&text("Hel").more());
    let expected = ["made", "Begin { is_binary: false }", "FrameBegin { length: 3 }", "data Hel", "FrameEnd"];
    assert_eq!(server.log.take(), expected);
    peer.frame(&ping("between"));
    assert_eq!(server.log.take(), ["ping between"]);
    let last = continuation("lo!").masked();
    peer.send(&last[..7]);
    assert_eq!(server.log.take(), ["FrameBegin { length: 3 }", "data l"]);
    peer.send(&last[7..]);
    assert_eq!(server.log.take(), ["data o!", "FrameEnd", "End"]);
    peer.frame(&binary(""));
    assert_eq!(server.log.take(), ["Begin { is_binary: true }", "FrameBegin { length: 0 }", "FrameEnd", "End"]);
}

#[test]
fn the_message_limits_hold_for_pieces_too() {
    let options = Options { max_message: 10, ..Options::default() };
    let server = Server::with(options, Recorder::in_pieces);
    let peer = server.open();
    peer.frames(&[text("12345678").more(), continuation("9ab")]);
    assert_eq!(peer.closed_with().0, 1009);
    assert_eq!(server.log.count("data"), 1);
    let peer = server.open();
    peer.frame(&text(b"ab\xff"));
    assert_eq!(peer.closed_with().0, 1007);
}

#[test]
fn a_pause_amid_a_chunk_of_frames_holds_back_the_rest_until_the_resume() {
    let server = Server::with(Options::default(), |mould| {
        mould.acting(|socket, event| {
            if let Event::Message(Frame::Text("pause")) = event {
                socket.pause_producing();
            }
        })
    });
    let peer = server.open();
    peer.frames(&[text("a"), text("pause"), text("b").more(), continuation("c"), text("pause"), close(1000, "")]);
    assert_eq!(server.log.take(), ["made", "text a", "text pause"]);
    peer.frame(&text("ignored, behind the Close"));
    assert!(server.log.take().is_empty());
    server.log.socket(0).resume_producing();
    server.reactor.settle();
    assert_eq!(server.log.take(), ["text bc", "text pause"]);
    server.log.socket(0).resume_producing();
    server.reactor.settle();
    assert_eq!(server.log.take(), ["close 1000", "lost"]);
}

#[test]
fn a_pause_on_opening_holds_back_early_frames() {
    let server = Server::with(Options::default(), |mould| {
        mould.acting(|socket, event| {
            if let Event::Made = event {
                socket.pause_producing();
            }
        })
    });
    let peer = server.connect();
    let mut bytes = crate::support::upgrade("/", &[]).into_bytes();
    bytes.extend(text("early").masked());
    peer.send(bytes);
    peer.frame(&text("later"));
    assert_eq!(server.log.take(), ["made"]);
    server.log.socket(0).resume_producing();
    server.reactor.settle();
    assert_eq!(server.log.take(), ["text early", "text later"]);
}

/// The end of a message is in no byte of its own: a pause in its last piece must not lose it.
#[test]
fn a_pause_in_the_last_piece_holds_back_the_end_until_the_resume_and_no_longer() {
    let server = Server::with(Options::default(), |mould| {
        mould.in_pieces().acting(|socket, event| {
            if let Event::Piece(Piece::Data(_)) = event {
                socket.pause_producing();
            }
        })
    });
    let peer = server.open();
    peer.frame(&text("last"));
    assert_eq!(server.log.take().last().map(String::as_str), Some("data last"));
    server.log.socket(0).resume_producing();
    server.reactor.settle();
    assert_eq!(server.log.take(), ["FrameEnd", "End"]);
}

/// What the library has read is not lost because the peer left meanwhile (T47).
#[test]
fn a_pause_amid_a_chunk_survives_the_end_of_the_peer() {
    let server = Server::with(Options::default(), |mould| {
        mould.acting(|socket, event| {
            if let Event::Message(Frame::Text("pause")) = event {
                socket.pause_producing();
            }
        })
    });
    let peer = server.open();
    peer.frames(&[text("pause"), text("b"), close(1000, "")]);
    peer.finish();
    server.reactor.settle();
    server.log.socket(0).resume_producing();
    server.reactor.settle();
    assert_eq!(server.log.take(), ["made", "text pause", "text b", "close 1000", "lost"]);
    assert!(server.log.last_status().was_clean);
}

/// A message sent in pieces, each a frame.
#[test]
fn a_message_sent_in_pieces_is_one_message() {
    let server = Server::new();
    let peer = server.open();
    let socket = server.log.socket(0);
    socket.begin_message(true).unwrap();
    socket.send_piece(b"ab").unwrap();
    socket.ping(b"p").unwrap();
    socket.send_piece(b"").unwrap();
    socket.end_message(b"c").unwrap();
    socket.begin_message(false).unwrap();
    socket.end_message(b"").unwrap();
    server.reactor.settle();
    let expected = ["fragment of binary ab", "ping p", "fragment of continuation", "continuation c", "text"];
    assert_eq!(peer.lines(), expected);
}

// P274
#[test]
fn pieces_out_of_order_are_errors() {
    use twistor_websocket::MessageUnfinished::{AlreadyBegun, NotBegun};
    let server = Server::new();
    let peer = server.open();
    let socket = server.log.socket(0);
    assert_eq!(socket.send_piece(b"a"), Err(NotBegun));
    assert_eq!(socket.end_message(b"a"), Err(NotBegun));
    socket.begin_message(false).unwrap();
    assert_eq!(socket.begin_message(false), Err(AlreadyBegun));
    socket.end_message(b"a").unwrap();
    assert_eq!(socket.end_message(b"a"), Err(NotBegun));
    server.reactor.settle();
    assert_eq!(peer.lines(), ["text a"]);
}

/// RFC 6455, 5.4: other messages, by whatever way they are sent, do not come between the pieces of one.
#[test]
fn other_messages_wait_for_the_end_of_one_in_pieces() {
    let server = Server::new();
    let peer = server.open();
    let (socket, room) = (server.log.socket(0), Room::new());
    room.join(&socket);
    room.broadcast("room before");
    socket.begin_message(false).unwrap();
    socket.send_text("text");
    socket.send_piece(b"one, ").unwrap();
    room.broadcast("room");
    socket.send_prepared(&PreparedMessage::new("prepared"));
    socket.send_latest(1, "old");
    socket.send_latest(1, "new");
    socket.ping(b"now").unwrap();
    server.reactor.settle();
    assert_eq!(peer.lines(), ["text room before", "fragment of text one, ", "ping now"]);
    assert_eq!((socket.buffered() > 0, socket.dropped()), (true, 1));
    socket.end_message(b"two").unwrap();
    socket.send_text("after");
    server.reactor.settle();
    assert_eq!(peer.lines(), ["continuation two", "text text", "text room", "text prepared", "text new", "text after"]);
    assert_eq!(socket.buffered(), 0);
}

#[test]
fn pieces_go_before_what_waits_for_their_end_when_the_peer_is_slow_too() {
    let server = Server::new();
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    socket.send_binary(&[0; 70_000]);
    socket.send_text("waits already");
    socket.begin_message(false).unwrap();
    socket.send_piece(b"1").unwrap();
    socket.send_text("held");
    socket.send_piece(b"2").unwrap();
    peer.set_room(usize::MAX);
    server.reactor.settle();
    assert_eq!(peer.lines()[1..], ["text waits already", "fragment of text 1", "fragment of continuation 2"]);
    peer.set_room(0);
    socket.send_piece(&[b'3'; 70_000]).unwrap();
    socket.send_piece(b"4").unwrap();
    socket.end_message(b"5").unwrap();
    socket.send_text("last");
    peer.set_room(usize::MAX);
    server.reactor.settle();
    assert_eq!(peer.lines()[1..], ["fragment of continuation 4", "continuation 5", "text held", "text last"]);
}

#[test]
fn what_waits_behind_pieces_is_bounded_and_dropped_by_a_close() {
    let options = Options { overflow: Overflow::DropNewest, ..Options::default() };
    let server = Server::with(options, |mould| mould);
    let peer = server.open();
    let socket = server.log.socket(0);
    socket.begin_message(true).unwrap();
    (0..30).for_each(|_| socket.send_binary(&[1; 50_000]));
    assert!(socket.buffered() <= 1 << 20 && socket.dropped() > 0);
    socket.close();
    server.reactor.settle();
    assert_eq!((peer.lines(), socket.dropped()), (vec!["close 1000".to_owned()], 30));
    assert_eq!(socket.end_message(b""), Ok(()));
    server.reactor.settle();
    assert!(peer.got().is_empty());
}

/// T43
#[test]
fn a_ping_goes_between_the_fragments_of_a_large_message() {
    let server = Server::with(Options { auto_fragment: Some(10_000), ..Options::default() }, |mould| mould);
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    socket.send_binary(&vec![1; 500_000]);
    socket.send_text("next");
    socket.ping(b"now").unwrap();
    peer.set_room(usize::MAX);
    server.reactor.settle();
    let got = peer.got();
    let ping = got.iter().position(|frame| frame.opcode == 9).expect("a ping");
    assert!(ping < 10, "{ping} frames came before the ping");
    assert_eq!(got.iter().map(|frame| frame.payload.len()).sum::<usize>(), 500_000 + 4 + 3);
    assert_eq!((got.len(), got[51].to_string()), (52, "text next".to_owned()));
    assert!(got[..50].iter().all(|frame| frame.opcode == 9 || !frame.fin));
}

#[test]
fn messages_in_pieces_and_fragments_that_still_wait_at_the_end_are_counted_as_dropped() {
    for auto_fragment in [None, Some(1000)] {
        let server = Server::with(Options { auto_fragment, ..Options::default() }, |mould| mould);
        let peer = server.open();
        peer.set_room(0);
        let socket = server.log.socket(0);
        socket.send_binary(&[1; 70_000]);
        for _ in 0..3 {
            socket.begin_message(true).unwrap();
            socket.send_piece(&[2; 100]).unwrap();
            socket.end_message(&[2; 100]).unwrap();
        }
        peer.reset();
        peer.settle();
        assert_eq!(socket.dropped(), 3 + u64::from(auto_fragment.is_some()), "{auto_fragment:?}");
    }
}

/// Little room, and the oldest make some for the newest.
fn small() -> Options {
    let buffer = BufferLimits { high: 4096, low: 1024, cap: 16 * 1024 };
    Options { overflow: Overflow::DropOldest, buffer, ping_interval: None, ..Options::default() }
}

#[test]
fn drop_oldest_drops_nothing_in_vain() {
    let server = Server::with(small(), |mould| mould);
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    socket.send_binary(&[0; 5000]); // transport is above high
    server.reactor.settle();
    socket.send_text("old");
    socket.begin_message(true).unwrap();
    for _ in 0..9 {
        socket.send_piece(&[1; 1000]).unwrap();
    }
    socket.send_binary(&[2; 3000]); // not even without "old"
    socket.end_message(b"").unwrap();
    peer.set_room(usize::MAX);
    server.reactor.settle();
    assert!(peer.lines().contains(&"text old".to_owned()));
    assert_eq!(socket.dropped(), 1);
}

#[test]
fn a_piece_does_not_end_a_connection_that_may_drop_messages() {
    let server = Server::with(small(), |mould| mould);
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    socket.begin_message(true).unwrap();
    socket.send_piece(&[1; 5000]).unwrap();
    (0..100).for_each(|_| socket.send_binary(&[3; 500])); // fills the backlog, droppable
    socket.send_piece(&[1; 1000]).unwrap();
    assert!(socket.is_open());
}
