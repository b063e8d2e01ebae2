//! Pings, pongs, and how many of them: RFC 6455, 5.5.

use std::time::Duration;

use twistor_websocket::{ControlTooLong, Options};

use crate::support::{
    BINARY, CLOSE, Got, PING, PONG, Recorder, Server, TEXT, binary, continuation, frame, ping, pong, text,
};

// P257
#[test]
fn a_ping_is_answered_with_its_payload_and_told() {
    let server = Server::new();
    let peer = server.open();
    peer.frames(&[ping("Hello"), ping(""), ping([b'x'; 125])]);
    assert_eq!(peer.lines(), ["pong Hello".to_owned(), "pong".to_owned(), format!("pong {}", "x".repeat(125))]);
    assert_eq!(server.log.take()[1..3], ["ping Hello", "ping"]);
}

// P257
#[test]
fn our_own_ping_goes_out_and_its_pong_is_told() {
    let server = Server::new();
    let peer = server.open();
    let socket = server.log.socket(0);
    socket.ping(b"are you there").unwrap();
    socket.pong(b"I am").unwrap();
    let too_long = Err(ControlTooLong { length: 126 });
    assert_eq!((socket.ping(&[0; 126]), socket.pong(&[0; 126])), (too_long, too_long));
    socket.ping(&[b'p'; 125]).unwrap();
    server.reactor.settle();
    assert_eq!(peer.lines()[..2], ["ping are you there", "pong I am"]);
    peer.frame(&pong("are you there"));
    assert_eq!(server.log.take(), ["made", "pong are you there"]);
}

#[test]
fn t25_a_fragmented_control_frame_is_refused() {
    for opcode in [CLOSE, PING, PONG] {
        let server = Server::new();
        let peer = server.open();
        peer.frame(&frame(opcode, "").more());
        assert_eq!(peer.closed_with().0, 1002);
        assert_eq!(server.log.take(), ["made"]);
    }
}

#[test]
fn t25_a_control_frame_of_more_than_125_bytes_is_refused_before_its_payload_is_read() {
    for opcode in [CLOSE, PING, PONG] {
        for length in [126, 65536, 16 << 20] {
            let peer = Server::new().open();
            let wire = frame(opcode, "").declaring(length).masked();
            peer.send(&wire[..2]);
            assert_eq!(peer.closed_with().0, 1002, "{opcode} {length}");
        }
    }
}

#[test]
fn t25_control_frames_between_fragments_leave_the_message_whole() {
    let server = Server::new();
    let peer = server.open();
    peer.drip(peer.encode(&[text("a").more(), ping("1"), pong("2"), continuation("b").more(), ping("3")]));
    peer.frame(&continuation("c"));
    assert_eq!(peer.lines(), ["pong 1", "pong 3"]);
    assert_eq!(server.log.take(), ["made", "ping 1", "pong 2", "ping 3", "text abc"]);
}

#[test]
fn t32_a_ping_flood_without_reading_pongs_ends_with_1008() {
    let server = Server::new();
    let peer = server.open();
    peer.set_room(0);
    let flood: Vec<u8> = (0..1000).flat_map(|_| ping([b'f'; 125]).masked()).collect();
    peer.send(flood);
    assert_eq!(server.log.count("ping"), 200, "the burst, and no more");
    assert_eq!(peer.bytes().len(), 0);
    peer.set_room(usize::MAX);
    peer.settle();
    assert_eq!(peer.closed_with().0, 1008);
    assert!(peer.saw_end());
}

#[test]
fn t32_a_peer_that_does_not_read_has_one_pong_to_wait_for_beside_the_one_under_way() {
    let server = Server::with(Options { control_frames_per_second: 0, ..Options::default() }, |mould| mould);
    let peer = server.open();
    peer.set_room(0);
    for number in 0..2000 {
        peer.frame(&ping(format!("{number:0125}")));
        assert_eq!(server.log.socket(0).buffered(), 127, "after {number}");
    }
    peer.set_room(usize::MAX);
    peer.settle();
    assert_eq!(peer.lines(), [format!("pong {:0125}", 0), format!("pong {:0125}", 1999)]);
    peer.frame(&ping("again"));
    assert_eq!(peer.lines(), ["pong again"]);
}

// P257: Autobahn's case 2.10
#[test]
fn t32_a_peer_that_reads_gets_every_pong() {
    let server = Server::new();
    let peer = server.open();
    let pings: Vec<_> = (0..10).map(|number| ping(number.to_string())).collect();
    peer.frames(&pings);
    assert_eq!(peer.lines(), (0..10).map(|number| format!("pong {number}")).collect::<Vec<_>>());
}

#[test]
fn t32_a_ping_that_waits_for_its_answer_hides_no_high_mark() {
    let server = Server::new();
    let peer = server.open();
    let socket = server.log.socket(0);
    peer.set_room(0);
    socket.send_text("x");
    peer.settle();
    peer.frames(&[ping("1"), ping("2")]);
    server.log.take();
    socket.send_binary(&[0; 100_000]);
    peer.settle();
    assert_eq!(server.log.take(), ["high"]);
    peer.set_room(usize::MAX);
    peer.settle();
    assert_eq!(server.log.take(), ["drained"]);
    let opcodes: Vec<u8> = peer.got().iter().map(|frame| frame.opcode).collect();
    assert_eq!(opcodes, [TEXT, PONG, BINARY, PONG]);
}

#[test]
fn t32_the_rate_of_control_frames_is_refilled_by_time() {
    let server = Server::new();
    let peer = server.open();
    let hundred = vec![ping(""); 100];
    peer.frames(&hundred);
    peer.frames(&hundred);
    for _ in 0..20 {
        peer.wait(1.0);
        peer.frames(&hundred);
    }
    assert_eq!(peer.got().len(), 2200);
    peer.frames(&[ping(""), ping("")]);
    peer.wait(0.5);
    peer.frames(&hundred);
    assert_eq!(peer.closed_with().0, 1008);
}

#[test]
fn t33_unsolicited_pongs_are_told_and_counted_and_not_answered() {
    let server = Server::new();
    let peer = server.open();
    peer.frames(&vec![pong("unasked"); 200]);
    assert_eq!(server.log.count("pong"), 200);
    assert!(peer.got().is_empty());
    peer.frame(&pong("one more"));
    assert_eq!(peer.closed_with().0, 1008);
    assert_eq!(server.log.count("pong"), 200);
}

#[test]
fn data_is_not_counted_as_control() {
    let server = Server::with(Options { control_frames_per_second: 1, ..Options::default() }, Recorder::echoing);
    let peer = server.open();
    peer.frames(&vec![binary("x"); 1000]);
    assert_eq!(peer.got().len(), 1000);
}

/// A ping does not wait behind messages that wait for a slow peer.
#[test]
fn pings_overtake_what_waits() {
    let server = Server::new();
    let peer = server.open();
    let socket = server.log.socket(0);
    peer.set_room(0);
    for _ in 0..10 {
        socket.send_binary(&[0; 50_000]);
    }
    socket.ping(b"urgent").unwrap();
    peer.set_room(usize::MAX);
    server.reactor.settle();
    let lines = peer.lines();
    let place = lines.iter().position(|line| line == "ping urgent");
    assert_eq!((lines.len(), place), (11, Some(2)), "{lines:?}");
}

/// Nor does the keepalive's: a peer that reads slowly is asked whether it lives before it has taken everything.
#[test]
fn t43_the_keepalives_ping_comes_between_the_messages_that_wait() {
    let options = Options { ping_interval: Some(Duration::from_secs(1)), write_timeout: None, ..Options::default() };
    let server = Server::with(options, |mould| mould);
    let peer = server.open();
    let socket = server.log.socket(0);
    peer.wait(0.5);
    peer.set_room(0);
    for number in 0..10 {
        socket.send_binary(&[number; 50_000]);
    }
    server.reactor.settle();
    // the first second had the 101 in it, which the peer took: that was life
    peer.wait(1.0);
    peer.wait(1.0);
    // sent after the ping, and so behind those that wait
    socket.send_text("last");
    peer.set_room(usize::MAX);
    server.reactor.settle();
    let frames = peer.got();
    let shape: Vec<u8> = frames.iter().map(|frame| frame.opcode).collect();
    // two are with the transport, whose high mark is 64 KiB
    assert_eq!(shape, [BINARY, BINARY, PING, BINARY, BINARY, BINARY, BINARY, BINARY, BINARY, BINARY, BINARY, TEXT]);
    let numbers = frames.iter().filter(|frame| frame.opcode == BINARY).map(|frame| frame.payload[0]);
    assert_eq!(Vec::from_iter(numbers), Vec::from_iter(0..10), "the messages are in order all the same");
    assert!(socket.is_open());
}

// T32
/// Pongs in the order of the pings.
#[test]
fn an_older_ping_is_not_answered_after_a_newer_one() {
    let server = Server::new();
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    socket.send_binary(&[5; 10_000]);
    server.reactor.settle();
    peer.frame(&ping("1"));
    // much behind the first pong
    socket.send_binary(&[5; 60_000]);
    server.reactor.settle();
    peer.frame(&ping("2"));
    let mut bytes = Vec::new();
    peer.set_room(20_000); // past the first pong, and not drained
    server.reactor.settle();
    bytes.extend(peer.bytes());
    peer.set_room(0);
    bytes.extend(peer.bytes());
    peer.frame(&ping("3"));
    peer.set_room(usize::MAX);
    server.reactor.settle();
    bytes.extend(peer.bytes());
    let mut pongs = Vec::new();
    while let Some(got) = Got::take(&mut bytes) {
        if got.opcode == PONG {
            pongs.push(String::from_utf8(got.payload).unwrap());
        }
    }
    assert!(pongs.is_sorted(), "{pongs:?}");
}
