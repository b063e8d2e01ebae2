//! The reactor ends when nothing is left to be done.

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Address, Factory, Phase, Reactor, Resolver, SystemEvent, for_protocol};

use crate::common::{Event, Log, Scripted, dial, real_reactor, recorder, run, scripted, slot};
use crate::transport::single;

#[test]
fn futures_that_wait_for_each_other_end_with_the_connections() {
    let log = Log::default();
    let lost = slot();
    let told = lost.clone();
    let one = single(move |_, event| {
        if let Event::Lost(_) = event {
            let resolver: Option<Resolver<()>> = told.take();
            if let Some(resolver) = resolver {
                resolver.resolve(());
            }
        }
    });
    let (resolver, mut last) = one.reactor.deferred();
    lost.set(Some(resolver));
    for number in 1..=4 {
        let log = log.clone();
        last = one.reactor.spawn(async move {
            let _ = last.await;
            log.add(number);
        });
    }
    drop(last);
    one.reactor.settle();
    one.reactor.stop();
    one.reactor.settle();
    assert_eq!(log.entries(), ["1", "2", "3", "4"]);
}

#[test]
fn futures_that_wait_for_each_other_end_with_the_connections_on_sockets() {
    let log = Log::default();
    let reactor = real_reactor();
    let lost = slot();
    let told = lost.clone();
    let made = log.clone();
    let port = reactor
        .listen_tcp(
            "127.0.0.1:0",
            for_protocol(move || {
                let (told, made) = (told.clone(), made.clone());
                scripted(move |t, event| {
                    if let Event::Made = event {
                        made.add("made");
                        t.reactor().stop();
                    }
                    if let Event::Lost(_) = event {
                        let resolver: Option<Resolver<()>> = told.take();
                        if let Some(resolver) = resolver {
                            resolver.resolve(());
                        }
                    }
                })
            }),
        )
        .unwrap();
    let _peer = dial(port.address());
    let (resolver, mut last) = reactor.deferred();
    lost.set(Some(resolver));
    for number in 1..=4 {
        let log = log.clone();
        last = reactor.spawn(async move {
            let _ = last.await;
            log.add(number);
        });
    }
    drop(last);
    run(&reactor);
    assert_eq!(log.entries(), ["made", "1", "2", "3", "4"]);
}

#[test]
fn a_connection_made_in_the_shutdown_ends_with_it() {
    use twistor_reactor::{Carried, Carrier};
    struct C;
    impl Carrier for C {
        fn is_ready(&self) -> bool {
            true
        }
        fn send(&mut self, _: &[u8]) {}
        fn drained(&mut self) {}
        fn close(&mut self, _: bool) {}
        fn host(&self) -> std::io::Result<Address> {
            Err(std::io::ErrorKind::NotConnected.into())
        }
    }
    let log = Log::default();
    let inner = log.clone();
    let one = single(move |transport, event| {
        if let Event::Lost(_) = event {
            let _ = Carried::new(&transport.reactor(), transport.peer().clone(), recorder(&inner), C);
        }
    });
    one.reactor.stop();
    one.reactor.settle();
    assert_eq!((log.count("made"), log.count("lost")), (1, 1), "{:?}", log.entries());
}

/// Fires when it is stopped.
struct Stopped(Option<Resolver<()>>);

impl Factory for Stopped {
    type Protocol = Scripted;
    fn build_protocol(&mut self, _: &Address) -> Option<Self::Protocol> {
        None
    }
    fn stop_factory(&mut self) {
        self.0.take().expect("stopped once").resolve(());
    }
}

#[test]
fn a_deferred_fired_in_stop_factory_runs_its_chain() {
    let prepare = |reactor: &Reactor| {
        let log = Log::default();
        let (resolver, deferred) = reactor.deferred();
        let (a, b, c) = (log.clone(), log.clone(), log.clone());
        drop(deferred.add_callback(move |()| a.add("a")).add_callback(move |()| b.add("b")));
        let port = reactor.listen_tcp("127.0.0.1:0", Stopped(Some(resolver)));
        assert!(port.is_ok());
        reactor.add_system_event_trigger(Phase::After, SystemEvent::Shutdown, move |_| c.add("after"));
        reactor.call_when_running(Reactor::stop);
        log
    };
    let (memory, sockets) = (MemoryReactor::new(), real_reactor());
    let logs = [prepare(&memory), prepare(&sockets)];
    memory.settle();
    run(&sockets);
    for log in logs {
        assert_eq!(log.entries(), ["a", "b", "after"]);
    }
}
