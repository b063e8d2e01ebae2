//! Factories: when they start, what they build, when they stop.

use std::cell::RefCell;
use std::rc::Rc;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Address, ConnectionRefusedError, Failure, Protocol, Transport, for_protocol};

use crate::common::{Event, Hook, Log, Recording, echo, real_reactor, recorder, run, scripted};

/// P074, P151
#[test]
fn one_factory_on_several_ports_starts_once_and_stops_after_the_last() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let factory = Rc::new(RefCell::new(Recording::new(&log)));
    let first = reactor.listen_tcp(1, factory.clone()).unwrap();
    let second = reactor.listen_tcp(2, factory.clone()).unwrap();
    assert!(log.entries().is_empty(), "not inside listen_tcp");
    reactor.settle();
    assert_eq!(log.entries(), ["start factory"]);
    let _peers = [reactor.connect_to(&first), reactor.connect_to(&second)];
    assert_eq!(log.count("build"), 2);
    drop(first.stop_listening().unwrap());
    reactor.settle();
    assert_eq!(log.count("stop factory"), 0);
    drop(second.stop_listening().unwrap());
    reactor.settle();
    assert_eq!(log.count("stop factory"), 1);
    assert_eq!(Rc::strong_count(&factory), 1, "the ports have let go of it");
}

/// P074: a port and a connector count together
#[test]
fn a_factory_that_also_connects_stops_when_both_are_gone() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let factory = Rc::new(RefCell::new(Recording::new(&log)));
    let port = reactor.listen_tcp(1, factory.clone()).unwrap();
    let connector = reactor.connect_tcp("example.org", 80, factory);
    reactor.settle();
    drop(port.stop_listening().unwrap());
    reactor.settle();
    assert_eq!(log.count("stop factory"), 0);
    reactor.refuse(&connector, Failure::new(ConnectionRefusedError::new()));
    assert_eq!((log.count("start factory"), log.count("stop factory")), (1, 1));
}

/// P148, P150
#[test]
fn a_closure_and_for_protocol_are_factories() {
    struct Greeter(&'static str);
    impl Protocol for Greeter {
        fn connection_made(&mut self, transport: &Transport) {
            assert!(transport.is_connected());
            transport.write(self.0);
        }
        fn data_received(&mut self, _: &Transport, _: &[u8]) {}
    }
    let reactor = MemoryReactor::new();
    let first = reactor.listen_tcp(1, for_protocol(|| Greeter("one"))).unwrap();
    let closure = |peer: &Address| (peer.port() != Some(50_001)).then_some(Greeter("two"));
    let second = reactor.listen_tcp(2, closure).unwrap();
    assert_eq!(reactor.connect_to(&first).received(), b"one");
    let refused = reactor.connect_to(&second);
    assert!(refused.saw_end());
    assert_eq!(reactor.connect_to(&second).received(), b"two");
}

/// P100: once a use, whatever the hooks do
#[test]
fn a_failed_attempt_stops_the_factory_and_the_next_starts_it_again() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let connector = reactor.connect_tcp("example.org", 80, Recording::new(&log));
    for _ in 0..2 {
        reactor.settle();
        reactor.refuse(&connector, Failure::new(ConnectionRefusedError::new()));
        connector.connect().unwrap();
    }
    assert_eq!((log.count("start factory"), log.count("stop factory")), (2, 2));
}

/// P067 in part: the port is closed and may be bound again, but its Deferred does not tell of the panic
#[test]
fn a_panic_in_stop_factory_still_closes_the_port() {
    struct Bad;
    impl twistor_reactor::Factory for Bad {
        type Protocol = crate::common::Scripted;
        fn build_protocol(&mut self, _: &Address) -> Option<Self::Protocol> {
            Some(echo())
        }
        fn start_factory(&mut self) {
            panic!("on purpose");
        }
        fn stop_factory(&mut self) {
            panic!("on purpose");
        }
    }
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let port = reactor.listen_tcp(1, Bad).unwrap();
    let peer = reactor.connect_to(&port);
    peer.send("served");
    reactor.settle();
    assert_eq!(peer.received(), b"served");
    let fired = log.clone();
    drop(port.stop_listening().unwrap().add_both(move |_| fired.add("stopped")));
    reactor.settle();
    assert_eq!(log.entries(), ["stopped"]);
    assert!(reactor.listen_tcp(1, for_protocol(echo)).is_ok());
}

/// P099, P283: Twisted skips clientConnectionLost and stopFactory when connectionLost raises
#[test]
fn the_clients_hooks_run_though_its_protocol_panics() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let factory = Recording::new(&log)
        .building(|_| {
            Some(scripted(|_, event| {
                assert!(!matches!(event, Event::Lost(_)), "on purpose");
            }))
        })
        .hooked(|_, hook| assert!(matches!(hook, Hook::Started), "on purpose"));
    let connector = reactor.connect_tcp("example.org", 80, factory);
    reactor.settle();
    reactor.accept(&connector).close();
    reactor.settle();
    assert_eq!(log.count("client lost: Connection was closed cleanly."), 1);
    assert_eq!(log.count("stop factory"), 1);
}

/// P151: dropping the factory is left to whoever holds it last
#[test]
fn a_stopped_ports_factory_is_dropped_after_stop_factory() {
    struct Counted(Recording, Log);
    impl twistor_reactor::Factory for Counted {
        type Protocol = crate::common::Scripted;
        fn build_protocol(&mut self, peer: &Address) -> Option<Self::Protocol> {
            self.0.build_protocol(peer)
        }
        fn stop_factory(&mut self) {
            self.0.stop_factory();
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.add("dropped");
        }
    }
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let protocols = log.clone();
    let inner = Recording::new(&log).building(move |_| Some(recorder(&protocols)));
    let port = reactor.listen_tcp(1, Counted(inner, log.clone())).unwrap();
    drop(port.stop_listening().unwrap());
    reactor.settle();
    assert_eq!(log.entries(), ["stop factory", "dropped"]);
}

/// P105: both ends are ours
#[test]
fn a_client_and_a_server_of_one_reactor_talk() {
    let (reactor, log) = (real_reactor(), Log::default());
    let port = reactor.listen_tcp("127.0.0.1:0", Recording::new(&Log::default()).building(|_| Some(echo()))).unwrap();
    let (protocols, stopper) = (log.clone(), reactor.clone());
    let factory = Recording::new(&log)
        .building(move |_| {
            let log = protocols.clone();
            Some(scripted(move |transport, event| {
                match event {
                    Event::Made => transport.write("hello"),
                    Event::Data(_) => transport.lose_connection(),
                    _ => {}
                }
                log.add(event);
            }))
        })
        .hooked(move |_, hook| {
            if let Hook::Lost(_) = hook {
                stopper.stop();
            }
        });
    reactor.connect_tcp("127.0.0.1", port.address().port().unwrap(), factory);
    run(&reactor);
    assert_eq!(log.count("data hello"), 1);
    assert_eq!(log.count("client lost: Connection was closed cleanly."), 1);
}
