//! run, stop, and what the end of `run` means for everybody.

use std::process::{Command, Stdio};
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{ConnectError, ConnectionLost, Phase, Reactor, SystemEvent, for_protocol};

use crate::common::{Event, Hook, Log, Recording, dial, play, real_reactor, recorder, run, scripted, silent};

/// P001, P002: Twisted raises `ReactorNotRunning`.
#[test]
fn stop_before_run_and_a_second_stop_do_nothing() {
    let reactor = real_reactor();
    reactor.stop();
    let log = Log::default();
    let (stopper, ran) = (reactor.clone(), log.clone());
    reactor.call_later(Duration::ZERO, move || {
        ran.add("ran");
        stopper.stop();
        stopper.stop();
    });
    run(&reactor);
    assert_eq!(log.entries(), ["ran"]);
}

/// P003, P004: calls made while it runs come from the queue; in Twisted they come at once.
#[test]
fn calls_when_running_come_in_order_and_never_inside_the_registration() {
    let reactor = real_reactor();
    let log = Log::default();
    for number in 1..=3 {
        let log = log.clone();
        reactor.call_when_running(move |_| log.add(number));
    }
    let outer = log.clone();
    reactor.call_when_running(move |reactor| {
        let inner = outer.clone();
        reactor.call_when_running(move |reactor| {
            inner.add("later");
            reactor.stop();
        });
        outer.add("registered");
    });
    assert!(log.entries().is_empty());
    run(&reactor);
    assert_eq!(log.entries(), ["1", "2", "3", "registered", "later"]);
}

/// P005, P018: `stop` does not change it, only what follows.
#[test]
fn running_is_true_from_the_first_call_until_everything_is_closed() {
    let reactor = real_reactor();
    let log = Log::default();
    let inside = log.clone();
    assert!(!reactor.running());
    reactor.call_when_running(move |reactor| {
        inside.add(reactor.running());
        reactor.stop();
        inside.add(reactor.running());
    });
    run(&reactor);
    assert_eq!(log.entries(), ["true", "true"]);
    assert!(!reactor.running());
}

/// P007
#[test]
fn run_inside_run_is_refused() {
    let reactor = real_reactor();
    let log = Log::default();
    let inside = log.clone();
    reactor.call_when_running(move |reactor| {
        inside.add(reactor.run().expect_err("it runs already"));
        reactor.stop();
    });
    run(&reactor);
    assert_eq!(log.entries(), ["The reactor is already running."]);
}

/// P008, P010: Twisted's reactor cannot run again. P068: the end of `run` closes the ports.
#[test]
fn a_stopped_reactor_runs_again() {
    let reactor = real_reactor();
    for _ in 0..3 {
        let log = Log::default();
        let port = reactor.listen_tcp("127.0.0.1:0", for_protocol(move || recorder(&log))).unwrap();
        let address = port.address().clone();
        play(&reactor, move || drop(dial(&address)));
        assert!(!port.listening(), "the end of run closes the ports");
    }
}

/// P046, P012
#[test]
fn stop_runs_nothing_by_itself() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    let port = reactor.listen_tcp(1, Recording::new(&log)).unwrap();
    let _peer = reactor.connect_to(&port);
    let (stopper, inside) = (reactor.clone(), log.clone());
    reactor.call_later(Duration::ZERO, move || {
        stopper.stop();
        inside.add(format!("after stop: {} lost", inside.count("lost")));
    });
    reactor.settle();
    assert!(reactor.stopped());
    assert!(log.entries().contains(&"after stop: 0 lost".to_owned()));
    assert_eq!(log.count("lost"), 1);
    assert_eq!(log.count("stop factory"), 1);
}

/// P013, P016, P017
#[test]
fn every_connection_is_lost_at_stop_even_if_anothers_callback_panics() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    let (shared, mut number) = (log.clone(), 0);
    let factory = for_protocol(move || {
        let log = shared.clone();
        number += 1;
        let panics = number == 2;
        scripted(move |transport, event| match event {
            // idle and paused: Twisted forgets this one
            Event::Made => transport.pause_producing(),
            Event::Lost(reason) => {
                assert!(reason.check::<ConnectionLost>());
                log.add(reason);
                assert!(!panics, "on purpose");
            }
            _ => {}
        })
    });
    let port = reactor.listen_tcp(1, factory).unwrap();
    let _peers = [(); 3].map(|()| reactor.connect_to(&port));
    reactor.stop();
    reactor.settle();
    let text = "Connection to the other side was lost in a non-clean fashion: Connection lost.";
    assert_eq!(log.entries(), [text; 3]);
}

/// P020
#[test]
fn pending_connects_fail_at_stop() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    let checked = Recording::new(&log).hooked(|_, hook| {
        if let Hook::Failed(reason) = hook {
            assert!(reason.check::<ConnectError>());
        }
    });
    let connector = reactor.connect_tcp("example.org", 80, checked);
    reactor.settle();
    reactor.stop();
    reactor.settle();
    assert_eq!(
        log.entries(),
        [
            "start factory",
            "started connecting",
            "failed: An error occurred while connecting: the reactor stopped.",
            "stop factory",
        ]
    );
    assert!(connector.connect().is_ok(), "it is disconnected");
}

/// T69
#[test]
fn at_stop_all_connections_are_lost_before_the_factory_stops() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    let port = reactor.listen_tcp(1, Recording::new(&log)).unwrap();
    let _peers = [(); 3].map(|()| reactor.connect_to(&port));
    log.take();
    reactor.stop();
    reactor.settle();
    let entries = log.entries();
    assert_eq!(entries.len(), 4, "{entries:?}");
    assert_eq!(entries[3], "stop factory");
}

/// T69: a client that reconnects whenever it is lost cannot outlive `run`.
#[test]
fn reconnecting_while_the_reactor_stops_comes_to_an_end() {
    let reactor = MemoryReactor::new();
    let log = Log::default();
    let factory = Recording::new(&log).hooked(|connector, hook| {
        if !matches!(hook, Hook::Started) {
            connector.connect().expect("it is disconnected");
        }
    });
    let connector = reactor.connect_tcp("example.org", 80, factory);
    reactor.settle();
    let _peer = reactor.accept(&connector);
    reactor.stop();
    reactor.settle();
    assert_eq!(log.count("start factory"), log.count("stop factory"), "{:?}", log.entries());
    assert!(reactor.connecting().is_empty(), "an attempt outlived the reactor's run");
}

/// P006: the handlers are there before the triggers before startup. P073, P282: the log lines. T53
#[test]
fn sigterm_ends_run_in_good_order() {
    for moment in ["running", "before startup"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lifecycle::child_waits_for_sigterm", "--ignored", "--nocapture"])
            .env("TWISTOR_TEST_CHILD", moment)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{moment}: {text}");
        let number = text.lines().find_map(|line| line.split("starting on 127.0.0.1:").nth(1));
        let closed = format!("(TCP Port {} Closed)", number.expect("the port says where it starts"));
        for line in ["Received SIGTERM, shutting down.", &closed, "main loop terminated", "run returned"] {
            assert!(text.contains(line), "{moment}: no {line:?} in {text}");
        }
    }
}

#[test]
#[ignore = "a child process of sigterm_ends_run_in_good_order"]
fn child_waits_for_sigterm() {
    struct Printing;
    impl log::Log for Printing {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            println!("{}", record.args());
        }
        fn flush(&self) {}
    }
    fn terminate(_: &Reactor) {
        let kill = Command::new("kill").args(["-TERM", &std::process::id().to_string()]).status();
        assert!(kill.is_ok_and(|status| status.success()));
    }
    let Some(moment) = std::env::var_os("TWISTOR_TEST_CHILD") else { return };
    log::set_logger(&Printing).expect("the only logger");
    log::set_max_level(log::LevelFilter::Debug);
    let reactor = real_reactor();
    reactor.set_signal_handlers(true);
    let log = Log::default();
    let port = reactor.listen_tcp("127.0.0.1:0", Recording::new(&log).building(|_| Some(silent())));
    assert!(port.is_ok());
    if moment == "running" {
        reactor.call_when_running(terminate);
    } else {
        reactor.add_system_event_trigger(Phase::Before, SystemEvent::Startup, terminate);
    }
    run(&reactor);
    assert_eq!(log.count("stop factory"), 1);
    println!("run returned");
}
