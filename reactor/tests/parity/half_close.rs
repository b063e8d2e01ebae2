//! One direction closed, the other open.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use twistor_reactor::for_protocol;
use twistor_reactor::testing::{MemoryReactor, pump};

use crate::common::{Event, Log, dial, half_closeable, play, read_all, real_reactor, recorder, reset};
use crate::transport::single;

const CLEAN: &str = "lost: Connection was closed cleanly.";

/// P124
#[test]
fn a_half_closeable_peer_is_told_and_may_go_on_writing() {
    let (server_log, client_log) = (Log::default(), Log::default());
    let log = server_log.clone();
    let server = half_closeable(move |transport, event| {
        if let Event::ReadLost = event {
            transport.write("answer");
            transport.lose_connection();
        }
        log.add(event);
    });
    let pump = pump(server, recorder(&client_log));
    pump.flush();
    pump.client.write("question");
    pump.client.lose_write_connection();
    pump.flush();
    assert_eq!(server_log.entries(), ["made", "data question", "read lost", CLEAN]);
    let done = "lost: Connection was closed cleanly: Connection done.";
    assert_eq!(client_log.entries(), ["made", "write lost", "data answer", "read lost", done]);
}

/// P125
#[test]
fn any_other_peer_closes_too() {
    let (server_log, client_log) = (Log::default(), Log::default());
    let pump = pump(recorder(&server_log), recorder(&client_log));
    pump.flush();
    pump.client.lose_write_connection();
    pump.flush();
    assert_eq!(server_log.entries(), ["made", "read lost", CLEAN]);
    assert_eq!(client_log.count("lost: Connection was closed cleanly"), 1);
}

/// P126: the peer is gone before our shutdown
#[test]
fn a_shutdown_that_comes_too_late_is_silent() {
    let (reactor, log) = (real_reactor(), Log::default());
    let shared = log.clone();
    let factory = for_protocol(move || {
        let log = shared.clone();
        half_closeable(move |transport, event| {
            match event {
                Event::Made => transport.pause_producing(),
                Event::Lost(_) => transport.lose_write_connection(),
                _ => {}
            }
            if let Event::Made = event {
                let later = transport.clone();
                let shut = move || later.lose_write_connection();
                transport.reactor().call_later(Duration::from_millis(5), shut);
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
    assert_eq!(log.count("lost"), 1);
}

/// P128
#[test]
fn both_halves_closed_then_lose_connection_completes() {
    let (server_log, client_log) = (Log::default(), Log::default());
    let (one, two) = (server_log.clone(), client_log.clone());
    let pump = pump(half_closeable(move |_, event| one.add(event)), half_closeable(move |_, event| two.add(event)));
    pump.flush();
    pump.server.lose_write_connection();
    pump.client.lose_write_connection();
    pump.flush();
    for log in [&server_log, &client_log] {
        assert_eq!(log.count("write lost"), 1);
        assert_eq!(log.count("read lost"), 1);
        assert_eq!(log.count("lost"), 0, "not by itself, as in Twisted");
    }
    pump.server.lose_connection();
    pump.client.lose_connection();
    pump.flush();
    let done = "lost: Connection was closed cleanly: Connection done.";
    assert_eq!((server_log.count(done), client_log.count(done)), (1, 1));
}

/// P129
#[test]
fn what_is_written_before_the_shutdown_is_done_is_sent_and_later_writes_are_dropped() {
    let one = single(|_, _| {});
    one.peer.set_room(3);
    one.transport.write("one ");
    one.transport.lose_write_connection();
    one.transport.write("two");
    one.reactor.settle();
    assert_eq!(one.log.count("write lost"), 0);
    one.transport.write(" three");
    one.peer.set_room(usize::MAX);
    one.reactor.settle();
    assert_eq!(one.log.count("write lost"), 1);
    one.transport.write("dropped");
    one.reactor.settle();
    assert_eq!(one.peer.received(), b"one two three");
    assert!(one.peer.saw_end());
    one.peer.send("still reading");
    one.reactor.settle();
    assert_eq!(one.log.count("data still reading"), 1);
}

/// P130: Twisted throws the pending output away
#[test]
fn pending_output_is_flushed_when_the_peer_half_closes() {
    let one = single(|transport, event| {
        if let Event::Data(_) = event {
            transport.write([b'x'; 1000]);
        }
    });
    one.peer.set_room(10);
    one.peer.send("request");
    one.peer.finish();
    one.reactor.settle();
    assert_eq!(one.log.count("lost"), 0);
    one.peer.set_room(usize::MAX);
    one.reactor.settle();
    assert_eq!(one.peer.received().len(), 1000);
    assert_eq!(one.log.count(CLEAN), 1);
}

/// P130, T47: the same while reading is paused, as a proxy or a slow handler does
#[test]
fn pending_output_of_a_paused_connection_is_flushed_when_the_peer_half_closes() {
    let one = single(|transport, event| {
        if let Event::Data(_) = event {
            transport.pause_producing();
            transport.write([b'x'; 1000]);
        }
    });
    one.peer.set_room(10);
    one.peer.send("request");
    one.peer.finish();
    one.reactor.settle();
    one.peer.set_room(usize::MAX);
    one.reactor.settle();
    assert_eq!(one.peer.received().len(), 1000, "{:?}", one.log.entries());
}

/// P124, T47: being paused does not change what a FIN means
#[test]
fn a_paused_half_closeable_protocol_keeps_its_connection_when_the_peer_half_closes() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let shared = log.clone();
    let factory = for_protocol(move || {
        let log = shared.clone();
        half_closeable(move |transport, event| {
            if let Event::Made = event {
                transport.pause_producing();
            }
            log.add(event);
        })
    });
    let port = reactor.listen_tcp(1, factory).unwrap();
    let peer = reactor.connect_to(&port);
    peer.finish();
    reactor.settle();
    assert_eq!(log.count("lost"), 0, "{:?}", log.entries());
}

/// P124, P130 over sockets: a peer that shuts down and then reads gets everything
#[test]
fn a_client_that_sends_and_shuts_down_gets_the_whole_answer() {
    const ANSWER: usize = 3_000_000;
    let reactor = real_reactor();
    let factory = for_protocol(|| {
        crate::common::scripted(|transport, event| {
            if let Event::Data(_) = event {
                transport.write(vec![1; ANSWER]);
            }
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let address = port.address().clone();
    let received = play(&reactor, move || {
        let mut peer = dial(&address);
        peer.write_all(b"request").expect("it reads");
        peer.shutdown(Shutdown::Write).expect("it is open");
        read_all(&mut peer).len()
    });
    assert_eq!(received, ANSWER);
}

/// T46, T47: an idle half-closed connection must not wait for ever for a peer that has gone
#[test]
fn a_reset_after_a_half_close_is_noticed() {
    let (reactor, log) = (real_reactor(), Log::default());
    let shared = log.clone();
    let factory = for_protocol(move || {
        let log = shared.clone();
        half_closeable(move |_, event| log.add(event))
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let (address, seen) = (port.address().clone(), log.clone());
    play(&reactor, move || {
        let peer = dial(&address);
        peer.shutdown(Shutdown::Write).expect("it is open");
        seen.wait_for(1, "read lost");
        reset(peer);
        // a round trip of another connection: whatever the reactor was told by then it has handled
        let mut probe = dial(&address);
        probe.shutdown(Shutdown::Write).expect("it is open");
        seen.wait_for(2, "read lost");
        let _ = probe.set_read_timeout(Some(Duration::from_millis(50)));
        let _ = probe.read(&mut [0]);
        assert_eq!(seen.count("lost"), 1, "nobody was told of the reset: {:?}", seen.entries());
    });
}

/// P127, T55
#[test]
fn a_panic_in_a_half_close_hook_ends_that_connection() {
    for hook in ["read lost", "write lost"] {
        let one = single(move |_, event| {
            let panics = matches!((hook, event), ("read lost", Event::ReadLost) | ("write lost", Event::WriteLost));
            assert!(!panics, "on purpose");
        });
        match hook {
            "read lost" => one.peer.finish(),
            _ => one.transport.lose_write_connection(),
        }
        one.reactor.settle();
        assert_eq!(one.log.count("lost: A callback panicked: on purpose."), 1, "{:?}", one.log.entries());
        assert!(one.peer.saw_reset());
    }
}
