//! Connectors that are redirected (T63): the factory sees one attempt, wherever that ends.

use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::{MemoryPeer, MemoryReactor};
use twistor_reactor::{ConnectionRefusedError, Connector, ConnectorState, Failure};

use super::super::common::{
    Event, Hook, Log, Recording, Scripted, bounded, play, read_all, real_reactor, recorder, scripted, slot,
};

/// A protocol that goes to `host` and `port` when told to, and is succeeded by a recorder.
fn sent_on(connector: &Rc<std::cell::Cell<Option<Connector>>>, log: &Log, host: &'static str, port: u16) -> Scripted {
    let (connector, log) = (connector.clone(), log.clone());
    scripted(move |_, event| {
        log.add(format!("first {event}"));
        if let Event::Data(b"go") = event {
            let connector = connector.take().expect("it was kept");
            assert!(connector.redirect(host, port, recorder(&log)).is_ok());
            assert!(connector.redirect(host, port, recorder(&log)).is_err(), "it goes already");
        }
    })
}

/// A connection to `example.org`, redirected to `other.example`, where nobody has answered yet.
struct Redirected {
    reactor: MemoryReactor,
    connector: Connector,
    log: Log,
}

impl Redirected {
    fn new(hook: impl FnMut(&Connector, Hook<'_>) + 'static) -> Self {
        let (this, peer) = Self::connected(hook);
        peer.send("go");
        this.reactor.settle();
        assert!(peer.saw_end() && !peer.saw_reset());
        let told = ["start factory", "started connecting", "build", "first made", "first data go"];
        assert_eq!(this.log.entries()[..5], told);
        assert_eq!(this.log.take()[5..], ["first lost: Connection was closed cleanly."]);
        assert_eq!(this.connector.state(), ConnectorState::Connecting);
        assert_eq!(this.reactor.connecting(), std::slice::from_ref(&this.connector));
        this
    }

    fn connected(hook: impl FnMut(&Connector, Hook<'_>) + 'static) -> (Self, MemoryPeer) {
        let (reactor, log, kept) = (MemoryReactor::new(), Log::default(), slot());
        let (building, protocols) = (kept.clone(), log.clone());
        let factory = Recording::new(&log).hooked(hook);
        let factory = factory.building(move |_| Some(sent_on(&building, &protocols, "other.example", 81)));
        let connector = reactor.connect_tcp("example.org", 80, factory);
        kept.set(Some(connector.clone()));
        reactor.settle();
        let peer = reactor.accept(&connector);
        (Self { reactor, connector, log }, peer)
    }

    /// How the successor ended, after which the factory was told the same, once.
    fn end(&self) -> String {
        let told = self.log.take();
        let [lost, client_lost, stopped] = &told[..] else { panic!("{told:?}") };
        assert_eq!((client_lost, &**stopped), (&format!("client {lost}"), "stop factory"));
        assert_eq!(self.connector.state(), ConnectorState::Disconnected);
        assert_eq!(self.reactor.pending_calls(), 0);
        lost.clone()
    }
}

#[test]
fn the_successor_takes_over_at_the_other_place_and_the_factory_sees_one_connection() {
    let this = Redirected::new(|_, _| {});
    assert_eq!(this.connector.target(), ("other.example".to_owned(), 81));
    assert_eq!(this.connector.destination(), ("example.org", 80));
    let peer = this.reactor.accept(&this.connector);
    peer.send("hello");
    this.reactor.settle();
    assert_eq!(this.log.take(), ["made", "data hello"]);
    assert!(this.connector.transport().is_some_and(|transport| transport.is_connected()));
    peer.reset();
    this.reactor.settle();
    assert!(this.end().starts_with("lost: Connection to the other side was lost"));
}

/// P088: the factory stays started, and the way begins anew.
#[test]
fn a_reconnection_goes_to_the_destination_again() {
    let this = Redirected::new(|connector, hook| {
        if let Hook::Lost(_) = hook {
            connector.connect().expect("it is disconnected");
        }
    });
    this.reactor.accept(&this.connector).close();
    this.reactor.settle();
    assert_eq!(this.connector.target(), ("example.org".to_owned(), 80));
    let told = this.log.take();
    assert_eq!(told.last().map(String::as_str), Some("started connecting"), "{told:?}");
    drop(this.reactor.accept(&this.connector));
    assert_eq!(this.log.take()[..2], ["build", "first made"]);
}

#[test]
fn a_successor_without_a_connection_is_told_why() {
    let refused = Redirected::new(|_, _| {});
    refused.reactor.refuse(&refused.connector, Failure::new(ConnectionRefusedError::new()));
    assert_eq!(refused.end(), "lost: Connection was refused by other side.");

    // the timeout began anew
    let late = Redirected::new(|_, _| {});
    late.reactor.advance(Duration::from_millis(29_999));
    assert!(late.log.entries().is_empty());
    late.reactor.advance(Duration::from_millis(1));
    assert_eq!(late.end(), "lost: User timeout caused connection failure.");

    let given_up = Redirected::new(|_, _| {});
    given_up.connector.disconnect();
    given_up.reactor.settle();
    assert_eq!(given_up.end(), "lost: User aborted connection.");

    let stopped = Redirected::new(|_, _| {});
    stopped.reactor.stop();
    stopped.reactor.settle();
    assert!(stopped.end().contains("the reactor stopped"));
}

/// P091: whoever calls `disconnect` wants no other connection instead.
#[test]
fn a_connection_that_is_given_up_as_it_is_redirected_does_not_go_on() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let kept = slot::<Connector>();
    let (building, protocols) = (kept.clone(), log.clone());
    let factory = Recording::new(&log);
    let factory = factory.building(move |_| {
        let (kept, log) = (building.clone(), protocols.clone());
        Some(scripted(move |_, event| {
            if let Event::Data(_) = event {
                let connector = kept.take().expect("it was kept");
                assert!(connector.redirect("other.example", 81, recorder(&log)).is_ok());
                connector.disconnect();
            }
        }))
    });
    let connector = reactor.connect_tcp("example.org", 80, factory);
    kept.set(Some(connector.clone()));
    reactor.settle();
    let peer = reactor.accept(&connector);
    peer.send("go");
    reactor.settle();
    let done = "lost: Connection was closed cleanly.";
    assert_eq!(log.take()[3..], [done, &format!("client {done}"), "stop factory"]);
    assert!(reactor.connecting().is_empty());
}

#[test]
fn a_reactor_that_stops_does_not_go_on_either() {
    let (this, peer) = Redirected::connected(|_, _| {});
    peer.set_room(0); // what the protocol has written keeps the old connection
    this.connector.transport().expect("connected").write("stuck");
    peer.send("go");
    this.reactor.settle();
    this.reactor.stop();
    this.reactor.settle();
    // as the connection that it was to succeed, not as one that was begun meanwhile
    let lost = "lost: Connection to the other side was lost in a non-clean fashion: Connection lost.";
    let told = [&format!("first {lost}"), lost, &format!("client {lost}"), "stop factory"];
    assert_eq!(this.log.take()[5..], told);
    assert!(this.reactor.connecting().is_empty());
}

#[test]
fn without_a_connection_the_protocol_comes_back() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let connector = reactor.connect_tcp("example.org", 80, Recording::new(&log));
    reactor.settle();
    assert!(connector.redirect("other.example", 81, recorder(&log)).is_err());
    let _peer = reactor.accept(&connector);
    connector.disconnect();
    assert!(connector.redirect("other.example", 81, recorder(&log)).is_err());
    reactor.settle();
    assert!(connector.redirect("other.example", 81, recorder(&log)).is_err());
    assert_eq!(connector.target(), ("example.org".to_owned(), 80));
    assert_eq!(log.count("stop factory"), 1);
}

/// With sockets, by name and by address.
#[test]
fn sockets_go_to_the_other_place_too() {
    for host in ["localhost", "127.0.0.1"] {
        let (reactor, log, kept) = (real_reactor(), Log::default(), slot());
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let second = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = second.local_addr().unwrap().port();
        let (building, protocols) = (kept.clone(), log.clone());
        let factory = Recording::new(&log).building(move |_| Some(sent_on(&building, &protocols, host, port)));
        kept.set(Some(reactor.connect_tcp("127.0.0.1", first.local_addr().unwrap().port(), factory)));
        let seen = log.clone();
        play(&reactor, move || {
            use std::io::Write;
            let mut peer = bounded(first.accept().expect("it connects").0);
            peer.write_all(b"go").expect("it is open");
            assert!(read_all(&mut peer).is_empty());
            let mut peer = bounded(second.accept().expect("it comes").0);
            peer.write_all(b"hello").expect("it is open");
            seen.wait_for(1, "data hello");
        });
        assert_eq!((log.count("build"), log.count("made"), log.count("client lost")), (1, 1, 1), "{:?}", log.entries());
    }
}
