//! What can be sent, and as what: `AsMessage`.

use std::borrow::Cow;

use bytes::Bytes;
use twistor_websocket::{AsMessage, Frame, PreparedMessage, WebSocket};

use crate::support::{BINARY, Client, Peer, Server, TEXT};

/// Sends a message in each of the ways there are; every frame that comes of it is to be this one.
fn assert_arrives(socket: &WebSocket, peer: &Peer, what: &str, message: impl AsMessage, expected: (u8, &[u8])) {
    socket.send_message(&message);
    socket.send_uncompressed(&message);
    socket.send_latest(1, &message);
    socket.send_prepared(&PreparedMessage::new(&message));
    socket.send_message(message);
    peer.settle();
    let got = peer.got();
    assert_eq!(got.len(), 5, "{what}: {got:?}");
    for frame in &got {
        assert_eq!(
            (frame.opcode, &frame.payload[..], frame.fin, frame.rsv),
            (expected.0, expected.1, true, 0),
            "{what}"
        );
    }
}

// P256
#[test]
fn each_type_is_sent_as_its_own_kind() {
    let server = Server::new();
    let peer = server.open();
    let client = Client::open();
    for (socket, peer) in [(server.log.socket(0), &peer), (client.log.socket(0), &client.server)] {
        for text in ["", "grüß dich, 🌍"] {
            let expected = (TEXT, text.as_bytes());
            assert_arrives(&socket, peer, "&str", text, expected);
            let owned = text.to_owned();
            assert_arrives(&socket, peer, "&String", &owned, expected);
            assert_arrives(&socket, peer, "String", owned, expected);
            assert_arrives(&socket, peer, "Cow", Cow::from(text), expected);
            assert_arrives(&socket, peer, "Frame::Text", Frame::Text(text), expected);
        }
        // what would be text, too, stays binary
        for bytes in [&b""[..], b"ok", b"\xff\x00"] {
            let expected = (BINARY, bytes);
            assert_arrives(&socket, peer, "&[u8]", bytes, expected);
            let owned = bytes.to_vec();
            assert_arrives(&socket, peer, "&Vec<u8>", &owned, expected);
            assert_arrives(&socket, peer, "Vec<u8>", owned, expected);
            assert_arrives(&socket, peer, "Bytes", Bytes::copy_from_slice(bytes), expected);
            assert_arrives(&socket, peer, "Frame::Binary", Frame::Binary(bytes), expected);
        }
        assert_arrives(&socket, peer, "[u8; 2]", [1, 2], (BINARY, &[1, 2]));
        assert_arrives(&socket, peer, "&[u8; 2]", b"ok", (BINARY, b"ok"));
    }
}

/// Received and sent on: nothing of it changes on the way.
#[test]
fn a_received_frame_goes_on_as_it_came() {
    let server = Server::echo();
    let peer = server.open();
    peer.frames(&[crate::support::text("a"), crate::support::binary("a"), crate::support::text("")]);
    let got = peer.got();
    let shape: Vec<(u8, &[u8])> = got.iter().map(|frame| (frame.opcode, &frame.payload[..])).collect();
    assert_eq!(shape, [(TEXT, &b"a"[..]), (BINARY, b"a"), (TEXT, b"")]);
}
