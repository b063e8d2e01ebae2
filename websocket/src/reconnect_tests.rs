use std::f64::consts::E;

use tungstenite::handshake::derive_accept_key;
use twistor_reactor::testing::{MemoryPeer, MemoryReactor};
use twistor_reactor::{ConnectionRefusedError, Protocol, Transport, for_protocol};

use super::*;
use crate::client::{WebSocketClientFactory, connect_ws};
use crate::message::Frame;
use crate::protocol::WebSocketProtocol;
use crate::socket::WebSocket;

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

struct Chat(Rc<Seen>);

impl WebSocketProtocol for Chat {
    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        let log = self.0.clone();
        let text = frame.decode().into_owned();
        // found through what is around it
        socket.protocol::<Self>().post(move |_, _| log.hooks.borrow_mut().push(format!("frame {text}")));
    }
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
    let noting = seen.clone();
    let note = move |retry: &Retry| noting.delays.borrow_mut().push(retry.delay.map(|delay| delay.as_secs_f64()));
    (ReconnectingClientFactory::with_options(inner, options).on_retry(note), seen)
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

/// A WebSocket client with the reconnecting factory inside, in the handshake, and its request.
fn websocket(options: ReconnectOptions) -> (MemoryReactor, Rc<Seen>, MemoryPeer, String) {
    let (factory, seen) = noted(options, || Some(Chat(Rc::default())));
    let reactor = MemoryReactor::new();
    connect_ws(&reactor, WebSocketClientFactory::new("ws://127.0.0.1/", factory).unwrap());
    reactor.settle();
    let peer = reactor.accept(&reactor.connecting()[0]);
    let request = String::from_utf8(peer.received()).unwrap();
    (reactor, seen, peer, request)
}

fn accept_handshake(request: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = derive_accept_key(key.as_bytes());
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    format!("{head}Sec-WebSocket-Accept: {accept}\r\n\r\n")
}

/// The wait after the server's Close with this code.
fn wait_after_close(options: ReconnectOptions, code: u16) -> f64 {
    let (reactor, seen, peer, request) = websocket(options);
    peer.send(accept_handshake(&request));
    peer.send([&[0x88, 2], &code.to_be_bytes()[..]].concat());
    reactor.settle();
    peer.close();
    reactor.settle();
    let [Some(delay)] = seen.delays()[..] else { panic!("no retry after {code}") };
    delay
}

#[test]
fn a_server_that_restarts_or_is_overloaded_is_left_alone_for_five_to_thirty_seconds() {
    for code in [close_code::SERVICE_RESTART, close_code::TRY_AGAIN_LATER] {
        assert_eq!(wait_after_close(exact(), code), 30.0);
        for _ in 0..20 {
            let delay = wait_after_close(ReconnectOptions::default(), code);
            assert!((5.0..=30.0).contains(&delay), "{delay}");
        }
    }
    assert_eq!(wait_after_close(exact(), close_code::GOING_AWAY), 1.0);
}

/// T60, T62: inside the WebSocket factory and around it.
#[test]
fn retry_after_of_a_refused_handshake_is_obeyed_within_reason() {
    for (header, delay) in [("Retry-After: 120\r\n", 121.0), ("Retry-After: 4294967295\r\n", 3601.0), ("", 1.0)] {
        let refusal = format!("HTTP/1.1 503 Service Unavailable\r\n{header}Content-Length: 0\r\n\r\n");
        let (reactor, seen, peer, _) = websocket(exact());
        peer.send(&refusal);
        reactor.settle();
        assert_eq!(seen.delays(), [Some(delay)], "inside, {header}");

        let inner = WebSocketClientFactory::new("ws://a/", for_protocol(|| Chat(Rc::default()))).unwrap();
        let seen = Rc::new(RefCell::new(None));
        let noted = seen.clone();
        let note = move |retry: &Retry| *noted.borrow_mut() = retry.delay;
        let around = ReconnectingClientFactory::with_options(inner, exact()).on_retry(note);
        let reactor = MemoryReactor::new();
        reactor.connect_tcp("127.0.0.1", 80, around);
        reactor.settle();
        let peer = reactor.accept(&reactor.connecting()[0]);
        peer.send(&refusal);
        reactor.settle();
        assert_eq!(*seen.borrow(), Some(Duration::from_secs_f64(delay)), "around, {header}");
    }
}

/// P168
#[test]
fn messages_pass_through_in_both_places() {
    let log = Rc::new(Seen::default());
    let chats: [Rc<Seen>; 2] = [log.clone(), log.clone()];
    let [inside, around] = chats.map(|log| for_protocol(move || Chat(log.clone())));
    let reactor = MemoryReactor::new();
    connect_ws(
        &reactor,
        WebSocketClientFactory::new("ws://127.0.0.1/", ReconnectingClientFactory::new(inside)).unwrap(),
    );
    let around = ReconnectingClientFactory::new(WebSocketClientFactory::new("ws://127.0.0.1/", around).unwrap());
    reactor.connect_tcp("127.0.0.1", 80, around);
    reactor.settle();
    for connector in reactor.connecting() {
        let peer = reactor.accept(&connector);
        peer.send(accept_handshake(&String::from_utf8(peer.received()).unwrap()));
        peer.send([0x81, 2, b'h', b'i']);
        reactor.settle();
    }
    assert_eq!(*log.hooks.borrow(), ["frame hi", "frame hi"]);
}
