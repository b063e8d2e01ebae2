use std::cell::RefCell;

use twistor_reactor::testing::MemoryReactor;
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
    assert_eq!(room.held(), 1);
    lobby.reactor.settle();
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
