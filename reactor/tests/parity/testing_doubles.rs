//! The doubles that users' tests are written with.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::{Clock, MemoryReactor, Pump, StringTransport, pump};
use twistor_reactor::{Protocol, ProtocolHandle, Transport, WithError, for_protocol};

use crate::common::{Event, Log, echo, recorder, scripted};

/// P279
#[test]
fn a_string_transport_keeps_what_is_written_and_has_twisteds_addresses() {
    let transport = StringTransport::new();
    echo().data_received(&transport, b"one ");
    transport.write_sequence(&[b"two", b" three"]);
    assert_eq!(transport.value(), b"one two three");
    transport.clear();
    assert_eq!(transport.value(), b"");
    assert_eq!(transport.peer().to_string(), "192.168.1.1:54321");
    assert_eq!(transport.host().unwrap().to_string(), "10.0.0.1:12345");
    transport.pause_producing();
    assert!(transport.paused());
    transport.resume_producing();
    assert!(!transport.paused());
    transport.lose_connection();
    assert!(transport.disconnecting());
    transport.abort_connection();
    transport.write("dropped");
    assert_eq!(transport.value(), b"");
    assert!(!transport.is_connected() && !transport.disconnecting());
}

/// P279: timers of a protocol under test
#[test]
fn a_string_transports_reactor_has_a_clock_of_its_own() {
    let transport = StringTransport::new();
    let later = (*transport).clone();
    transport.reactor().call_later(Duration::from_secs(60), move || later.write("timeout"));
    transport.reactor().advance(Duration::from_secs(60));
    assert_eq!(transport.value(), b"timeout");
}

/// P280
#[test]
fn a_memory_reactor_shows_connects_and_listens_and_stops() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let when = log.clone();
    reactor.call_when_running(move |_| when.add("running"));
    let port = reactor.listen_tcp(8000, for_protocol(echo)).unwrap();
    assert_eq!(port.address().port(), Some(8000));
    let connector = reactor.connect_tcp("example.org", 80, for_protocol(echo));
    reactor.settle();
    assert_eq!(reactor.connecting(), [connector]);
    assert_eq!(log.entries(), ["running"]);
    assert!(!reactor.stopped());
    reactor.stop();
    reactor.settle();
    assert!(reactor.stopped() && !port.listening());
    assert!(reactor.run().is_err(), "it has no loop");
}

/// P281, T50
#[test]
fn a_pump_joins_two_protocols_in_any_chunks() {
    for bytes in [1, 2, 3, 7, usize::MAX] {
        let (server_log, client_log) = (Log::default(), Log::default());
        let (whole, received) = (client_log.clone(), Rc::new(Cell::new(0)));
        let client = scripted(move |transport, event| match event {
            Event::Made => transport.write("hello, world"),
            Event::Data(data) => {
                received.set(received.get() + data.len());
                if received.get() == 12 {
                    whole.add("whole");
                    transport.lose_connection();
                }
            }
            Event::Lost(reason) => whole.add(reason),
            _ => {}
        });
        let log = server_log.clone();
        let server = scripted(move |transport, event| {
            if let Event::Data(data) = event {
                assert!(data.len() <= bytes);
                transport.write(data);
            }
            log.add(event);
        });
        let pump = Pump::with_chunks(server, client, bytes);
        assert!(server_log.entries().is_empty(), "nothing moves before flush");
        pump.flush();
        assert_eq!(client_log.entries(), ["whole", "Connection was closed cleanly."]);
        assert_eq!(server_log.count("data"), 12_usize.div_ceil(bytes));
        assert_eq!(server_log.count("lost: Connection was closed cleanly."), 1);
    }
}

/// P281
#[test]
fn a_pumps_server_is_connected_first_and_writes_after_close_are_discarded() {
    let log = Log::default();
    let named = |name: &'static str| {
        let log = log.clone();
        scripted(move |_, event| log.add(format!("{name} {event}")))
    };
    let pump = pump(named("server"), named("client"));
    pump.flush();
    assert_eq!(log.take(), ["server made", "client made"]);
    pump.server.lose_connection();
    pump.flush();
    pump.client.write("discarded");
    pump.flush();
    assert_eq!(log.count("server data"), 0);
}

/// P223
#[test]
fn a_clock_stands_still_but_for_advance() {
    let (clock, log) = (Clock::new(), Log::default());
    let inside = log.clone();
    clock.call_later(Duration::ZERO, move || inside.add("now"));
    assert_eq!(clock.seconds(), Duration::ZERO);
    assert!(log.entries().is_empty(), "not inside call_later");
    clock.advance(Duration::ZERO);
    assert_eq!(log.entries(), ["now"]);
    clock.pump([Duration::from_secs(1); 3]);
    assert_eq!(clock.seconds(), Duration::from_secs(3));
}

struct Counter {
    count: u32,
    log: Log,
}

impl Protocol for Counter {
    fn data_received(&mut self, transport: &Transport, _: &[u8]) {
        let itself = transport.protocol::<Self>();
        self.log.add(format!("{:?}", itself.with(|_, _| ()).err()));
        itself.post(|counter, _| counter.count += 1);
        itself.call_later(Duration::from_secs(1), |counter, _| counter.count += 10);
        self.log.add(self.count);
    }
}

/// The exception to the rule: `with` is synchronous, into another connection's protocol.
#[test]
fn a_protocol_handle_reaches_its_protocol_later_and_others_now() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let shared = log.clone();
    let factory = for_protocol(move || Counter { count: 0, log: shared.clone() });
    let port = reactor.listen_tcp(1, factory).unwrap();
    let peer = reactor.connect_to(&port);
    peer.send("x");
    reactor.settle();
    assert_eq!(log.take(), ["Some(ProtocolBusy)", "0"]);
    reactor.advance(Duration::from_secs(1));
    peer.send("x");
    reactor.settle();
    assert_eq!(log.entries()[1], "11");
}

/// A handle answers for the right type only, and for the living only.
#[test]
fn a_protocol_handle_says_when_its_protocol_is_gone() {
    let log = Log::default();
    let pump = pump(recorder(&log), recorder(&log));
    pump.flush();
    let wrong: ProtocolHandle<Counter> = pump.server.protocol();
    assert_eq!(wrong.with(|_, _| ()), Err(WithError::ProtocolGone));
    let right: ProtocolHandle<crate::common::Scripted> = pump.server.protocol();
    assert_eq!(right.with(|_, transport| transport.peer().port()), Ok(Some(50_000)));
    pump.server.abort_connection();
    pump.flush();
    assert_eq!(right.with(|_, _| ()), Err(WithError::ProtocolGone));
    right.post(|_, _| unreachable!("it is gone"));
    pump.flush();
}

#[test]
fn settle_runs_what_a_queued_call_makes_due() {
    let reactor = MemoryReactor::new();
    let called = Rc::new(Cell::new(false));
    let flag = called.clone();
    reactor.call_when_running(move |reactor| {
        reactor.call_later(Duration::ZERO, move || flag.set(true));
    });
    reactor.settle();
    assert!(called.get());
}

#[test]
fn a_redirected_connectors_peer_is_where_it_was_sent() {
    let reactor = MemoryReactor::new();
    let connector = reactor.connect_tcp("first", 1, for_protocol(|| scripted(|_, _| {})));
    reactor.settle();
    let _a = reactor.accept(&connector);
    assert!(connector.redirect("second", 2, scripted(|_, _| {})).is_ok());
    reactor.settle();
    let _b = reactor.accept(&connector);
    assert_eq!(connector.transport().unwrap().peer().port(), Some(2));
}

#[test]
fn port_0_is_a_free_one() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    let shared = log.clone();
    let port = reactor.listen_tcp(0, for_protocol(move || recorder(&shared))).unwrap();
    assert_ne!(port.address().port(), Some(0));
}

#[test]
fn the_same_port_of_two_interfaces_is_two_ports() {
    let reactor = MemoryReactor::new();
    let _a = reactor.listen_tcp("127.0.0.1:80", for_protocol(|| scripted(|_, _| {}))).unwrap();
    let _b = reactor.listen_tcp("[::1]:80", for_protocol(|| scripted(|_, _| {}))).unwrap();
}
