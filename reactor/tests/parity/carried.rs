//! Connections that another protocol carries.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Address, BufferLimits, Carried, Carrier, ConnectionDone, Failure, Streaming, UserError};

use crate::common::{Event, Log, scripted};
use crate::producers::Pull;

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
    let carried = Carried::new(&reactor, address(1), protocol, asked.clone());
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

#[test]
fn what_is_written_before_it_is_made_is_sent() {
    let rig = rig(|_, _| {});
    rig.carried.transport().write("early");
    rig.reactor.settle();
    assert_eq!(rig.log.entries(), ["made"]);
    assert_eq!(words(&rig.asked), ["early"]);
}

#[test]
fn limits_that_are_set_before_it_is_made_leave_records_records() {
    let rig = rig(|transport, event| {
        if let Event::Made = event {
            transport.write("one");
            transport.write("two");
        }
    });
    rig.carried.transport().set_buffer_limits(BufferLimits::default());
    rig.reactor.settle();
    assert_eq!(words(&rig.asked), ["one", "two"]);
}

#[test]
fn one_that_the_reactor_stops_before_it_is_made_is_made_and_lost() {
    let rig = rig(|_, _| {});
    rig.reactor.stop();
    rig.reactor.settle();
    assert_eq!(rig.log.entries().first().map(String::as_str), Some("made"), "{:?}", rig.log.entries());
    assert_eq!(rig.log.count("lost"), 1);
    assert_eq!(rig.asked.closed.borrow().len(), 1);
}

#[test]
fn a_large_frame_is_one_record() {
    let rig = rig(|_, _| {});
    rig.reactor.settle();
    let payload = vec![b'x'; 100_000];
    rig.carried.transport().write_framed_large(&[b'h'; 16], 4, &payload, || None);
    rig.reactor.settle();
    let lengths: Vec<usize> = rig.asked.records.borrow().iter().map(Vec::len).collect();
    assert_eq!(lengths, [100_004]);
}

#[test]
fn another_protocol_takes_over_with_what_has_come() {
    let log = Log::default();
    let inner = log.clone();
    let rig = rig(move |transport, event| {
        if let Event::Data(b"switch") = event {
            let log = inner.clone();
            transport.switch_protocol(
                scripted(move |transport, event| {
                    log.add(format!("second {event}"));
                    if let Event::Data(d) = event {
                        transport.write(d);
                    }
                }),
                b"left",
            );
        }
    });
    rig.carried.received(b"switch");
    rig.carried.received(b"rest");
    rig.carried.end(Failure::new(UserError::new()));
    rig.reactor.settle();
    assert_eq!(log.entries()[..3], ["second made", "second data left", "second data rest"]);
    assert_eq!(log.entries().len(), 4);
}

#[test]
fn records_longer_than_a_read_come_whole_before_the_end() {
    let rig = rig(|_, _| {});
    for size in [262_143, 262_144, 262_145, 600_000, 524_288] {
        rig.carried.received(&vec![b'x'; size]);
    }
    rig.carried.end(Failure::new(UserError::new()));
    rig.reactor.settle();
    let lengths: Vec<usize> = rig.log.entries().iter().map(String::len).collect();
    assert_eq!(rig.log.count("lost"), 1, "{lengths:?}");
    let total: usize = rig.log.entries().iter().filter(|e| e.starts_with("data ")).map(|e| e.len() - 5).sum();
    assert_eq!(total, 262_143 + 262_144 + 262_145 + 600_000 + 524_288);
}

#[test]
fn one_that_is_aborted_before_it_is_made_is_made_and_lost() {
    let rig = rig(|_, _| {});
    rig.carried.ready();
    rig.carried.transport().abort_connection();
    rig.reactor.settle();
    assert_eq!(rig.log.entries().len(), 2, "{:?}", rig.log.entries());
    assert_eq!(*rig.asked.closed.borrow(), ["abort"]);
}

#[test]
fn a_panic_inside_aborts_the_carrier() {
    let rig = rig(|_, event| {
        if let Event::Data(_) = event {
            panic!("oops");
        }
    });
    rig.carried.received(b"one");
    rig.carried.received(b"two");
    rig.reactor.settle();
    assert_eq!(rig.log.count("lost"), 1);
    assert_eq!(rig.log.count("data"), 1);
    assert_eq!(*rig.asked.closed.borrow(), ["abort"]);
}

#[test]
fn a_pull_producer_is_asked_once_each_time_the_output_is_empty() {
    let rig = rig(|_, _| {});
    rig.reactor.settle();
    let pulls = Rc::new(Cell::new(0));
    let transport = rig.carried.transport().clone();
    let (count, blocked) = (pulls.clone(), rig.asked.blocked.clone());
    let rounds = pulls.clone();
    let producer = Pull(pulls.clone(), move || {
        transport.write("head");
        transport.write("body");
        // the carrier is full after the twentieth record
        if rounds.get() >= 10 {
            blocked.set(true);
        }
        if rounds.get() > 100_000 {
            transport.unregister_producer();
        }
    });
    rig.carried.transport().register_producer(producer, Streaming::Pull).unwrap();
    rig.reactor.settle();
    assert!(count.get() <= 11, "{} pulls, {} bytes queued", count.get(), rig.carried.transport().buffered());
}

/// Nothing is read any more, so that nothing has to be before the end.
#[test]
fn one_that_closes_is_over_with_its_carrier() {
    for carrier_first in [false, true] {
        let rig = rig(|transport, event| {
            if let Event::Made = event {
                transport.set_close_timeout(None);
                transport.pause_producing();
            }
        });
        rig.reactor.settle();
        rig.asked.blocked.set(true);
        rig.carried.transport().write("output");
        rig.carried.received(b"unread");
        let over = || rig.carried.end(Failure::new(UserError::new()));
        let closes = || rig.carried.transport().lose_connection();
        if carrier_first {
            over();
            rig.reactor.settle();
            closes();
        } else {
            closes();
            rig.reactor.settle();
            rig.carried.received(b"late");
            over();
        }
        rig.reactor.settle();
        assert_eq!(rig.log.entries(), ["made".to_owned(), format!("lost: {}", Failure::new(UserError::new()))]);
    }
}

/// Writes when it is resumed, and unregisters when it is stopped.
struct Feeder(twistor_reactor::Transport, Rc<Cell<u32>>);

impl twistor_reactor::Producer for Feeder {
    fn pause_producing(&mut self) {}
    fn resume_producing(&mut self) {
        self.0.write([7; 10]);
    }
    fn stop_producing(&mut self) {
        self.1.set(self.1.get() + 1);
    }
}

#[test]
fn one_that_closes_with_a_producer_is_over_with_its_carrier() {
    for streaming in [Streaming::Push, Streaming::Pull] {
        for carrier_first in [false, true] {
            let rig = rig(|_, _| {});
            rig.reactor.settle();
            let transport = rig.carried.transport().clone();
            transport.set_buffer_limits(BufferLimits { low: 2, high: 6, cap: 2000 });
            rig.asked.blocked.set(true);
            let stopped = Rc::new(Cell::new(0));
            transport.write([1; 10]);
            transport.register_producer(Feeder(transport.clone(), stopped.clone()), streaming).unwrap();
            rig.reactor.settle();
            if carrier_first {
                rig.carried.end(Failure::new(UserError::new()));
                transport.lose_connection();
            } else {
                transport.lose_connection();
                rig.reactor.settle();
                rig.carried.end(Failure::new(UserError::new()));
            }
            rig.reactor.settle();
            rig.reactor.advance(std::time::Duration::from_secs(3600));
            assert_eq!((rig.log.count("lost: "), stopped.get()), (1, 1), "{streaming:?} {carrier_first} {transport:?}");
        }
    }
}
