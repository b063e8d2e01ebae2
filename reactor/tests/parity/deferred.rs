//! Deferreds, and futures on the reactor.

use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{CallbackPanicked, ConnectionLost, Failure, ResolverDropped};

use crate::common::Log;

/// P228, P229
#[test]
fn results_pass_along_the_chain_and_errors_switch_sides() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let (resolver, deferred) = reactor.deferred::<u32>();
    let (errors, last) = (log.clone(), log.clone());
    drop(
        deferred
            .add_callback(|n| n + 1)
            .add_errback(|_| unreachable!("no error yet"))
            .add_callback(|n| {
                assert!(n != 42, "on purpose");
                n
            })
            .add_callback(|n| n + 1000)
            .add_errback(move |failure| {
                assert!(failure.check::<CallbackPanicked>());
                errors.add(failure);
                7
            })
            .add_both(move |result| last.add(result.is_ok_and(|n| n == 7))),
    );
    resolver.resolve(41);
    reactor.settle();
    assert_eq!(log.entries(), ["A callback panicked: on purpose.", "true"]);
}

/// P228: before or after it has fired
#[test]
fn a_callback_added_after_the_result_gets_it_too() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let (resolver, deferred) = reactor.deferred();
    resolver.fail(Failure::new(ConnectionLost::new()));
    reactor.settle();
    let late = log.clone();
    drop(deferred.add_both(move |result: Result<(), Failure>| late.add(result.is_err())));
    reactor.settle();
    assert_eq!(log.entries(), ["true"]);
}

/// P232: firing twice does not compile; firing never is a failure
#[test]
fn a_dropped_resolver_fails_its_deferred() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let (resolver, deferred) = reactor.deferred::<()>();
    let inside = log.clone();
    drop(deferred.add_errback(move |failure| inside.add(failure.check::<ResolverDropped>())));
    drop(resolver);
    reactor.settle();
    assert_eq!(log.entries(), ["true"]);
}

/// P230, P238
#[test]
fn a_spawned_future_awaits_deferreds_and_its_result_is_one() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let (first, one) = reactor.deferred::<u32>();
    let (second, two) = reactor.deferred::<u32>();
    let steps = log.clone();
    let sum = reactor.spawn(async move {
        steps.add("polled");
        let one = one.await?;
        steps.add(one);
        let two = two.await?;
        Ok::<_, Failure>(one + two)
    });
    assert!(log.entries().is_empty(), "not inside spawn");
    let done = log.clone();
    drop(sum.add_callback(move |sum| done.add(sum.is_ok_and(|sum| sum == 3))));
    reactor.settle();
    first.resolve(1);
    reactor.settle();
    assert_eq!(log.entries(), ["polled", "1"]);
    second.resolve(2);
    reactor.settle();
    assert_eq!(log.entries(), ["polled", "1", "true"]);
}

/// P236, T55
#[test]
fn a_panic_in_a_future_fails_its_deferred_and_no_other() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let failed = log.clone();
    drop(reactor.spawn(async { panic!("on purpose") }).add_errback(move |failure| failed.add(failure)));
    let fine = log.clone();
    drop(reactor.spawn(async move { fine.add("fine") }));
    reactor.settle();
    assert_eq!(log.entries(), ["fine", "A callback panicked: on purpose."]);
}

/// P231
#[test]
fn a_long_chain_needs_no_deep_stack() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let (resolver, mut deferred) = reactor.deferred::<u32>();
    for _ in 0..20_000 {
        deferred = deferred.add_callback(|n| n + 1);
    }
    let end = log.clone();
    drop(deferred.add_callback(move |n| end.add(n)));
    resolver.resolve(0);
    reactor.settle();
    assert_eq!(log.entries(), ["20000"]);
}

/// T56: a timer, a Deferred and a future in one program
#[test]
fn a_future_may_wait_for_a_timer() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let (resolver, deferred) = reactor.deferred::<()>();
    let woken = log.clone();
    reactor.call_later(Duration::from_secs(5), move || resolver.resolve(()));
    drop(reactor.spawn(async move {
        let _ = deferred.await;
        woken.add("woken");
    }));
    reactor.advance(Duration::from_secs(4));
    assert!(log.entries().is_empty());
    reactor.advance(Duration::from_secs(1));
    assert_eq!(log.entries(), ["woken"]);
}
