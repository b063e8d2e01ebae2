//! Text is UTF-8, and judged as early as can be: RFC 6455, 8.1.

use crate::framing::{verdict, verdict_of};
use crate::support::{CLOSE, Server, binary, continuation, frame, text};

// P263
#[test]
fn t34_invalid_text_is_refused_before_the_rest_of_it_comes() {
    let server = Server::new();
    let peer = server.open();
    let whole = text(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited").masked();
    // up to the byte that makes it more than U+10FFFF, in the middle of the first frame
    peer.send(&whole[..whole.len() - 9]);
    assert!(peer.got().is_empty());
    peer.send(&whole[whole.len() - 9..whole.len() - 8]);
    assert_eq!(peer.closed_with().0, 1007);

    let peer = server.open();
    peer.frame(&text(b"ok \xed").more());
    assert!(peer.got().is_empty());
    peer.frame(&continuation(b"\xa0").more());
    assert_eq!(peer.closed_with().0, 1007);
    assert_eq!(server.log.count("text"), 0);
}

const SENTENCE: &str = "κόσμε \u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff} 😀";

// P263
#[test]
fn t35_text_may_be_split_anywhere() {
    let bytes = SENTENCE.as_bytes();
    for at in 0..=bytes.len() {
        let (server, expected) = (Server::new(), format!("text {SENTENCE}"));
        let peer = server.open();
        peer.frames(&[text(&bytes[..at]).more(), continuation(&bytes[at..])]);
        let wire = text(bytes).masked();
        let at = at.min(wire.len());
        peer.send(&wire[..at]);
        peer.send(&wire[at..]);
        assert_eq!(server.log.take(), ["made", &expected, &expected], "{at}");
    }
}

// P263
#[test]
fn t35_what_is_not_utf8_is_refused_however_it_is_cut() {
    let invalid: [&[u8]; 10] = [
        b"\xed\xa0\x80",     // a surrogate
        b"\xc0\xaf",         // overlong
        b"\xe0\x80\xaf",     // overlong
        b"\xf0\x80\x80\xaf", // overlong
        b"\xf4\x90\x80\x80", // beyond U+10FFFF
        b"\xf8\x88\x80\x80\x80",
        b"\x80",
        b"\xce",         // ends in the middle
        b"\xf0\x9f\x98", // ends in the middle
        b"\xff",
    ];
    for bytes in invalid {
        for before in ["", "a longer text before it, so that it lies across words"] {
            let whole = [before.as_bytes(), bytes].concat();
            assert_eq!(verdict_of(&text(&whole)), 1007, "{bytes:02x?}");
            for at in 1..bytes.len() {
                let (first, second) = whole.split_at(before.len() + at);
                let frames = [text(first).more().masked(), continuation(second).masked()].concat();
                assert_eq!(verdict(frames), 1007, "{bytes:02x?} {at}");
            }
        }
        assert_eq!(verdict_of(&frame(CLOSE, [b"\x03\xe8", bytes].concat())), 1007, "as a reason: {bytes:02x?}");
    }
    // binary is nobody's business
    let server = Server::new();
    server.open().frame(&binary([0xff, 0xc0]));
    assert_eq!(server.log.take(), ["made", "binary [ff, c0]"]);
}
