//! Connectors: what `connect_tcp` gives, in every state.

use std::cell::RefCell;
use std::io::Write;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{
    ConnectBindError, ConnectInProgress, ConnectOptions, ConnectionLost, ConnectionRefusedError, Connector,
    ConnectorState, DNSLookupError, Failure, NotConnectingError, Reactor, TimeoutError, UserError,
};

use crate::common::{
    Event, Hook, Log, PATIENCE, Recording, bounded, dead_port, play, read_all, real_reactor, recorder, run, scripted,
    slot,
};

mod redirects;

/// P085, P086, P099, P100
#[test]
fn a_connection_is_made_and_lost_in_this_order() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let seen: Rc<RefCell<Vec<Connector>>> = Rc::default();
    let hooks = seen.clone();
    let factory = Recording::new(&log).hooked(move |connector, _| hooks.borrow_mut().push(connector.clone()));
    let connector = reactor.connect_tcp("example.org", 80, factory);
    assert!(log.entries().is_empty(), "nothing before connect_tcp has returned");
    assert_eq!(connector.destination(), ("example.org", 80));
    assert_eq!(connector.state(), ConnectorState::Connecting);
    reactor.settle();
    let peer = reactor.accept(&connector);
    assert_eq!(connector.state(), ConnectorState::Connected);
    assert!(connector.transport().is_some());
    assert_eq!(reactor.pending_calls(), 0, "the timeout is disarmed");
    peer.send("hello");
    reactor.settle();
    peer.close();
    reactor.settle();
    assert_eq!(
        log.entries(),
        [
            "start factory",
            "started connecting",
            "build",
            "made",
            "data hello",
            "read lost",
            "lost: Connection was closed cleanly.",
            "client lost: Connection was closed cleanly.",
            "stop factory",
        ]
    );
    assert_eq!(connector.state(), ConnectorState::Disconnected);
    assert!(connector.transport().is_none());
    assert_eq!(*seen.borrow(), [connector.clone(), connector]);
}

/// P087, P090, P104
#[test]
fn an_attempt_may_be_given_up_as_it_starts() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let factory = Recording::new(&log).hooked(|connector, hook| match hook {
        Hook::Started => connector.stop_connecting().expect("it is connecting"),
        Hook::Failed(reason) => assert!(reason.check::<UserError>()),
        Hook::Lost(_) => {}
    });
    let connector = reactor.connect_tcp("example.org", 80, factory);
    reactor.settle();
    assert_eq!(
        log.entries(),
        ["start factory", "started connecting", "failed: User aborted connection.", "stop factory"]
    );
    let failure = connector.stop_connecting().unwrap_err();
    assert!(failure.check::<NotConnectingError>());
    assert_eq!(
        failure.to_string(),
        "The Connector was not connecting when it was asked to stop connecting: we're not trying to connect."
    );
}

/// P088, P100: the factory stays started
#[test]
fn connect_in_client_connection_lost_reconnects() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let mut left = 2;
    let factory = Recording::new(&log).hooked(move |connector, hook| {
        if !matches!(hook, Hook::Started) && left > 0 {
            left -= 1;
            connector.connect().expect("it is disconnected");
        }
    });
    let connector = reactor.connect_tcp("example.org", 80, factory);
    reactor.settle();
    reactor.accept(&connector).close();
    reactor.settle();
    assert_eq!(connector.state(), ConnectorState::Connecting);
    reactor.refuse(&connector, Failure::new(ConnectionRefusedError::new()));
    let _peer = reactor.accept(&connector);
    assert_eq!(log.count("started connecting"), 3);
    assert_eq!(log.count("start factory"), 1);
    assert_eq!(log.count("stop factory"), 0);
    connector.disconnect();
    reactor.settle();
    assert_eq!(log.count("stop factory"), 1);
}

/// P089
#[test]
fn connect_is_refused_while_connecting_or_connected() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let connector = reactor.connect_tcp("example.org", 80, Recording::new(&log));
    assert_eq!(connector.connect(), Err(ConnectInProgress(ConnectorState::Connecting)));
    reactor.settle();
    let _peer = reactor.accept(&connector);
    assert_eq!(connector.connect(), Err(ConnectInProgress(ConnectorState::Connected)));
}

/// P091
#[test]
fn disconnect_works_in_every_state() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let connector = reactor.connect_tcp("example.org", 80, Recording::new(&log));
    connector.disconnect();
    connector.disconnect();
    reactor.settle();
    assert_eq!(log.take().last().map(String::as_str), Some("stop factory"));
    connector.disconnect();
    reactor.settle();
    assert!(log.entries().is_empty());

    connector.connect().unwrap();
    reactor.settle();
    let peer = reactor.accept(&connector);
    connector.disconnect();
    reactor.settle();
    assert!(peer.saw_end() && !peer.saw_reset());
    assert_eq!(log.count("client lost: Connection was closed cleanly."), 1);
}

/// P091: Twisted's connector is "connected" already when it builds the protocol.
#[test]
fn disconnect_in_build_protocol_is_not_lost() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let this = slot::<Connector>();
    let (building, protocols) = (this.clone(), log.clone());
    let factory = Recording::new(&log).building(move |_| {
        building.take().expect("set below").disconnect();
        Some(recorder(&protocols))
    });
    let connector = reactor.connect_tcp("example.org", 80, factory);
    this.set(Some(connector.clone()));
    reactor.settle();
    let _peer = reactor.accept(&connector);
    assert_eq!(connector.state(), ConnectorState::Disconnected, "{:?}", log.entries());
    assert_eq!(log.count("stop factory"), 1);
}

fn failing(reactor: &Reactor, log: &Log, check: fn(&Failure) -> bool) -> Recording {
    let stopper = reactor.clone();
    Recording::new(log).hooked(move |_, hook| {
        if let Hook::Failed(reason) = hook {
            assert!(check(reason), "{reason:?}");
            stopper.stop(); // P101
        }
    })
}

/// P092, P101, P104
#[test]
fn a_refused_connection_says_so() {
    let (reactor, log) = (real_reactor(), Log::default());
    let factory = failing(&reactor, &log, |reason| {
        let source = std::error::Error::source(reason).and_then(|error| error.downcast_ref::<std::io::Error>());
        let errno = source.and_then(std::io::Error::raw_os_error);
        reason.check::<ConnectionRefusedError>() && errno == Some(111)
    });
    reactor.connect_tcp("127.0.0.1", dead_port(), factory);
    run(&reactor);
    assert_eq!(
        log.entries()[2..],
        ["failed: Connection was refused by other side: 111: Connection refused.", "stop factory",]
    );
}

/// P096
#[test]
fn port_zero_is_a_failure_delivered_later() {
    let (reactor, log) = (real_reactor(), Log::default());
    reactor.connect_tcp("127.0.0.1", 0, failing(&reactor, &log, |_| true));
    assert!(log.entries().is_empty());
    run(&reactor);
    assert_eq!(log.count("failed"), 1);
}

/// P093, P104
#[test]
fn an_attempt_times_out_after_thirty_seconds() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let factory = failing(&reactor, &log, Failure::check::<TimeoutError>);
    let connector = reactor.connect_tcp("example.org", 80, factory);
    reactor.settle();
    reactor.advance(Duration::from_millis(29_999));
    assert_eq!(log.count("failed"), 0);
    reactor.advance(Duration::from_millis(1));
    assert_eq!(log.count("failed: User timeout caused connection failure."), 1);
    assert!(reactor.connecting().is_empty());
    assert_eq!(connector.state(), ConnectorState::Disconnected);
    assert_eq!(reactor.pending_calls(), 0);
}

/// P093: none
#[test]
fn without_a_timeout_an_attempt_waits_for_ever() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let options = ConnectOptions { timeout: None, ..ConnectOptions::default() };
    reactor.connect_tcp_with("example.org", 80, Recording::new(&log), options);
    reactor.advance(Duration::from_secs(86_400));
    assert_eq!(log.count("failed"), 0);
}

/// P094
#[test]
fn a_local_address_that_is_not_ours_is_a_bind_error() {
    let (reactor, log) = (real_reactor(), Log::default());
    let options = ConnectOptions {
        bind_address: Some(([192, 0, 2, 1], 0).into()), // TEST-NET-1
        ..ConnectOptions::default()
    };
    let factory = failing(&reactor, &log, Failure::check::<ConnectBindError>);
    reactor.connect_tcp_with("127.0.0.1", dead_port(), factory, options);
    run(&reactor);
    assert_eq!(log.count("failed: Couldn't bind: 99: Cannot assign requested address."), 1);
}

/// P097
#[test]
fn a_client_that_builds_no_protocol_closes_cleanly() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let connector = reactor.connect_tcp("example.org", 80, Recording::new(&log).building(|_| None));
    reactor.settle();
    let peer = reactor.accept(&connector);
    assert!(peer.saw_end() && !peer.saw_reset());
    assert_eq!(log.entries()[2..], ["build", "client lost: Connection was closed cleanly.", "stop factory"]);
}

/// P098, P102
#[test]
fn a_real_connection_has_numeric_addresses_and_may_start_paused() {
    let (reactor, log) = (real_reactor(), Log::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let protocols = log.clone();
    let factory = Recording::new(&log).building(move |peer| {
        assert_eq!(peer.to_string(), peer.socket_addr().expect("TCP").to_string());
        let log = protocols.clone();
        Some(scripted(move |transport, event| {
            if let Event::Made = event {
                assert!(transport.host().is_ok_and(|host| host.ip() == Some([127, 0, 0, 1].into())));
                transport.pause_producing();
                let (later, log) = (transport.clone(), log.clone());
                transport.reactor().call_later(Duration::from_millis(20), move || {
                    log.add("resume");
                    later.resume_producing();
                });
            }
            log.add(event);
        }))
    });
    reactor.connect_tcp("localhost", address.port(), factory);
    let seen = log.clone();
    play(&reactor, move || {
        let mut peer = bounded(listener.accept().expect("it connects").0);
        peer.write_all(b"early").expect("it is open");
        seen.wait_for(1, "data early");
    });
    let entries = log.entries();
    let resumed = entries.iter().position(|entry| entry == "resume");
    let data = entries.iter().position(|entry| entry == "data early");
    assert!(resumed < data, "{entries:?}");
}

/// P098: the greeting is there in the same turn as the connection
#[test]
fn a_server_that_speaks_first_is_heard() {
    let (reactor, log) = (real_reactor(), Log::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    reactor.connect_tcp("127.0.0.1", listener.local_addr().unwrap().port(), Recording::new(&log));
    let (greeted, wait) = std::sync::mpsc::channel();
    // runs after the attempt has begun, and keeps the loop from polling until the greeting has come
    reactor.call_when_running(move |_| wait.recv_timeout(PATIENCE).unwrap_or_default());
    let seen = log.clone();
    play(&reactor, move || {
        let mut peer = bounded(listener.accept().expect("it connects").0);
        peer.write_all(b"220 hello").expect("it is open");
        greeted.send(()).expect("it waits");
        seen.wait_for(1, "data 220 hello");
    });
}

/// P103, T64
#[test]
fn a_name_that_cannot_be_resolved_is_a_lookup_error() {
    let (reactor, log) = (real_reactor(), Log::default());
    // a label of 64 bytes: the resolver refuses it without asking anybody
    let host = format!("{}.invalid", "x".repeat(64));
    let factory = failing(&reactor, &log, Failure::check::<DNSLookupError>);
    reactor.connect_tcp(&host, 80, factory);
    run(&reactor);
    assert_eq!(log.count(&format!("failed: DNS lookup failed: {host}.")), 1, "{:?}", log.entries());
}

/// T64: stop_connecting while the name is being resolved, or while the kernel connects
#[test]
fn giving_up_frees_the_socket_and_nothing_comes_after() {
    let (reactor, log) = (real_reactor(), Log::default());
    // a full backlog keeps an attempt in the kernel
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let port = listener.local_addr().unwrap().as_socket().unwrap().port();
    let connectors: Vec<_> = (0..8)
        .map(|_| reactor.connect_tcp("127.0.0.1", port, Recording::new(&log)))
        .chain([reactor.connect_tcp("localhost", port, Recording::new(&log))])
        .collect();
    let stopper = reactor.clone();
    reactor.call_when_running(move |reactor| {
        // after the attempts have begun
        reactor.call_when_running(move |_| {
            connectors.iter().for_each(Connector::disconnect);
            stopper.call_later(Duration::from_millis(20), {
                let stopper = stopper.clone();
                move || stopper.stop()
            });
        });
    });
    run(&reactor);
    let ended =
        log.count("failed: User aborted connection.") + log.count("client lost: Connection was closed cleanly.");
    assert_eq!(ended, 9, "{:?}", log.entries());
    assert_eq!(log.count("stop factory"), 9);
}

/// P118
#[test]
fn a_reset_from_the_server_is_connection_lost() {
    let (reactor, log) = (real_reactor(), Log::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let factory = Recording::new(&log).hooked(|_, hook| {
        if let Hook::Lost(reason) = hook {
            assert!(reason.check::<ConnectionLost>(), "{reason}");
        }
    });
    reactor.connect_tcp("127.0.0.1", listener.local_addr().unwrap().port(), factory);
    let seen = log.clone();
    play(&reactor, move || {
        let peer = listener.accept().expect("it connects").0;
        seen.wait_for(1, "made");
        crate::common::reset(peer);
        seen.wait_for(1, "stop factory");
    });
    let text = "Connection to the other side was lost in a non-clean fashion: 104: Connection reset by peer.";
    assert_eq!(log.count(&format!("lost: {text}")), 1, "{:?}", log.entries());
    assert_eq!(log.count(&format!("client lost: {text}")), 1);
}

/// P097 with a socket: the peer sees FIN
#[test]
fn no_protocol_closes_the_socket() {
    let (reactor, log) = (real_reactor(), Log::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    reactor.connect_tcp("127.0.0.1", port, Recording::new(&log).building(|_| None));
    let received = play(&reactor, move || read_all(&mut bounded(listener.accept().expect("it connects").0)));
    assert!(received.is_empty());
}
