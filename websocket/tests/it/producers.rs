//! Producers that feed a WebSocket, and are held back by it.

use std::cell::Cell;
use std::rc::Rc;

use twistor_reactor::{Producer, Streaming};
use twistor_websocket::WebSocket;

use crate::support::{Peer, Server, ping, text};

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

/// Writes much whenever it may.
struct Pusher(WebSocket);

impl Producer for Pusher {
    fn resume_producing(&mut self) {
        for _ in 0..100 {
            self.0.send_binary(&[5; 1000]);
        }
    }
    fn stop_producing(&mut self) {}
}

/// Whether this comes within what the peer takes in a thousand turns, 5 kB at a time.
fn comes(server: &Server, peer: &Peer, wanted: &str, fill: impl Fn()) -> bool {
    (0..1000).any(|_| {
        fill();
        let bytes = peer.bytes();
        server.wait(0.001);
        bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes())
    })
}

#[test]
fn a_push_producer_waits_for_what_waits_and_hides_no_pong() {
    let server = Server::new();
    let peer = server.open();
    peer.set_room(5000);
    let socket = server.log.socket(0);
    let mut producer = Pusher(socket.clone());
    producer.resume_producing();
    socket.register_producer(producer, Streaming::Push).unwrap();
    server.reactor.settle();
    peer.frames(&[ping("one"), ping("are you there")]);
    assert!(comes(&server, &peer, "are you there", || {}));
    assert!(!comes(&server, &peer, "what nobody says", || {}));
    assert!(socket.is_open(), "{socket:?}");
    assert_eq!(socket.dropped(), 0);
}

// T43
#[test]
fn pings_are_answered_while_output_streams() {
    let server = Server::new();
    let peer = server.open();
    peer.set_room(5000);
    let socket = server.log.socket(0);
    let fill = || {
        while socket.buffered() < 300_000 {
            socket.send_binary(&[5; 2000]);
        }
    };
    fill();
    server.reactor.settle();
    for word in ["one", "two", "are you there"] {
        peer.frame(&ping(word));
        assert!(word == "one" || comes(&server, &peer, word, fill), "{word}");
    }
}
