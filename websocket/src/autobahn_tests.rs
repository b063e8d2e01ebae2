use twistor_reactor::{Producer, Streaming};

use super::*;
use crate::lobby::Lobby;
use crate::room::Room;

// P256, P257, P264, P273, P274
#[test]
fn what_is_sent_by_autobahns_names_is_what_they_say() {
    let lobby = Lobby::new();
    let (peer, socket) = lobby.client();
    assert_eq!(socket.send_message_frame(b"early"), Err(MessageUnfinished::NotBegun));
    socket.begin_message(true).unwrap();
    socket.send_message_frame(b"one").unwrap();
    socket.send_ping(b"ping").unwrap();
    socket.send_message_frame(b"two").unwrap();
    socket.end_message(b"").unwrap();
    socket.send_pong(b"").unwrap();
    for send in [WebSocket::send_ping, WebSocket::send_pong] {
        assert_eq!(send(&socket, &[0; 126]), Err(ControlTooLong { length: 126 }));
    }
    socket.send_message((b"bytes", true));
    socket.send_message((b"text", false));
    socket.send_prepared_message(&PreparedMessage::new((b"many", false)));
    assert_eq!(socket.send_close(Some(1005), "reserved"), Err(InvalidCloseCode(1005)));
    socket.send_close(Some(1001), "bye").unwrap();
    lobby.reactor.settle();
    let want: [&[u8]; 9] = [
        b"\x02\x03one",
        b"\x89\x04ping",
        b"\x00\x03two",
        b"\x80\x00",
        b"\x8a\x00",
        b"\x82\x05bytes",
        b"\x81\x04text",
        b"\x81\x04many",
        b"\x88\x05\x03\xe9bye",
    ];
    assert_eq!(peer.received().escape_ascii().to_string(), want.concat().escape_ascii().to_string());
}

#[test]
fn a_close_without_a_code_is_a_normal_closure() {
    let lobby = Lobby::new();
    let (peer, socket) = lobby.client();
    socket.send_close(None, "bye").unwrap();
    lobby.reactor.settle();
    assert_eq!(peer.received(), b"\x88\x05\x03\xe8bye");
}

#[test]
fn aborting_drops_the_connection_at_once_and_once() {
    let lobby = Lobby::new();
    let (peer, socket) = lobby.client();
    peer.set_room(0);
    socket.send_message("never sent");
    socket.drop_connection(true);
    socket.drop_connection(false);
    lobby.reactor.settle();
    assert!(peer.saw_reset() && peer.received().is_empty());
    let status = socket.close_status().unwrap();
    assert_eq!((status.was_clean, status.code), (false, 1006));
    socket.drop_connection(false);
    lobby.reactor.settle();
    assert_eq!(socket.close_status(), Some(status));
}

struct Endless;

impl Producer for Endless {
    fn pause_producing(&mut self) {}
    fn resume_producing(&mut self) {}
    fn stop_producing(&mut self) {}
}

#[test]
fn dropping_the_connection_waits_for_what_a_room_sent_and_not_for_a_producer() {
    let lobby = Lobby::new();
    let (peer, socket) = lobby.client();
    socket.register_producer(Endless, Streaming::Pull).unwrap();
    let room = Room::new();
    room.join(&socket);
    room.broadcast("for all");
    socket.drop_connection(false);
    lobby.reactor.settle();
    assert_eq!(peer.received(), b"\x81\x07for all");
    assert!(peer.saw_end());
}
