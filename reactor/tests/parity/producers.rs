//! Producers and consumers.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{BufferLimits, Producer, ProducerRegistered, Streaming, Transport, for_protocol};

use crate::common::{Event, Log, scripted};
use crate::transport::{Single, single};

/// Logs its calls, and does what the test wants on `resume_producing`.
struct Source<F> {
    log: Log,
    resumed: F,
}

impl<F: FnMut() + 'static> Producer for Source<F> {
    fn pause_producing(&mut self) {
        self.log.add("pause");
    }
    fn resume_producing(&mut self) {
        self.log.add("resume");
        (self.resumed)();
    }
    fn stop_producing(&mut self) {
        self.log.add("stop");
    }
}

fn source<F: FnMut() + 'static>(one: &Single, resumed: F) -> Source<F> {
    Source { log: one.log.clone(), resumed }
}

/// P131
#[test]
fn a_second_producer_is_refused_until_the_first_unregisters() {
    let one = single(|_, _| {});
    let register = |streaming| one.transport.register_producer(source(&one, || {}), streaming);
    assert_eq!(register(Streaming::Push), Ok(()));
    assert_eq!(register(Streaming::Pull), Err(ProducerRegistered));
    one.transport.unregister_producer();
    one.transport.unregister_producer();
    assert_eq!(register(Streaming::Push), Ok(()));
}

/// P132, P134, P137, P140: a file's pieces, one a time
#[test]
fn a_pull_producer_writes_once_for_each_time_the_output_is_empty() {
    let one = single(|_, _| {});
    one.peer.set_room(100);
    let (transport, mut left) = (one.transport.clone(), 3);
    let pull = source(&one, move || {
        left -= 1;
        transport.write([b'0' + left; 100_000]); // more than "high": it is never paused
        if left == 0 {
            transport.unregister_producer();
        }
    });
    one.log.take();
    one.transport.register_producer(pull, Streaming::Pull).unwrap();
    assert!(one.log.entries().is_empty(), "not inside register_producer");
    one.reactor.settle();
    assert_eq!(one.log.count("resume"), 1, "the output is not empty");
    one.transport.lose_connection();
    one.reactor.settle();
    one.peer.set_room(usize::MAX);
    one.reactor.settle();
    let received = one.peer.received();
    assert_eq!(received.len(), 300_000);
    assert_eq!([received[0], received[150_000], received[299_999]], *b"210");
    assert_eq!(one.log.count("pause"), 0);
    assert_eq!(one.log.count("lost: Connection was closed cleanly."), 1);
}

/// P133
#[test]
fn a_producer_for_a_lost_connection_is_stopped() {
    let one = single(|_, _| {});
    one.peer.close();
    one.reactor.settle();
    one.log.take();
    one.transport.register_producer(source(&one, || {}), Streaming::Push).unwrap();
    assert!(one.log.entries().is_empty(), "not inside register_producer");
    one.reactor.settle();
    assert_eq!(one.log.entries(), ["stop"]);
    // nothing is stored: another one is told the same
    let again = one.transport.register_producer(source(&one, || {}), Streaming::Push);
    one.reactor.settle();
    assert_eq!((again, one.log.count("stop")), (Ok(()), 2));
}

/// P135
#[test]
fn a_push_producer_is_paused_above_64_kib_and_resumed_when_the_output_is_empty() {
    let one = single(|_, _| {});
    one.peer.set_room(0);
    one.transport.register_producer(source(&one, || {}), Streaming::Push).unwrap();
    one.log.take();
    one.transport.write(vec![0; 65_536]);
    one.reactor.settle();
    assert!(one.log.entries().is_empty());
    one.transport.write("x");
    assert!(one.log.entries().is_empty(), "not inside write");
    one.reactor.settle();
    assert_eq!(one.log.take(), ["pause", "high"]);
    one.peer.set_room(65_536);
    one.reactor.settle();
    assert!(one.log.entries().is_empty(), "a byte is left");
    one.peer.set_room(usize::MAX);
    one.reactor.settle();
    assert_eq!(one.log.take(), ["drained", "resume"]);
}

/// P135: with a low-water mark, which Twisted has not
#[test]
fn the_low_mark_resumes_before_the_output_is_empty() {
    let one = single(|_, _| {});
    one.transport.set_buffer_limits(BufferLimits { high: 100, low: 50, ..BufferLimits::default() });
    one.peer.set_room(0);
    one.transport.write([0; 101]);
    one.reactor.settle();
    one.peer.set_room(50);
    one.reactor.settle();
    assert_eq!(one.log.count("drained"), 0);
    one.peer.set_room(51);
    one.reactor.settle();
    assert_eq!((one.log.count("high"), one.log.count("drained")), (1, 1));
}

/// P136
#[test]
fn a_producer_that_fills_the_buffer_as_it_is_resumed_is_paused_again() {
    let one = single(|_, _| {});
    one.peer.set_room(0);
    let (transport, mut left) = (one.transport.clone(), 3);
    let push = source(&one, move || {
        if left > 0 {
            left -= 1;
            transport.write(vec![0; 70_000]);
        }
    });
    one.transport.register_producer(push, Streaming::Push).unwrap();
    one.transport.write(vec![0; 70_000]);
    one.reactor.settle();
    let mut got = 0;
    for _ in 0..8 {
        one.peer.set_room(70_000);
        one.reactor.settle();
        got += one.peer.received().len();
    }
    let calls: Vec<_> = one.log.entries().into_iter().filter(|entry| matches!(&**entry, "pause" | "resume")).collect();
    assert_eq!(got, 4 * 70_000);
    assert!(calls.chunks(2).all(|pair| pair == ["pause", "resume"]), "{calls:?}");
}

/// P137: the paused push producer, and the one that is not paused (Twisted #6461)
#[test]
fn a_closing_connection_waits_for_a_paused_producer_and_not_for_a_running_one() {
    let one = single(|_, _| {});
    one.transport.register_producer(source(&one, || {}), Streaming::Push).unwrap();
    one.transport.lose_connection();
    one.reactor.settle();
    assert_eq!(one.log.entries(), ["made", "stop", "lost: Connection was closed cleanly."]);

    let one = single(|_, _| {});
    let (transport, mut done) = (one.transport.clone(), false);
    let push = source(&one, move || {
        if !std::mem::replace(&mut done, true) {
            transport.write("the rest");
            transport.unregister_producer();
        }
    });
    one.peer.set_room(0);
    one.transport.register_producer(push, Streaming::Push).unwrap();
    one.transport.write(vec![0; 70_000]);
    one.reactor.settle();
    one.transport.lose_connection();
    one.reactor.settle();
    assert_eq!(one.log.count("lost"), 0);
    one.peer.set_room(usize::MAX);
    one.reactor.settle();
    assert!(one.peer.received().ends_with(b"the rest"));
    assert_eq!(one.log.count("lost: Connection was closed cleanly."), 1, "{:?}", one.log.entries());
}

/// P139
#[test]
fn stop_producing_comes_once_and_before_connection_lost() {
    let one = single(|_, _| {});
    one.transport.register_producer(source(&one, || {}), Streaming::Push).unwrap();
    one.transport.abort_connection();
    one.reactor.settle();
    let text = "lost: Connection was aborted locally using ITCPTransport.abortConnection.";
    assert_eq!(one.log.entries(), ["made", "stop", text]);
}

/// P115
#[test]
fn abort_in_resume_producing_ends_the_connection() {
    for writes_first in [false, true] {
        let one = single(|_, _| {});
        let transport = one.transport.clone();
        let pull = source(&one, move || {
            if writes_first {
                transport.write("x");
            }
            transport.abort_connection();
        });
        one.transport.register_producer(pull, Streaming::Pull).unwrap();
        one.reactor.settle();
        let text = "lost: Connection was aborted locally using ITCPTransport.abortConnection.";
        assert_eq!(one.log.entries(), ["made", "resume", "stop", text]);
    }
}

/// P283, T55: an exception in `resumeProducing` closes the connection with it
#[test]
fn a_panic_in_a_producer_ends_its_connection() {
    let one = single(|_, _| {});
    let pull = source(&one, || panic!("on purpose"));
    one.transport.register_producer(pull, Streaming::Pull).unwrap();
    one.reactor.settle();
    assert_eq!(one.log.count("lost: A callback panicked: on purpose."), 1, "{:?}", one.log.entries());
}

/// P137, T55: a producer that panics must not keep a closing connection for ever
#[test]
fn a_closing_connection_whose_producer_panics_closes() {
    let one = single(|_, _| {});
    let mut calls = 0;
    let transport = one.transport.clone();
    let pull = source(&one, move || {
        calls += 1;
        assert!(calls == 1, "on purpose");
        transport.write("first");
    });
    one.peer.set_room(0);
    one.transport.register_producer(pull, Streaming::Pull).unwrap();
    one.reactor.settle();
    one.transport.lose_connection();
    one.peer.set_room(usize::MAX);
    one.reactor.settle();
    assert_eq!(one.log.count("lost"), 1, "{:?}", one.log.entries());
}

/// P220: portforward's two lines. A transport is a producer for its twin, and a slow reader slows the sender down.
#[test]
fn each_of_two_joined_transports_paces_the_other() {
    let reactor = MemoryReactor::new();
    let sides: Rc<RefCell<Vec<Transport>>> = Rc::default();
    let shared = sides.clone();
    let factory = for_protocol(move || {
        let sides = shared.clone();
        scripted(move |transport, event| match event {
            Event::Made => sides.borrow_mut().push(transport.clone()),
            Event::Data(data) => {
                let twin = sides.borrow().iter().find(|side| *side != transport).cloned();
                twin.expect("both are there").write(data);
            }
            _ => {}
        })
    });
    let port = reactor.listen_tcp(1, factory).unwrap();
    let (fast, slow) = (reactor.connect_to(&port), reactor.connect_to(&port));
    let [first, second] = [0, 1].map(|index| sides.borrow()[index].clone());
    first.register_producer(second.clone(), Streaming::Push).unwrap();
    second.register_producer(first.clone(), Streaming::Push).unwrap();
    slow.set_room(0);
    fast.set_chunk(10_000);
    fast.send(vec![7; 1_000_000]);
    reactor.settle();
    assert!(first.paused());
    assert!(second.buffered() < 400_000, "{} bytes are buffered", second.buffered());
    slow.set_room(usize::MAX);
    reactor.settle();
    assert!(!first.paused());
    assert_eq!(slow.received().len(), 1_000_000);
}

/// P132: a large framed payload goes to the socket without the queue; that it is gone must be told all the same.
#[test]
fn a_pull_producer_of_large_frames_is_asked_again() {
    let one = single(|_, _| {});
    let (transport, left) = (one.transport.clone(), Cell::new(3));
    let resumed = move || match left.get() {
        0 => transport.unregister_producer(),
        count => {
            left.set(count - 1);
            transport.write_framed(&[b'h'; 16], 2, &vec![b'p'; 100_000]);
        }
    };
    one.transport.register_producer(Source { log: one.log.clone(), resumed }, Streaming::Pull).unwrap();
    one.reactor.settle();
    assert_eq!(one.log.count("resume"), 4);
    assert_eq!(one.peer.received().len(), 3 * 100_002);
}

/// Counts its calls, and does something in each.
pub(crate) struct Pull<F>(pub(crate) Rc<Cell<u32>>, pub(crate) F);

impl<F: FnMut() + 'static> Producer for Pull<F> {
    fn pause_producing(&mut self) {}
    fn resume_producing(&mut self) {
        self.0.set(self.0.get() + 1);
        (self.1)();
    }
    fn stop_producing(&mut self) {}
}

#[test]
fn a_pull_producer_whose_writes_are_sent_at_once_is_asked_no_more_often() {
    let one = single(|_, _| {});
    one.peer.set_room(100_000 * 20);
    let pulls = Rc::new(Cell::new(0));
    let transport = one.transport.clone();
    let rounds = pulls.clone();
    let producer = Pull(pulls.clone(), move || {
        transport.write([1; 100_000]);
        transport.write([2; 100_000]);
        if rounds.get() > 1000 {
            transport.unregister_producer();
        }
    });
    one.transport.register_producer(producer, Streaming::Pull).unwrap();
    one.reactor.settle();
    assert!(pulls.get() <= 11, "{} pulls, {} bytes queued", pulls.get(), one.transport.buffered());
}
