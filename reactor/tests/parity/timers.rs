//! Delayed calls.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use twistor_reactor::testing::{Clock, MemoryReactor};
use twistor_reactor::{AlreadyCalled, AlreadyCancelled, DelayedCall, Failure, Reactor, for_protocol};

use crate::common::{Log, echo, real_reactor, run};

const SECOND: Duration = Duration::from_secs(1);

fn log_after(clock: &Clock, log: &Log, delay: Duration, entry: &'static str) -> DelayedCall {
    let log = log.clone();
    clock.call_later(delay, move || log.add(entry))
}

/// P035, P223
#[test]
fn calls_come_when_due_and_equal_deadlines_in_the_order_they_were_made() {
    let (clock, log) = (Clock::new(), Log::default());
    log_after(&clock, &log, 2 * SECOND, "late");
    for entry in ["first", "second", "third"] {
        log_after(&clock, &log, SECOND, entry);
    }
    clock.advance(SECOND - Duration::from_nanos(1));
    assert!(log.entries().is_empty());
    clock.advance(Duration::from_nanos(1));
    assert_eq!(log.take(), ["first", "second", "third"]);
    clock.pump([SECOND / 2, SECOND / 2]);
    assert_eq!(log.take(), ["late"]);
    assert_eq!(clock.seconds(), 2 * SECOND);
}

/// P036, P037, P039, P042, P043, P050
#[test]
fn a_cancelled_call_does_not_come_and_misuse_has_twisteds_texts() {
    let (clock, log) = (Clock::new(), Log::default());
    let cancelled = log_after(&clock, &log, SECOND, "cancelled");
    let called = log_after(&clock, &log, SECOND, "called");
    assert_eq!(clock.pending_calls(), 2);
    assert!(cancelled.active() && called.active());
    cancelled.cancel().unwrap();
    assert_eq!(clock.pending_calls(), 1);
    clock.advance(SECOND);
    assert_eq!(log.entries(), ["called"]);
    assert_eq!(clock.pending_calls(), 0);
    assert!(!cancelled.active() && !called.active());

    let misuses = |call: &DelayedCall| -> [Failure; 3] {
        [call.cancel().unwrap_err(), call.reset(SECOND).unwrap_err(), call.delay(SECOND).unwrap_err()]
    };
    for failure in misuses(&cancelled) {
        assert!(failure.check::<AlreadyCancelled>());
        assert_eq!(failure.to_string(), "Tried to cancel an already-cancelled event.");
    }
    for failure in misuses(&called) {
        assert!(failure.check::<AlreadyCalled>());
        assert_eq!(failure.to_string(), "Tried to cancel an already-called event.");
    }
}

/// P038, T54
#[test]
fn a_call_that_cancels_itself_was_already_called() {
    let (clock, log) = (Clock::new(), Log::default());
    let this: Rc<Cell<Option<DelayedCall>>> = Rc::default();
    let (itself, inside) = (this.clone(), log.clone());
    this.set(Some(clock.call_later(SECOND, move || {
        let call = itself.take().expect("set below");
        inside.add(call.cancel().expect_err("it is being called"));
    })));
    clock.advance(SECOND);
    assert_eq!(log.entries(), ["Tried to cancel an already-called event."]);
}

/// P040, P041
#[test]
fn reset_counts_from_now_and_delay_from_the_deadline() {
    let (clock, log) = (Clock::new(), Log::default());
    let start = clock.now();
    let call = log_after(&clock, &log, 10 * SECOND, "called");
    clock.advance(SECOND);
    call.reset(2 * SECOND).unwrap(); // earlier
    assert_eq!(call.time() - start, 3 * SECOND);
    call.reset(20 * SECOND).unwrap(); // later
    assert_eq!(call.time() - start, 21 * SECOND);
    call.delay(SECOND).unwrap();
    assert_eq!(call.time() - start, 22 * SECOND);
    call.advance(20 * SECOND).unwrap();
    assert_eq!(call.time() - start, 2 * SECOND);
    clock.advance(SECOND);
    assert_eq!(log.entries(), ["called"]);
}

/// P223: order kept after `reset`, also from inside a call
#[test]
fn a_call_may_move_and_cancel_the_others() {
    let (clock, log) = (Clock::new(), Log::default());
    let moved = log_after(&clock, &log, 5 * SECOND, "moved");
    let dropped = log_after(&clock, &log, SECOND, "dropped");
    let kept = log_after(&clock, &log, 2 * SECOND, "kept");
    clock.call_later(Duration::ZERO, move || {
        moved.reset(SECOND).expect("pending");
        dropped.cancel().expect("pending");
        kept.delay(SECOND).expect("pending");
    });
    clock.pump([Duration::ZERO, SECOND]);
    assert_eq!(log.take(), ["moved"]);
    clock.pump([SECOND, SECOND]);
    assert_eq!(log.take(), ["kept"]);
}

/// P045, T54
#[test]
fn a_deadline_centuries_away_is_harmless() {
    let reactor = real_reactor();
    let log = Log::default();
    for delay in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(100 * 365 * 86_400)] {
        let call = reactor.call_later(delay, || unreachable!("in this century"));
        call.delay(Duration::MAX).unwrap();
        call.reset(Duration::MAX).unwrap();
    }
    let (stopper, inside) = (reactor.clone(), log.clone());
    reactor.call_later(Duration::from_millis(2), move || {
        inside.add("soon");
        stopper.stop();
    });
    run(&reactor);
    assert_eq!(log.entries(), ["soon"]);
}

/// P047
#[test]
fn a_call_made_by_a_call_waits_for_the_next_turn() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    let (inside, nested) = (log.clone(), reactor.clone());
    reactor.call_later(Duration::ZERO, move || {
        inside.add("timer");
        let (late, queued) = (inside.clone(), inside.clone());
        nested.call_later(Duration::ZERO, move || late.add("nested timer"));
        nested.call_when_running(move |_| queued.add("queue of this turn"));
    });
    let inside = log.clone();
    reactor.call_later(Duration::ZERO, move || inside.add("second timer"));
    reactor.settle();
    assert_eq!(log.entries(), ["timer", "second timer", "queue of this turn", "nested timer"]);
}

/// P048, T55
#[test]
fn a_panic_in_a_timer_harms_no_other() {
    let (clock, log) = (Clock::new(), Log::default());
    log_after(&clock, &log, SECOND, "before");
    clock.call_later(SECOND, || panic!("on purpose"));
    log_after(&clock, &log, SECOND, "after");
    clock.advance(SECOND);
    assert_eq!(log.entries(), ["before", "after"]);
}

/// T54
#[test]
fn a_timer_that_rearms_itself_with_zero_does_not_starve_io() {
    fn rearm(reactor: &Reactor, left: u32) {
        let again = reactor.clone();
        if left > 0 {
            reactor.call_later(Duration::ZERO, move || rearm(&again, left - 1));
        }
    }
    let reactor = MemoryReactor::new();
    let port = reactor.listen_tcp(7, for_protocol(echo)).unwrap();
    let peer = reactor.connect_to(&port);
    rearm(&reactor, 1000);
    peer.send("served");
    // answered within the first of the thousand turns
    let seen = Rc::new(Cell::new(None));
    let (flag, sent, watch) = (seen.clone(), port.clone(), reactor.clone());
    reactor.call_later(Duration::ZERO, move || {
        flag.set(Some((watch.pending_calls(), sent.accepted())));
    });
    reactor.settle();
    assert_eq!(peer.received(), b"served");
    assert_eq!(seen.get(), Some((1, 1)));
}

/// T54
#[test]
fn a_hundred_thousand_timers_run_in_order() {
    let clock = Clock::new();
    let last = Rc::new(Cell::new((Duration::ZERO, 0)));
    let ran = Rc::new(Cell::new(0));
    let mut scattered = 1_u64;
    for number in 0..100_000_u32 {
        scattered = scattered.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let key = (Duration::from_millis(scattered >> 54), number);
        let (last, ran) = (last.clone(), ran.clone());
        let call = clock.call_later(key.0, move || {
            assert!(last.replace(key) <= key, "out of order");
            ran.set(ran.get() + 1);
        });
        if number % 4 == 0 {
            call.cancel().unwrap();
        }
    }
    assert_eq!(clock.pending_calls(), 75_000);
    clock.advance(2 * SECOND);
    assert_eq!(ran.get(), 75_000);
}

/// T57: a call that takes long. Nothing but its effect tells of it.
#[test]
fn after_a_call_that_takes_long_the_others_come_late_and_once() {
    const PERIOD: Duration = Duration::from_millis(5);
    fn tick(reactor: &Reactor, ticks: &Rc<RefCell<Vec<Instant>>>) {
        ticks.borrow_mut().push(reactor.now());
        if ticks.borrow().len() == 4 {
            return reactor.stop();
        }
        let (again, ticks) = (reactor.clone(), ticks.clone());
        reactor.call_later(PERIOD, move || tick(&again, &ticks));
    }
    let (reactor, log) = (real_reactor(), Log::default());
    let ticks = Rc::default();
    reactor.call_later(Duration::ZERO, || std::thread::sleep(10 * PERIOD));
    for number in 1..=3 {
        let log = log.clone();
        reactor.call_later(number * PERIOD, move || log.add(number));
    }
    tick(&reactor, &ticks);
    run(&reactor);
    let waits: Vec<Duration> = ticks.borrow().windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[0] >= 10 * PERIOD && waits.iter().all(|wait| *wait >= PERIOD), "{waits:?}");
    assert_eq!(log.entries(), ["1", "2", "3"]);
}

/// P044
#[test]
fn the_poller_sleeps_until_the_next_deadline_and_no_longer() {
    let reactor = real_reactor();
    let far = reactor.call_later(60 * SECOND, || {});
    let stopper = reactor.clone();
    let start = reactor.now();
    reactor.call_later(Duration::from_millis(5), move || {
        far.reset(Duration::from_millis(5)).expect("pending");
        let last = stopper.clone();
        stopper.call_later(Duration::from_millis(5), move || last.stop());
    });
    run(&reactor);
    assert!(reactor.now() - start >= Duration::from_millis(10), "never early");
}
