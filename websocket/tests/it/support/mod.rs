//! What the tests share: a server and a client under test, and raw peers for them.

mod frames;
pub(crate) mod heap;
mod peer;
mod recorder;

use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Connector, Factory, ListeningPort};
use twistor_websocket::{
    Options, Resource, ServerHandle, Site, SiteOptions, WebSocketClientFactory, WebSocketServerFactory, connect_ws,
};

pub(crate) use frames::{
    BINARY, CLOSE, Got, PING, PONG, TEXT, Wire, binary, close, continuation, frame, ping, pong, text,
};
pub(crate) use peer::{ACCEPT, Http, KEY, Peer, get, request, switching, upgrade, without};
pub(crate) use recorder::{Event, Log, Recorder, Recorders};

/// Lets time pass, in steps: a timer that is set again by its own call is called as often as it would be.
fn pass(reactor: &MemoryReactor, seconds: f64) {
    let mut left = Duration::from_secs_f64(seconds);
    while !left.is_zero() {
        // a long time is to show that nothing happens
        let step = if left.as_secs() > 300 { left } else { left.min(Duration::from_millis(250)) };
        reactor.advance(step);
        left -= step;
    }
}

/// A server under test, of [`Recorder`]s on every path.
pub(crate) struct Server {
    pub(crate) reactor: Rc<MemoryReactor>,
    pub(crate) port: ListeningPort,
    pub(crate) handle: ServerHandle,
    pub(crate) log: Log,
}

impl Server {
    /// That listens and says nothing.
    pub(crate) fn new() -> Self {
        Self::with(Options::default(), |recorder| recorder)
    }

    pub(crate) fn echo() -> Self {
        Self::with(Options::default(), Recorder::echoing)
    }

    pub(crate) fn with(options: Options, mould: impl FnOnce(Recorder) -> Recorder) -> Self {
        Self::custom(options, mould, |factory| factory)
    }

    /// With a last word to the factory.
    pub(crate) fn custom(
        options: Options,
        mould: impl FnOnce(Recorder) -> Recorder,
        finish: impl FnOnce(WebSocketServerFactory) -> WebSocketServerFactory,
    ) -> Self {
        let log = Log::default();
        let factory = Recorders(mould(Recorder::new(&log)));
        let factory = finish(WebSocketServerFactory::with_options(factory, options));
        let reactor = Rc::new(MemoryReactor::new());
        let handle = factory.handle();
        let port = reactor.listen_tcp(80, factory).expect("a port");
        reactor.settle();
        let _ = log.take();
        Self { reactor, port, handle, log }
    }

    /// A client that has not said anything yet.
    pub(crate) fn connect(&self) -> Peer {
        Peer::client(&self.reactor, self.reactor.connect_to(&self.port))
    }

    /// A client whose handshake is done.
    pub(crate) fn open(&self) -> Peer {
        let peer = self.connect();
        peer.open("/", &[]);
        peer
    }

    /// The answer to a request that ends the connection.
    pub(crate) fn refusal_of(&self, request: impl AsRef<[u8]>) -> Http {
        let peer = self.connect();
        peer.send(request);
        let answer = peer.http();
        assert!(peer.saw_end(), "not closed after {answer}");
        assert_eq!(peer.bytes(), b"", "after {answer}");
        answer
    }

    /// How the only WebSocket's end was told, once: `(was_clean, code, reason)`.
    pub(crate) fn only_end(&self) -> (bool, u16, String) {
        assert_eq!(self.log.count("lost"), 1, "{:?}", self.log.take());
        let status = self.log.last_status();
        (status.was_clean, status.code, status.reason)
    }

    pub(crate) fn wait(&self, seconds: f64) {
        pass(&self.reactor, seconds);
    }
}

/// A site under test.
pub(crate) struct Pages {
    pub(crate) reactor: Rc<MemoryReactor>,
    port: ListeningPort,
}

impl Pages {
    pub(crate) fn new(root: Resource) -> Self {
        Self::with_options(root, SiteOptions::default())
    }

    pub(crate) fn with_options(root: Resource, options: SiteOptions) -> Self {
        Self::serving(Site::with_options(root, options))
    }

    fn serving<F: Factory<Protocol = twistor_websocket::HttpChannel>>(factory: F) -> Self {
        let reactor = Rc::new(MemoryReactor::new());
        let port = reactor.listen_tcp(80, factory).expect("a port");
        Self { reactor, port }
    }

    pub(crate) fn connect(&self) -> Peer {
        Peer::client(&self.reactor, self.reactor.connect_to(&self.port))
    }
}

/// A client under test, whose TCP connection is there, and its server in the test's hands.
pub(crate) struct Client {
    pub(crate) reactor: Rc<MemoryReactor>,
    pub(crate) connector: Connector,
    pub(crate) server: Peer,
    pub(crate) log: Log,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self::with(Options::default(), |recorder| recorder)
    }

    pub(crate) fn with(options: Options, mould: impl FnOnce(Recorder) -> Recorder) -> Self {
        Self::custom(options, mould, |factory| factory)
    }

    /// With a last word to the factory.
    pub(crate) fn custom(
        options: Options,
        mould: impl FnOnce(Recorder) -> Recorder,
        finish: impl FnOnce(WebSocketClientFactory<Recorders>) -> WebSocketClientFactory<Recorders>,
    ) -> Self {
        let log = Log::default();
        let factory = Recorders(mould(Recorder::new(&log)));
        let factory = WebSocketClientFactory::with_options("ws://server.example/chat?x=1", factory, options);
        let reactor = Rc::new(MemoryReactor::new());
        let connector = connect_ws(&reactor, finish(factory.expect("a URL")));
        reactor.settle();
        let server = Peer::server(&reactor, reactor.accept(&connector));
        let _ = log.take();
        Self { reactor, connector, server, log }
    }

    /// Whose handshake is done, too.
    pub(crate) fn open() -> Self {
        let client = Self::new();
        client.server.accept(&[], &[]);
        client
    }
}
