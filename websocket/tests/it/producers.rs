//! Producers that feed a WebSocket, and are held back by it.

use std::cell::Cell;
use std::rc::Rc;

use twistor_reactor::{Producer, Streaming};

use crate::support::{Server, text};

const KIB: usize = 1024;

struct Counting(Rc<Cell<[u32; 3]>>);

impl Counting {
    fn count(&self, index: usize) {
        let mut counts = self.0.get();
        counts[index] += 1;
        self.0.set(counts);
    }
}

impl Producer for Counting {
    fn pause_producing(&mut self) {
        self.count(0);
    }
    fn resume_producing(&mut self) {
        self.count(1);
    }
    fn stop_producing(&mut self) {
        self.count(2);
    }
}

// P260
#[test]
fn a_producer_is_paused_resumed_and_stopped_with_the_output() {
    let server = Server::new();
    let peer = server.open();
    let socket = server.log.socket(0);
    let counts = Rc::new(Cell::new([0; 3]));
    socket.register_producer(Counting(counts.clone()), Streaming::Push).unwrap();
    assert!(socket.register_producer(Counting(counts.clone()), Streaming::Push).is_err());
    peer.set_room(0);
    socket.send_binary(&[0; 70 * KIB]);
    server.reactor.settle();
    assert_eq!(counts.get(), [1, 0, 0]);
    peer.set_room(usize::MAX);
    server.reactor.settle();
    assert_eq!(counts.get(), [1, 1, 0]);
    peer.reset();
    server.reactor.settle();
    assert_eq!(counts.get(), [1, 1, 1]);
}

/// `socket_a.register_producer(socket_b)`: a relay that is no faster than its slower half.
#[test]
fn a_websocket_is_a_producer_for_another() {
    let server = Server::new();
    let (source, sink) = (server.open(), server.open());
    let (from, to) = (server.log.socket(0), server.log.socket(1));
    to.register_producer(from.clone(), Streaming::Push).unwrap();
    sink.set_room(0);
    to.send_binary(&[0; 70 * KIB]);
    server.reactor.settle();
    source.frame(&text("held back"));
    assert_eq!(server.log.count("text"), 0);
    sink.set_room(usize::MAX);
    server.reactor.settle();
    assert_eq!(server.log.count("text held back"), 1);
    let _ = sink.got();
}
