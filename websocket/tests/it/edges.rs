//! Moments in which several things meet: a shutdown and an answer, a panic and an end, a reactor that is dropped in the
//! middle of something.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{
    Address, ClientFactory, Factory, Phase, Protocol, Reactor, SystemEvent, Transport, for_protocol,
};
use twistor_websocket::handshake::RedirectPolicy;
use twistor_websocket::{
    Accept, Frame, HandshakeFailure, Observer, Options, ReconnectingClientFactory, Room, WebSocket,
    WebSocketClientFactory, WebSocketClosed, WebSocketProtocol, WebSocketServerFactory, connect_ws,
};

use crate::negotiation::{later, later_with};
use crate::support::{Peer, upgrade};

/// The status lines among what has come.
fn statuses(peer: &Peer) -> Vec<String> {
    let text = String::from_utf8_lossy(&peer.bytes()).into_owned();
    text.lines().filter_map(|line| line.find("HTTP/1.1 ").map(|at| line[at + 9..at + 12].to_owned())).collect()
}

#[test]
fn a_503_never_follows_a_101() {
    let (server, promises) = later(Options::default());
    let peer = server.connect();
    peer.send(upgrade("/", &[]));
    server.reactor.settle();
    promises.next().resolve(Accept::default().into());
    // in the turn after the decision, in which the protocols are switched
    let handle = server.handle.clone();
    server.reactor.call_when_running(move |reactor| {
        reactor.call_when_running(move |reactor| {
            drop(handle.shutdown(reactor, Duration::from_secs(1), Duration::ZERO));
        });
    });
    server.reactor.settle();
    let statuses = statuses(&peer);
    assert_eq!(statuses.len(), 1, "{statuses:?}");
}

#[test]
fn an_undecided_handshake_gets_one_answer_of_two_shutdowns_and_a_deadline() {
    let (server, promises) = later(Options { write_timeout: None, ..Options::default() });
    let peer = server.connect();
    peer.send(upgrade("/", &[]));
    server.reactor.settle();
    let _promise = promises.next();
    peer.set_room(0);
    for _ in 0..2 {
        drop(server.handle.shutdown(&server.reactor, Duration::from_secs(60), Duration::ZERO));
    }
    server.wait(11.0);
    peer.set_room(usize::MAX);
    server.reactor.settle();
    assert_eq!(statuses(&peer), ["503"]);
}

/// Panics at whatever it is told.
struct Angry;

impl Observer for Angry {
    fn opened(&self, _: &WebSocket) {
        panic!("a panic of the test's");
    }
    fn closed(&self, _: &WebSocket, _: &WebSocketClosed) {
        panic!("a panic of the test's");
    }
    fn handshake_failed(&self, _: &Address, _: HandshakeFailure) {
        panic!("a panic of the test's");
    }
}

#[test]
fn an_observers_panic_costs_nobody_a_callback_and_leaves_no_handshake_hanging() {
    let (server, promises) = later_with(Options::default(), |factory| factory.observer(Angry));
    let (peer, undecided) = (server.connect(), server.connect());
    peer.send(upgrade("/", &[]));
    server.reactor.settle();
    promises.next().resolve(Accept::default().into());
    server.reactor.settle();
    assert_eq!(peer.http().status(), 101);
    undecided.send(upgrade("/", &[]));
    server.reactor.settle();
    let _promise = promises.next();
    peer.reset();
    server.wait(60.0);
    assert_eq!((server.log.count("made"), server.log.count("lost")), (1, 1));
    assert_eq!(undecided.http().status(), 408);
    assert!(undecided.is_over());
    assert_eq!(server.handle.connection_count(), 0);
}

/// Counts how many of it have been dropped.
struct Canary(Rc<Cell<usize>>);

impl Drop for Canary {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

impl WebSocketProtocol for Canary {
    fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {}
}

struct CanaryFactory {
    protocols: Rc<Cell<usize>>,
    _factory: Canary,
}

impl Factory for CanaryFactory {
    type Protocol = Canary;

    fn build_protocol(&mut self, _: &Address) -> Option<Canary> {
        Some(Canary(self.protocols.clone()))
    }
}

impl ClientFactory for CanaryFactory {}

#[test]
fn a_reactor_that_is_dropped_while_a_client_connects_or_is_redirected_takes_all_with_it() {
    for (redirects, connected) in [(0, false), (2, false), (0, true), (2, true)] {
        let (protocols, factories) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let factory = CanaryFactory { protocols: protocols.clone(), _factory: Canary(factories.clone()) };
        let factory = WebSocketClientFactory::new("ws://a.example/", factory).expect("a URL");
        let factory = factory.follow_redirects(RedirectPolicy::follow_up_to(redirects, true));
        let reactor = MemoryReactor::new();
        let connector = connect_ws(&reactor, factory);
        reactor.settle();
        if connected {
            let peer = reactor.accept(&connector);
            peer.send("HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n");
            reactor.settle();
        }
        drop((connector, reactor));
        assert_eq!((protocols.get(), factories.get()), (usize::from(connected), 1), "{redirects} {connected}");
    }
}

/// Joins a room, and greets when it is the eighth.
struct Member(Room);

impl WebSocketProtocol for Member {
    fn connection_made(&mut self, socket: &WebSocket) {
        self.0.join(socket);
        if self.0.len() == 8 {
            self.0.broadcast("hello");
        }
    }

    fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {}
}

#[test]
fn a_room_works_while_the_startup_is_waited_for() {
    let reactor = Reactor::new().expect("a reactor");
    reactor.set_signal_handlers(false);
    let room = Room::new();
    let factory = WebSocketServerFactory::new(move |_: &Address| Some(Member(room.clone())));
    let port = reactor.listen_tcp("127.0.0.1:0", factory).expect("a port");
    let address = ("127.0.0.1", port.address().port().expect("a port"));
    let (resolver, started) = reactor.deferred::<()>();
    reactor.add_system_event_trigger(Phase::Before, SystemEvent::Startup, move |_| started);
    let handle = reactor.handle();
    let client = thread::spawn(move || {
        let open = |_| {
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream.set_read_timeout(Some(Duration::from_secs(8))).expect("a timeout");
            stream.write_all(upgrade("/", &[]).as_bytes()).expect("sent");
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).expect("a head");
                head.push(byte[0]);
            }
            stream
        };
        let mut streams: Vec<TcpStream> = (0..8).map(open).collect();
        let mut frame = [0; 7];
        let read = streams[0].read_exact(&mut frame).map(|()| frame);
        let _ = handle.call_from_thread(Reactor::stop);
        read.map_err(|error| error.kind())
    });
    reactor.run().expect("it ran");
    assert_eq!(client.join().expect("a client"), Ok(*b"\x81\x05hello"));
    drop(resolver);
}

/// Counts the calls of `data_received` and of `read_from`.
struct Delegating(Rc<Cell<(u32, u32)>>);

impl Protocol for Delegating {
    fn connection_made(&mut self, transport: &Transport) {
        transport.delegate_read();
    }

    fn data_received(&mut self, _: &Transport, _: &[u8]) {
        self.0.set((self.0.get().0 + 1, self.0.get().1));
    }

    fn read_from(&mut self, _: &Transport, source: &mut dyn Read) {
        if source.read(&mut [0; 100]).is_ok() {
            self.0.set((self.0.get().0, self.0.get().1 + 1));
        }
    }
}

#[test]
fn a_client_that_comes_back_may_read_for_itself() {
    let (reactor, calls) = (MemoryReactor::new(), Rc::new(Cell::new((0, 0))));
    let build = calls.clone();
    let factory = ReconnectingClientFactory::new(for_protocol(move || Delegating(build.clone())));
    let connector = reactor.connect_tcp("a", 1, factory);
    reactor.settle();
    let peer = reactor.accept(&connector);
    peer.send("hello");
    reactor.settle();
    assert_eq!(calls.get(), (0, 1));
}
