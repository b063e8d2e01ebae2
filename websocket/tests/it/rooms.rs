//! Rooms, and what their members own.

use std::cell::RefCell;
use std::rc::Rc;

use twistor_reactor::for_protocol;
use twistor_websocket::{Frame, Observer, Options, Room, WebSocket, WebSocketProtocol, WebSocketServerFactory};

use crate::support::{Peer, Server};

type Arrived = Rc<RefCell<Vec<WebSocket>>>;

struct Plain(Arrived);
impl WebSocketProtocol for Plain {
    fn connection_made(&mut self, socket: &WebSocket) {
        self.0.borrow_mut().push(socket.clone());
    }
    fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {}
}

/// An observer that counts the room's members once more when it goes.
struct Last(Room, Rc<RefCell<Vec<usize>>>);
impl Observer for Last {}
impl Drop for Last {
    fn drop(&mut self) {
        let n = self.0.len();
        self.1.borrow_mut().push(n);
    }
}

#[test]
fn what_a_gone_member_owns_is_not_dropped_inside_the_room() {
    let server = Server::new();
    let peers: Vec<Peer> = (0..9).map(|_| server.open()).collect();
    let room = Room::new();
    (0..9).for_each(|i| room.join(&server.log.socket(i)));
    let counted = Rc::default();
    let arrived = Arrived::default();
    let build = arrived.clone();
    let factory = WebSocketServerFactory::with_options(
        for_protocol(move || Plain(build.clone())),
        Options { ping_interval: None, ..Options::default() },
    )
    .observer(Last(room.clone(), Rc::clone(&counted)));
    let port = server.reactor.listen_tcp(81, factory).unwrap();
    let peer = Peer::client(&server.reactor, server.reactor.connect_to(&port));
    peer.open("/", &[]);
    drop(port.stop_listening());
    drop(port);
    server.reactor.settle();
    let socket = arrived.borrow_mut().pop().unwrap();
    room.join(&socket);
    socket.abort();
    room.broadcast("to all");
    room.leave(&socket);
    drop(socket);
    server.reactor.settle();
    println!("{:?} {}", counted.borrow(), peers[0].lines().len());
    assert_eq!(*counted.borrow(), [9]);
}
