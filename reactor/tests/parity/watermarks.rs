//! Watermarks, producers and the end together.

use std::time::Duration;

use twistor_reactor::{Producer, Streaming, Transport};

use crate::common::{Event, Log};
use crate::transport::single;

#[test]
fn what_is_written_between_the_flush_and_the_half_close_does_not_lose_the_half_close() {
    let one = single(|transport, event| {
        if let Event::Data(_) = event {
            let later = transport.clone();
            transport.call_soon(move |_| later.write("b"));
            transport.write("a");
            transport.lose_write_connection();
        }
    });
    one.peer.send("go");
    one.reactor.settle();
    assert_eq!(one.peer.received(), b"ab");
    assert_eq!(one.log.count("write lost"), 1, "{:?}", one.log.entries());
}

struct Feeder(Transport, Log);

impl Producer for Feeder {
    fn pause_producing(&mut self) {
        self.1.add("pause");
    }
    fn resume_producing(&mut self) {
        self.1.add("resume");
        self.0.write([7; 1000]);
    }
    fn stop_producing(&mut self) {
        self.1.add("stop");
    }
}

#[test]
fn a_closing_connection_with_a_producer_gives_up_after_the_close_timeout() {
    for streaming in [Streaming::Push, Streaming::Pull] {
        let one = single(|_, _| {});
        one.peer.set_room(0);
        one.transport.write(vec![0; 100_000]);
        one.transport.register_producer(Feeder(one.transport.clone(), one.log.clone()), streaming).unwrap();
        one.reactor.settle();
        one.transport.lose_connection();
        one.reactor.settle();
        one.reactor.advance(Duration::from_secs(3600));
        assert_eq!(one.log.count("lost"), 1, "{streaming:?} {:?}", one.log.entries());
    }
}

#[test]
fn a_producer_registered_while_high_does_not_repeat_output_high() {
    let one = single(|_, _| {});
    one.peer.set_room(0);
    one.transport.write(vec![0; 100_000]);
    one.reactor.settle();
    one.transport.register_producer(Feeder(one.transport.clone(), one.log.clone()), Streaming::Push).unwrap();
    one.reactor.settle();
    assert_eq!(one.log.count("high"), 1, "{:?}", one.log.entries());
}

/// `register_producer`: "a pull producer is called once now (from the queue)".
#[test]
fn a_pull_producer_is_called_once_now() {
    let one = single(|_, _| {});
    one.peer.set_room(0);
    one.transport.write("x");
    one.reactor.settle();
    one.transport.register_producer(Feeder(one.transport.clone(), one.log.clone()), Streaming::Pull).unwrap();
    one.reactor.settle();
    assert_eq!(one.log.count("resume"), 1, "{:?}", one.log.entries());
}
