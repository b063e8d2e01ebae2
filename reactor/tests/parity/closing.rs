//! How connections end, by whose doing, and what is left of them.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{ConnectionAborted, ConnectionDone, ConnectionLost, Transport, for_protocol};

use crate::common::{Event, Log, dial, play, read_all, real_reactor, reset, scripted};
use crate::transport::{Single, single};

const CLEAN: &str = "lost: Connection was closed cleanly.";

/// P109
#[test]
fn what_is_written_after_lose_connection_is_sent_while_it_drains() {
    let one = single(|_, _| {});
    one.peer.set_room(4);
    one.transport.write("before, ");
    one.transport.lose_connection();
    one.transport.write("after");
    one.reactor.settle();
    assert!(one.transport.disconnecting() && !one.transport.is_connected());
    one.transport.write(" that");
    one.peer.set_room(usize::MAX);
    one.reactor.settle();
    assert_eq!(one.peer.received(), b"before, after that");
    assert!(one.peer.saw_end());
    assert_eq!(one.log.count(CLEAN), 1);
}

/// P113
#[test]
fn losing_and_aborting_again_and_again_ends_once() {
    type Step = fn(&Transport);
    let steps: [Step; 4] =
        [Transport::lose_connection, Transport::abort_connection, Transport::lose_write_connection, |transport| {
            transport.write("x");
        }];
    for first in steps {
        for second in steps {
            for settle_between in [false, true] {
                let one = single(|_, _| {});
                first(&one.transport);
                if settle_between {
                    one.reactor.settle();
                }
                second(&one.transport);
                one.transport.lose_connection();
                one.transport.abort_connection();
                one.reactor.settle();
                assert_eq!(one.log.count("lost"), 1);
            }
        }
    }
}

/// P114
#[test]
fn abort_in_data_received_does_not_reenter() {
    let depth = Rc::new(RefCell::new(()));
    let one = single(move |transport, event| {
        let _alone = depth.borrow_mut();
        if let Event::Data(_) = event {
            transport.abort_connection();
        }
    });
    one.peer.send("x");
    one.reactor.settle();
    let text = "lost: Connection was aborted locally using ITCPTransport.abortConnection.";
    assert_eq!(one.log.entries(), ["made", "data x", text]);
    assert!(one.peer.saw_reset());
}

/// P110, P112, P116: the kernel's buffer is full, and nobody reads
#[test]
fn abort_with_a_full_buffer_resets_at_once() {
    let reactor = real_reactor();
    let log = Log::default();
    let shared = log.clone();
    let factory = for_protocol(move || {
        let log = shared.clone();
        scripted(move |transport, event| match event {
            Event::Made => {
                transport.pause_producing();
                transport.write(vec![0; 20_000_000]);
                assert!(transport.buffered() > 0, "the kernel took it all");
                let later = transport.clone();
                let abort = move || later.abort_connection();
                transport.reactor().call_later(Duration::from_millis(5), abort);
            }
            Event::Lost(reason) => {
                assert!(reason.check::<ConnectionAborted>());
                log.add("lost");
            }
            _ => {}
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let address = port.address().clone();
    play(&reactor, move || {
        let mut peer = dial(&address);
        log.wait_for(1, "lost");
        let end = std::iter::repeat_with(|| peer.read(&mut [0; 65_536])).find(|read| !matches!(read, Ok(1..)));
        assert!(matches!(end, Some(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset));
    });
}

/// P118, B: each side's reason
#[test]
fn reasons_tell_who_ended_it_and_how() {
    type Ending = (&'static str, fn(&Single));
    let table: [Ending; 4] = [
        (CLEAN, |one| one.transport.lose_connection()),
        (CLEAN, |one| one.peer.close()),
        ("lost: Connection was aborted locally using ITCPTransport.abortConnection.", |one| {
            one.transport.abort_connection();
        }),
        ("lost: Connection to the other side was lost in a non-clean fashion: 104: Connection reset by peer.", |one| {
            one.peer.reset();
        }),
    ];
    for (text, end) in table {
        let one = single(|_, event| {
            if let Event::Lost(reason) = event {
                let clean = reason.check::<ConnectionDone>();
                assert_ne!(clean, reason.check::<ConnectionLost>());
            }
        });
        end(&one);
        one.reactor.settle();
        assert_eq!(one.log.count("lost"), 1);
        assert_eq!(one.log.count(text), 1, "{:?}", one.log.entries());
    }
}

/// A: the close timeout (Twisted: waits for ever), and None, which waits
#[test]
fn closing_gives_up_on_a_peer_that_does_not_read() {
    for (timeout, lost) in [(Some(Duration::from_secs(30)), 1), (None, 0)] {
        let one = single(|_, _| {});
        one.transport.set_close_timeout(timeout);
        one.peer.set_room(3);
        one.transport.write("never taken");
        one.transport.lose_connection();
        one.reactor.settle();
        one.reactor.advance(Duration::from_secs(29));
        assert_eq!(one.log.count("lost"), 0);
        one.reactor.advance(Duration::from_secs(3600));
        assert_eq!(one.log.count("lost"), lost);
        assert_eq!(one.peer.saw_reset(), lost == 1);
        assert_eq!(one.reactor.pending_calls(), 0, "no timer is left behind");
    }
}

/// P109, P118: what was sent last arrives, though the peer had sent more than was read
#[test]
fn closing_with_unread_input_does_not_destroy_what_was_sent() {
    let reactor = real_reactor();
    let factory = for_protocol(|| {
        scripted(|transport, event| {
            if let Event::Made = event {
                transport.pause_producing();
                let later = transport.clone();
                transport.reactor().call_later(Duration::from_millis(30), move || {
                    later.write("goodbye");
                    later.lose_connection();
                });
            }
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let address = port.address().clone();
    let received = play(&reactor, move || {
        let mut peer = dial(&address);
        peer.write_all(&[0; 10_000]).expect("the kernel takes it");
        read_all(&mut peer)
    });
    assert_eq!(received, b"goodbye");
}

/// P108, P138
#[test]
fn a_lost_connections_transport_does_nothing_for_ever() {
    let one = single(|transport, event| {
        if let Event::Lost(_) = event {
            assert!(!transport.is_connected());
            transport.write("dropped");
            transport.lose_connection();
            transport.abort_connection();
        }
    });
    one.peer.close();
    one.reactor.settle();
    let transport = &one.transport;
    transport.write("dropped");
    transport.write_sequence(&[b"dropped"]);
    transport.write_bytes(bytes::Bytes::from_static(&[0; 8192]));
    transport.lose_connection();
    transport.abort_connection();
    transport.lose_write_connection();
    transport.pause_producing();
    transport.resume_producing();
    transport.unread(b"dropped");
    transport.unregister_producer();
    transport.switch_protocol(crate::common::silent(), b"dropped");
    one.reactor.advance(Duration::from_secs(3600));
    assert_eq!(transport.buffered(), 0);
    assert_eq!(one.log.count("lost"), 1);
    assert_eq!(transport.peer().port(), Some(50_000), "the peer is known for ever");
    assert!(transport.host().is_err());
}

/// P111: sockets are closed, protocols dropped, and nothing else is held
#[test]
fn a_lost_connections_protocol_is_dropped() {
    struct Held(Log);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.add("dropped");
        }
    }
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let shared = log.clone();
    let transports: Rc<RefCell<Vec<Transport>>> = Rc::default();
    let list = transports.clone();
    let factory = for_protocol(move || {
        let (held, list, log) = (Held(shared.clone()), list.clone(), shared.clone());
        scripted(move |transport, event| {
            let _in_use = &held;
            match event {
                Event::Made => list.borrow_mut().push(transport.clone()),
                Event::Lost(_) => log.add("lost"),
                _ => {}
            }
        })
    });
    let port = reactor.listen_tcp(1, factory).unwrap();
    reactor.connect_to(&port).close();
    reactor.settle();
    assert_eq!(log.entries(), ["lost", "dropped"], "a stored handle keeps no protocol alive");
    assert_eq!(transports.borrow().len(), 1);
}

/// P120: a paused connection notices its peer's end (Twisted: only once resumed)
#[test]
fn a_paused_connection_learns_that_its_peer_is_gone() {
    let one = single(|_, _| {});
    one.transport.pause_producing();
    one.reactor.settle();
    one.peer.close();
    one.reactor.settle();
    assert_eq!(one.log.count(CLEAN), 1, "{:?}", one.log.entries());
}

/// P120: ... but not before what came earlier was read
#[test]
fn what_came_before_the_end_is_delivered_when_reading_resumes() {
    let one = single(|_, _| {});
    one.transport.pause_producing();
    one.peer.send("last words");
    one.peer.close();
    one.reactor.settle();
    assert_eq!(one.log.count("lost"), 0);
    one.transport.resume_producing();
    one.reactor.settle();
    assert_eq!(one.log.entries(), ["made", "data last words", "read lost", CLEAN]);
}

/// T46, P120: a reset is noticed without reading, and is no clean end
#[test]
fn a_paused_connection_learns_of_a_reset_as_connection_lost() {
    let (reactor, log) = (real_reactor(), Log::default());
    let shared = log.clone();
    let factory = for_protocol(move || {
        let log = shared.clone();
        scripted(move |transport, event| {
            if let Event::Made = event {
                transport.pause_producing();
            }
            log.add(event);
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let (address, seen) = (port.address().clone(), log.clone());
    play(&reactor, move || {
        let peer = dial(&address);
        seen.wait_for(1, "made");
        reset(peer);
        seen.wait_for(1, "lost");
    });
    assert_eq!(log.count("lost: Connection to the other side was lost"), 1, "{:?}", log.entries());
}
