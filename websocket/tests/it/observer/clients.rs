//! What an `Observer` is told of a client's attempts: each has one outcome.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{
    Address, ClientFactory, ConnectionRefusedError, Connector, DNSLookupError, Factory, Failure, Protocol,
};
use twistor_websocket::handshake::RedirectPolicy;
use twistor_websocket::{
    HandshakeFailure, Observer, ReconnectingClientFactory, Reconnection, WebSocket, WebSocketClientFactory,
    WebSocketClosed, WebSocketProtocol, connect_ws,
};

use super::Notes;
use crate::support::{Log, Peer, Recorder, close};

const REFUSED: &str = "no server.example:80: Connection was refused by other side.";
const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
const MOVED: &str = "HTTP/1.1 302 Found\r\nLocation: ws://other.example/\r\n\r\n";

/// Writes down the hooks of a factory among what an observer is told, and does something in all of them.
#[derive(Clone)]
struct Hooks {
    notes: Notes,
    act: Rc<dyn Fn(&str)>,
}

impl Hooks {
    fn new(act: impl Fn(&str) + 'static) -> Self {
        Self { notes: Notes::default(), act: Rc::new(act) }
    }

    fn on(&self, hook: &str) {
        self.notes.add(hook.into());
        (self.act)(hook);
    }

    /// A client's factory that is observed, and follows one redirect.
    fn client<F: ClientFactory<Protocol: WebSocketProtocol>>(&self, factory: F) -> WebSocketClientFactory<F> {
        let factory = WebSocketClientFactory::new("ws://server.example/", factory).expect("a URL");
        factory.follow_redirects(RedirectPolicy::follow_up_to(1, true)).observer(self.clone())
    }

    fn coming_back<F: ClientFactory>(&self, factory: F) -> ReconnectingClientFactory<F> {
        let act = self.act.clone();
        ReconnectingClientFactory::new(factory).on_retry(move |_| act("retry"))
    }
}

impl Observer for Hooks {
    fn connection_failed(&self, connector: &Connector, reason: &Failure) {
        self.notes.connection_failed(connector, reason);
        (self.act)("no connection");
    }
    fn handshake_failed(&self, peer: &Address, why: HandshakeFailure) {
        self.notes.handshake_failed(peer, why);
        (self.act)("no handshake");
    }
    fn opened(&self, _: &WebSocket) {
        self.on("opened");
    }
    fn closed(&self, _: &WebSocket, _: &WebSocketClosed) {
        self.on("closed");
    }
}

impl Factory for Hooks {
    type Protocol = Recorder;
    fn build_protocol(&mut self, _: &Address) -> Option<Recorder> {
        (self.act)("build");
        let act = self.act.clone();
        Some(Recorder::new(&Log::default()).acting(move |_, event| act(&event.to_string())))
    }
}

impl ClientFactory for Hooks {
    fn started_connecting(&mut self, _: &Connector) {
        self.on("started");
    }
    fn client_connection_failed(&mut self, _: &Connector, _: &Failure) {
        self.on("failed");
    }
    fn client_connection_lost(&mut self, _: &Connector, _: &Failure) {
        self.on("lost");
    }
}

/// A client, its first attempt under way.
struct Rig {
    reactor: Rc<MemoryReactor>,
    connector: Connector,
}

impl Rig {
    fn new<F: ClientFactory<Protocol: Protocol>>(factory: F) -> Self {
        let reactor = Rc::new(MemoryReactor::new());
        let connector = reactor.connect_tcp("server.example", 80, factory);
        reactor.settle();
        Self { reactor, connector }
    }

    fn refuse(&self) {
        self.reactor.refuse(&self.connector, Failure::new(ConnectionRefusedError::new()));
    }

    fn accept(&self) -> Peer {
        Peer::server(&self.reactor, self.reactor.accept(&self.connector))
    }
}

/// How an attempt ends, and what is told.
type End = (fn(&Rig), &'static str);

// P277
#[test]
fn without_a_connection_the_observer_hears_of_it_before_the_factory() {
    let ends: [End; 5] = [
        (Rig::refuse, REFUSED),
        (
            |rig| rig.reactor.refuse(&rig.connector, Failure::new(DNSLookupError::new())),
            "no server.example:80: DNS lookup failed.",
        ),
        (
            |rig| rig.reactor.advance(Duration::from_secs(30)),
            "no server.example:80: User timeout caused connection failure.",
        ),
        (|rig| rig.connector.disconnect(), "no server.example:80: User aborted connection."),
        (|rig| rig.reactor.stop(), "no server.example:80: An error occurred while connecting: the reactor stopped."),
    ];
    for (end, told) in ends {
        let hooks = Hooks::new(|_| {});
        let rig = Rig::new(hooks.client(hooks.clone()));
        end(&rig);
        rig.reactor.advance(Duration::from_secs(60));
        assert_eq!(hooks.notes.take(), ["started", told, "failed"]);
    }
}

#[test]
fn each_attempt_of_a_client_that_comes_back_is_told() {
    fn check<F: ClientFactory<Protocol: Protocol>>(hooks: &Hooks, factory: F) {
        let rig = Rig::new(factory);
        for _ in 0..3 {
            rig.refuse();
            assert_eq!(hooks.notes.take(), ["started", REFUSED, "failed"]);
            rig.reactor.advance(Duration::from_secs(60));
        }
        let server = rig.accept();
        server.send(FORBIDDEN);
        assert_eq!(hooks.notes.take(), ["started", "Rejected(Some(403))", "lost"]);
        rig.reactor.advance(Duration::from_secs(60));
        let server = rig.accept();
        server.accept(&[], &[]);
        server.reset();
        rig.reactor.settle();
        assert_eq!(hooks.notes.take(), ["started", "opened", "closed", "lost"]);
    }
    let hooks = Hooks::new(|_| {});
    check(&hooks, hooks.client(ReconnectingClientFactory::new(hooks.clone())));
    check(&hooks, ReconnectingClientFactory::new(hooks.client(hooks.clone())));
}

/// The factory does not notice a redirect, and the observer is told where the way ended.
// T63
#[test]
fn t63_a_place_without_a_connection_is_told_instead_of_a_handshake() {
    let ends: [End; 3] = [
        (Rig::refuse, "no other.example:80: Connection was refused by other side."),
        (|rig| rig.connector.disconnect(), "no other.example:80: User aborted connection."),
        (|rig| rig.accept().send(FORBIDDEN), "Rejected(Some(403))"),
    ];
    for (end, told) in ends {
        let hooks = Hooks::new(|_| {});
        let rig = Rig::new(hooks.client(hooks.clone()));
        rig.accept().send(MOVED);
        assert_eq!(hooks.notes.take(), ["started"]);
        end(&rig);
        rig.reactor.settle();
        assert_eq!(hooks.notes.take(), [told, "lost"]);
    }
    // given up before it has left the first place, where it has a peer
    let hooks = Hooks::new(|_| {});
    let rig = Rig::new(hooks.client(hooks.clone()));
    let server = rig.reactor.accept(&rig.connector);
    let connector = rig.connector.clone();
    server.send(MOVED);
    rig.reactor.call_later(Duration::ZERO, move || connector.disconnect());
    rig.reactor.settle();
    assert_eq!(hooks.notes.take(), ["started", "Lost", "lost"]);
}

#[test]
fn an_observers_panic_keeps_nothing_from_the_factory() {
    let hooks = Hooks::new(|hook| assert!(hook != "no connection", "a panic of the test's"));
    let rig = Rig::new(hooks.client(ReconnectingClientFactory::new(hooks.clone())));
    rig.refuse();
    assert_eq!(hooks.notes.take(), ["started", REFUSED, "failed"]);
    rig.reactor.advance(Duration::from_secs(60));
    assert_eq!(hooks.notes.take(), ["started"]);
}

/// What an application may do to its client at any time.
type Act = fn(&Connector, &Reconnection);

const ACTS: [Act; 7] = [
    |connector, _| connector.disconnect(),
    |connector, _| _ = connector.stop_connecting(),
    |connector, _| _ = connector.connect(),
    |connector, _| _ = connector.transport().map(|transport| transport.abort_connection()),
    |connector, _| _ = connector.transport().map(|transport| transport.lose_connection()),
    |_, reconnection| reconnection.stop_trying(),
    |_, reconnection| reconnection.continue_trying(),
];

/// What servers do: nobody is there, one refuses, breaks off amid a refusal, sends elsewhere, opens and closes.
const SERVERS: [fn(&Rig); 7] = [
    Rig::refuse,
    |rig| rig.accept().send(FORBIDDEN),
    |rig| {
        let server = rig.accept();
        server.send("HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\nbusy");
        server.reset();
    },
    |rig| rig.accept().send(MOVED),
    |rig| {
        let server = rig.accept();
        if !server.is_over() {
            server.accept(&[], &[close(1000, "")]);
            server.close();
        }
    },
    |rig| rig.accept().wait(10.0),
    |rig| rig.accept().send(MOVED), // to where nobody is
];

/// Whatever an application does in whatever callback.
#[test]
fn every_attempt_has_one_outcome() {
    let hooks = ["started", "build", "failed", "lost", "made", "close 1000", "no connection", "no handshake", "opened"];
    let hooks = hooks.iter().chain(&["closed", "retry", "always"]);
    for hook in hooks {
        for act in ACTS {
            for first in 0..SERVERS.len() {
                one_outcome_each(hook, act, first, false);
                one_outcome_each(hook, act, first, true);
            }
        }
    }
}

/// Of a client that comes back by a factory inside or `around` the WebSocket's.
fn one_outcome_each(hook: &'static str, act: Act, first: usize, around: bool) {
    let controls = Rc::new(RefCell::new(None::<(Connector, Reconnection)>));
    let controlled = controls.clone();
    let hooks = Hooks::new(move |called| {
        let controls = controlled.borrow().clone();
        if let Some((connector, reconnection)) = controls.filter(|_| called == hook || hook == "always") {
            act(&connector, &reconnection);
        }
    });
    let reactor = Rc::new(MemoryReactor::new());
    let (connector, reconnection) = if around {
        let factory = hooks.coming_back(hooks.client(hooks.clone()));
        let reconnection = factory.handle();
        (reactor.connect_tcp("server.example", 80, factory), reconnection)
    } else {
        let factory = hooks.coming_back(hooks.clone());
        let reconnection = factory.handle();
        (reactor.connect_tcp("server.example", 80, hooks.client(factory)), reconnection)
    };
    *controls.borrow_mut() = Some((connector.clone(), reconnection.clone()));
    reactor.settle();
    let rig = Rig { reactor, connector };
    for round in 0..12 {
        if rig.reactor.connecting().is_empty() {
            rig.reactor.advance(Duration::from_secs(60));
        }
        if rig.reactor.connecting().is_empty() {
            let _ = rig.connector.connect();
            rig.reactor.settle();
        }
        if !rig.reactor.connecting().is_empty() {
            SERVERS[(first + round) % SERVERS.len()](&rig);
            rig.reactor.settle();
        }
        assert!(rig.reactor.pending_calls() <= 2, "{:?}", hooks.notes.take());
    }
    *controls.borrow_mut() = None; // it leaves it alone
    reconnection.stop_trying();
    rig.connector.disconnect();
    rig.reactor.advance(Duration::from_secs(60));
    assert_eq!(rig.reactor.pending_calls(), 0);
    let told = hooks.notes.take();
    let count = |of: &[&str]| told.iter().filter(|told| of.iter().any(|start| told.starts_with(start))).count();
    let failed = count(&["no ", "Rejected", "Timeout", "Lost"]);
    assert_eq!(count(&["opened"]) + failed, count(&["failed", "lost"]), "{told:?}");
    assert_eq!(count(&["opened"]), count(&["closed"]), "{told:?}");
}

struct NoProtocol;

impl Factory for NoProtocol {
    type Protocol = Recorder;
    fn build_protocol(&mut self, _: &Address) -> Option<Recorder> {
        None
    }
}

impl ClientFactory for NoProtocol {}

#[test]
fn a_client_whose_factory_builds_nothing_has_an_outcome() {
    let notes = Notes::default();
    let reactor = Rc::new(MemoryReactor::new());
    let factory = WebSocketClientFactory::new("ws://server.example/", NoProtocol).unwrap().observer(notes.clone());
    let connector = connect_ws(&reactor, factory);
    reactor.settle();
    let _server = reactor.accept(&connector);
    assert_eq!(notes.take(), ["Failed"]);
}
