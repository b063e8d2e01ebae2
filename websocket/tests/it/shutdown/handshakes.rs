//! What a shutdown finds that is no WebSocket yet.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Failure, Reactor, UserError};
use twistor_websocket::http::Response;
use twistor_websocket::{
    Accept, Negotiation, Options, Resource, ServerHandle, Site, WebSocketResource, WebSocketServerFactory,
};

use super::{Outcome, shut_down, stragglers};
use crate::negotiation::later;
use crate::support::{Log, Pages, Peer, Recorder, Recorders, Server, close, get, text, upgrade};

/// It is told of the shutdown, once, and nothing follows.
fn told_503(peer: &Peer) {
    let answer = peer.http();
    assert_eq!((answer.status(), &*answer.body), (503, "the server is shutting down\n"));
    assert!(answer.header("Retry-After").is_some());
    assert!(peer.bytes().is_empty() && peer.saw_end() && !peer.saw_reset());
}

/// Clients of a server of WebSockets alone that are not through the handshake: one that has said nothing yet, one in
/// the middle of its request, one that waits for the application.
fn early(server: &Server) -> [Peer; 3] {
    let peers = [(); 3].map(|()| server.connect());
    peers[1].send(&upgrade("/", &[])[..50]);
    peers[2].send(upgrade("/", &[]));
    server.reactor.settle();
    peers
}

#[test]
fn new_handshakes_are_answered_503_meanwhile() {
    let server = Server::new();
    let _peer = server.open();
    shut_down(&server, 10, 0);
    let answer = server.refusal_of(upgrade("/", &[]));
    assert_eq!(answer.status(), 503);
    assert!(answer.header("Retry-After").is_some());
}

/// `Negotiation::Later` that is decided too late, or never, on a site with whatever else.
// T69
#[test]
fn an_undecided_handshake_does_not_hold_up_the_end_beyond_the_deadline() {
    for decided in [false, true] {
        let reactor = Rc::new(MemoryReactor::new());
        let (log, outcome) = (Log::default(), Outcome::default());
        let (resolver, deferred) = reactor.deferred::<Negotiation>();
        let deferred = RefCell::new(Some(deferred));
        let recorder = Recorder::new(&log)
            .deciding(move |_| Negotiation::Later(deferred.borrow_mut().take().expect("one handshake")));
        let options = Options { open_handshake_timeout: None, ..Options::default() };
        let websocket = WebSocketResource::with_options(Recorders(recorder), options);
        let handle = websocket.handle();
        let port = reactor.listen_tcp(80, Site::new(Resource::new().websocket(websocket))).unwrap();
        let peer = Peer::client(&reactor, reactor.connect_to(&port));
        peer.send(upgrade("/", &[]));
        peer.set_room(0);
        let slot = outcome.clone();
        let done = handle.shutdown(&reactor, Duration::from_secs(5), Duration::ZERO);
        drop(done.add_both(move |result| *slot.borrow_mut() = Some(result)));
        let mut resolver = Some(resolver);
        if decided {
            resolver.take().into_iter().for_each(|resolver| resolver.resolve(Accept::default().into()));
        }
        peer.wait(4.9);
        assert_eq!((stragglers(&outcome), peer.is_over()), (None, false));
        peer.wait(0.2);
        assert_eq!((stragglers(&outcome), peer.saw_reset()), (Some(vec![]), true), "decided: {decided}");
        assert_eq!((handle.connection_count(), handle.accepted(), reactor.pending_calls()), (0, 0, 0));
    }
}

#[test]
fn an_undecided_handshake_is_told_of_the_shutdown() {
    let (server, _promises) = later(Options::default());
    let peer = server.connect();
    peer.send(upgrade("/", &[]));
    server.reactor.settle();
    let outcome = shut_down(&server, 9, 0);
    told_503(&peer);
    assert_eq!((stragglers(&outcome), server.handle.refused()), (None, 1));
    peer.close();
    server.reactor.settle();
    assert_eq!((stragglers(&outcome), server.reactor.pending_calls()), (Some(vec![]), 0));
}

// T69
#[test]
fn handshakes_under_way_are_answered_503_and_waited_for() {
    let (server, _promises) = later(Options::default());
    let [silent, half, undecided] = early(&server);
    assert_eq!(server.handle.connection_count(), 1, "the others may never ask for a WebSocket");
    let outcome = shut_down(&server, 10, 0);
    // it may as well end its request before it reads
    half.send(&upgrade("/", &[])[50..]);
    for peer in [silent, half, undecided] {
        told_503(&peer);
        assert_eq!(stragglers(&outcome), None);
        peer.close();
        server.reactor.settle();
    }
    assert_eq!((stragglers(&outcome), server.reactor.pending_calls()), (Some(vec![]), 0));
    assert_eq!((server.handle.refused(), server.handle.connection_count()), (3, 0));
}

// T69
#[test]
fn a_client_that_stays_after_its_503_holds_up_the_end_by_two_seconds_at_the_most() {
    let (server, _promises) = later(Options::default());
    let peers = early(&server);
    let outcome = shut_down(&server, 10, 0);
    for _ in 0..7 {
        assert_eq!(stragglers(&outcome), None);
        peers.iter().for_each(|peer| peer.frame(&text("goes on sending")));
        server.wait(0.25);
    }
    server.wait(0.5);
    assert_eq!((stragglers(&outcome), server.reactor.pending_calls()), (Some(vec![]), 0));
    peers.iter().for_each(told_503);
}

// T69
#[test]
fn at_the_deadline_handshakes_are_over_too() {
    let options = Options { open_handshake_timeout: None, write_timeout: None, ..Options::default() };
    // before, with and after the end of the time that is for reading the 503
    for deadline in [0, 1, 2, 5] {
        let (server, _promises) = later(options.clone());
        let takes_nothing = early(&server);
        takes_nothing.iter().for_each(|peer| peer.set_room(0));
        let reads = early(&server);
        let outcome = shut_down(&server, deadline, 0);
        if deadline > 0 {
            server.wait(deadline as f64 - 0.1);
            assert_eq!(stragglers(&outcome), None);
        }
        server.wait(0.2);
        assert_eq!((stragglers(&outcome), server.reactor.pending_calls()), (Some(vec![]), 0), "{deadline} s");
        assert!(takes_nothing.iter().all(|peer| peer.saw_reset()));
        // a reset would destroy what they have not read yet
        reads.iter().for_each(told_503);
    }
}

// T60, T69
#[test]
fn who_connects_during_a_shutdown_is_told_at_once_and_not_waited_for() {
    let server = Server::new();
    let peer = server.open();
    let outcome = shut_down(&server, 10, 0);
    let newcomers = [(); 3].map(|()| server.connect());
    server.reactor.settle();
    newcomers.iter().for_each(told_503);
    assert_eq!(server.handle.refused(), 3);
    peer.frame(&close(1001, ""));
    assert_eq!(stragglers(&outcome), Some(vec![]));
    newcomers[0].send(upgrade("/", &[]));
    assert!(newcomers[0].bytes().is_empty());
    server.wait(2.1);
    assert_eq!(server.reactor.pending_calls(), 0, "they are closed");
}

#[test]
fn a_shutdown_from_within_a_handshake_is_that_handshakes_too() {
    let decisions: [fn(&Reactor) -> Negotiation; 2] = [
        |_| Accept::default().into(),
        |reactor| {
            let (resolver, deferred) = reactor.deferred();
            resolver.resolve(Accept::default().into());
            Negotiation::Later(deferred)
        },
    ];
    for decide in decisions {
        let reactor = Rc::new(MemoryReactor::new());
        let (log, outcome) = (Log::default(), Outcome::default());
        let handle = Rc::new(RefCell::new(None::<ServerHandle>));
        let (own, slot, from) = (handle.clone(), outcome.clone(), (**reactor).clone());
        let recorder = Recorder::new(&log).deciding(move |_| {
            let handle = own.borrow().clone().expect("it is set");
            let (slot, done) = (slot.clone(), handle.shutdown(&from, Duration::from_secs(9), Duration::ZERO));
            drop(done.add_both(move |result| *slot.borrow_mut() = Some(result)));
            decide(&from)
        });
        let factory = WebSocketServerFactory::new(Recorders(recorder));
        *handle.borrow_mut() = Some(factory.handle());
        let port = reactor.listen_tcp(80, factory).unwrap();
        let peer = Peer::client(&reactor, reactor.connect_to(&port));
        peer.send(upgrade("/", &[]));
        told_503(&peer);
        assert_eq!(stragglers(&outcome), None);
        peer.close();
        reactor.settle();
        assert_eq!((stragglers(&outcome), log.count("made")), (Some(vec![]), 0));
    }
}

// T69
#[test]
fn a_site_serves_its_other_pages_and_refuses_handshakes_when_they_turn_out_to_be_ones() {
    let log = Log::default();
    let websocket = WebSocketResource::new(Recorders(Recorder::new(&log)));
    let handle = websocket.handle();
    let mut root = Resource::new().render_get(|_| Response::text("page"));
    root.put_child("ws", Resource::new().websocket(websocket));
    let pages = Pages::new(root);
    let (open, handshake, visit) = (pages.connect(), pages.connect(), pages.connect());
    open.open("/ws", &[]);
    let (asks, visits) = (upgrade("/ws", &[]), get("/"));
    handshake.send(&asks[..10]);
    visit.send(&visits[..10]);
    let fired = Rc::new(RefCell::new(false));
    let slot = fired.clone();
    let done = handle.shutdown(&pages.reactor, Duration::from_secs(9), Duration::ZERO);
    drop(done.add_callback(move |_| *slot.borrow_mut() = true));
    pages.reactor.settle();
    assert!(handshake.bytes().is_empty() && visit.bytes().is_empty() && !*fired.borrow());
    handshake.send(&asks[10..]);
    told_503(&handshake);
    visit.send(&visits[10..]);
    visit.send(visits);
    for _ in 0..2 {
        assert_eq!((visit.http().status(), visit.is_over()), (200, false));
    }
    open.frame(&close(1001, ""));
    assert!(*fired.borrow());
}

// T69
#[test]
fn a_decision_that_meets_the_shutdown_changes_nothing() {
    let (server, promises) = later(Options::default());
    let peer = server.connect();
    peer.send(upgrade("/", &[]));
    server.reactor.settle();
    promises.next().resolve(Accept::default().into());
    // the decision is on its way to the handshake by then
    let (handle, outcome) = (server.handle.clone(), Outcome::default());
    let slot = outcome.clone();
    server.reactor.call_when_running(move |reactor| {
        let done = handle.shutdown(reactor, Duration::from_secs(9), Duration::ZERO);
        drop(done.add_both(move |result| *slot.borrow_mut() = Some(result)));
    });
    server.reactor.settle();
    told_503(&peer);
    assert_eq!((stragglers(&outcome), server.handle.accepted()), (None, 0));
    peer.close();
    server.reactor.settle();
    assert_eq!(stragglers(&outcome), Some(vec![]));
}

#[test]
fn a_failed_acceptance_is_waited_for_as_a_failed_decision_is() {
    for accept in [false, true] {
        let (server, promises) = later(Options::default());
        let peer = server.connect();
        peer.send(upgrade("/", &[]));
        if accept {
            promises.next().resolve(Accept::protocol("never offered").into());
        } else {
            promises.next().fail(Failure::new(UserError::new()));
        }
        server.reactor.settle();
        assert_eq!(peer.http().status(), 500);
        let outcome = shut_down(&server, 10, 0);
        assert_eq!(stragglers(&outcome), None, "accept: {accept}: the peer may not have read why");
        peer.close();
        server.reactor.settle();
        assert_eq!(stragglers(&outcome), Some(vec![]));
    }
}
