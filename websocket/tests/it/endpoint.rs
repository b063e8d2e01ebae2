//! `WebSocketClientEndpoint` and `WhenConnected`: what their Deferred says, and when.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{ClientFactory, ConnectionRefusedError, Deferred, Failure, for_protocol};
use twistor_websocket::handshake::{HandshakeError, RedirectPolicy};
use twistor_websocket::sansio::OpCode;
use twistor_websocket::{
    AutobahnFactory, AutobahnProtocol, ClientError, FrameReceiver, FramesFactory, Options, ReconnectingClientFactory,
    TwistedFactory, TwistedProtocol, WebSocket, WebSocketClientEndpoint, WebSocketClientFactory, WebSocketProtocol,
    WhenConnected, connect_ws,
};

use crate::support::{Event, Log, Peer, Recorder, Recorders, close, ping, pong, text};

mod failures;

type Outcome = Result<WebSocket, Failure>;

/// A reactor, an endpoint on it, and what came of the connections.
struct World {
    reactor: Rc<MemoryReactor>,
    endpoint: WebSocketClientEndpoint,
    log: Log,
    outcomes: Rc<RefCell<Vec<Outcome>>>,
}

impl World {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let reactor = Rc::new(MemoryReactor::new());
        let endpoint = WebSocketClientEndpoint::with_options(&reactor, "ws://server.example/chat?x=1", options);
        Self { reactor, endpoint: endpoint.expect("a URL"), log: Log::default(), outcomes: Rc::default() }
    }

    fn recorder(&self) -> Recorder {
        Recorder::new(&self.log)
    }

    /// Connects, and writes down the outcome among what else happens.
    fn connect<F: ClientFactory<Protocol: WebSocketProtocol>>(&self, factory: F) {
        self.note(self.endpoint.connect(factory));
    }

    fn note(&self, connected: Deferred<WebSocket>) {
        let (log, outcomes) = (self.log.clone(), self.outcomes.clone());
        let noted = connected.add_both(move |outcome| {
            log.add(if outcome.is_ok() { "connected" } else { "failed" });
            outcomes.borrow_mut().push(outcome);
        });
        drop(noted);
        self.reactor.settle();
    }

    /// The server that the oldest attempt reaches.
    fn arrive(&self) -> Peer {
        Peer::server(&self.reactor, self.reactor.accept(&self.reactor.connecting()[0]))
    }

    /// A server whose client is a [`Recorder`].
    fn server(&self) -> Peer {
        self.connect(Recorders(self.recorder()));
        self.arrive()
    }

    fn wait(&self, seconds: f64) {
        self.reactor.advance(Duration::from_secs_f64(seconds));
    }

    fn outcome(&self) -> Outcome {
        let mut outcomes = self.outcomes.borrow_mut();
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        outcomes.remove(0)
    }

    fn socket(&self) -> WebSocket {
        self.outcome().expect("a WebSocket")
    }

    fn failure(&self) -> Failure {
        self.outcome().expect_err("a failure")
    }
}

// P255
#[test]
fn the_deferred_gives_the_websocket_once_its_connection_is_made() {
    let world = World::new();
    let server = world.server();
    assert!(world.outcomes.borrow().is_empty(), "the handshake is not done");
    let request = server.accept(&[], &[]);
    assert_eq!((&*request.start, request.header("Host")), ("GET /chat?x=1 HTTP/1.1", Some("server.example")));
    assert_eq!(world.log.take(), ["start factory", "accepted None", "made", "connected"]);
    let socket = world.socket();
    assert_eq!(socket, world.log.socket(0));
    socket.protocol::<Recorder>().with(|_, transport| assert_eq!(transport, socket.transport())).expect("the protocol");
    socket.send_text("hello");
    world.reactor.settle();
    assert_eq!(server.lines(), ["text hello"]);
    server.frames(&[text("hello, too"), close(1000, "bye")]);
    server.close();
    world.reactor.settle();
    let rest = ["text hello, too", "close 1000 bye", "lost", "client lost: Connection was closed cleanly."];
    assert_eq!(world.log.take()[..4], rest);
    assert!(world.outcomes.borrow().is_empty(), "one outcome for each connection");
}

// P276
#[test]
fn messages_behind_the_answer_are_the_protocols_first() {
    let world = World::new();
    world.server().accept(&[], &[text("early")]);
    assert_eq!(world.log.take()[2..], ["made", "text early", "connected"]);
}

#[test]
fn every_callback_reaches_the_protocol() {
    let world = World::with(Options { compression: None, ..Options::default() });
    world.connect(Recorders(world.recorder().in_pieces()));
    let server = world.arrive();
    server.accept(&[], &[ping("1"), pong("2"), text("3")]);
    let socket = world.socket();
    server.set_room(0);
    socket.send_binary(&[0; 100_000]);
    world.reactor.settle();
    server.set_room(usize::MAX);
    let _ = server.drain();
    server.frame(&close(1000, ""));
    let pieces = ["Begin { is_binary: false }", "FrameBegin { length: 1 }", "data 3", "FrameEnd", "End"];
    let log = world.log.take();
    assert_eq!(log[3..5], ["ping 1", "pong 2"]);
    assert_eq!(log[5..10], pieces);
    assert_eq!(log[10..], ["connected", "high", "drained", "close 1000"]);
}

#[test]
fn without_the_deferred_the_connection_goes_on() {
    let world = World::new();
    drop(world.endpoint.connect(Recorders(world.recorder().echoing())));
    world.reactor.settle();
    let server = world.arrive();
    server.accept(&[], &[text("a")]);
    assert_eq!(server.lines(), ["text a"]);
    assert!(world.log.socket(0).is_open());
    // and fails as it would have
    drop(world.endpoint.connect(Recorders(world.recorder())));
    world.reactor.settle();
    world.arrive().send("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(world.log.count("lost"), 1);
    assert_eq!(world.log.count("client lost: "), 1);
}

#[test]
fn an_endpoint_connects_as_often_as_it_is_asked_to() {
    let options = Options { protocols: vec!["v1".into()], ..Options::default() };
    let world = World::with(options);
    world.connect(Recorders(world.recorder()));
    world.connect(Recorders(world.recorder()));
    let (first, second) = (world.arrive(), world.arrive());
    second.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    assert!(world.failure().check::<HandshakeError>());
    let request = first.accept(&["Sec-WebSocket-Protocol: v1"], &[]);
    assert_eq!(request.header("Sec-WebSocket-Protocol"), Some("v1"));
    assert_eq!(world.socket(), world.log.socket(0));
    world.connect(Recorders(world.recorder()));
    world.arrive().accept(&[], &[]);
    assert_eq!(world.socket(), world.log.socket(1));
    assert!(world.log.socket(0).is_open());
}

/// A protocol in each dialect.
struct Dialect(Log);

impl TwistedProtocol for Dialect {
    fn negotiation_finished(&mut self, _: &WebSocket) {
        self.0.add("negotiation_finished");
    }
}

impl AutobahnProtocol for Dialect {
    fn on_open(&mut self, _: &WebSocket) {
        self.0.add("on_open");
    }
}

impl FrameReceiver for Dialect {
    fn connection_made(&mut self, _: &WebSocket) {
        self.0.add("connection_made");
    }
    fn frame_received(&mut self, _: &WebSocket, opcode: OpCode, _: &[u8], fin: bool) {
        self.0.add(format!("{opcode:?} {fin}"));
    }
}

fn dialect<F: ClientFactory<Protocol: WebSocketProtocol>>(wrap: impl FnOnce(&Log) -> F) -> Vec<String> {
    let world = World::new();
    world.connect(wrap(&world.log));
    world.arrive().accept(&[], &[text("a").more()]);
    let handle = world.socket().protocol::<Dialect>();
    handle.with(|dialect, _| dialect.0.add("found")).expect("the user's own protocol");
    world.log.take()
}

#[test]
fn factories_of_all_dialects_do() {
    let build = |log: &Log| {
        let log = log.clone();
        for_protocol(move || Dialect(log.clone()))
    };
    assert_eq!(dialect(|log| TwistedFactory(build(log))), ["negotiation_finished", "connected", "found"]);
    assert_eq!(dialect(|log| AutobahnFactory(build(log))), ["on_open", "connected", "found"]);
    // whose adapter finds itself by its handle
    let frames = dialect(|log| FramesFactory(build(log)));
    assert_eq!(frames, ["connection_made", "connected", "Text false", "found"]);
}

#[test]
fn a_future_awaits_it() {
    let world = World::new();
    let (endpoint, factory, log) = (world.endpoint.clone(), Recorders(world.recorder()), world.log.clone());
    let refused = Recorders(world.recorder());
    let done = world.reactor.spawn(async move {
        let socket = endpoint.connect(factory).await?;
        socket.send_text("hello");
        let failure = endpoint.connect(refused).await.err();
        log.add(failure.map_or_else(String::new, |failure| failure.to_string()));
        Ok::<_, Failure>(socket)
    });
    world.note(done.add_callback(|socket| socket.expect("connected")));
    let server = world.arrive();
    server.accept(&[], &[]);
    assert_eq!(server.lines(), ["text hello"]);
    let _ = world.log.take();
    world.arrive().send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let told = world.log.take();
    assert!(told.contains(&"expected 101 Switching Protocols, but 404 Not Found came".to_owned()), "{told:?}");
    assert!(world.socket().is_open());
}

#[test]
fn connection_made_may_end_the_connection_and_it_was_made_all_the_same() {
    let world = World::new();
    let recorder = world.recorder().acting(|socket, event| {
        if matches!(event, Event::Made) {
            socket.abort();
        }
    });
    world.connect(Recorders(recorder));
    world.arrive().accept(&[], &[]);
    assert!(!world.socket().is_open());
    assert_eq!(world.log.count("failed"), 0);
}

/// No method of a handle runs user code before it returns.
#[test]
fn connecting_runs_no_callback() {
    let world = World::new();
    let factory = Rc::new(RefCell::new(Recorders(world.recorder())));
    let borrowed = factory.borrow_mut();
    let connected = world.endpoint.connect(factory.clone());
    assert!(world.log.take().is_empty());
    drop(borrowed);
    world.note(connected);
    world.arrive().accept(&[], &[]);
    assert!(world.socket().is_open());
}

// P272
#[test]
fn urls_and_subprotocols_that_cannot_be_are_errors_at_once() {
    let reactor = MemoryReactor::new();
    for url in ["http://x/", "ws://", "ws://x/#f", "nonsense"] {
        assert!(matches!(WebSocketClientEndpoint::new(&reactor, url), Err(ClientError::Url(_))), "{url}");
    }
    let options = Options { protocols: vec!["no token".into()], ..Options::default() };
    let error = WebSocketClientEndpoint::with_options(&reactor, "ws://x", options).err();
    assert!(matches!(error, Some(ClientError::Header(_))), "{error:?}");
}

#[test]
fn when_connected_tells_of_a_client_with_any_settings() {
    let world = World::new();
    let (factory, connected) = WhenConnected::new(&world.reactor, Recorders(world.recorder()));
    let factory = WebSocketClientFactory::new("ws://server.example", factory).expect("a URL");
    let factory = factory.header("Cookie", "id=1").expect("a header");
    let connector = connect_ws(&world.reactor, factory.follow_redirects(RedirectPolicy::follow_up_to(1, true)));
    world.note(connected);
    let first = world.arrive();
    assert_eq!(first.http().header("Cookie"), Some("id=1"));
    first.send("HTTP/1.1 302 Found\r\nLocation: ws://other.example/\r\nContent-Length: 0\r\n\r\n");
    assert!(world.outcomes.borrow().is_empty(), "it goes there");
    assert_eq!(connector.target().0, "other.example");
    world.arrive().accept(&[], &[]);
    assert_eq!(world.socket(), world.log.socket(0));
}

#[test]
fn a_client_that_comes_back_is_told_of_once() {
    let world = World::new();
    let factory = ReconnectingClientFactory::new(Recorders(world.recorder()));
    world.connect(factory);
    world.reactor.refuse(&world.reactor.connecting()[0], Failure::new(ConnectionRefusedError::new()));
    assert!(world.failure().check::<ConnectionRefusedError>());
    world.wait(2.0);
    world.arrive().accept(&[], &[text("back")]);
    assert_eq!(world.log.count("text back"), 1);
    assert!(world.outcomes.borrow().is_empty());
}
