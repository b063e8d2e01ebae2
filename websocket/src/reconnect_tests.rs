use std::f64::consts::E;

use twistor_reactor::testing::{MemoryPeer, MemoryReactor};
use twistor_reactor::{ConnectionRefusedError, Protocol, Transport};

use super::*;

#[path = "reconnect_websocket_tests.rs"]
mod websocket;

/// What was reported, and what the wrapped factory was told.
#[derive(Default)]
struct Seen {
    delays: RefCell<Vec<Option<f64>>>,
    hooks: RefCell<Vec<String>>,
}

impl Seen {
    fn delays(&self) -> Vec<Option<f64>> {
        self.delays.take()
    }
}

struct Plain;

impl Protocol for Plain {
    fn data_received(&mut self, _: &Transport, _: &[u8]) {}
}

struct Inner<B> {
    build: B,
    seen: Rc<Seen>,
}

impl<P: 'static, B: FnMut() -> Option<P> + 'static> Factory for Inner<B> {
    type Protocol = P;
    fn build_protocol(&mut self, _: &Address) -> Option<P> {
        (self.build)()
    }
    fn start_factory(&mut self) {
        self.seen.hooks.borrow_mut().push("start".into());
    }
    fn stop_factory(&mut self) {
        self.seen.hooks.borrow_mut().push("stop".into());
    }
}

impl<P: 'static, B: FnMut() -> Option<P> + 'static> ClientFactory for Inner<B> {
    fn client_connection_failed(&mut self, _: &Connector, reason: &Failure) {
        self.seen.hooks.borrow_mut().push(format!("failed: {reason}"));
    }
    fn client_connection_lost(&mut self, _: &Connector, reason: &Failure) {
        self.seen.hooks.borrow_mut().push(format!("lost: {reason}"));
    }
}

fn exact() -> ReconnectOptions {
    ReconnectOptions { jitter: 0.0, ..ReconnectOptions::default() }
}

/// A factory whose attempts are noted in what is returned.
fn noted<P: 'static>(
    options: ReconnectOptions,
    build: impl FnMut() -> Option<P> + 'static,
) -> (ReconnectingClientFactory<impl ClientFactory<Protocol = P>>, Rc<Seen>) {
    let seen = Rc::new(Seen::default());
    let inner = Inner { build, seen: seen.clone() };
    (watched(inner, options, &seen), seen)
}

fn watched<F: ClientFactory>(factory: F, options: ReconnectOptions, seen: &Rc<Seen>) -> ReconnectingClientFactory<F> {
    let seen = seen.clone();
    let note = move |retry: &Retry| seen.delays.borrow_mut().push(retry.delay.map(|delay| delay.as_secs_f64()));
    ReconnectingClientFactory::with_options(factory, options).on_retry(note)
}

/// A plain client, its first attempt under way.
struct Rig {
    reactor: MemoryReactor,
    seen: Rc<Seen>,
    handle: Reconnection,
}

impl Rig {
    fn new(options: ReconnectOptions) -> Self {
        let (factory, seen) = noted(options, || Some(Plain));
        let handle = factory.handle();
        let reactor = MemoryReactor::new();
        reactor.connect_tcp("127.0.0.1", 8000, factory);
        reactor.settle();
        Self { reactor, seen, handle }
    }

    fn wait(&self, seconds: f64) {
        self.reactor.advance(Duration::from_secs_f64(seconds));
    }

    fn is_connecting(&self) -> bool {
        !self.reactor.connecting().is_empty()
    }

    fn refuse(&self) {
        let reason = Failure::new(ConnectionRefusedError::new());
        self.reactor.refuse(&self.reactor.connecting()[0], reason);
    }

    fn accept(&self) -> MemoryPeer {
        self.reactor.accept(&self.reactor.connecting()[0])
    }

    /// Refuses, and expects the next attempt after exactly `delay` seconds.
    fn refuse_and_wait(&self, delay: f64) {
        self.refuse();
        assert_eq!(self.seen.delays().len(), 1);
        self.wait(delay - 0.001);
        assert!(!self.is_connecting(), "before {delay}");
        self.wait(0.002);
        assert!(self.is_connecting(), "after {delay}");
    }

    fn end(&self, peer: &MemoryPeer) {
        peer.close();
        self.reactor.settle();
    }
}

/// P156, P163
#[test]
fn the_first_wait_is_the_initial_delay_and_the_next_are_doubled_up_to_a_minute() {
    let rig = Rig::new(exact());
    for delay in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
        rig.refuse_and_wait(delay);
    }
    assert_eq!(rig.handle.retries(), 8);
    let rig = Rig::new(ReconnectOptions { initial_delay: Duration::from_secs(7), ..exact() });
    rig.refuse_and_wait(7.0);
}

/// P158: Twisted's own numbers.
#[test]
fn twisteds_factor_gives_twisteds_sequence() {
    let rig = Rig::new(ReconnectOptions { factor: E, max_delay: Duration::from_secs(3600), ..exact() });
    // 1, 2.718, 7.389, 20.09, 54.6, 148.4, 403.4, 1096.6, 2981, 3600, 3600
    for delay in (0..11).map(|power| E.powi(power).min(3600.0)) {
        rig.refuse();
        let [Some(got)] = rig.seen.delays()[..] else { panic!("given up") };
        assert!((got - delay).abs() < 0.001, "{got} for {delay}");
        rig.wait(got);
    }
}

/// P159
#[test]
fn max_retries_of_two_gives_two_and_then_it_says_that_it_has_given_up() {
    let rig = Rig::new(ReconnectOptions { max_retries: Some(2), ..exact() });
    rig.refuse_and_wait(1.0);
    rig.refuse_and_wait(2.0);
    rig.refuse();
    assert_eq!(rig.seen.delays(), [None]);
    assert_eq!(rig.reactor.pending_calls(), 0);
    rig.handle.continue_trying();
    rig.reactor.settle();
    assert!(rig.is_connecting());
    rig.refuse_and_wait(1.0);
}

/// P160
#[test]
fn reset_delay_begins_anew() {
    let rig = Rig::new(exact());
    rig.refuse_and_wait(1.0);
    rig.refuse_and_wait(2.0);
    rig.handle.reset_delay();
    assert_eq!(rig.handle.retries(), 0);
    rig.refuse_and_wait(1.0);
}

/// P154, P155
#[test]
fn stop_trying_leaves_a_connection_alone_and_prevents_the_next() {
    let rig = Rig::new(exact());
    let peer = rig.accept();
    rig.handle.stop_trying();
    rig.reactor.settle();
    assert!(rig.handle.is_connected() && !rig.is_connecting());
    rig.end(&peer);
    rig.wait(1000.0);
    assert!(!rig.is_connecting());
    assert_eq!(rig.seen.delays(), []);

    rig.handle.continue_trying();
    rig.reactor.settle();
    assert!(rig.is_connecting(), "resumed");
}

#[test]
fn stop_trying_cancels_what_waits_and_what_is_tried() {
    let rig = Rig::new(exact());
    rig.refuse();
    assert!(rig.handle.next_attempt().is_some());
    rig.handle.stop_trying();
    assert_eq!((rig.reactor.pending_calls(), rig.handle.next_attempt()), (0, None));
    rig.handle.stop_trying(); // has no further effect

    rig.handle.continue_trying();
    rig.reactor.settle();
    assert!(rig.is_connecting());
    rig.handle.stop_trying();
    rig.reactor.settle();
    assert!(!rig.is_connecting());
    rig.wait(1000.0);
    assert!(!rig.is_connecting());
    assert_eq!(rig.seen.hooks.borrow().iter().filter(|hook| hook.contains("User aborted")).count(), 1);
}

/// A program that connects by itself each time leaves no waits behind, and its handle shows none.
#[test]
fn an_attempt_ends_the_wait_for_it() {
    let rig = Rig::new(exact());
    for _ in 0..5 {
        rig.refuse();
        assert!(rig.handle.next_attempt().is_some());
        rig.handle.connector().unwrap().connect().unwrap();
        rig.reactor.settle();
        assert!(rig.is_connecting());
        assert_eq!(rig.handle.next_attempt(), None);
        assert_eq!(rig.reactor.pending_calls(), 1, "the attempt's own timeout");
    }
}

/// P163, P164
#[test]
fn only_a_connection_that_lasts_makes_the_waits_short_again() {
    let rig = Rig::new(exact());
    rig.refuse_and_wait(1.0);
    let peer = rig.accept();
    rig.wait(59.0);
    rig.end(&peer);
    assert_eq!(rig.seen.delays(), [Some(2.0)]);
    rig.wait(2.0);
    let peer = rig.accept();
    rig.wait(60.0);
    rig.end(&peer);
    assert_eq!((rig.seen.delays(), rig.handle.retries()), (vec![Some(1.0)], 1));
}

/// P165, P167
#[test]
fn the_wrapped_factory_is_told_everything_and_may_refuse_to_build() {
    let (factory, seen) = noted(exact(), || None::<Plain>);
    let reactor = MemoryReactor::new();
    reactor.connect_tcp("127.0.0.1", 8000, factory);
    reactor.settle();
    let _peer = reactor.accept(&reactor.connecting()[0]);
    reactor.advance(Duration::from_secs(1));
    reactor.refuse(&reactor.connecting()[0], Failure::new(ConnectionRefusedError::new()));
    assert_eq!(seen.delays(), [Some(1.0), Some(2.0)]);
    let want = [
        "start",
        "lost: Connection was closed cleanly.",
        "stop",
        "start",
        "failed: Connection was refused by other side.",
        "stop",
    ];
    assert_eq!(*seen.hooks.borrow(), want);
}

/// T61
#[test]
fn ten_thousand_clients_come_back_evenly_spread() {
    for (step, range) in [(0, 0.5..=1.0), (3, 0.5..=8.0), (9, 0.5..=60.0)] {
        let mut histogram = [0_i32; 10];
        for _ in 0..10_000 {
            let state = State::new(ReconnectOptions::default());
            let reason = Failure::new(ConnectionRefusedError::new());
            for _ in 0..step {
                state.next_wait(None, &reason);
            }
            let wait = state.next_wait(None, &reason).as_secs_f64();
            assert!(range.contains(&wait), "{wait}");
            let share = (wait - range.start()) / (range.end() - range.start());
            histogram[((share * 10.0) as usize).min(9)] += 1;
        }
        // 1000 each, with a standard deviation of 30
        assert!(histogram.iter().all(|count| (count - 1000).abs() < 200), "{histogram:?}");
    }
}

#[test]
fn nonsense_in_the_options_makes_no_panic() {
    for factor in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        let max = ReconnectOptions { factor, max_delay: Duration::MAX, jitter: f64::MAX, ..exact() };
        let state = State::new(max);
        let reason = Failure::new(ConnectionRefusedError::new());
        for _ in 0..3 {
            state.next_wait(None, &reason);
        }
    }
}

/// The cycle connector -> factory -> handle -> connector is not one.
#[test]
fn a_client_that_is_given_up_is_freed() {
    let (factory, seen) = noted(exact(), || Some(Plain));
    let handle = factory.handle();
    let reactor = MemoryReactor::new();
    let connector = reactor.connect_tcp("127.0.0.1", 8000, factory);
    reactor.settle();
    reactor.refuse(&connector, Failure::new(ConnectionRefusedError::new()));
    handle.stop_trying();
    drop((handle, connector));
    assert_eq!(Rc::strong_count(&seen), 1);
}
