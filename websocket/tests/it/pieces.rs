//! Messages in pieces, received and sent, and pauses in the middle of them.

use twistor_websocket::{Frame, Options, Piece};

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
