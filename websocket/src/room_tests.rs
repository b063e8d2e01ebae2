use std::cell::RefCell;

use proptest::prelude::*;
use twistor_reactor::testing::{MemoryPeer, MemoryReactor};
use twistor_reactor::{Failure, for_protocol};

use super::*;
use crate::lobby::{Lobby, masked, shake_hands, text};
use crate::message::Frame;
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

/// What may happen in a turn, to a room of three and a client of ten.
#[derive(Debug, Clone)]
enum Step {
    /// With the length of the message.
    Broadcast(usize, usize),
    Except(usize, usize),
    Join(usize, usize),
    Leave(usize, usize),
    Send(usize),
    Prepared(usize),
    Ping(usize),
    /// The begin of a message in pieces, or one more piece.
    Piece(usize),
    End(usize),
    Close(usize),
    /// The peer's window, which is what makes messages wait.
    Window(usize, usize),
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    let (room, client) = (0..3_usize, 0..10_usize);
    let length = prop_oneof![9 => 1..200_usize, 1 => 4000..9000_usize];
    prop_oneof![
        8 => (room.clone(), length).prop_map(|(room, length)| Step::Broadcast(room, length)),
        3 => (room.clone(), client.clone()).prop_map(|(room, client)| Step::Except(room, client)),
        3 => client.clone().prop_map(Step::Send),
        2 => client.clone().prop_map(Step::Prepared),
        1 => client.clone().prop_map(Step::Ping),
        2 => client.clone().prop_map(Step::Piece),
        2 => client.clone().prop_map(Step::End),
        2 => (room.clone(), client.clone()).prop_map(|(room, client)| Step::Join(room, client)),
        2 => (room, client.clone()).prop_map(|(room, client)| Step::Leave(room, client)),
        1 => client.clone().prop_map(Step::Close),
        2 => (client, 0..2000_usize).prop_map(|(client, bytes)| Step::Window(client, bytes)),
        3 => Just(Step::Turn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Batching must not show: whatever happens in a turn, each client gets what it would get if every send wrote at
    /// once.
    #[test]
    fn every_member_gets_the_same_as_without_batches(steps in prop::collection::vec(step(), 1..120)) {
        let lobby = Lobby::new();
        let clients: Vec<_> = (0..10).map(|_| lobby.client()).collect();
        let rooms: Vec<_> = (0..3).map(|_| Room::new()).collect();
        let (mut want, mut got) = (vec![Vec::new(); 10], vec![Vec::new(); 10]);
        let mut members = [[false; 10]; 3];
        for (number, room) in rooms.iter().enumerate() {
            // one that batches, one that does now and then, one that does not
            for (client, (_, socket)) in clients.iter().enumerate().take(10 - 3 * number) {
                room.join(socket);
                members[number][client] = true;
            }
        }
        let mut open = [true; 10];
        // a message in pieces, and how many came before it: others come behind it
        let mut pieces: [Option<(usize, String)>; 10] = Default::default();
        for (number, step) in steps.iter().enumerate() {
            let note = number.to_string();
            match *step {
                Step::Broadcast(room, length) => {
                    let payload = note.repeat(length / note.len() + 1);
                    rooms[room].broadcast(&payload);
                    let to = (0..10).filter(|&client| members[room][client] && open[client]);
                    to.for_each(|client| want[client].push(payload.clone()));
                }
                Step::Except(room, client) => {
                    rooms[room].broadcast_except(&clients[client].1, &note);
                    let to = (0..10).filter(|&other| other != client && members[room][other] && open[other]);
                    to.for_each(|client| want[client].push(note.clone()));
                }
                Step::Send(client) => clients[client].1.send_text(&note),
                Step::Prepared(client) => clients[client].1.send_prepared(&PreparedMessage::new(&note)),
                Step::Ping(client) => clients[client].1.ping(b"?").unwrap(),
                Step::Piece(client) if open[client] => {
                    let socket = &clients[client].1;
                    let (_, text) = pieces[client].get_or_insert_with(|| {
                        socket.begin_message(false).unwrap();
                        (want[client].len(), String::new())
                    });
                    socket.send_piece(note.as_bytes()).unwrap();
                    text.push_str(&note);
                }
                Step::End(client) if open[client] => {
                    if let Some((place, text)) = pieces[client].take() {
                        clients[client].1.end_message(b"").unwrap();
                        want[client].insert(place, text);
                    }
                }
                Step::Piece(_) | Step::End(_) => {}
                Step::Join(room, client) => {
                    rooms[room].join(&clients[client].1);
                    members[room][client] |= open[client];
                }
                Step::Leave(room, client) => {
                    rooms[room].leave(&clients[client].1);
                    members[room][client] = false;
                }
                Step::Close(client) => {
                    clients[client].1.close();
                    open[client] = false;
                    // what is behind an unfinished message is dropped
                    if let Some((place, _)) = pieces[client].take() {
                        want[client].truncate(place);
                    }
                }
                Step::Window(client, bytes) => clients[client].0.set_room(bytes),
                Step::Turn => lobby.reactor.settle(),
            }
            if let Step::Send(client) | Step::Prepared(client) = *step {
                want[client].extend(open[client].then_some(note));
            }
        }
        for (client, unfinished) in pieces.iter_mut().enumerate() {
            if let Some((place, text)) = unfinished.take() {
                clients[client].1.end_message(b"").unwrap();
                want[client].insert(place, text);
            }
        }
        for _ in 0..3 {
            for ((peer, _), got) in clients.iter().zip(&mut got) {
                got.extend(peer.received());
                peer.set_room(usize::MAX);
            }
            lobby.reactor.settle();
        }
        for (client, (got, want)) in got.iter().zip(&want).enumerate() {
            prop_assert_eq!(messages(got), want.clone(), "client {}", client);
        }
    }
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
