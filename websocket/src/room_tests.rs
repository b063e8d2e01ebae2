use std::cell::RefCell;
use std::time::Duration;

use twistor_reactor::testing::{MemoryPeer, MemoryReactor};
use twistor_reactor::{BufferLimits, Failure, Phase, Producer, Streaming, SystemEvent, for_protocol};

use super::*;
use crate::lobby::{Lobby, masked, shake_hands, text};
use crate::message::Frame;
use crate::options::{Options, Overflow};
use crate::protocol::WebSocketProtocol;
use crate::sansio::OpCode;
use crate::server::WebSocketServerFactory;

impl Room {
    /// How many it holds, the dead included.
    fn held(&self) -> usize {
        assert_eq!(self.0.borrow().sockets.len(), self.0.borrow().places.len());
        self.0.borrow().sockets.len()
    }
}

#[test]
fn a_broadcast_reaches_every_member_and_nobody_else() {
    let lobby = Lobby::new();
    let [(a, first), (b, second), (c, outsider)] = lobby.clients();
    let room = Room::new();
    room.join(&first);
    room.join(&second);
    room.join(&second); // is in already
    assert_eq!((room.len(), room.contains(&second), room.contains(&outsider)), (2, true, false));

    room.broadcast("all");
    room.broadcast_except(&first, "not the first");
    room.broadcast_except(&outsider, "again all");
    lobby.reactor.settle();
    assert_eq!(a.received(), [text("all"), text("again all")].concat());
    assert_eq!(b.received(), [text("all"), text("not the first"), text("again all")].concat());
    assert_eq!(c.received(), b"");

    assert!(room.leave(&first) && !room.leave(&first) && !room.leave(&outsider));
    room.broadcast("rest");
    lobby.reactor.settle();
    assert_eq!((a.received(), b.received()), (Vec::new(), text("rest")));
    assert_eq!(room.members(), [second]);
}

/// A room that batches: its messages are written at the turn's end, and nothing may show it but the clock.
fn large_room(lobby: &Lobby) -> (Room, Vec<(MemoryPeer, WebSocket)>) {
    let room = Room::new();
    let clients: Vec<_> = (0..BATCH_FROM).map(|_| lobby.client()).collect();
    clients.iter().for_each(|(_, socket)| room.join(socket));
    (room, clients)
}

fn texts<'a>(payloads: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    payloads.into_iter().flat_map(text).collect()
}

#[test]
fn a_batch_keeps_the_order_of_whatever_is_sent_meanwhile() {
    let lobby = Lobby::new();
    let (room, clients) = large_room(&lobby);
    let other = Room::new();
    clients.iter().for_each(|(_, socket)| other.join(socket));
    let socket = |index: usize| &clients[index].1;
    room.broadcast("1");
    socket(0).send_text("to 0");
    socket(1).ping(b"to 1").unwrap();
    room.broadcast_except(socket(2), "2");
    other.broadcast("other");
    room.leave(socket(3));
    room.leave(socket(4));
    room.join(socket(4));
    room.broadcast("3");
    socket(5).close();
    socket(6).send_prepared(&PreparedMessage::new("to 6"));
    room.broadcast(vec!["x"; 5000].concat()); // too large for a batch
    room.broadcast_except(socket(7), "4");
    lobby.reactor.settle();
    let large = [&[0x81, 126, 0x13, 0x88][..], &[b'x'; 5000]].concat();
    let want = [
        [texts(["1", "to 0", "2", "other", "3"]), large.clone(), text("4")].concat(),
        [text("1"), b"\x89\x04to 1".to_vec(), texts(["2", "other", "3"]), large.clone(), text("4")].concat(),
        [texts(["1", "other", "3"]), large.clone(), text("4")].concat(),
        texts(["1", "2", "other"]),
        [texts(["1", "2", "other", "3"]), large.clone(), text("4")].concat(),
        [texts(["1", "2", "other", "3"]), vec![0x88, 2, 3, 0xe8]].concat(),
        [texts(["1", "2", "other", "3", "to 6"]), large.clone(), text("4")].concat(),
        [texts(["1", "2", "other", "3"]), large].concat(),
    ];
    for (index, want) in want.iter().enumerate() {
        assert_eq!(clients[index].0.received().escape_ascii().to_string(), want.escape_ascii().to_string(), "{index}");
    }
    room.broadcast("next turn");
    lobby.reactor.settle();
    assert_eq!(clients[7].0.received(), text("next turn"));
}

/// T49, T41
#[test]
fn a_batch_that_is_taken_in_parts_or_not_at_all_is_queued() {
    let lobby = Lobby::new();
    let (room, clients) = large_room(&lobby);
    let payload = "y".repeat(100);
    for round in 0..50 {
        clients[0].0.set_room(round * 7 % 300);
        (0..20).for_each(|_| room.broadcast(&payload));
        lobby.reactor.settle();
    }
    let want = text(&payload).repeat(1000);
    assert_eq!(clients[1].0.received(), want);
    clients[0].0.set_room(usize::MAX);
    lobby.reactor.settle();
    assert_eq!(clients[0].0.received(), want);
}

#[test]
fn the_latest_value_supersedes_what_still_waits_and_keeps_its_place_among_broadcasts() {
    let lobby = Lobby::new();
    let (room, clients) = large_room(&lobby);
    let (slow, socket) = &clients[0];
    slow.set_room(0);
    room.broadcast("x".repeat(100));
    room.broadcast_latest(7, "1");
    socket.send_binary(&[0; 70_000]);
    for value in ["2", "3", "4"] {
        room.broadcast_latest(7, value);
        room.broadcast_latest(8, "other");
    }
    room.broadcast("end");
    lobby.reactor.settle();
    assert_eq!(socket.dropped(), 4);
    let before = [text(&"x".repeat(100)), text("1")].concat();
    let fast = texts(["2", "other", "3", "other", "4", "other", "end"]);
    assert_eq!(clients[1].0.received(), [before.clone(), fast].concat());
    slow.set_room(usize::MAX);
    lobby.reactor.settle();
    assert_eq!(messages(&slow.received()[before.len() + 70_010..]), ["4", "other", "end"]);
}

#[test]
fn what_is_sent_to_a_member_directly_keeps_its_place_among_broadcasts() {
    let lobby = Lobby::new();
    let (peer, socket) = lobby.client();
    let room = Room::new();
    room.join(&socket);
    room.broadcast("1");
    socket.send_text("2");
    room.broadcast("3");
    socket.close();
    room.broadcast("never");
    lobby.reactor.settle();
    assert_eq!(peer.received(), [text("1"), text("2"), text("3"), vec![0x88, 2, 3, 0xe8]].concat());
}

/// T46, T70
#[test]
fn a_member_leaves_when_its_connection_ends_however_it_ends() {
    let lobby = Lobby::new();
    let clients: [_; 5] = lobby.clients();
    let room = Room::new();
    clients.iter().for_each(|(_, socket)| room.join(socket));
    clients[0].0.reset();
    clients[1].0.send(masked(OpCode::Close, b"", true));
    clients[2].0.close();
    lobby.reactor.settle();
    assert_eq!(room.len(), 2);
    clients[3].1.close(); // our Close is sent: it will not be open again
    assert_eq!(room.members(), [clients[4].1.clone()]);
    assert!(!room.contains(&clients[0].1) && !room.leave(&clients[1].1));

    room.broadcast("prunes");
    lobby.reactor.settle();
    assert_eq!(room.held(), 1);
    assert_eq!(clients[4].0.received(), text("prunes"));
    room.join(&clients[0].1); // too late
    assert_eq!(room.held(), 1);
}

/// T70: at most as many dead as the room had members, or a handful.
#[test]
fn a_room_that_nobody_broadcasts_to_does_not_collect_the_dead() {
    let lobby = Lobby::new();
    let room = Room::new();
    let staying: [_; 20] = lobby.clients();
    staying.iter().for_each(|(_, socket)| room.join(socket));
    for _ in 0..500 {
        let (peer, socket) = lobby.client();
        room.join(&socket);
        peer.reset();
        lobby.reactor.settle();
        assert!(room.held() <= 2 * (staying.len() + JOINS_BEFORE_PRUNING), "{}", room.held());
    }
    assert_eq!(room.len(), staying.len());
}

/// T41: the slow one is closed for its own overflow; the others have everything, in order.
#[test]
fn a_member_that_does_not_read_does_not_cost_the_others_a_message() {
    let lobby = Lobby::new();
    let [(good, first), (bad, slow), (other, last)] = lobby.clients();
    let room = Room::new();
    [&first, &slow, &last].into_iter().for_each(|socket| room.join(socket));
    bad.set_room(0);
    let (mut had, payload) = (0, vec![b'x'; 10_000]);
    for _ in 0..200 {
        room.broadcast(&payload);
        lobby.reactor.settle();
        had += good.received().len();
        assert!(slow.buffered() <= slow.options().buffer.cap + payload.len());
    }
    assert_eq!(had, 200 * (4 + payload.len()));
    assert_eq!(other.received().len(), had);
    assert_eq!(room.members(), [first, last]);
}

/// Joins, leaves and broadcasts in every callback.
struct Busy {
    room: Room,
    users_own: Rc<RefCell<Vec<String>>>,
}

impl WebSocketProtocol for Busy {
    fn connection_made(&mut self, socket: &WebSocket) {
        let _held = self.users_own.borrow_mut();
        self.room.join(socket);
        self.room.broadcast("joined");
    }

    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        let mut held = self.users_own.borrow_mut();
        held.push(frame.decode().into_owned());
        self.room.broadcast_except(socket, frame);
        for member in self.room.members().iter().filter(|member| *member != socket) {
            member.abort();
            self.room.broadcast("aborted");
        }
    }

    fn connection_lost(&mut self, socket: &WebSocket, _: &Failure) {
        let _held = self.users_own.borrow_mut();
        assert!(!self.room.contains(socket));
        self.room.join(socket); // has no effect
        self.room.broadcast("lost");
        self.room.leave(socket);
    }
}

/// T56
#[test]
fn a_room_may_be_used_in_every_callback_under_any_borrow() {
    let (room, users_own) = (Room::new(), Rc::default());
    let reactor = MemoryReactor::new();
    let busy = {
        let (room, users_own) = (room.clone(), Rc::clone(&users_own));
        for_protocol(move || Busy { room: room.clone(), users_own: Rc::clone(&users_own) })
    };
    let port = reactor.listen_tcp(80, WebSocketServerFactory::new(busy)).unwrap();
    let a = shake_hands(&reactor, &port);
    let b = shake_hands(&reactor, &port);
    let c = shake_hands(&reactor, &port);
    a.send(masked(OpCode::Text, b"hello", true));
    reactor.settle();
    assert_eq!(*users_own.borrow(), ["hello"]);
    assert!(b.saw_reset() && c.saw_reset());
    assert_eq!(room.len(), 1);
    let got = String::from_utf8_lossy(&a.received()).into_owned();
    assert_eq!((got.matches("lost").count(), got.matches("aborted").count()), (2, 2));
}

#[test]
fn what_waits_goes_before_a_broadcast_of_the_turn_in_which_the_output_drains() {
    let lobby = Lobby::new();
    let (room, clients) = large_room(&lobby);
    let (peer, slow) = &clients[0];
    peer.set_room(0);
    slow.send_binary(&vec![0; 70_000]);
    slow.send_text("first");
    lobby.reactor.settle();
    peer.set_room(usize::MAX);
    let sender = room.clone();
    lobby.reactor.call_later(Duration::ZERO, move || sender.broadcast("second"));
    lobby.reactor.settle();
    assert!(peer.received().ends_with(&texts(["first", "second"])));
}

#[test]
fn a_goodbye_in_a_shutdown_trigger_reaches_rooms_of_any_size() {
    for members in [BATCH_FROM - 1, BATCH_FROM] {
        let lobby = Lobby::new();
        let room = Room::new();
        let clients: Vec<_> = (0..members).map(|_| lobby.client()).collect();
        clients.iter().for_each(|(_, socket)| room.join(socket));
        let sender = room.clone();
        lobby.reactor.add_system_event_trigger(Phase::Before, SystemEvent::Shutdown, move |_| sender.broadcast("bye"));
        lobby.reactor.stop();
        lobby.reactor.settle();
        assert!(lobby.reactor.stopped());
        assert_eq!(clients[0].0.received(), text("bye"), "{members} members");
    }
}

#[test]
fn a_room_outlives_its_reactor_in_the_middle_of_a_turn_and_is_not_kept_by_it() {
    let lobby = Lobby::new();
    let (room, _clients) = large_room(&lobby);
    room.broadcast("never sent");
    drop(lobby);
    let lobby = Lobby::new();
    let clients: Vec<_> = (0..BATCH_FROM).map(|_| lobby.client()).collect();
    clients.iter().for_each(|(_, socket)| room.join(socket));
    room.broadcast("hello");
    lobby.reactor.settle();
    assert_eq!(clients[0].0.received(), text("hello"));
    room.broadcast("never sent");
    let weak = Rc::downgrade(&room.0);
    drop((room, clients, lobby));
    assert_eq!(weak.strong_count(), 0);
}

/// The one rule, for what a producer's drop does.
#[test]
fn a_producer_that_an_overflow_drops_may_use_the_room() {
    struct Nosy(Room);
    impl Producer for Nosy {
        fn pause_producing(&mut self) {}
        fn resume_producing(&mut self) {}
        fn stop_producing(&mut self) {}
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            let _ = self.0.len();
        }
    }
    let lobby = Lobby::new();
    let (room, clients) = large_room(&lobby);
    let (peer, slow) = &clients[0];
    peer.set_room(0);
    slow.register_producer(Nosy(room.clone()), Streaming::Push).unwrap();
    slow.send_binary(&vec![0; 1_000_000]);
    (0..40).for_each(|_| room.broadcast(vec![0; 4000]));
    lobby.reactor.settle();
    assert_eq!(clients[7].0.received().len(), 40 * 4004);
}

#[test]
fn a_broadcast_to_the_dead_forgets_them() {
    let lobby = Lobby::new();
    let (room, clients) = large_room(&lobby);
    clients.iter().for_each(|(peer, _)| peer.reset());
    lobby.reactor.settle();
    assert_eq!((room.len(), room.held()), (0, BATCH_FROM));
    room.broadcast("anybody?");
    assert_eq!(room.held(), 0);
}

/// T41
#[test]
fn a_batch_keeps_to_the_cap_of_each_member() {
    let buffer = BufferLimits { high: 500, low: 10, cap: 1000 };
    let options = Options { buffer, overflow: Overflow::DropNewest, ..Options::default() };
    let outcome = |members| {
        let lobby = Lobby::with_options(options.clone());
        let room = Room::new();
        let clients: Vec<_> = (0..members).map(|_| lobby.client()).collect();
        clients.iter().for_each(|(_, socket)| room.join(socket));
        let (peer, slow) = &clients[0];
        peer.set_room(0);
        (0..300).for_each(|_| room.broadcast([0; 200]));
        lobby.reactor.settle();
        assert_eq!(clients[1].0.received().len(), 300 * 204);
        (slow.buffered(), slow.dropped())
    };
    assert_eq!(outcome(BATCH_FROM - 1), outcome(BATCH_FROM));
}

/// The messages in these frames, texts that are not empty.
fn messages(mut wire: &[u8]) -> Vec<String> {
    let (mut messages, mut message) = (Vec::new(), Vec::new());
    while let [first, length, rest @ ..] = wire {
        let (length, rest) = match *length {
            126 => (usize::from(rest[0]) << 8 | usize::from(rest[1]), &rest[2..]),
            length => (length.into(), rest),
        };
        if first & 8 == 0 {
            assert_eq!(first & 1 == 0, !message.is_empty(), "a new message amid another, or a continuation of none");
            message.extend_from_slice(&rest[..length]);
        }
        if first & 0x88 == 0x80 {
            messages.push(String::from_utf8(mem::take(&mut message)).expect("text"));
        }
        wire = &rest[length..];
    }
    messages
}
