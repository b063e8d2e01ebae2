//! Calls from threads, and work handed to threads.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc::{channel, sync_channel};
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{CallFromThreadError, CallbackPanicked, ReactorHandle, for_protocol};

use crate::common::{Log, PATIENCE, echo, play, real_reactor, run};

/// Waits until the reactor has run a call of ours.
fn round_trip(handle: &ReactorHandle) -> bool {
    let (answer, answered) = sync_channel(1);
    let sent = handle.call_from_thread(move |_| answer.send(()).unwrap_or_default());
    sent.is_ok() && answered.recv_timeout(PATIENCE / 4).is_ok()
}

/// P051, P052, P053
#[test]
fn calls_from_a_thread_run_in_the_reactors_thread_in_order_once_it_runs() {
    let reactor = real_reactor();
    let (handle, log, here) = (reactor.handle(), Log::default(), std::thread::current().id());
    let sender = log.clone();
    let thread = std::thread::spawn(move || {
        for number in 0..100 {
            let log = sender.clone();
            let call = handle.call_from_thread(move |_| {
                assert_eq!(std::thread::current().id(), here);
                log.add(number);
            });
            call.expect("there is room");
        }
        handle.stop()
    });
    thread.join().unwrap().unwrap();
    assert!(log.entries().is_empty(), "not before it runs");
    run(&reactor);
    let numbers: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(log.entries(), numbers);
}

/// P054, T59
#[test]
fn a_flood_from_eight_threads_is_delivered_whole_and_loses_no_wakeup() {
    const EACH: usize = 20_000;
    let reactor = real_reactor();
    let handle = reactor.handle();
    let delivered = play(&reactor, move || {
        let (count, counted) = channel();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (handle, count) = (handle.clone(), count.clone());
                std::thread::spawn(move || {
                    for _ in 0..EACH {
                        let count = count.clone();
                        handle.call_from_thread(move |_| count.send(()).unwrap_or_default()).expect("there is room");
                    }
                })
            })
            .collect();
        drop(count);
        for thread in threads {
            thread.join().expect("it sends");
        }
        std::iter::from_fn(|| counted.recv_timeout(PATIENCE / 2).ok()).count()
    });
    assert_eq!(delivered, 8 * EACH);
}

/// T59: each call must wake a reactor that sleeps in its poller.
#[test]
fn a_call_wakes_the_sleeping_reactor_however_the_threads_race() {
    const ROUNDS: usize = 10_000;
    let reactor = real_reactor();
    let handle = reactor.handle();
    let rounds = play(&reactor, move || {
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let handle = handle.clone();
                std::thread::spawn(move || (0..ROUNDS).take_while(|_| round_trip(&handle)).count())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it counts")).collect::<Vec<_>>()
    });
    assert_eq!(rounds, [ROUNDS; 3], "a call was not woken for");
}

/// P055, T51
#[test]
fn a_call_that_posts_itself_does_not_starve_io() {
    fn again(reactor: &twistor_reactor::Reactor, posts: Rc<Cell<u32>>) {
        posts.set(posts.get() + 1);
        let handle = reactor.handle();
        reactor.call_when_running(move |reactor| {
            // half of them through the mailbox
            if posts.get() % 2 == 0 {
                handle.call_from_thread(|_| {}).expect("there is room");
            }
            again(reactor, posts);
        });
    }
    let reactor = real_reactor();
    let port = reactor.listen_tcp("127.0.0.1:0", for_protocol(echo)).unwrap();
    let address = port.address().clone();
    let posts = Rc::new(Cell::new(0));
    let counted = posts.clone();
    reactor.call_when_running(move |reactor| again(reactor, counted));
    let answer = play(&reactor, move || {
        use std::io::{Read, Write};
        let mut peer = crate::common::dial(&address);
        let mut answer = [0; 6];
        peer.write_all(b"served").expect("it reads");
        peer.read_exact(&mut answer).expect("an echo");
        answer
    });
    assert_eq!(&answer, b"served");
    assert!(posts.get() > 1);
}

/// P056
#[test]
fn a_call_from_the_reactors_own_thread_is_deferred_too() {
    let reactor = real_reactor();
    let log = Log::default();
    let (inside, handle) = (log.clone(), reactor.handle());
    reactor.call_later(Duration::ZERO, move || {
        let late = inside.clone();
        let call = handle.call_from_thread(move |reactor| {
            late.add("called");
            reactor.stop();
        });
        call.expect("there is room");
        inside.add("timer returns");
    });
    run(&reactor);
    assert_eq!(log.entries(), ["timer returns", "called"]);
}

/// P057
#[test]
fn the_result_or_the_panic_of_a_thread_comes_back_as_a_deferred() {
    let reactor = real_reactor();
    let (log, here) = (Log::default(), std::thread::current().id());
    let good = reactor.defer_to_thread(move || std::thread::current().id() != here);
    let bad = reactor.defer_to_thread(|| -> u32 { panic!("on purpose") });
    let (results, stopper) = (log.clone(), reactor.clone());
    drop(reactor.spawn(async move {
        results.add(format!("elsewhere: {:?}", good.await.ok()));
        let failure = bad.await.expect_err("it panicked");
        assert!(failure.check::<CallbackPanicked>());
        results.add(failure);
        stopper.stop();
    }));
    run(&reactor);
    assert_eq!(log.entries(), ["elsewhere: Some(true)", "A callback panicked: on purpose."]);
}

/// P057: Twisted's pool starts another thread while there are more jobs than idle threads.
#[test]
fn a_job_does_not_wait_for_another_while_the_pool_may_grow() {
    let reactor = real_reactor();
    let log = Log::default();
    let (first, starter) = (log.clone(), reactor.clone());
    // one thread exists and is idle when two jobs come at once, the first of which needs the second
    drop(reactor.defer_to_thread(|| ()).add_callback(move |()| {
        let (ready, wait) = channel();
        let (result, stopper) = (first.clone(), starter.clone());
        drop(starter.defer_to_thread(move || wait.recv_timeout(PATIENCE / 8).is_ok()).add_callback(move |met| {
            result.add(format!("met: {met}"));
            stopper.stop();
        }));
        drop(starter.defer_to_thread(move || ready.send(()).unwrap_or_default()));
    }));
    run(&reactor);
    assert_eq!(log.entries(), ["met: true"]);
}

/// T55
#[test]
fn a_panic_in_a_call_from_a_thread_harms_no_other() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    let handle = reactor.handle();
    handle.call_from_thread(|_| panic!("on purpose")).unwrap();
    let after = log.clone();
    handle.call_from_thread(move |_| after.add("after")).unwrap();
    reactor.settle();
    assert_eq!(log.entries(), ["after"]);
}

/// T59: bounded and never blocking; and the reactor's end is told.
#[test]
fn a_full_mailbox_and_a_dropped_reactor_are_errors() {
    let reactor = MemoryReactor::new();
    let handle = reactor.handle();
    let taken =
        std::iter::repeat_with(|| handle.call_from_thread(|_| {})).take_while(Result::is_ok).take(1 << 21).count();
    assert_eq!(taken, 1 << 20);
    assert_eq!(handle.call_from_thread(|_| {}), Err(CallFromThreadError::Full));
    reactor.settle();
    assert_eq!(handle.call_from_thread(|_| {}), Ok(()), "it has room again");
    drop(reactor);
    assert_eq!(handle.call_from_thread(|_| {}), Err(CallFromThreadError::ReactorGone));
}

#[test]
fn a_job_ends_though_the_mailbox_was_full() {
    let reactor = real_reactor();
    let handle = reactor.handle();
    while handle.call_from_thread(|_| {}).is_ok() {}
    let got = Rc::new(Cell::new(None));
    let slot = got.clone();
    let stop = reactor.clone();
    drop(reactor.defer_to_thread(|| 42).add_both(move |r| {
        slot.set(Some(r.ok()));
        stop.stop();
    }));
    std::thread::sleep(Duration::from_millis(100)); // nothing tells when a thread has given its result back
    let stop = reactor.clone();
    reactor.call_later(Duration::from_secs(2), move || stop.stop());
    reactor.run().unwrap();
    assert_eq!(got.take(), Some(Some(42)));
}

#[test]
fn a_future_goes_on_though_the_mailbox_was_full() {
    let reactor = real_reactor();
    let handle = reactor.handle();
    let (resolver, deferred) = reactor.deferred::<u32>();
    let got = Rc::new(Cell::new(0));
    let (slot, stop) = (got.clone(), reactor.clone());
    drop(reactor.spawn(async move {
        slot.set(deferred.await.unwrap());
        stop.stop();
    }));
    reactor.call_when_running(move |reactor| {
        reactor.call_later(Duration::from_millis(1), move || {
            while handle.call_from_thread(|_| {}).is_ok() {}
            resolver.resolve(42);
        });
        let stop = reactor.clone();
        reactor.call_later(Duration::from_secs(3), move || stop.stop());
    });
    reactor.run().unwrap();
    assert_eq!(got.take(), 42);
}
