//! System event triggers: what is done before, during and after startup and shutdown.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Deferred, Failure, Phase, Reactor, SystemEvent, TriggerId, UserError, for_protocol};

use crate::common::{Log, Recording, dial, echo, play, real_reactor, run, slot};
use Phase::{After, Before, During};
use SystemEvent::{Shutdown, Startup};

/// A trigger that writes to the log.
fn note(reactor: &Reactor, phase: Phase, event: SystemEvent, log: &Log) -> TriggerId {
    let log = log.clone();
    reactor.add_system_event_trigger(phase, event, move |_| log.add(format!("{phase:?} {event:?}")))
}

/// A trigger before shutdown that gives a Deferred; the end that fires it.
fn hold(reactor: &Reactor) -> twistor_reactor::Resolver<()> {
    let (resolver, deferred) = reactor.deferred();
    reactor.add_system_event_trigger(Before, Shutdown, move |_| deferred);
    resolver
}

/// P011, P024
#[test]
fn stop_calls_what_is_before_during_and_after_shutdown_and_then_run_returns() {
    let reactor = real_reactor();
    let log = Log::default();
    for phase in [After, During, Before, Before] {
        note(&reactor, phase, Shutdown, &log);
    }
    reactor.call_when_running(Reactor::stop);
    run(&reactor);
    assert_eq!(log.entries(), ["Before Shutdown", "Before Shutdown", "During Shutdown", "After Shutdown"]);
}

/// P012
#[test]
fn no_trigger_is_called_inside_stop() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    note(&reactor, Before, Shutdown, &log);
    let (stopper, inside) = (reactor.clone(), log.clone());
    reactor.call_later(Duration::ZERO, move || {
        stopper.stop();
        inside.add("stop has returned");
    });
    reactor.settle();
    assert_eq!(log.entries(), ["stop has returned", "Before Shutdown"]);
}

/// P018
#[test]
fn while_shutdown_waits_connections_and_timers_are_served_and_the_reactor_runs() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    let port = reactor.listen_tcp(1, for_protocol(echo)).unwrap();
    let earlier = reactor.connect_to(&port);
    let resolver = hold(&reactor);
    note(&reactor, During, Shutdown, &log);
    reactor.stop();
    reactor.settle();

    let later = reactor.connect_to(&port);
    let ticks = log.clone();
    reactor.call_later(Duration::from_secs(60), move || ticks.add("tick"));
    for peer in [&earlier, &later] {
        peer.send(b"still there?");
    }
    reactor.advance(Duration::from_secs(60));
    assert_eq!((earlier.received(), later.received()), (b"still there?".to_vec(), b"still there?".to_vec()));
    assert!(reactor.running() && !reactor.stopped());
    reactor.stop(); // once more, which changes nothing
    reactor.settle();
    assert_eq!(log.entries(), ["tick"]);

    resolver.resolve(());
    reactor.settle();
    assert!(reactor.stopped() && !port.listening());
    assert_eq!(log.entries(), ["tick", "During Shutdown"]);
}

/// P018, over sockets: the poller sleeps, and wakes, as before.
#[test]
fn run_returns_when_what_the_shutdown_waits_for_has_been_done_over_the_network() {
    let reactor = real_reactor();
    let log = Log::default();
    let port = reactor.listen_tcp("127.0.0.1:0", Recording::new(&log)).unwrap();
    let address = port.address().clone();
    let (resolver, gone) = reactor.deferred();
    reactor.add_system_event_trigger(Before, Shutdown, move |reactor| {
        reactor.call_later(Duration::from_millis(20), move || resolver.resolve(()));
        gone
    });
    let (stopper, waiting) = (reactor.handle(), log.clone());
    let peer = play(&reactor, move || {
        stopper.stop().expect("it runs");
        let peer = dial(&address);
        waiting.wait_for(1, "made");
        peer
    });
    drop(peer);
    assert_eq!(log.count("lost"), 1);
}

/// P019
#[test]
fn during_shutdown_all_connections_are_lost_and_the_reactor_runs_no_more() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    let port = reactor.listen_tcp(1, Recording::new(&log)).unwrap();
    let _peers = [(); 2].map(|()| reactor.connect_to(&port));
    let during = log.clone();
    reactor.add_system_event_trigger(During, Shutdown, move |reactor| {
        during.add(format!("running: {}", reactor.running()));
    });
    log.take();
    reactor.stop();
    reactor.settle();
    let entries = log.entries();
    assert_eq!(entries.len(), 4, "{entries:?}");
    assert!(entries[..2].iter().all(|entry| entry.starts_with("lost: ")), "{entries:?}");
    assert_eq!(entries[2..], ["stop factory", "running: false"]);
}

/// P025, P026, P031
#[test]
fn shutdown_goes_on_when_everything_before_it_has_fired() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    let removed = note(&reactor, During, Shutdown, &log);
    note(&reactor, After, Shutdown, &log);
    let resolvers = [(); 3].map(|()| hold(&reactor));
    reactor.stop();
    for resolver in resolvers.into_iter().rev() {
        reactor.settle();
        assert!(log.entries().is_empty(), "it did not wait for all");
        resolver.resolve(());
    }
    assert!(reactor.remove_system_event_trigger(removed));
    reactor.settle();
    assert_eq!(log.entries(), ["After Shutdown"]);
}

/// P027
#[test]
fn a_trigger_may_fire_what_an_earlier_one_waits_for() {
    let reactor = MemoryReactor::new();
    let resolver = hold(&reactor);
    reactor.add_system_event_trigger(Before, Shutdown, move |_| resolver.resolve(()));
    reactor.stop();
    reactor.settle();
    assert!(reactor.stopped());
}

/// As in Twisted, whose `DeferredList` does not ask how.
#[test]
fn a_deferred_that_fails_or_is_given_up_is_not_waited_for_any_longer() {
    type End = fn(twistor_reactor::Resolver<()>);
    let ends: [End; 2] = [|resolver| resolver.fail(Failure::new(UserError::new())), drop];
    for end in ends {
        let reactor = MemoryReactor::new();
        let resolver = hold(&reactor);
        reactor.stop();
        reactor.settle();
        assert!(!reactor.stopped());
        end(resolver);
        reactor.settle();
        assert!(reactor.stopped());
    }
}

#[test]
fn a_trigger_may_give_a_deferred_of_anything_or_none() {
    let reactor = MemoryReactor::new();
    let (resolver, text) = reactor.deferred::<String>();
    reactor.add_system_event_trigger(Before, Shutdown, |_| None::<Deferred<u8>>);
    reactor.add_system_event_trigger(Before, Shutdown, move |_| Some(text));
    reactor.stop();
    reactor.settle();
    assert!(!reactor.stopped());
    resolver.resolve("done".to_owned());
    reactor.settle();
    assert!(reactor.stopped());
}

/// P028, P029
#[test]
fn a_panic_in_a_trigger_keeps_no_other_from_its_turn() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    for phase in [Before, During, After] {
        reactor.add_system_event_trigger(phase, Shutdown, |_| assert!(std::hint::black_box(false), "on purpose"));
        note(&reactor, phase, Shutdown, &log);
    }
    reactor.stop();
    reactor.settle();
    assert!(reactor.stopped());
    assert_eq!(log.entries(), ["Before Shutdown", "During Shutdown", "After Shutdown"]);
}

/// P022, P023: an id that was used does not compile; another reactor's names nothing.
#[test]
fn a_removed_trigger_is_not_called() {
    let (reactor, other) = (MemoryReactor::new(), MemoryReactor::new());
    let log = Log::default();
    let removed = note(&reactor, Before, Shutdown, &log);
    let kept = note(&reactor, During, Shutdown, &log);
    note(&other, During, Shutdown, &log);
    assert!(reactor.remove_system_event_trigger(removed));
    assert!(!other.remove_system_event_trigger(kept));
    reactor.stop();
    reactor.settle();
    assert_eq!(log.entries(), ["During Shutdown"]);
}

/// P030, P032: Twisted warns of the latter.
#[test]
fn a_trigger_may_remove_others_of_which_only_the_pending_are_there() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    let ids = slot::<[TriggerId; 4]>();
    let called = note(&reactor, Before, Shutdown, &log);
    let (theirs, outcome) = (ids.clone(), log.clone());
    let own = reactor.add_system_event_trigger(Before, Shutdown, move |reactor| {
        let removed = theirs.take().expect("set").map(|id| reactor.remove_system_event_trigger(id));
        outcome.add(format!("{removed:?}"));
    });
    let before = note(&reactor, Before, Shutdown, &log);
    let during = note(&reactor, During, Shutdown, &log);
    ids.set(Some([called, own, before, during]));
    reactor.stop();
    reactor.settle();
    assert_eq!(log.entries(), ["Before Shutdown", "[false, false, true, true]"]);
}

/// A phase takes more while it lasts; one that is over keeps them for the next run.
#[test]
fn triggers_may_be_added_by_triggers() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    let inner = log.clone();
    reactor.add_system_event_trigger(Before, Shutdown, move |reactor| {
        note(reactor, Before, Shutdown, &inner);
        note(reactor, During, Shutdown, &inner);
        reactor.add_system_event_trigger(During, Shutdown, move |reactor| {
            note(reactor, Before, Shutdown, &inner);
        });
    });
    reactor.stop();
    reactor.settle();
    assert_eq!(log.take(), ["Before Shutdown", "During Shutdown"]);
    reactor.stop();
    reactor.settle();
    assert_eq!(log.entries(), ["Before Shutdown"]);
}

/// P033, P034
#[test]
fn triggers_are_called_once_and_in_their_own_event_alone() {
    let reactor = real_reactor();
    let log = Log::default();
    note(&reactor, During, Startup, &log);
    reactor.call_when_running(|reactor| {
        reactor.stop();
        reactor.stop();
    });
    run(&reactor);
    assert_eq!(log.take(), ["During Startup"]);
    note(&reactor, During, Shutdown, &log);
    for _ in 0..2 {
        reactor.call_when_running(Reactor::stop);
        run(&reactor);
    }
    assert_eq!(log.entries(), ["During Shutdown"]);
}

/// P005, P024
#[test]
fn before_startup_the_reactor_does_not_run_and_from_then_on_it_does() {
    let reactor = real_reactor();
    let log = Log::default();
    let calls = log.clone();
    reactor.call_when_running(move |_| calls.add("when running"));
    for phase in [After, During, Before] {
        let log = log.clone();
        reactor.add_system_event_trigger(phase, Startup, move |reactor| {
            log.add(format!("{phase:?}: {}", reactor.running()));
            if phase == After {
                reactor.stop();
            }
        });
    }
    run(&reactor);
    assert_eq!(log.entries(), ["Before: false", "During: true", "when running", "After: true"]);
}

/// P014, P025
#[test]
fn a_startup_that_waits_is_ended_by_stop_or_by_what_it_waits_for() {
    let reactor = real_reactor();
    let log = Log::default();
    let (resolver, deferred) = reactor.deferred::<()>();
    reactor.add_system_event_trigger(Before, Startup, move |_| deferred);
    note(&reactor, After, Startup, &log);
    let stopper = reactor.clone();
    reactor.call_later(Duration::ZERO, move || stopper.stop());
    run(&reactor);
    assert!(log.entries().is_empty(), "it did not wait");
    drop(resolver);

    let (resolver, deferred) = reactor.deferred::<()>();
    reactor.add_system_event_trigger(Before, Startup, move |_| deferred);
    reactor.call_when_running(Reactor::stop);
    let timer = log.clone();
    reactor.call_later(Duration::from_millis(5), move || {
        timer.add("fires");
        resolver.resolve(());
    });
    run(&reactor);
    assert_eq!(log.entries(), ["fires", "After Startup"]);
}

/// T69: a program that captures the reactor in a trigger leaks nothing once it has run.
#[test]
fn triggers_are_freed_when_they_were_called_or_removed() {
    struct Freed(Rc<Cell<u32>>);
    impl Drop for Freed {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let freed = Rc::new(Cell::new(0));
    let reactor = MemoryReactor::new();
    let [called, removed] = [(); 2].map(|()| {
        let owned = (Freed(freed.clone()), reactor.clone());
        reactor.add_system_event_trigger(After, Shutdown, move |_| drop(owned))
    });
    assert!(reactor.remove_system_event_trigger(removed));
    assert_eq!(freed.get(), 1);
    reactor.stop();
    reactor.settle();
    assert_eq!(freed.get(), 2);
    assert!(!reactor.remove_system_event_trigger(called));
}
