//! Who decides on a handshake, and when: `Accept`, `Refuse`, `Later`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Failure, Resolver, UserError};
use twistor_websocket::http::{Request, Response};
use twistor_websocket::sansio::deflate::DeflateOptions;
use twistor_websocket::{Accept, Frame, Negotiation, Options, Refusal, WebSocketServerFactory};

use crate::support::{Event, Recorder, Server, close, text, upgrade};

// P270
#[test]
fn a_refusal_is_the_response_that_the_application_makes() {
    let server = Server::with(Options::default(), |mould| {
        mould.deciding(|request| match request.query_value("token").as_deref() {
            Some("good") => Accept::default().into(),
            Some("page") => Refusal::from(Response::html("<p>no</p>").status(StatusCode::PAYMENT_REQUIRED)).into(),
            _ => {
                Refusal::new(StatusCode::UNAUTHORIZED, "no token").header("WWW-Authenticate", "Bearer").unwrap().into()
            }
        })
    });
    let answer = server.refusal_of(upgrade("/", &[]));
    assert_eq!(
        (answer.status(), answer.header("WWW-Authenticate"), &*answer.body),
        (401, Some("Bearer"), "no token\n")
    );
    let answer = server.refusal_of(upgrade("/?token=page", &[]));
    assert_eq!((answer.status(), &*answer.body), (402, "<p>no</p>"));
    assert_eq!((server.handle.connection_count(), server.handle.accepted()), (0, 0));
    assert!(server.log.take().is_empty(), "no callback of a connection that never was");
    server.connect().open("/?token=good", &[]);
    assert_eq!(server.log.take(), ["made"]);
}

// P267, P270
#[test]
fn an_acceptance_may_choose_the_subprotocol_and_add_headers() {
    let server = Server::with(Options { protocols: vec!["first".into()], ..Options::default() }, |mould| {
        mould.deciding(|_| {
            let mut accept = Accept::protocol("second");
            accept.headers.append("set-cookie", http::HeaderValue::from_static("a=1"));
            accept.headers.append("set-cookie", http::HeaderValue::from_static("b=2"));
            accept.into()
        })
    });
    let response = server.connect().open("/", &["Sec-WebSocket-Protocol: first, second"]);
    assert_eq!(response.header("Sec-WebSocket-Protocol"), Some("second"));
    let cookies = response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    assert_eq!(cookies.map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["a=1", "b=2"]);
    // RFC 6455, 4.2.2: never one that the client did not offer
    assert_eq!(server.refusal_of(upgrade("/", &["Sec-WebSocket-Protocol: first"])).status(), 500);
}

/// The application's promises, in the order in which handshakes came.
#[derive(Clone, Default)]
pub(crate) struct Promises(Rc<RefCell<VecDeque<Resolver<Negotiation>>>>);

impl Promises {
    pub(crate) fn next(&self) -> Resolver<Negotiation> {
        self.0.borrow_mut().pop_front().expect("a promise")
    }
}

/// A server that decides later.
pub(crate) fn later(options: Options) -> (Server, Promises) {
    later_with(options, |factory| factory)
}

pub(crate) fn later_with(
    options: Options,
    finish: impl FnOnce(WebSocketServerFactory) -> WebSocketServerFactory,
) -> (Server, Promises) {
    let (promises, reactor) = (Promises::default(), Rc::new(RefCell::new(None::<twistor_reactor::Reactor>)));
    let (given, from) = (promises.clone(), reactor.clone());
    let mould = move |mould: Recorder| {
        mould.echoing().deciding(move |_| {
            let (resolver, deferred) = from.borrow().as_ref().expect("the reactor").deferred();
            given.0.borrow_mut().push_back(resolver);
            Negotiation::Later(deferred)
        })
    };
    let server = Server::custom(options, mould, finish);
    *reactor.borrow_mut() = Some((**server.reactor).clone());
    (server, promises)
}

// P270
#[test]
fn a_later_acceptance_opens_the_websocket_and_early_frames_wait_for_it() {
    let (server, promises) = later(Options::default());
    let peer = server.connect();
    let mut bytes = upgrade("/", &[]).into_bytes();
    bytes.extend(text("early").masked());
    peer.send(bytes);
    peer.frame(&text("while it thinks"));
    peer.wait(5.0);
    assert!(peer.bytes().is_empty() && server.log.take().is_empty());
    assert_eq!(server.handle.connection_count(), 1, "it has its place already");
    promises.next().resolve(Accept::default().into());
    server.reactor.settle();
    assert_eq!(peer.http().status(), 101);
    assert_eq!(peer.lines(), ["text early", "text while it thinks"]);
    peer.wait(20.0);
    assert!(!peer.is_over(), "the handshake's deadline is off");
    peer.frame(&close(1000, ""));
    assert!(server.only_end().0);
}

// P270
#[test]
fn a_later_refusal_is_sent() {
    let (server, promises) = later(Options::default());
    let peer = server.connect();
    peer.send(upgrade("/", &[]));
    promises.next().resolve(Refusal::new(StatusCode::FORBIDDEN, "after all").into());
    server.reactor.settle();
    let answer = peer.http();
    assert_eq!((answer.status(), &*answer.body), (403, "after all\n"));
    assert!(peer.saw_end());
    peer.wait(3.0);
    assert_eq!((server.handle.connection_count(), server.reactor.pending_calls()), (0, 0));
    assert!(server.log.take().is_empty());
}

#[test]
fn whoever_is_refused_later_takes_nobodys_place_while_it_reads_why() {
    let (server, promises) = later(Options { max_connections_per_address: Some(1), ..Options::default() });
    let refused = server.connect();
    refused.send(upgrade("/", &[]));
    promises.next().resolve(Refusal::new(StatusCode::FORBIDDEN, "no").into());
    server.reactor.settle();
    assert_eq!((refused.http().status(), server.handle.connection_count()), (403, 0));
    let peer = server.connect();
    peer.send(upgrade("/", &[]));
    promises.next().resolve(Accept::default().into());
    server.reactor.settle();
    assert_eq!(peer.http().status(), 101);
}

#[test]
fn a_later_may_be_later_still() {
    let (server, promises) = later(Options::default());
    let peer = server.connect();
    peer.send(upgrade("/", &[]));
    let (resolver, deferred) = server.reactor.deferred();
    promises.next().resolve(Negotiation::Later(deferred));
    server.reactor.settle();
    assert!(peer.bytes().is_empty());
    resolver.resolve(Accept::default().into());
    server.reactor.settle();
    assert_eq!(peer.http().status(), 101);
}

#[test]
fn a_later_that_fails_or_is_given_up_is_answered_500() {
    for give_up in [false, true] {
        let (server, promises) = later(Options::default());
        let peer = server.connect();
        peer.send(upgrade("/", &[]));
        if give_up {
            drop(promises.next());
        } else {
            promises.next().fail(Failure::new(UserError::new()));
        }
        server.reactor.settle();
        assert_eq!(peer.http().status(), 500);
        assert!(peer.saw_end());
        peer.wait(3.0);
        assert_eq!((server.handle.connection_count(), server.reactor.pending_calls()), (0, 0));
    }
}

// P265
#[test]
fn a_later_that_is_too_late_is_answered_408_ten_seconds_after_the_connection() {
    let (server, promises) = later(Options::default());
    let peer = server.connect();
    peer.wait(4.0);
    peer.send(upgrade("/", &[]));
    peer.wait(5.9);
    assert!(peer.bytes().is_empty());
    peer.wait(0.2);
    assert_eq!(peer.http().status(), 408);
    assert!(peer.saw_end());
    // whatever is decided now
    for decision in [Accept::default().into(), Refusal::new(StatusCode::FORBIDDEN, "no").into()] {
        let (server, promises) = later(Options::default());
        let peer = server.connect();
        peer.send(upgrade("/", &[]));
        peer.wait(10.1);
        assert_eq!(peer.http().status(), 408);
        promises.next().resolve(decision);
        server.reactor.settle();
        assert!(peer.bytes().is_empty());
        peer.wait(5.0);
        assert!(server.log.take().is_empty());
        assert_eq!((server.handle.connection_count(), server.reactor.pending_calls()), (0, 0));
    }
    drop(promises);
}

#[test]
fn a_client_that_leaves_meanwhile_gives_up_its_place() {
    for reset in [false, true] {
        let (server, promises) = later(Options { open_handshake_timeout: None, ..Options::default() });
        let peer = server.connect();
        peer.send(upgrade("/", &[]));
        assert_eq!(server.handle.connection_count(), 1);
        if reset {
            peer.reset();
        } else {
            peer.close();
        }
        server.reactor.settle();
        assert_eq!((server.handle.connection_count(), server.reactor.pending_calls()), (0, 0));
        promises.next().resolve(Accept::default().into());
        server.reactor.settle();
        assert!(server.log.take().is_empty());
        assert_eq!(server.handle.accepted(), 0);
    }
}

#[test]
fn a_decision_may_come_at_once_from_a_deferred() {
    let reactor = MemoryReactor::new();
    let (resolver, deferred) = reactor.deferred::<Negotiation>();
    resolver.resolve(Accept::default().into());
    reactor.settle();
    let deferred = RefCell::new(Some(deferred));
    let server = Server::with(Options::default(), |mould| {
        mould.deciding(move |_| Negotiation::Later(deferred.borrow_mut().take().expect("once")))
    });
    let peer = server.connect();
    peer.send(upgrade("/", &[]));
    reactor.advance(Duration::ZERO);
    server.reactor.settle();
    assert_eq!(peer.http().status(), 101);
}

#[test]
fn what_is_sent_on_opening_comes_behind_the_101() {
    let server = Server::with(Options::default(), |mould| {
        mould.acting(|socket, event| {
            if let Event::Made = event {
                socket.send_text("welcome");
            }
        })
    });
    let peer = server.open();
    assert_eq!(peer.lines(), ["text welcome"]);
}

/// A server whose `negotiate` decides with the reactor's help.
fn deciding(decide: impl Fn(&twistor_reactor::Reactor, &Request) -> Negotiation + 'static) -> Server {
    let reactor = Rc::new(RefCell::new(None::<twistor_reactor::Reactor>));
    let from = reactor.clone();
    let server = Server::with(Options::default(), |mould| {
        mould.echoing().deciding(move |request| decide(from.borrow().as_ref().expect("the reactor"), request))
    });
    *reactor.borrow_mut() = Some((**server.reactor).clone());
    server
}

// P270
#[test]
fn a_timer_may_decide() {
    let server = deciding(|reactor, request| {
        let (resolver, deferred) = reactor.deferred();
        let decision = match request.query_value("token").as_deref() {
            Some("good") => Accept::default().into(),
            _ => Refusal::new(StatusCode::FORBIDDEN, "thought about it").into(),
        };
        reactor.call_later(Duration::from_secs(3), move || resolver.resolve(decision));
        Negotiation::Later(deferred)
    });
    let (good, bad) = (server.connect(), server.connect());
    good.send(upgrade("/?token=good", &[]));
    bad.send(upgrade("/", &[]));
    server.wait(2.9);
    assert!(good.bytes().is_empty() && bad.bytes().is_empty());
    server.wait(0.2);
    assert_eq!(good.http().status(), 101);
    assert_eq!((bad.http().status(), bad.saw_end()), (403, true));
    good.frame(&text("hello"));
    assert_eq!(good.lines(), ["text hello"]);
    assert_eq!(server.handle.accepted(), 1);
}

/// A waiting room: who is in decides, from inside its own callbacks, who else comes in.
// P270
#[test]
fn another_connections_message_may_decide() {
    let waiting = Promises::default();
    let (queue, door) = (waiting.clone(), waiting);
    let reactor = Rc::new(RefCell::new(None::<twistor_reactor::Reactor>));
    let from = reactor.clone();
    let server = Server::with(Options::default(), |mould| {
        let mould = mould.deciding(move |request| {
            if request.path() == "/porter" {
                return Accept::default().into();
            }
            let (resolver, deferred) = from.borrow().as_ref().expect("the reactor").deferred();
            queue.0.borrow_mut().push_back(resolver);
            Negotiation::Later(deferred)
        });
        mould.acting(move |socket, event| {
            let decision = match event {
                Event::Message(Frame::Text("in")) => Accept::default().into(),
                Event::Message(Frame::Text("out")) => Refusal::new(StatusCode::FORBIDDEN, "not you").into(),
                _ => return,
            };
            door.next().resolve(decision);
            socket.send_text("done");
        })
    });
    *reactor.borrow_mut() = Some((**server.reactor).clone());
    let porter = server.connect();
    porter.open("/porter", &[]);
    let guests = [(); 3].map(|()| server.connect());
    guests.iter().for_each(|guest| guest.send(upgrade("/guest", &[])));
    assert!(guests.iter().all(|guest| guest.bytes().is_empty()));
    // two in one segment, so that both decisions come of one turn
    porter.frames(&[text("in"), text("out")]);
    assert_eq!(porter.lines(), ["text done", "text done"]);
    assert_eq!(guests[0].http().status(), 101);
    assert_eq!((guests[1].http().status(), guests[1].saw_end()), (403, true));
    assert!(guests[2].bytes().is_empty() && !guests[2].is_over());
    // a guest who is in may do the same: the connections are alike
    guests[0].frame(&text("in"));
    assert_eq!(guests[0].lines(), ["text done"]);
    assert_eq!(guests[2].http().status(), 101);
    assert_eq!(server.handle.connection_count(), 3);
}

#[test]
fn an_acceptance_may_decline_compression_for_one_connection() {
    let options = Options { compression: Some(DeflateOptions::default()), ..Options::default() };
    let server = Server::with(options, |mould| {
        mould
            .deciding(|request| Accept { decline_compression: request.path() == "/secret", ..Accept::default() }.into())
    });
    for (path, compressed) in [("/secret", false), ("/open", true)] {
        let response = server.connect().open(path, &["Sec-WebSocket-Extensions: permessage-deflate"]);
        assert_eq!(response.header("Sec-WebSocket-Extensions").is_some(), compressed, "{path}");
    }
    assert_eq!(server.log.socket(0).compression(), None);
    assert!(server.log.socket(1).compression().is_some());
}
