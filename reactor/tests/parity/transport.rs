//! Writing and closing.

use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::{MemoryPeer, MemoryReactor};
use twistor_reactor::{BufferLimits, BufferOverflow, ConnectionLost, Reactor, Transport, for_protocol};

use crate::common::{Event, Log, dial, play, real_reactor, scripted, slot};

/// One connection in memory, its server side driven by `on`.
pub(crate) struct Single {
    pub(crate) reactor: MemoryReactor,
    pub(crate) transport: Transport,
    pub(crate) peer: MemoryPeer,
    pub(crate) log: Log,
}

pub(crate) fn single(on: impl Fn(&Transport, &Event<'_>) + 'static) -> Single {
    let (reactor, log, made) = (MemoryReactor::new(), Log::default(), slot());
    let (shared, on, given) = (log.clone(), Rc::new(on), made.clone());
    let factory = for_protocol(move || {
        let (log, on, made) = (shared.clone(), on.clone(), given.clone());
        scripted(move |transport, event| {
            if let Event::Made = event {
                made.set(Some(transport.clone()));
            }
            log.add(&event);
            on(transport, &event);
        })
    });
    let port = reactor.listen_tcp(1, factory).expect("it is free");
    let peer = reactor.connect_to(&port);
    Single { reactor, transport: made.take().expect("it was made"), peer, log }
}

/// P105
#[test]
fn writes_arrive_in_order_however_they_are_cut() {
    let one = single(|_, _| {});
    let mut want = Vec::new();
    for round in 0..50_u8 {
        one.transport.write([round; 7]);
        one.transport.write_sequence(&[b"ab", b"", &[round; 3]]);
        one.transport.write_bytes(bytes::Bytes::from(vec![round; 5000]));
        want.extend([&[round; 7][..], b"ab", &[round; 3], &[round; 5000]].concat());
    }
    let mut got = Vec::new();
    for room in (1..).step_by(97) {
        one.peer.set_room(room);
        one.reactor.settle();
        got.extend(one.peer.received());
        if one.transport.buffered() == 0 {
            break;
        }
    }
    assert_eq!(got, want);
    assert_eq!(one.transport.bytes_sent(), want.len() as u64);
}

/// P106, P112, T49: more than all the kernel's buffers take, to a peer that reads in odd pieces
#[test]
fn large_buffers_arrive_complete_over_a_socket() {
    const REPEATS: usize = 60_000;
    let pattern: Vec<u8> = (0..=250).collect();
    let reactor = real_reactor();
    let all = pattern.repeat(REPEATS);
    let log = Log::default();
    let written = log.clone();
    let factory = for_protocol(move || {
        let (all, written) = (all.clone(), written.clone());
        scripted(move |transport, event| {
            if let Event::Made = event {
                let (first, rest) = all.split_at(all.len() / 3);
                transport.write(first);
                transport.write_bytes(bytes::Bytes::copy_from_slice(rest));
                assert!(transport.buffered() > 0, "the kernel took it all");
                transport.lose_connection();
                written.add("written");
            }
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let (address, seen) = (port.address().clone(), log.clone());
    let received = play(&reactor, move || {
        let mut peer = dial(&address);
        seen.wait_for(1, "written"); // while nobody reads, the kernel's buffers do not grow
        let mut all = Vec::new();
        let mut buffer = [0; 79_190];
        for size in (1..buffer.len()).step_by(997).cycle() {
            match peer.read(&mut buffer[..size]).expect("bytes, then FIN") {
                0 => break,
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
        all
    });
    assert_eq!(received.len(), pattern.len() * REPEATS);
    assert!(received.chunks(pattern.len()).all(|piece| piece == pattern));
}

/// P119
#[test]
fn socket_options_are_what_was_set() {
    let reactor = real_reactor();
    let log = Log::default();
    let shared = log.clone();
    let factory = for_protocol(move || {
        let log = shared.clone();
        scripted(move |transport, event| {
            if let Event::Made = event {
                let read = |transport: &Transport| (transport.tcp_nodelay().ok(), transport.tcp_keepalive().ok());
                assert_eq!(read(transport), (Some(true), Some(false)), "the defaults");
                transport.set_tcp_nodelay(false).expect("TCP_NODELAY");
                transport.set_tcp_keepalive(true).expect("SO_KEEPALIVE");
                assert_eq!(read(transport), (Some(false), Some(true)));
                log.add("checked");
            }
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let address = port.address().clone();
    play(&reactor, move || {
        let _peer = dial(&address);
        log.wait_for(1, "checked");
    });
}

/// P121, P122
#[test]
fn pausing_and_resuming_are_idempotent_and_a_closing_connection_reads_no_more() {
    let one = single(|_, _| {});
    for _ in 0..3 {
        one.transport.pause_producing();
    }
    one.peer.send("kept");
    one.reactor.settle();
    assert_eq!(one.log.count("data"), 0);
    assert!(one.transport.paused());
    for _ in 0..3 {
        one.transport.resume_producing();
    }
    one.reactor.settle();
    assert_eq!(one.log.count("data kept"), 1);

    one.peer.set_room(0);
    one.transport.write("slow");
    one.transport.lose_connection();
    one.transport.resume_producing();
    one.peer.send("too late");
    one.reactor.settle();
    assert_eq!(one.log.count("data"), 1);
}

/// P122: pausing inside the callback stops the next delivery, `unread` gives back what it had
#[test]
fn bytes_given_back_come_first_when_reading_resumes() {
    let one = single(|transport, event| {
        if let Event::Data(b"one two") = event {
            transport.pause_producing();
            transport.unread(b"wo");
            transport.unread(b" t");
        }
    });
    one.peer.send("one two");
    one.reactor.settle();
    one.peer.send(" three");
    one.reactor.settle();
    assert_eq!(one.log.count("data"), 1);
    one.transport.resume_producing();
    one.reactor.settle();
    assert_eq!(one.log.entries(), ["made", "data one two", "data  two", "data  three"]);
}

/// A: the hard cap (Twisted: unbounded)
#[test]
fn output_beyond_the_cap_ends_the_connection_and_no_other() {
    let one = single(|_, event| {
        if let Event::Lost(reason) = event {
            assert!(reason.check::<BufferOverflow>() && reason.check::<ConnectionLost>());
        }
    });
    one.transport.set_buffer_limits(BufferLimits { cap: 1000, ..BufferLimits::default() });
    one.peer.set_room(0);
    one.transport.write([0; 2000]); // alone, it is taken
    assert_eq!(one.transport.buffered(), 2000);
    one.transport.write("x");
    one.reactor.settle();
    assert_eq!(one.log.count("lost: Output buffer overflowed"), 1);
}

/// T42, T43: a slow peer is spared, one that takes next to nothing is given up
#[test]
fn the_write_timeout_spares_whoever_makes_progress() {
    let one = single(|_, _| {});
    one.transport.set_write_timeout(Some(Duration::from_secs(15)));
    one.peer.set_room(0);
    one.transport.write([0; 50_000]);
    one.reactor.settle();
    one.peer.set_room(4000);
    for _ in 1..=10 {
        one.reactor.advance(Duration::from_secs(14));
        assert_eq!(one.peer.received().len(), 4000);
        assert_eq!(one.log.count("lost"), 0);
    }
    one.reactor.advance(Duration::from_secs(16));
    one.reactor.advance(Duration::from_secs(16));
    assert_eq!(one.log.count("lost"), 1);
}

/// P111
#[test]
#[allow(clippy::mutable_key_type)] // hashed by identity, which no mutation changes
fn handles_are_equal_to_their_clones_and_to_nothing_else() {
    let (one, two) = (single(|_, _| {}), single(|_, _| {}));
    assert_eq!(one.transport, one.transport.clone());
    assert_ne!(one.transport, two.transport);
    let set: std::collections::HashSet<_> = [&one.transport, &one.transport, &two.transport].into_iter().collect();
    assert_eq!(set.len(), 2);
}

/// A transport's reactor is the one that serves it.
#[test]
fn a_callback_reaches_its_reactor() {
    let one = single(|transport, event| {
        if let Event::Data(_) = event {
            transport.reactor().stop();
        }
    });
    one.peer.send("stop");
    one.reactor.settle();
    assert!(one.reactor.stopped());
    let _: Reactor = one.transport.reactor();
}
