//! The words for endings, and what a panic in user code does.

use std::io;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{
    AlreadyCalled, AlreadyCancelled, CallbackPanicked, ConnectBindError, ConnectError, ConnectionAborted,
    ConnectionClosed, ConnectionDone, ConnectionLost, ConnectionRefusedError, DNSLookupError, Failure, NoRouteError,
    NotConnectingError, NotListeningError, TCPTimedOutError, TimeoutError, Transport, UserError, for_protocol,
};

use crate::common::{Event, Log, echo, half_closeable, recorder, scripted};
use crate::transport::single;

/// P104, P284
#[test]
fn every_ending_has_twisteds_text() {
    let texts = [
        (Failure::new(ConnectionDone::new()), "Connection was closed cleanly."),
        (Failure::new(ConnectionLost::new()), "Connection to the other side was lost in a non-clean fashion."),
        (
            Failure::new(ConnectionLost::with_detail("Connection lost")),
            "Connection to the other side was lost in a non-clean fashion: Connection lost.",
        ),
        (Failure::new(ConnectionAborted::new()), "Connection was aborted locally using ITCPTransport.abortConnection."),
        (Failure::new(ConnectError::new()), "An error occurred while connecting."),
        (Failure::new(ConnectBindError::new()), "Couldn't bind."),
        (Failure::new(NoRouteError::new()), "No route to host."),
        (Failure::new(ConnectionRefusedError::new()), "Connection was refused by other side."),
        (Failure::new(TCPTimedOutError::new()), "TCP connection timed out."),
        (Failure::new(UserError::new()), "User aborted connection."),
        (Failure::new(TimeoutError::new()), "User timeout caused connection failure."),
        (Failure::new(DNSLookupError::with_detail("no-such-host.invalid")), "DNS lookup failed: no-such-host.invalid."),
        (Failure::new(AlreadyCalled::new()), "Tried to cancel an already-called event."),
        (Failure::new(AlreadyCancelled::new()), "Tried to cancel an already-cancelled event."),
        (
            Failure::new(NotConnectingError::new()),
            "The Connector was not connecting when it was asked to stop connecting.",
        ),
        (Failure::new(NotListeningError::new()), "The Port was not listening when it was asked to stop listening."),
    ];
    for (failure, text) in texts {
        assert_eq!(failure.to_string(), text);
        assert_eq!(failure.get_error_message(), text);
    }
}

/// P104: getConnectError
#[test]
fn connect_errors_are_classified_by_errno_and_keep_it_as_their_source() {
    let of = |errno| Failure::from_connect_error(io::Error::from_raw_os_error(errno));
    assert!(of(111).check::<ConnectionRefusedError>());
    assert!(of(110).check::<TCPTimedOutError>());
    assert!(of(101).check::<NoRouteError>());
    assert!(of(113).value::<ConnectError>().is_some(), "EHOSTUNREACH has no class of its own");
    assert_eq!(of(110).to_string(), "TCP connection timed out: 110: Connection timed out.");
    assert_eq!(of(113).to_string(), "An error occurred while connecting: 113: No route to host.");
    let source = std::error::Error::source(&of(111)).map(ToString::to_string);
    assert_eq!(source.as_deref(), Some("Connection refused (os error 111)"));
}

/// P118: Twisted's class tree
#[test]
fn check_knows_the_base_classes_and_value_the_exact_one() {
    let aborted = Failure::new(ConnectionAborted::new());
    assert!(aborted.check::<ConnectionAborted>() && aborted.check::<ConnectionLost>());
    assert!(aborted.check::<ConnectionClosed>() && !aborted.check::<ConnectionDone>());
    assert!(aborted.value::<ConnectionAborted>().is_some() && aborted.value::<ConnectionLost>().is_none());
    let timeout = Failure::new(TimeoutError::new());
    assert!(timeout.check::<UserError>() && timeout.check::<ConnectError>());
    assert!(!Failure::new(ConnectionLost::new()).check::<ConnectionAborted>());
    assert!(!Failure::new(DNSLookupError::new()).check::<ConnectError>());
}

/// Each panics on its own kind of callback, once.
fn panicking_on(kind: &'static str) -> impl Fn(&Transport, &Event<'_>) + Clone {
    move |_, event| {
        let starts = event.to_string().starts_with(kind);
        assert!(!starts, "on purpose");
    }
}

/// P127, P283, T55: Twisted leaves a server's connection open when connectionMade raises
#[test]
fn a_panic_in_any_callback_ends_that_connection_once_and_no_other() {
    for kind in ["made", "data", "read lost", "write lost", "high", "drained"] {
        let (reactor, log) = (MemoryReactor::new(), Log::default());
        let (shared, mut number) = (log.clone(), 0);
        let factory = for_protocol(move || {
            number += 1;
            if number == 1 {
                return echo();
            }
            let (log, panics) = (shared.clone(), panicking_on(kind));
            half_closeable(move |transport, event| {
                if let Event::Lost(reason) = event {
                    assert!(reason.check::<CallbackPanicked>(), "{reason}");
                }
                log.add(&event);
                panics(transport, &event);
                match event {
                    Event::Data(b"write") => transport.write([0; 70_000]),
                    Event::Data(b"shut") => transport.lose_write_connection(),
                    _ => {}
                }
            })
        });
        let port = reactor.listen_tcp(1, factory).unwrap();
        let other = reactor.connect_to(&port);
        let peer = reactor.connect_to(&port);
        let steps = [("write", 0), ("", usize::MAX), ("shut", usize::MAX)];
        for (send, room) in steps {
            peer.set_room(room);
            peer.send(send);
            reactor.settle();
        }
        peer.finish();
        reactor.settle();
        assert_eq!(log.count("lost: A callback panicked: on purpose."), 1, "{kind}: {:?}", log.entries());
        assert_eq!(log.count("lost"), 1);
        assert!(log.entries().last().is_some_and(|last| last.starts_with("lost")), "{:?}", log.entries());
        assert!(peer.saw_reset(), "{kind}");
        other.send("alive");
        reactor.settle();
        assert_eq!(other.received(), b"alive");
    }
}

/// T55: the last callback, and the drop of a protocol
#[test]
fn a_panic_in_connection_lost_or_in_drop_harms_no_other() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "on purpose");
        }
    }
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let shared = log.clone();
    let factory = for_protocol(move || {
        let (bomb, log) = (Bomb, shared.clone());
        scripted(move |_, event| {
            let _dropped_with_the_protocol = &bomb;
            if let Event::Lost(_) = event {
                log.add("lost");
                panic!("on purpose");
            }
        })
    });
    let port = reactor.listen_tcp(1, factory).unwrap();
    let peers = [(); 3].map(|()| reactor.connect_to(&port));
    for peer in &peers {
        peer.close();
    }
    reactor.settle();
    assert_eq!(log.entries(), ["lost"; 3]);
}

/// P117
#[test]
fn a_panic_after_an_abort_is_the_reason() {
    let one = single(|transport, event| {
        if let Event::Data(_) = event {
            transport.abort_connection();
            panic!("on purpose");
        }
    });
    one.peer.send("x");
    one.reactor.settle();
    assert_eq!(one.log.entries(), ["made", "data x", "lost: A callback panicked: on purpose."]);
}

/// P283: buildProtocol
#[test]
fn a_panic_in_build_protocol_closes_that_connection_alone() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let (shared, mut number) = (log.clone(), 0);
    let factory = for_protocol(move || {
        number += 1;
        assert!(number != 1, "on purpose");
        recorder(&shared)
    });
    let port = reactor.listen_tcp(1, factory).unwrap();
    let first = reactor.connect_to(&port);
    assert!(first.saw_end());
    let _second = reactor.connect_to(&port);
    assert_eq!(log.entries(), ["made"]);
}

/// T55: what a WebSocket says (1011) before it goes
#[test]
fn callback_panicked_may_say_goodbye() {
    struct Polite(Log);
    impl twistor_reactor::Protocol for Polite {
        fn data_received(&mut self, _: &Transport, _: &[u8]) {
            panic!("on purpose");
        }
        fn callback_panicked(&mut self, transport: &Transport, reason: &Failure) {
            transport.write(reason.to_string());
            transport.lose_connection();
        }
        fn connection_lost(&mut self, _: &Transport, reason: &Failure) {
            self.0.add(reason);
        }
    }
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let shared = log.clone();
    let port = reactor.listen_tcp(1, for_protocol(move || Polite(shared.clone()))).unwrap();
    let peer = reactor.connect_to(&port);
    peer.send("x");
    reactor.settle();
    assert_eq!(peer.received(), b"A callback panicked: on purpose.");
    assert_eq!(log.entries(), ["Connection was closed cleanly."]);
}
