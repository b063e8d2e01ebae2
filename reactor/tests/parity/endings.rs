//! What a connection still has to send and to read when it ends, and how long that may take.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use twistor_reactor::{Producer, Streaming, Transport, for_protocol};

use crate::common::{Event, Log, dial, half_closeable, play, real_reactor, scripted};
use crate::transport::single;

struct Src(Log, Box<dyn FnMut()>);
impl Producer for Src {
    fn pause_producing(&mut self) {
        self.0.add("pause");
    }
    fn resume_producing(&mut self) {
        self.0.add("resume");
        (self.1)();
    }
    fn stop_producing(&mut self) {
        self.0.add("stop");
    }
}

#[test]
fn a_half_close_waits_for_a_push_producer() {
    let one = single(|_, _| {});
    one.reactor.settle();
    one.transport.register_producer(Src(one.log.clone(), Box::new(|| {})), Streaming::Push).unwrap();
    one.transport.lose_write_connection();
    one.transport.write("first");
    one.reactor.settle();
    one.transport.write("last");
    one.transport.unregister_producer();
    one.reactor.settle();
    assert_eq!(one.peer.received(), b"firstlast");
    assert!(one.peer.saw_end(), "{:?}", one.log.entries());
}

#[test]
fn a_half_close_waits_for_a_push_producer_on_sockets_too() {
    let (reactor, log) = (real_reactor(), Log::default());
    let shared = log.clone();
    let factory = for_protocol(move || {
        let log = shared.clone();
        half_closeable(move |transport, event| {
            if let Event::Made = event {
                transport.register_producer(Src(log.clone(), Box::new(|| {})), Streaming::Push).unwrap();
                transport.lose_write_connection();
                transport.write("first, ");
                let producer = transport.clone();
                let finish = move || {
                    producer.write("last");
                    producer.unregister_producer();
                };
                transport.reactor().call_later(Duration::from_millis(20), finish);
            }
            log.add(event);
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let address = port.address().clone();
    let got = play(&reactor, move || {
        let mut peer = dial(&address);
        peer.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut all = Vec::new();
        let end = peer.read_to_end(&mut all).map_err(|error| error.kind());
        (String::from_utf8(all).unwrap(), end)
    });
    assert_eq!(got, ("first, last".to_owned(), Ok(11)), "{:?}", log.entries());
}

#[test]
fn a_half_close_waits_for_what_is_written_behind_the_drain() {
    let one = single(|_, _| {});
    one.peer.set_room(5);
    one.transport.write("0123456789");
    one.transport.lose_write_connection();
    one.reactor.settle();
    one.peer.set_room(usize::MAX);
    let later = one.transport.clone();
    one.reactor.call_later(Duration::ZERO, move || later.write("tail"));
    one.reactor.settle();
    assert_eq!(one.peer.received(), b"0123456789tail");
    assert!(one.peer.saw_end(), "{:?}", one.log.entries());
}

#[test]
fn a_paused_producer_is_not_resumed_by_a_close() {
    let one = single(|_, _| {});
    one.peer.set_room(10);
    let t = one.transport.clone();
    /// Writes until it is paused.
    fn tick(transport: Transport, log: Log, left: u32) {
        if log.count("pause") > log.count("resume") || left == 0 {
            return;
        }
        transport.write([7; 60_000]);
        transport.clone().call_soon(move |_| tick(transport, log, left - 1));
    }
    let log = one.log.clone();
    let write_on = move || tick(t.clone(), log.clone(), 5000);
    one.transport.register_producer(Src(one.log.clone(), Box::new(write_on)), Streaming::Push).unwrap();
    one.transport.write([7; 100_000]);
    one.reactor.settle();
    assert_eq!(one.log.count("pause"), 1);
    one.transport.lose_connection();
    one.reactor.settle();
    assert_eq!(one.log.count("resume"), 0, "{:?}, {} bytes wait", one.log.entries(), one.transport.buffered());
}

#[test]
fn a_close_waits_for_a_paused_push_producer_to_unregister() {
    let one = single(|_, _| {});
    struct S(Log, Transport);
    impl Producer for S {
        fn pause_producing(&mut self) {
            self.0.add("pause");
        }
        fn resume_producing(&mut self) {
            self.0.add("resume");
            self.1.write("tail");
            self.1.unregister_producer();
        }
        fn stop_producing(&mut self) {
            self.0.add("stop");
        }
    }
    one.peer.set_room(10);
    one.transport.register_producer(S(one.log.clone(), one.transport.clone()), Streaming::Push).unwrap();
    one.transport.write([7; 100_000]);
    one.reactor.settle();
    one.transport.lose_connection();
    one.reactor.settle();
    let early = one.log.count("resume");
    one.peer.set_room(usize::MAX);
    one.reactor.settle();
    assert_eq!(one.peer.received().len(), 100_004);
    assert_eq!(one.log.count("lost"), 1);
    assert_eq!(early, 0);
}

#[test]
fn a_panic_in_a_producers_drop_is_only_its_own() {
    struct Bomb;
    impl Producer for Bomb {
        fn resume_producing(&mut self) {}
        fn stop_producing(&mut self) {}
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose")
        }
    }
    let one = single(|_, _| {});
    one.transport.register_producer(Bomb, Streaming::Push).unwrap();
    one.peer.close();
    one.reactor.settle();
    assert_eq!(one.log.count("lost"), 1);
}

#[test]
fn writing_nothing_drains_nothing() {
    let one = single(|_, _| {});
    one.peer.set_room(0);
    one.transport.register_producer(Src(one.log.clone(), Box::new(|| {})), Streaming::Push).unwrap();
    one.transport.write([7; 100_000]);
    one.reactor.settle();
    one.log.take();
    one.transport.write_now(&Bytes::new());
    one.reactor.settle();
    assert_eq!(one.log.entries(), Vec::<String>::new());
}

#[test]
fn a_write_timeout_set_while_output_waits_holds_for_that() {
    let one = single(|_, _| {});
    one.peer.set_room(0);
    one.transport.write("abc");
    one.reactor.settle();
    one.transport.set_write_timeout(Some(Duration::from_secs(5)));
    one.reactor.settle();
    one.reactor.advance(Duration::from_secs(60));
    assert_eq!(one.log.count("lost"), 1, "{:?}", one.log.entries());
}

#[test]
fn a_close_timeout_set_while_it_closes_holds_for_that() {
    let one = single(|_, _| {});
    one.peer.set_room(0);
    one.transport.write("abc");
    one.transport.lose_connection();
    one.reactor.settle();
    one.transport.set_close_timeout(None);
    one.reactor.advance(Duration::from_secs(60));
    assert_eq!(one.log.count("lost"), 0, "{:?}", one.log.entries());
}

#[test]
fn a_delegated_read_stays_with_who_asked() {
    use twistor_reactor::Protocol;
    struct Next(Log);
    impl Protocol for Next {
        fn data_received(&mut self, _: &Transport, data: &[u8]) {
            self.0.add(format!("next {}", String::from_utf8_lossy(data)));
        }
        fn read_from(&mut self, _: &Transport, source: &mut dyn Read) {
            let mut b = [0; 10];
            let n = source.read(&mut b).unwrap();
            self.0.add(format!("read_from {n}"));
        }
    }
    let one = single(|_, _| {});
    one.transport.delegate_read();
    one.transport.switch_protocol(Next(one.log.clone()), b"");
    one.reactor.settle();
    one.peer.send("abc");
    one.reactor.settle();
    assert_eq!(one.log.count("next abc"), 1, "{:?}", one.log.entries());
}

#[test]
fn what_came_before_a_reset_is_received_though_output_waits() {
    let (reactor, log) = (real_reactor(), Log::default());
    let shared = log.clone();
    let factory = for_protocol(move || {
        let log = shared.clone();
        scripted(move |transport, event| {
            if let Event::Made = event {
                transport.write(vec![0; 16 << 20]);
            }
            log.add(event);
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let (address, seen) = (port.address().clone(), log.clone());
    let handle = reactor.handle();
    play(&reactor, move || {
        let mut peer = dial(&address);
        seen.wait_for(1, "made");
        let (go_on, wait) = channel::<()>();
        let (busy, is_busy) = channel::<()>();
        // the loop is busy with something else
        handle
            .call_from_thread(move |_| {
                busy.send(()).unwrap();
                wait.recv().unwrap();
            })
            .unwrap();
        is_busy.recv().unwrap();
        peer.write_all(b"too large").unwrap();
        drop(peer); // with unread bytes: RST, which loopback delivers before this returns
        go_on.send(()).unwrap();
        seen.wait_for(1, "lost");
    });
    assert_eq!(log.count("data too large"), 1, "{:?}", log.entries());
}

#[test]
fn a_send_that_fails_later_in_the_turn_loses_nothing_that_came() {
    let (reactor, log) = (real_reactor(), Log::default());
    let shared = log.clone();
    let made: Rc<RefCell<Vec<Transport>>> = Rc::default();
    let kept = made.clone();
    let factory = for_protocol(move || {
        let (log, kept) = (shared.clone(), kept.clone());
        scripted(move |transport, event| {
            if let Event::Made = event {
                transport.write(vec![0; 1000]);
                kept.borrow_mut().push(transport.clone());
            }
            log.add(event);
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let (address, seen) = (port.address().clone(), log.clone());
    let (go_on, wait) = channel::<()>();
    let (busy, is_busy) = channel::<()>();
    // a timer that blocks, then writes: in the turn in which the bytes come
    reactor.call_later(Duration::from_millis(200), move || {
        busy.send(()).unwrap();
        wait.recv().unwrap();
        made.borrow()[0].write("news");
    });
    play(&reactor, move || {
        let mut peer = dial(&address);
        seen.wait_for(1, "made");
        is_busy.recv().unwrap();
        peer.write_all(b"bye").unwrap();
        drop(peer); // with unread bytes: RST
        go_on.send(()).unwrap();
        seen.wait_for(1, "lost");
    });
    assert_eq!(log.count("data bye"), 1, "{:?}", log.entries());
}
