//! The one rule: a method of a handle never runs user code before it returns.
//!
//! A program may therefore hold a `RefCell` borrow over any of them. T56.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Failure, Transport, UserError, for_protocol};

use crate::common::{Event, Log, scripted, silent};
use crate::rule_world::{ACTIONS, PLACES, play};

/// T56, P012, P114
#[test]
fn no_handle_method_runs_user_code_in_any_callback() {
    for place in PLACES {
        for (name, action) in ACTIONS {
            let violations = play(place, action);
            assert!(violations.is_empty(), "{name} in {place}: {violations:?}");
        }
    }
}

/// T56: the chat server of every tutorial, which Twisted's users iterate over a copy for
#[test]
fn broadcasting_and_dropping_clients_while_iterating_the_list_is_safe() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let clients: Rc<RefCell<Vec<Transport>>> = Rc::default();
    let (list, shared) = (clients.clone(), log.clone());
    let factory = for_protocol(move || {
        let (clients, log) = (list.clone(), shared.clone());
        scripted(move |transport, event| match event {
            Event::Made => clients.borrow_mut().push(transport.clone()),
            Event::Data(data) => {
                for (number, client) in clients.borrow_mut().iter_mut().enumerate() {
                    client.write(data);
                    client.write(vec![b'.'; 100_000]);
                    match number % 3 {
                        0 => client.lose_connection(),
                        1 => client.abort_connection(),
                        _ => {}
                    }
                }
            }
            Event::Lost(_) => {
                clients.borrow_mut().retain(|client| client != transport);
                log.add("lost");
            }
            _ => {}
        })
    });
    let port = reactor.listen_tcp(1, factory).unwrap();
    let peers = [(); 9].map(|()| reactor.connect_to(&port));
    peers[4].send("to all");
    reactor.settle();
    assert_eq!(log.count("lost"), 6);
    assert_eq!(clients.borrow().len(), 3);
    for (number, peer) in peers.iter().enumerate() {
        let received = peer.received();
        assert_eq!(received.starts_with(b"to all"), number % 3 != 1, "{number}");
        assert_eq!((peer.saw_end(), peer.saw_reset()), (number % 3 == 0, number % 3 == 1));
    }
}

/// T56: in Twisted a Deferred's callbacks run inside `callback()` and inside `addCallback()`
#[test]
fn a_deferreds_callbacks_never_run_inside_resolve_or_add_callback() {
    let reactor = MemoryReactor::new();
    let borrowed = Rc::new(RefCell::new(Vec::new()));
    let add = |entry: &'static str| {
        let list = borrowed.clone();
        move || list.borrow_mut().push(entry)
    };
    {
        let guard = borrowed.borrow_mut();
        let first = add("resolved after add_callback");
        let (resolver, deferred) = reactor.deferred::<()>();
        drop(deferred.add_callback(move |()| first()));
        resolver.resolve(());

        let second = add("add_callback after resolve");
        let (resolver, deferred) = reactor.deferred::<()>();
        resolver.resolve(());
        drop(deferred.add_callback(move |()| second()));

        let third = add("failed");
        let (resolver, deferred) = reactor.deferred::<()>();
        drop(deferred.add_errback(move |_| third()));
        resolver.fail(Failure::new(UserError::new()));

        let fourth = add("dropped");
        let (resolver, deferred) = reactor.deferred::<()>();
        drop(deferred.add_both(move |_| fourth()));
        drop(resolver);

        let fifth = add("future");
        let (resolver, deferred) = reactor.deferred::<()>();
        drop(reactor.spawn(async move {
            let _ = deferred.await;
            fifth();
        }));
        resolver.resolve(());
        drop(guard);
    }
    assert!(borrowed.borrow().is_empty(), "{:?} ran inside a handle's method", borrowed.borrow());
    reactor.settle();
    assert_eq!(borrowed.borrow().len(), 5, "{:?}", borrowed.borrow());
}

/// T56: the drop of a factory and of a protocol inside a callback; what they own may call back
#[test]
fn a_drop_that_calls_back_finds_nothing_borrowed() {
    struct Farewell(Transport, Log);
    impl Drop for Farewell {
        fn drop(&mut self) {
            self.0.write("from drop");
            self.0.lose_connection();
            self.0.unregister_producer();
            self.0.reactor().call_later(Duration::ZERO, || {});
            self.1.add("dropped");
        }
    }
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let shared = log.clone();
    let factory = for_protocol(move || {
        let (log, mut farewell) = (shared.clone(), None);
        scripted(move |transport, event| match event {
            Event::Made => {
                farewell = Some(Farewell(transport.clone(), log.clone()));
                let owned = Farewell(transport.clone(), log.clone());
                let timer = transport.reactor().call_later(Duration::from_secs(1), move || drop(owned));
                timer.cancel().expect("pending");
            }
            Event::Data(_) => transport.switch_protocol(silent(), b""),
            _ => drop(farewell.take()),
        })
    });
    let port = reactor.listen_tcp(1, factory).unwrap();
    let peer = reactor.connect_to(&port);
    peer.send("switch");
    reactor.settle();
    assert_eq!(log.count("dropped"), 2);
    assert!(peer.received().ends_with(b"from drop"));
}
