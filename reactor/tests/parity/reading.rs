//! Protocols that read for themselves: `delegate_read` and `read_from`.

use std::cell::RefCell;
use std::io::Read;
use std::rc::Rc;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Failure, Protocol, Transport, for_protocol};

/// Reads `size` bytes at a time to its own buffer, after the first call of `data_received`, and as long as it wants to.
struct Collector {
    size: usize,
    log: Rc<RefCell<Vec<String>>>,
}

impl Collector {
    fn add(&self, entry: String) {
        self.log.borrow_mut().push(entry);
    }
}

impl Protocol for Collector {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.add(format!("given {}", data.escape_ascii()));
        transport.delegate_read();
    }

    fn read_from(&mut self, transport: &Transport, source: &mut dyn Read) {
        let mut own = vec![0; self.size];
        match source.read(&mut own) {
            Ok(count) => self.add(format!("read {}", own[..count].escape_ascii())),
            Err(error) => self.add(format!("{:?}", error.kind())),
        }
        if self.size > 1 {
            transport.delegate_read();
        }
        transport.write("ok");
    }

    fn read_connection_lost(&mut self, transport: &Transport) {
        self.add("end".into());
        transport.lose_connection();
    }

    fn connection_lost(&mut self, _: &Transport, reason: &Failure) {
        self.add(format!("lost: {reason}"));
    }
}

fn collect(size: usize) -> (MemoryReactor, twistor_reactor::testing::MemoryPeer, Rc<RefCell<Vec<String>>>) {
    let (reactor, log) = (MemoryReactor::new(), Rc::new(RefCell::new(Vec::new())));
    let shared = log.clone();
    let port = reactor.listen_tcp(1, for_protocol(move || Collector { size, log: shared.clone() })).expect("a port");
    let peer = reactor.connect_to(&port);
    (reactor, peer, log)
}

#[test]
fn a_delegated_read_takes_the_place_of_data_received_and_its_replies_are_sent() {
    let (reactor, peer, log) = collect(4);
    for bytes in ["first", "abc", "defghijkl", ""] {
        peer.send(bytes);
        reactor.settle();
    }
    assert_eq!(log.take(), ["given first", "read abc", "read defg", "read hijk", "read l"]);
    assert_eq!(peer.received(), b"okokokok");
    peer.finish();
    reactor.settle();
    let entries = log.take();
    assert_eq!(entries[entries.len() - 2..], ["end", "lost: Connection was closed cleanly."], "{entries:?}");
}

#[test]
fn a_read_is_delegated_once_for_each_time_it_is_asked_for() {
    let (reactor, peer, log) = collect(1);
    peer.send("x");
    reactor.settle();
    peer.send("abc");
    reactor.settle();
    assert_eq!(log.take(), ["given x", "read a", "given bc"]);
}

#[test]
fn a_protocol_that_wants_no_room_after_all_is_given_its_bytes() {
    let (reactor, peer, log) = collect(0);
    peer.send("x");
    reactor.settle();
    peer.send("abc");
    reactor.settle();
    assert_eq!(log.take(), ["given x", "read ", "given abc"]);
}
