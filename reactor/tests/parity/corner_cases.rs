//! Corner cases that random histories found.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{
    Address, BufferLimits, Carried, Carrier, Failure, Producer, Reactor, Streaming, Transport, UserError, for_protocol,
};

use crate::common::{Event, Log, recorder, scripted, slot};
use crate::transport::single;

#[derive(Clone, Default)]
struct Taken {
    blocked: Rc<Cell<bool>>,
    records: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl Carrier for Taken {
    fn is_ready(&self) -> bool {
        !self.blocked.get()
    }
    fn send(&mut self, record: &[u8]) {
        self.records.borrow_mut().push(record.to_vec());
    }
    fn drained(&mut self) {}
    fn close(&mut self, _: bool) {}
    fn host(&self) -> io::Result<Address> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn somewhere() -> Address {
    std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into()
}

/// A pull producer that has nothing to give as yet.
struct Idle(Log);
impl Producer for Idle {
    fn resume_producing(&mut self) {
        self.0.add("pull");
    }
    fn stop_producing(&mut self) {
        self.0.add("stop");
    }
}

#[test]
fn high_is_not_told_twice() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    let transports: Rc<RefCell<Vec<Transport>>> = Rc::default();
    let (list, shared) = (transports.clone(), log.clone());
    let port = reactor
        .listen_tcp(
            1,
            for_protocol(move || {
                let (list, log) = (list.clone(), shared.clone());
                scripted(move |transport, event| match event {
                    Event::Made => list.borrow_mut().push(transport.clone()),
                    Event::Data(_) => list.borrow()[0].write([7; 100_000]),
                    Event::High | Event::Drained => log.add(event),
                    _ => {}
                })
            }),
        )
        .unwrap();
    let (slow, source) = (reactor.connect_to(&port), reactor.connect_to(&port));
    slow.set_room(10);
    source.send("more");
    reactor.settle();
    assert_eq!(log.entries(), ["high"]);
    // in one turn: the peer takes what waits, and another connection writes as much again
    slow.set_room(100_010);
    source.send("more");
    reactor.settle();
    let told = log.entries();
    assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
}

#[test]
fn drained_is_not_told_twice() {
    let (reactor, log, taken) = (MemoryReactor::new(), Log::default(), Taken::default());
    let carried = Carried::new(&reactor, somewhere(), recorder(&log), taken.clone());
    reactor.settle();
    let transport = carried.transport();
    for _ in 0..3 {
        taken.blocked.set(true);
        transport.write([7; 100_000]);
        taken.blocked.set(false);
        carried.ready();
    }
    reactor.settle();
    let told = log.entries();
    assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
}

#[test]
fn closing_with_bytes_given_back_notices_that_the_peer_is_gone() {
    let one = single(|transport, event| {
        if let Event::Data(_) = event {
            transport.unread(b"later");
            transport.lose_connection();
        }
    });
    one.transport.register_producer(Idle(one.log.clone()), Streaming::Pull).unwrap();
    one.peer.send("hello");
    one.reactor.settle();
    one.peer.reset();
    one.reactor.settle();
    one.reactor.advance(Duration::from_secs(600));
    assert_eq!(one.log.count("lost"), 1, "{:?}", one.log.entries());
}

/// Reads nothing more while its output is high: the pattern of `output_high`.
#[test]
fn a_carried_connection_that_pauses_until_its_output_drains_ends_with_its_carrier() {
    let (reactor, log, taken) = (MemoryReactor::new(), Log::default(), Taken::default());
    let shared = log.clone();
    let protocol = scripted(move |transport, event| {
        shared.add(&event);
        match event {
            Event::High => transport.pause_producing(),
            Event::Drained => transport.resume_producing(),
            _ => {}
        }
    });
    let carried = Carried::new(&reactor, somewhere(), protocol, taken.clone());
    taken.blocked.set(true);
    carried.transport().write([7; 100_000]);
    reactor.settle();
    carried.received(b"bye");
    carried.end(Failure::new(UserError::new()));
    reactor.settle();
    reactor.advance(Duration::from_secs(600));
    assert_eq!(log.count("lost"), 1, "{} {:?}", log.entries().len(), carried.transport().buffered());
}

#[test]
fn a_carried_connection_made_as_the_reactor_stops_is_made_before_it_is_lost() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let shared = log.clone();
    reactor.call_when_running(move |reactor: &Reactor| {
        reactor.stop();
        let again = shared.clone();
        reactor.call_when_running(move |reactor| {
            let _ = Carried::new(reactor, somewhere(), recorder(&again), Taken::default());
            let last = again.clone();
            reactor.call_when_running(move |reactor| {
                let _ = Carried::new(reactor, somewhere(), recorder(&last), Taken::default());
            });
        });
        let _ = Carried::new(reactor, somewhere(), recorder(&shared), Taken::default());
    });
    reactor.settle();
    let entries = log.entries();
    assert_eq!(log.count("made"), log.count("lost"), "{entries:?}");
    assert!(log.count("made") > 0);
}

#[test]
fn blocked_output_drains_only_when_the_peer_takes_some() {
    let one = single(|_, _| {});
    one.transport.set_buffer_limits(BufferLimits { low: 1000, ..BufferLimits::default() });
    one.peer.set_room(0);
    one.transport.write([7; 10]);
    one.reactor.settle();
    one.transport.notify_drained();
    one.reactor.settle();
    assert_eq!(one.log.count("drained"), 0);
    one.transport.write([7; 10]);
    one.reactor.settle();
    assert_eq!(one.log.count("drained"), 0, "the peer has taken nothing");
}

#[test]
fn a_connection_that_pauses_and_resumes_reads_once_a_turn() {
    let turns = Rc::new(Cell::new(0_u32));
    let (now, most, last) = (turns.clone(), Rc::new(Cell::new(0_u32)), Cell::new((0, 0)));
    let max = most.clone();
    let one = single(move |transport, event| {
        if let Event::Data(data) = event {
            let _ = data;
            let (turn, count) = last.get();
            let count = if turn == now.get() { count + 1 } else { 1 };
            last.set((now.get(), count));
            max.set(max.get().max(count));
            transport.pause_producing();
            transport.resume_producing();
        }
    });
    let t = turns.clone();
    fn tick(reactor: &Reactor, turns: Rc<Cell<u32>>, left: u32) {
        turns.set(turns.get() + 1);
        if left > 0 {
            reactor.call_when_running(move |reactor| tick(reactor, turns, left - 1));
        }
    }
    tick(&one.reactor, t, 500);
    one.peer.send(vec![7; 256 * 1024 * 60]);
    one.reactor.settle();
    assert!(most.get() <= 2, "{} reads in a turn", most.get());
}

#[test]
fn the_reason_of_an_end_stays_its_reason_when_the_reactor_stops() {
    let one = single(|transport, event| {
        if let Event::Data(_) = event {
            transport.reactor().stop();
            let transport = transport.clone();
            transport.clone().call_soon(move |_| {
                transport.abort_with(Failure::new(UserError::new()));
            });
        }
    });
    one.peer.send("stop");
    one.reactor.settle();
    assert_eq!(one.log.count("lost"), 1);
    assert_eq!(one.log.count("lost: User"), 1, "{:?}", one.log.entries());
}

#[test]
fn a_producer_registered_while_another_is_stopped_is_stopped_too() {
    struct First(Transport, Log);
    impl Producer for First {
        fn resume_producing(&mut self) {}
        fn stop_producing(&mut self) {
            self.1.add("first stop");
            self.0.unregister_producer();
            let _ = self.0.register_producer(Idle(self.1.clone()), Streaming::Push);
        }
    }
    let one = single(|_, _| {});
    one.transport.register_producer(First(one.transport.clone(), one.log.clone()), Streaming::Push).unwrap();
    one.peer.reset();
    one.reactor.settle();
    assert_eq!(one.log.count("stop"), 1, "{:?}", one.log.entries());
    let _ = slot::<u8>;
}

#[test]
fn what_the_old_protocol_was_told_is_not_what_the_new_one_was_told() {
    let new = Log::default();
    let log = new.clone();
    let one = single(move |transport, event| {
        if let Event::Data(_) = event {
            let log = log.clone();
            let next = scripted(move |transport, event| {
                log.add(&event);
                if let Event::Made = event {
                    transport.write([8; 200_000]);
                }
            });
            transport.switch_protocol(next, b"");
        }
    });
    one.peer.set_room(10);
    one.transport.write([7; 100_000]);
    one.reactor.settle();
    assert_eq!(one.log.entries(), ["made", "high"]);
    // in one turn: the peer takes what waits, and another protocol takes over, which writes as much again
    one.peer.set_room(100_010);
    one.peer.send("switch");
    one.reactor.settle();
    assert!(one.transport.buffered() > 64 * 1024, "{}", one.transport.buffered());
    assert_eq!(new.entries(), ["made", "high"]);
}

#[test]
fn limits_that_come_after_a_write_do_not_tell_of_a_drain_without_a_high() {
    let one = single(|transport, event| {
        if let Event::Data(_) = event {
            transport.write([7; 100]);
            transport.set_buffer_limits(BufferLimits { high: 10, ..BufferLimits::default() });
        }
    });
    one.peer.send("go");
    one.reactor.settle();
    assert_eq!(one.peer.received().len(), 100);
    assert_eq!(one.log.entries(), ["made", "data go"]);
}

#[test]
fn a_carried_connection_whose_reactor_is_dropped_before_it_was_made_is_over() {
    struct Dropped(Rc<Cell<bool>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let (reactor, dropped) = (MemoryReactor::new(), Rc::new(Cell::new(false)));
    let mine = Dropped(dropped.clone());
    let protocol = scripted(move |_, _| {
        let _ = &mine;
    });
    let carried = Carried::new(&reactor, somewhere(), protocol, Taken::default());
    drop(reactor);
    assert!(dropped.get(), "its protocol is still there");
    assert!(!carried.transport().is_connected());
}

#[test]
fn a_carried_connection_that_writes_while_it_pauses_still_reads_what_came_before_the_end() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let carried = Carried::new(&reactor, somewhere(), recorder(&log), Taken::default());
    reactor.settle();
    let transport = carried.transport();
    transport.pause_producing(); // it is busy with a request
    carried.received(b"another");
    carried.end(Failure::new(UserError::new()));
    reactor.settle();
    assert_eq!(log.entries(), ["made"]);
    transport.write("the answer"); // goes nowhere
    transport.resume_producing();
    reactor.settle();
    assert_eq!(log.count("data another"), 1, "{:?}", log.entries());
    assert_eq!(log.count("lost: User"), 1, "{:?}", log.entries());
}

#[test]
fn a_carried_connection_that_writes_while_it_pauses_still_reads_later_what_came_before_the_end() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let carried = Carried::new(&reactor, somewhere(), recorder(&log), Taken::default());
    reactor.settle();
    let transport = carried.transport();
    transport.pause_producing();
    carried.received(b"another");
    carried.end(Failure::new(UserError::new()));
    reactor.settle();
    transport.write("the answer");
    reactor.settle();
    transport.resume_producing();
    reactor.settle();
    assert_eq!(log.count("data another"), 1, "{:?}", log.entries());
}
