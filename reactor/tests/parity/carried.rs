//! Connections that another protocol carries.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Address, BufferLimits, Carried, Carrier, ConnectionDone, Failure, UserError};

use crate::common::{Event, Log, scripted};

/// What the carrier was asked for.
#[derive(Clone, Default)]
struct Asked {
    records: Rc<RefCell<Vec<Vec<u8>>>>,
    blocked: Rc<Cell<bool>>,
    drained: Rc<Cell<u32>>,
    closed: Rc<RefCell<Vec<&'static str>>>,
}

impl Carrier for Asked {
    fn is_ready(&self) -> bool {
        !self.blocked.get()
    }
    fn send(&mut self, record: &[u8]) {
        self.records.borrow_mut().push(record.to_vec());
    }
    fn drained(&mut self) {
        self.drained.set(self.drained.get() + 1);
    }
    fn close(&mut self, abort: bool) {
        self.closed.borrow_mut().push(if abort { "abort" } else { "close" });
    }
    fn host(&self) -> io::Result<Address> {
        Ok(address(2))
    }
}

fn address(port: u16) -> Address {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()
}

struct Rig {
    reactor: MemoryReactor,
    carried: Carried,
    asked: Asked,
    log: Log,
}

/// A carried protocol that logs what happens to it, and does `on`.
fn rig(on: impl Fn(&twistor_reactor::Transport, &Event<'_>) + 'static) -> Rig {
    let (reactor, asked, log) = (MemoryReactor::new(), Asked::default(), Log::default());
    let shared = log.clone();
    let protocol = scripted(move |transport, event| {
        shared.add(&event);
        on(transport, &event);
    });
    let carried = Carried::new(&reactor, address(1), protocol, asked.clone()).expect("a place for it");
    Rig { reactor, carried, asked, log }
}

fn words(asked: &Asked) -> Vec<String> {
    asked.records.take().into_iter().map(|record| String::from_utf8(record).expect("a word")).collect()
}

#[test]
fn each_write_is_a_record_and_each_record_received_is_one_call() {
    let rig = rig(|transport, event| {
        if let Event::Data(data) = event {
            transport.write(data);
            transport.write_sequence(&[b"and ", b"more"]);
        }
    });
    rig.carried.received(b"one");
    rig.carried.received(b"two");
    assert_eq!((rig.log.entries().len(), rig.carried.waiting()), (0, 128), "not before the loop");
    rig.reactor.settle();
    assert_eq!(rig.log.take(), ["made", "data one", "data two"]);
    assert_eq!(words(&rig.asked), ["one", "and more", "two", "and more"]);
    assert_eq!((rig.asked.drained.get(), rig.carried.waiting()), (1, 0));
    let transport = rig.carried.transport();
    assert_eq!((transport.peer(), transport.host().expect("known")), (&address(1), address(2)));
}

#[test]
fn records_that_wait_for_the_carrier_are_not_put_together_and_the_limits_hold() {
    let rig = rig(|_, _| {});
    rig.reactor.settle();
    let transport = rig.carried.transport();
    transport.set_buffer_limits(BufferLimits { low: 2, high: 6, cap: 20 });
    rig.asked.blocked.set(true);
    for word in ["a", "bc", "def", "ghij"] {
        transport.write(word);
    }
    rig.reactor.settle();
    assert_eq!((words(&rig.asked).len(), transport.buffered()), (0, 10));
    assert_eq!(rig.log.take(), ["made", "high"]);
    rig.asked.blocked.set(false);
    rig.carried.ready();
    rig.reactor.settle();
    assert_eq!(words(&rig.asked), ["a", "bc", "def", "ghij"]);
    assert_eq!(rig.log.take(), ["drained"]);
    rig.asked.blocked.set(true);
    transport.write([0; 20]);
    transport.write([0; 1]);
    rig.reactor.settle();
    assert_eq!(rig.log.count("lost: "), 1);
    assert_eq!(*rig.asked.closed.borrow(), ["abort"]);
}

/// T41: what is kept of many short records is bounded, too.
#[test]
fn short_records_count_as_what_they_take() {
    let rig = rig(|transport, event| {
        if let Event::Made = event {
            transport.pause_producing();
        }
    });
    rig.reactor.settle();
    rig.carried.received(b"x");
    rig.carried.received(&[0; 100]);
    assert_eq!(rig.carried.waiting(), 164);
    rig.carried.transport().resume_producing();
    rig.reactor.settle();
    assert_eq!(rig.carried.waiting(), 0);
    rig.asked.blocked.set(true);
    for _ in 0..16 * 1024 {
        rig.carried.transport().write("x");
    }
    rig.reactor.settle();
    assert_eq!((rig.log.count("lost: "), rig.carried.transport().buffered()), (0, 16 * 1024));
    rig.carried.transport().write("x");
    rig.reactor.settle();
    assert_eq!(rig.log.count("lost: Output buffer overflowed: 16385 records are queued"), 1);
}

#[test]
fn the_carriers_end_comes_after_what_was_received_and_its_reason_is_the_reason() {
    let rig = rig(|transport, event| {
        if let Event::Data(b"one") = event {
            transport.pause_producing();
        }
    });
    for word in ["one", "two"] {
        rig.carried.received(word.as_bytes());
    }
    rig.carried.end(Failure::new(UserError::new()));
    rig.reactor.settle();
    assert_eq!(rig.log.take(), ["made", "data one"], "paused: the rest is kept");
    assert_eq!((rig.carried.waiting(), rig.asked.drained.get()), (64, 0));
    rig.carried.transport().resume_producing();
    rig.reactor.settle();
    let told = rig.log.take();
    assert_eq!(told[0], "data two");
    assert_eq!(told[1..], [format!("lost: {}", Failure::new(UserError::new()))]);
    rig.carried.received(b"late");
    rig.reactor.settle();
    assert_eq!((rig.log.take().len(), rig.carried.waiting()), (0, 0));
}

#[test]
fn an_end_is_noticed_while_reading_is_paused_if_nothing_is_left_to_read() {
    let rig = rig(|transport, event| {
        if let Event::Made = event {
            transport.pause_producing();
        }
    });
    rig.reactor.settle();
    rig.carried.end(Failure::new(UserError::new()));
    rig.reactor.settle();
    assert_eq!(rig.log.count("lost: "), 1);
}

#[test]
fn losing_and_aborting_close_the_carrier() {
    for (abort, want) in [(false, "close"), (true, "abort")] {
        let rig = rig(move |transport, event| {
            if let Event::Data(_) = event {
                transport.write("bye");
                if abort { transport.abort_connection() } else { transport.lose_connection() }
            }
        });
        rig.carried.received(b"go");
        rig.carried.received(b"too late");
        rig.reactor.settle();
        assert_eq!(rig.asked.closed.borrow().last(), Some(&want));
        assert_eq!(words(&rig.asked), ["bye"]);
        assert_eq!((rig.log.count("data"), rig.log.count("lost: ")), (1, 1));
    }
}

#[test]
fn a_reactor_that_goes_away_tells_neither() {
    let rig = rig(|_, _| {});
    rig.reactor.settle();
    let (asked, log) = (rig.asked.clone(), rig.log.clone());
    drop(rig);
    assert_eq!((asked.closed.borrow().len(), log.take()), (0, vec!["made".to_owned()]));
}

#[test]
fn the_reactors_end_is_its_end() {
    let rig = rig(|_, _| {});
    rig.reactor.settle();
    rig.reactor.stop();
    rig.reactor.settle();
    assert_eq!((rig.log.count("lost: "), rig.asked.closed.borrow().len()), (1, 1));
    let reason = Failure::new(ConnectionDone::new());
    rig.carried.end(reason);
    rig.reactor.settle();
    assert_eq!(rig.log.count("lost: "), 1);
}
