//! Frames that RFC 6455 forbids, and those that are too much.

use super::Scene;
use crate::support::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, masked, plain};

const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;

/// Sends bytes after a handshake: the WebSocket closes with a code, and its protocol is told so, once.
fn fails_with(scene: &Scene<'_>, code: u16, what: &str, bytes: &[u8]) {
    let before = scene.log.count("lost");
    let mut peer = scene.open();
    peer.send(bytes);
    let (got, reason) = peer.close();
    assert_eq!(got, code, "{what}: {reason}");
    assert!(!reason.is_empty(), "{what}");
    assert_eq!(scene.log.wait_for_nth(before + 1, "lost"), format!("lost uncleanly {code} {reason}"), "{what}");
}

// T21, T23, T24, T25, T26, T27, T36
#[test]
fn frames_that_break_the_protocol_close_with_1002() {
    Scene::play(|scene| {
        let long = "p".repeat(126);
        let two = |one: Vec<u8>, other: Vec<u8>| [one, other].concat();
        let cases = [
            ("not masked", plain(FIN | TEXT, "hello")),
            ("RSV1", masked(FIN | RSV1 | TEXT, "hello")),
            ("RSV2", masked(FIN | RSV2 | TEXT, "hello")),
            ("RSV3", masked(FIN | RSV3 | BINARY, "hello")),
            ("RSV1 in a ping", masked(FIN | RSV1 | PING, "")),
            ("opcode 3", masked(FIN | 3, "")),
            ("opcode 11", masked(FIN | 11, "")),
            ("a fragmented ping", masked(PING, "")),
            ("a fragmented close", masked(CLOSE, "")),
            // of these three only the header comes: nothing is buffered for them
            ("a long ping", masked(FIN | PING, &long)[..8].to_vec()),
            ("a long pong", masked(FIN | PONG, &long)[..8].to_vec()),
            ("a long close", masked(FIN | CLOSE, &long)[..8].to_vec()),
            ("a length of 2^63", [vec![FIN | BINARY, 0xff, 0x80], vec![0; 11]].concat()),
            ("5 in two bytes", vec![FIN | TEXT, 0xfe, 0, 5, 0, 0, 0, 0]),
            ("nothing to continue", masked(FIN | CONTINUATION, "")),
            ("text within text", two(masked(TEXT, "one"), masked(FIN | TEXT, "two"))),
            ("a close code of one byte", masked(FIN | CLOSE, [3])),
            ("close code 1005", masked(FIN | CLOSE, 1005_u16.to_be_bytes())),
        ];
        for (what, bytes) in cases {
            fails_with(scene, 1002, what, &bytes);
        }
        assert_eq!(scene.log.count("message"), 0);
    });
}

// T34, T35
#[test]
fn text_that_is_no_utf8_closes_with_1007_before_its_message_ends() {
    Scene::play(|scene| {
        fails_with(scene, 1007, "in the first of more fragments", &masked(TEXT, b"caf\xe9s "));
        // half a frame: 20 bytes are announced
        let half = [vec![TEXT, 0x80 | 20, 0, 0, 0, 0], b"\xce\xba\xed\xa0\x80".to_vec()].concat();
        fails_with(scene, 1007, "a surrogate in half a frame", &half);
        let split = [masked(TEXT, b"\xf0\x9f"), masked(FIN | CONTINUATION, b"ab")].concat();
        fails_with(scene, 1007, "a character that another fragment does not finish", &split);
        fails_with(scene, 1007, "a close reason", &masked(FIN | CLOSE, b"\x03\xe8\xff"));
    });
}

// T28
#[test]
fn frames_too_large_close_with_1009_at_their_header() {
    Scene::play(|scene| {
        let huge = [vec![FIN | BINARY, 0xff, 0x40], vec![0; 11]].concat();
        fails_with(scene, 1009, "a length of 2^62", &huge);
        let large = [vec![FIN | BINARY, 0xff], ((1_u64 << 20) + 1).to_be_bytes().to_vec(), vec![0; 4]].concat();
        fails_with(scene, 1009, "a length of 1 MiB and a byte", &large);
        let both = [masked(TEXT, vec![b'a'; 1 << 20]), masked(FIN | CONTINUATION, "a")].concat();
        fails_with(scene, 1009, "1 MiB and a byte in two frames", &both);
    });
}

// T30, T32
#[test]
fn floods_of_nothing_close_with_1008() {
    Scene::play(|scene| {
        let fragments = [masked(TEXT, ""), masked(CONTINUATION, "").repeat(5000)].concat();
        fails_with(scene, 1008, "empty fragments", &fragments);
        fails_with(scene, 1008, "pings", &masked(FIN | PING, "").repeat(5000));
    });
}

// T37
#[test]
fn what_follows_an_error_is_not_looked_at() {
    Scene::play(|scene| {
        let bytes = [plain(FIN | TEXT, "bad"), masked(FIN | TEXT, "good"), vec![0xff; 100_000]].concat();
        fails_with(scene, 1002, "an unmasked frame, and more", &bytes);
        assert_eq!(scene.log.count("message"), 0);
    });
}
