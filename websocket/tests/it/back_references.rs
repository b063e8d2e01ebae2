//! How far back a compressed message may refer: RFC 1951, 2 and RFC 7692, 7.1.2.

use flate2::{Compress, Compression};
use twistor_websocket::sansio::deflate::DeflateOptions;

use crate::compression::{deflated, deflated_by, inflated, with};
use crate::support::{BINARY, Got, Peer, Recorder, Server, frame, text};

/// A server that echoes, and a client that has agreed on a window of its own.
fn agreed(bits: u8, takeover: bool) -> (Server, Peer) {
    let options = DeflateOptions { client_no_context_takeover: !takeover, ..DeflateOptions::default() };
    let server = with(options, Recorder::echoing);
    let peer = server.connect();
    let offer = format!("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits={bits}");
    let answer = peer.open("/", &[&offer]);
    let agreed = answer.header("Sec-WebSocket-Extensions").expect("it is accepted");
    assert!(bits == 15 || agreed.contains(&format!("client_max_window_bits={bits}")), "{agreed}");
    (server, peer)
}

/// What a message says that came back, compressed or not.
fn content(got: &Got) -> Vec<u8> {
    if got.rsv == 4 { inflated(&got.payload) } else { got.payload.clone() }
}

/// Bytes that can be compressed only by a reference to themselves.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A message of one block with fixed codes (RFC 1951, 3.2.6): literals of ASCII, and three bytes from further back. The
/// distance is given as its code and that code's extra bits.
fn referring(literals: &str, distance: u16, (extra, extra_bits): (u16, u16)) -> Vec<u8> {
    let mut bits = vec![false, true, false]; // not the last block; fixed codes
    // a code begins with its most significant bit, a number with its least (RFC 1951, 3.1.1)
    let code = |value: u16, length: u16| (0..length).rev().map(move |bit| value >> bit & 1 == 1);
    literals.bytes().for_each(|byte| bits.extend(code(0x30 + u16::from(byte), 8)));
    bits.extend(code(257 - 256, 7)); // a length of three
    bits.extend(code(distance, 5));
    bits.extend((0..extra_bits).map(|bit| extra >> bit & 1 == 1));
    bits.extend(code(0, 7)); // the block's end
    bits.extend([false; 3]); // RFC 7692, 7.2.1: an empty block follows, whose length is left out
    bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
}

/// RFC 7692 lets a receiver rely on the window that was agreed, and does not ask it to check that the sender keeps to it.
/// The promise here is to read what can be read: a larger window understands whatever a smaller one wrote, and zlib, on
/// which most peers are built, cannot have 256 bytes and writes with 512. No memory is at stake: a message's own output is
/// what it refers to.
#[test]
fn t40_a_back_reference_beyond_the_agreed_window_is_read_where_the_bytes_are_there() {
    let unit = noise(4000);
    let message = [&unit[..], &unit].concat();
    let payload = deflated(&message);
    assert!(payload.len() < 4200, "it refers 4,000 bytes back: {}", payload.len());
    for (bits, takeover) in [(8, false), (9, false), (8, true), (9, true)] {
        let (server, peer) = agreed(bits, takeover);
        for _ in 0..2 {
            peer.frame(&frame(BINARY, &payload).rsv(4));
            let got = peer.got();
            assert!(got.len() == 1 && got[0].opcode == BINARY && content(&got[0]) == message, "{bits}: {got:?}");
        }
        assert!(server.log.socket(0).is_open());
    }
}

#[test]
fn t40_a_distance_of_more_than_32_kib_cannot_be_written_and_its_codes_are_refused() {
    for distance in [30, 31] {
        for takeover in [false, true] {
            let (server, peer) = agreed(15, takeover);
            peer.frame(&frame(BINARY, referring("abcd", distance, (0x1fff, 14))).rsv(4));
            assert_eq!(peer.closed_with().0, 1007, "{distance} {takeover}");
            assert_eq!(server.log.count("binary"), 0);
        }
    }
}

#[test]
fn t40_a_reference_to_before_the_start_is_refused() {
    // RFC 1951, 3.2.5: code 3 is a distance of 4, code 4 with 0 of 5, code 29 with all bits of 32,768
    for (distance, extra) in [(4, (0, 1)), (29, (0x1fff, 13))] {
        for takeover in [false, true] {
            let (server, peer) = agreed(15, takeover);
            peer.frame(&frame(BINARY, referring("abcd", distance, extra)).rsv(4));
            assert_eq!(peer.closed_with().0, 1007, "{distance} {takeover}");
            assert_eq!(server.log.count("binary"), 0);
        }
    }
    // the nearest that is there: so the messages above are wrong in nothing else
    let (server, peer) = agreed(15, false);
    peer.frame(&frame(BINARY, referring("abcd", 3, (0, 0))).rsv(4));
    assert_eq!(server.log.take(), ["made", "binary abcdabc"]);
}

/// Connections without context takeover share their decompressors: what one has read is not there for another to refer to.
#[test]
fn t40_no_reference_reaches_what_another_connection_sent() {
    let options = DeflateOptions::default();
    let server = with(options, Recorder::echoing);
    let open = || {
        let peer = server.connect();
        peer.open("/", &["Sec-WebSocket-Extensions: permessage-deflate"]);
        peer
    };
    let (victim, thief) = (open(), open());
    victim.frame(&frame(BINARY, deflated("secret".repeat(1000))).rsv(4));
    assert_eq!(victim.got().len(), 1);
    thief.frame(&frame(BINARY, referring("abcd", 4, (0, 1))).rsv(4));
    assert_eq!(thief.closed_with().0, 1007);
    assert_eq!(server.log.count("binary"), 1, "the victim's");
    victim.frame(&text("still here"));
    assert_eq!(victim.lines(), ["text still here"]);
}

/// RFC 7692, 7.1.1.2: who agreed to start anew with each message does not refer to the one before.
#[test]
fn t40_a_reference_into_the_message_before_needs_context_takeover() {
    for takeover in [false, true] {
        let (server, peer) = agreed(15, takeover);
        let mut compress = Compress::new(Compression::default(), false);
        let unit = noise(500);
        peer.frame(&frame(BINARY, deflated_by(&mut compress, &unit)).rsv(4));
        let second = deflated_by(&mut compress, &unit);
        assert!(second.len() < 50, "it refers to the first: {}", second.len());
        peer.frame(&frame(BINARY, second).rsv(4));
        assert_eq!(server.log.count("binary"), if takeover { 2 } else { 1 });
        assert_eq!(server.log.socket(0).is_open(), takeover);
        let last = peer.got().pop().expect("an answer");
        if takeover {
            assert_eq!(content(&last), unit);
        } else {
            assert_eq!(last.close().0, 1007);
        }
    }
}

/// With context takeover only the agreed window is kept from one message to the next: a sender that refers further back
/// than it agreed to is refused or, where the bytes happen to be there, read; it is never misread.
#[test]
fn t40_a_back_reference_beyond_a_kept_window_is_never_misread() {
    for distance in [300, 600, 4000, 30_000] {
        let unit = noise(distance);
        let mut compress = Compress::new(Compression::default(), false);
        let (server, peer) = agreed(9, true);
        peer.frame(&frame(BINARY, deflated_by(&mut compress, &unit)).rsv(4));
        assert_eq!(content(&peer.got()[0]), unit);
        let second = deflated_by(&mut compress, &unit);
        assert!(second.len() < distance / 4, "it refers to the first: {}", second.len());
        peer.frame(&frame(BINARY, second).rsv(4));
        let got = peer.got().pop().expect("an answer");
        if got.opcode == BINARY {
            assert!(content(&got) == unit, "{distance}");
        } else {
            assert_eq!((got.close().0, server.log.count("binary")), (1007, 1), "{distance}");
            assert!(distance > 512, "that is in the window");
        }
    }
}
