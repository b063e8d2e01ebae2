//! Connections that break or close while something is under way, timeouts that change then, and the reactor's own end.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::{Producer, Streaming, Transport};

use crate::common::Event;
use crate::transport::single;

/// Writes a piece whenever it is resumed, and is never done.
struct Endless(Transport, usize);
impl Producer for Endless {
    fn pause_producing(&mut self) {}
    fn resume_producing(&mut self) {
        self.0.write(vec![7; self.1]);
    }
    fn stop_producing(&mut self) {}
}

#[test]
fn a_closing_connection_whose_push_producer_was_resumed_ends_in_time() {
    let one = single(|_, _| {});
    one.peer.set_room(10);
    one.transport.register_producer(Endless(one.transport.clone(), 1000), Streaming::Push).unwrap();
    one.transport.write([7; 100_000]);
    one.reactor.settle(); // paused
    one.transport.lose_connection();
    one.reactor.settle();
    one.peer.set_room(100_010);
    one.reactor.settle(); // what waited is taken, and not what the resumed one writes
    assert!(one.transport.buffered() > 0);
    for _ in 0..100 {
        one.reactor.advance(Duration::from_secs(60));
    }
    assert_eq!(one.log.count("lost"), 1, "{:?}, {} wait", one.log.entries(), one.transport.buffered());
}

#[test]
fn a_closing_connection_whose_pull_producer_writes_later_ends_in_time() {
    struct Later(Transport);
    impl Producer for Later {
        fn resume_producing(&mut self) {
            let transport = self.0.clone();
            self.0.reactor().call_later(Duration::from_secs(1), move || transport.write([7; 1000]));
        }
        fn stop_producing(&mut self) {}
    }
    let one = single(|_, _| {});
    one.peer.set_room(10);
    one.transport.register_producer(Later(one.transport.clone()), Streaming::Pull).unwrap();
    one.transport.lose_connection();
    one.reactor.settle();
    for _ in 0..100 {
        one.reactor.advance(Duration::from_secs(60));
    }
    assert_eq!(one.log.count("lost"), 1, "{:?}, {} wait", one.log.entries(), one.transport.buffered());
}

#[test]
fn a_close_timeout_set_first_while_it_closes_holds_for_that() {
    let one = single(|_, _| {});
    one.transport.set_close_timeout(None);
    one.peer.set_room(0);
    one.transport.write("abc");
    one.transport.lose_connection();
    one.reactor.settle();
    one.transport.set_close_timeout(Some(Duration::from_secs(5)));
    one.reactor.settle();
    one.reactor.advance(Duration::from_secs(60));
    assert_eq!(one.log.count("lost"), 1, "{:?}", one.log.entries());
}

#[test]
fn a_write_timeout_that_is_taken_back_ends_nothing() {
    let one = single(|_, _| {});
    one.transport.set_write_timeout(Some(Duration::from_secs(5)));
    one.peer.set_room(0);
    one.transport.write("abc");
    one.reactor.settle();
    one.transport.set_write_timeout(None);
    one.reactor.advance(Duration::from_secs(60));
    assert_eq!(one.log.count("lost"), 0, "{:?}", one.log.entries());
}

#[test]
fn a_write_timeout_that_becomes_longer_is_longer() {
    let one = single(|_, _| {});
    one.transport.set_write_timeout(Some(Duration::from_secs(5)));
    one.peer.set_room(0);
    one.transport.write("abc");
    one.reactor.settle();
    one.transport.set_write_timeout(Some(Duration::from_secs(100)));
    one.reactor.advance(Duration::from_secs(60));
    assert_eq!(one.log.count("lost"), 0, "{:?}", one.log.entries());
}

/// Reads nothing more while its output is high: the pattern of `output_high`.
#[test]
fn a_broken_connection_that_pauses_until_its_output_drains_ends() {
    let high = Rc::new(Cell::new(false));
    let seen = high.clone();
    let one = single(move |transport, event| match event {
        Event::Data(_) if seen.get() => transport.pause_producing(),
        Event::High => seen.set(true),
        Event::Drained => {
            seen.set(false);
            transport.resume_producing();
        }
        _ => {}
    });
    one.peer.set_room(10);
    one.transport.write([7; 100_000]);
    one.reactor.settle();
    assert!(high.get());
    one.peer.set_chunk(1);
    one.peer.send("bye");
    one.peer.close();
    one.reactor.settle();
    one.reactor.advance(Duration::from_secs(600));
    assert_eq!(one.log.count("lost"), 1, "{:?}", one.log.entries());
}

#[test]
fn what_was_given_back_is_read_before_a_failed_send_ends_the_connection() {
    let first = Cell::new(true);
    let one = single(move |transport, event| {
        if let Event::Data(_) = event {
            if first.replace(false) {
                transport.unread(b"lo");
                transport.write("answer");
            }
        }
    });
    one.peer.send("hello");
    one.peer.close();
    one.reactor.settle();
    assert_eq!(one.log.count("data lo"), 1, "{:?}", one.log.entries());
}

#[test]
fn what_is_written_switched_and_closed_while_broken_is_told_once() {
    for what in 0..6 {
        let one = single(move |transport, event| {
            if let Event::Data(_) = event {
                match what {
                    0 => transport.write("x"),
                    1 => transport.lose_connection(),
                    2 => transport.abort_connection(),
                    3 => transport.lose_write_connection(),
                    4 => panic!("on purpose"),
                    _ => {
                        transport.unread(b"z");
                        transport.pause_producing();
                        let t = transport.clone();
                        transport.reactor().call_later(Duration::from_secs(1), move || t.resume_producing());
                    }
                }
            }
        });
        one.peer.send("hello");
        one.peer.close();
        one.transport.write("fails");
        one.reactor.settle();
        one.reactor.advance(Duration::from_secs(5));
        assert_eq!(one.log.count("lost"), 1, "{what} {:?}", one.log.entries());
    }
}

struct Again(twistor_reactor::Reactor, Rc<Cell<u32>>);
impl twistor_reactor::Factory for Again {
    type Protocol = Nothing;
    fn build_protocol(&mut self, _: &twistor_reactor::Address) -> Option<Nothing> {
        Some(Nothing)
    }
    fn stop_factory(&mut self) {
        self.1.set(self.1.get() + 1);
        let _ = self.0.listen_tcp(7, Self(self.0.clone(), self.1.clone()));
    }
}
struct Nothing;
impl twistor_reactor::Protocol for Nothing {
    fn data_received(&mut self, _: &Transport, _: &[u8]) {}
}

#[test]
fn a_factory_that_listens_again_when_it_stops_does_not_outlive_the_reactor() {
    let reactor = twistor_reactor::testing::MemoryReactor::new();
    let count = Rc::new(Cell::new(0));
    reactor.listen_tcp(7, Again(reactor.clone(), count.clone())).unwrap();
    reactor.settle();
    reactor.stop();
    reactor.settle();
    assert!(count.get() <= 1, "{}", count.get());
}

/// A source without end: it fills the output while there is a connection and room.
#[test]
fn who_writes_until_the_output_is_full_stops_when_the_send_fails() {
    let written = Rc::new(Cell::new(0));
    let counter = written.clone();
    let one = single(move |transport, event| {
        if let Event::Data(_) = event {
            while transport.is_connected() && transport.buffered() < 256 * 1024 && counter.get() < 100_000 {
                transport.write([7; 10_000]);
                counter.set(counter.get() + 1);
            }
        }
    });
    one.peer.send("all of it, please");
    one.peer.close();
    one.reactor.settle();
    assert!(written.get() < 100_000, "it would never have ended");
    assert_eq!(one.log.count("lost"), 1, "{:?}", one.log.entries());
}

struct Last(twistor_reactor::Reactor, Rc<Cell<u32>>);
impl twistor_reactor::Factory for Last {
    type Protocol = Nothing;
    fn build_protocol(&mut self, _: &twistor_reactor::Address) -> Option<Nothing> {
        Some(Nothing)
    }
    fn stop_factory(&mut self) {
        let count = self.1.clone();
        self.0.call_when_running(move |_| count.set(count.get() + 1));
    }
}

#[test]
fn what_a_factory_queues_when_it_stops_runs_though_others_queue_for_ever() {
    fn again(reactor: &twistor_reactor::Reactor) {
        reactor.call_when_running(again);
    }
    let reactor = crate::common::real_reactor();
    let count = Rc::new(Cell::new(0));
    reactor.listen_tcp("127.0.0.1:0", Last(reactor.clone(), count.clone())).unwrap();
    reactor.call_when_running(|reactor| {
        again(reactor);
        reactor.stop();
    });
    reactor.run().unwrap();
    assert_eq!(count.get(), 1);
}

#[test]
fn a_future_woken_from_threads_misses_nothing() {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};
    use std::task::{Poll, Waker};
    let reactor = crate::common::real_reactor();
    let (count, waker) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(None::<Waker>)));
    const ALL: u32 = 200_000;
    let (c, w, r) = (count.clone(), waker.clone(), reactor.clone());
    drop(reactor.spawn(std::future::poll_fn(move |context| {
        *w.lock().unwrap() = Some(context.waker().clone());
        if c.load(Ordering::SeqCst) >= ALL {
            r.stop();
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        context.waker().wake_by_ref();
        Poll::Pending
    })));
    let (c, w, r) = (count.clone(), waker.clone(), reactor.clone());
    drop(reactor.spawn(std::future::poll_fn(move |context| {
        *w.lock().unwrap() = Some(context.waker().clone());
        if c.load(Ordering::SeqCst) >= 2 * ALL {
            r.stop();
            return Poll::Ready(());
        }
        Poll::Pending
    })));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (count, waker) = (count.clone(), waker.clone());
            std::thread::spawn(move || {
                for _ in 0..ALL {
                    count.fetch_add(1, Ordering::SeqCst);
                    if let Some(waker) = waker.lock().unwrap().clone() {
                        waker.wake();
                    }
                }
            })
        })
        .collect();
    let stopper = reactor.clone();
    let timed_out = Rc::new(Cell::new(false));
    let t = timed_out.clone();
    reactor.call_later(Duration::from_secs(20), move || {
        t.set(true);
        stopper.stop();
    });
    reactor.run().unwrap();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(!timed_out.get());
}
