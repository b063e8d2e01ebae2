//! Frames and messages as they come in: RFC 6455, 5, and 8.1.

use std::cell::Cell;
use std::rc::Rc;

use twistor_websocket::Options;

use crate::support::{
    BINARY, CLOSE, Client, Event, PING, PONG, Recorder, Server, TEXT, Wire, binary, continuation, frame, ping, text,
};

/// What an echo server answers to these bytes: the code of its Close.
pub(crate) fn verdict(bytes: impl AsRef<[u8]>) -> u16 {
    let server = Server::echo();
    let peer = server.open();
    peer.send(bytes);
    let frames = peer.got();
    let [last] = &frames[..] else {
        panic!("expected a Close alone, but {frames:?} came");
    };
    // what comes behind is ignored
    peer.frame(&text("too late"));
    peer.wait(10.0);
    assert!(peer.got().is_empty() && peer.saw_end());
    let (was_clean, code, _) = server.only_end();
    assert_eq!((was_clean, code), (false, last.close().0));
    assert_eq!(server.log.count("text"), 0);
    code
}

pub(crate) fn verdict_of(wire: &Wire) -> u16 {
    verdict(wire.masked())
}

// P261
#[test]
fn t21_an_unmasked_frame_of_a_client_is_refused() {
    assert_eq!(verdict(text("Hello").plain()), 1002);
    assert_eq!(verdict(ping("").plain()), 1002);
    assert_eq!(verdict(&text("Hello").plain()[..2]), 1002, "judged by its header");
}

// P261
#[test]
fn t22_a_masked_frame_of_a_server_is_refused() {
    let client = Client::open();
    client.server.send(text("Hello").masked());
    let got = client.server.got();
    assert_eq!(got[0].close().0, 1002);
    assert!(got[0].masked);
    assert_eq!((client.log.count("text"), client.log.count("lost")), (0, 0));
    client.server.close();
    client.reactor.settle();
    assert_eq!(client.log.last_status().code, 1002);
}

// P261
#[test]
fn t23_reserved_bits_without_an_extension_are_refused() {
    for rsv in 1..8 {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
            assert_eq!(verdict_of(&frame(opcode, "").rsv(rsv)), 1002, "{rsv} {opcode}");
        }
    }
    assert_eq!(verdict([text("a").more().masked(), continuation("b").rsv(4).masked()].concat()), 1002);
}

// P261
#[test]
fn t24_reserved_opcodes_are_refused_at_the_header() {
    for opcode in (3..8).chain(11..16) {
        assert_eq!(verdict(&frame(opcode, "payload").masked()[..2]), 1002, "{opcode}");
    }
}

// P261
#[test]
fn t26_continuations_and_beginnings_out_of_place_are_refused() {
    assert_eq!(verdict_of(&continuation("a")), 1002);
    assert_eq!(verdict_of(&continuation("a").more()), 1002);
    for second in [text("b"), binary("b"), text("b").more()] {
        assert_eq!(verdict([text("a").more().masked(), second.masked()].concat()), 1002);
    }
    // and after a message that was complete
    let server = Server::new();
    let peer = server.open();
    peer.frames(&[text("a").more(), continuation("b"), continuation("c")]);
    assert_eq!(server.log.take(), ["made", "text ab"]);
    assert_eq!(peer.closed_with().0, 1002);
}

// P261
#[test]
fn t27_lengths_with_the_top_bit_or_longer_than_need_be_are_refused() {
    assert_eq!(verdict_of(&text("").declaring(1 << 63)), 1002);
    assert_eq!(verdict_of(&text("").declaring(u64::MAX)), 1002);
    for length in [0, 1, 125] {
        assert_eq!(verdict_of(&binary(vec![0; length]).length_in(2)), 1002, "{length}");
    }
    for length in [0, 126, 65535] {
        assert_eq!(verdict_of(&binary(vec![0; length]).length_in(8)), 1002, "{length}");
    }
    let server = Server::new();
    let peer = server.open();
    for length in [125, 126, 65535, 65536] {
        peer.frame(&binary(vec![0; length]));
        assert_eq!(server.log.count(&format!("binary [{length} ")), 1);
    }
}

// P256
#[test]
fn messages_come_whole_across_segments_and_fragments() {
    for opcode in [TEXT, BINARY] {
        let kind = if opcode == TEXT { "text" } else { "binary" };
        for chunk in [1, 2, 7, 4096] {
            let server = Server::new();
            let peer = server.open();
            peer.set_chunk(chunk);
            peer.frames(&[
                frame(opcode, "Hel").more(),
                continuation("").more(),
                continuation("l"),
                frame(opcode, "o"),
                frame(opcode, ""),
            ]);
            assert_eq!(server.log.take(), ["made", &format!("{kind} Hell"), &format!("{kind} o"), kind], "{chunk}");
        }
    }
}

// P256
#[test]
fn a_client_understands_the_same() {
    for chunk in [1, 3, 4096] {
        let client = Client::open();
        client.server.set_chunk(chunk);
        client.server.frames(&[text("Hel").more(), ping("p"), continuation("lo"), binary("x")]);
        assert_eq!(client.log.take(), ["accepted None", "made", "ping p", "text Hello", "binary x"]);
        let answer = client.server.got();
        assert_eq!(answer.len(), 1);
        assert!(answer[0].masked, "RFC 6455, 5.1");
        assert_eq!(answer[0].to_string(), "pong p");
    }
}

/// RFC 6455, 5.3: a new key for each frame.
#[test]
fn a_client_masks_with_unlike_keys() {
    let client = Client::open();
    for _ in 0..3 {
        client.log.socket(0).send_binary(&[0; 16]);
    }
    client.reactor.settle();
    let bytes = client.server.bytes();
    let keys: Vec<&[u8]> = bytes.chunks(22).map(|frame| &frame[2..6]).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != [0; 4], "{keys:02x?}");
}

// T49
#[test]
fn output_is_the_same_however_little_the_peer_takes_at_once() {
    for room in [1, 2, 3, 1000] {
        let server = Server::with(Options { auto_fragment: Some(100), ..Options::default() }, Recorder::echoing);
        let peer = server.open();
        peer.set_room(room);
        peer.frames(&[text("a".repeat(250)), binary([1; 70])]);
        let mut bytes = Vec::new();
        while bytes.len() < 250 + 3 * 2 + 70 + 2 {
            let more = peer.bytes();
            assert!(!more.is_empty() && more.len() <= room, "{} of {room}", more.len());
            bytes.extend(more);
            peer.settle();
        }
        let lines: Vec<String> =
            std::iter::from_fn(|| crate::support::Got::take(&mut bytes)).map(|got| got.to_string()).collect();
        let a = "a".repeat(100);
        let expected = [
            format!("fragment of text {a}"),
            format!("fragment of continuation {a}"),
            format!("continuation {}", &a[..50]),
            "binary [70 bytes]".to_owned(),
        ];
        assert_eq!(lines[..3], expected[..3]);
        assert!(lines[3].starts_with("binary"));
    }
}

#[test]
fn auto_fragment_cuts_long_messages_and_leaves_short_ones() {
    let server = Server::with(Options { auto_fragment: Some(4), ..Options::default() }, Recorder::echoing);
    let peer = server.open();
    peer.frames(&[text("1234"), text("12345"), text(""), text("12345678")]);
    let expected =
        ["text 1234", "fragment of text 1234", "continuation 5", "text", "fragment of text 1234", "continuation 5678"];
    assert_eq!(peer.lines(), expected);
}

#[test]
fn what_a_frame_borrows_is_what_was_sent() {
    let total = Rc::new(Cell::new(0));
    let sum = total.clone();
    let server = Server::with(Options::default(), |mould| {
        mould.acting(move |_, event| {
            if let Event::Message(frame) = event {
                sum.set(sum.get() + frame.as_bytes().iter().map(|byte| u64::from(*byte)).sum::<u64>());
            }
        })
    });
    let peer = server.open();
    let payload: Vec<u8> = (0..200_000u32).map(|number| (number * 7) as u8).collect();
    let expected: u64 = payload.iter().map(|byte| u64::from(*byte)).sum();
    peer.frame(&binary(&payload));
    assert_eq!(total.get(), expected);
}

#[test]
fn nothing_is_delivered_after_an_abort() {
    for pieces in [false, true] {
        let server = Server::with(Options::default(), |mould| {
            let mould = mould.acting(|socket, event| {
                if matches!(event, Event::Message(_) | Event::Piece(_)) {
                    socket.abort();
                }
            });
            if pieces { mould.in_pieces() } else { mould }
        });
        let peer = server.open();
        peer.frames(&[text("one"), text("two"), ping("three"), text("four")]);
        let first = if pieces { "Begin { is_binary: false }" } else { "text one" };
        assert_eq!(server.log.take(), ["made", first, "lost"]);
    }
}

#[test]
fn a_violation_while_our_close_waits_is_told() {
    let server = Server::new();
    let peer = server.open();
    peer.set_room(0);
    for _ in 0..10 {
        server.log.socket(0).send_binary(&[7; 60_000]);
    }
    server.log.socket(0).close();
    peer.frame(&text(b"\xff"));
    peer.set_room(usize::MAX);
    server.reactor.settle();
    let lines = peer.lines();
    server.wait(10.0);
    println!("{lines:?} {:?}", server.log.last_status());
    assert!(lines.last().is_some_and(|line| line.starts_with("close")), "{lines:?}");
}

#[test]
fn sent_is_what_was_sent() {
    let server = Server::new();
    let peer = server.open();
    server.log.socket(0).close();
    peer.frame(&text(b"\xff"));
    let lines = peer.lines();
    server.wait(10.0);
    assert_eq!(lines, ["close 1000"]);
    println!("{:?}", server.log.last_status());
    assert_eq!(server.log.last_status().sent, Some(1000));
}
