//! What the tests share: a log, protocols and factories that write to it, and peers on loopback sockets.

use std::any::Any;
use std::cell::Cell;
use std::fmt::Display;
use std::io::Read;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use twistor_reactor::{Address, ClientFactory, Connector, Factory, Failure, Protocol, Reactor, Transport};

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// What happened, in order. Threads that play peers may wait for it.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    pub(crate) fn add(&self, entry: impl Display) {
        self.with(|entries| entries.push(entry.to_string()));
        self.0.1.notify_all();
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        self.with(|entries| entries.clone())
    }

    pub(crate) fn take(&self) -> Vec<String> {
        self.with(std::mem::take)
    }

    /// How many entries begin with `start`.
    pub(crate) fn count(&self, start: &str) -> usize {
        self.with(|entries| entries.iter().filter(|entry| entry.starts_with(start)).count())
    }

    /// Blocks until `count` entries begin with `start`.
    pub(crate) fn wait_for(&self, count: usize, start: &str) {
        let entries = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = |entries: &Vec<String>| entries.iter().filter(|entry| entry.starts_with(start)).count();
        let waited = self.0.1.wait_timeout_while(entries, PATIENCE, |entries| found(entries) < count);
        let (entries, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "waited for {count} x {start:?}, got {entries:?}");
    }

    fn with<R>(&self, f: impl FnOnce(&mut Vec<String>) -> R) -> R {
        f(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A callback of a protocol.
pub(crate) enum Event<'a> {
    Made,
    Data(&'a [u8]),
    ReadLost,
    WriteLost,
    High,
    Drained,
    Lost(&'a Failure),
}

impl Display for Event<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Made => f.write_str("made"),
            Self::Data(data) => write!(f, "data {}", String::from_utf8_lossy(data)),
            Self::ReadLost => f.write_str("read lost"),
            Self::WriteLost => f.write_str("write lost"),
            Self::High => f.write_str("high"),
            Self::Drained => f.write_str("drained"),
            Self::Lost(reason) => write!(f, "lost: {reason}"),
        }
    }
}

/// A protocol whose callbacks are one closure.
pub(crate) struct Scripted {
    half_closeable: bool,
    on: Box<OnEvent>,
}

type OnEvent = dyn FnMut(&Transport, Event<'_>);

pub(crate) fn scripted(on: impl FnMut(&Transport, Event<'_>) + 'static) -> Scripted {
    Scripted { half_closeable: false, on: Box::new(on) }
}

/// `scripted` for Twisted's `IHalfCloseableProtocol`.
pub(crate) fn half_closeable(on: impl FnMut(&Transport, Event<'_>) + 'static) -> Scripted {
    Scripted { half_closeable: true, on: Box::new(on) }
}

/// A protocol that writes its callbacks to the log.
pub(crate) fn recorder(log: &Log) -> Scripted {
    let log = log.clone();
    scripted(move |_, event| log.add(event))
}

/// A protocol that does nothing.
pub(crate) fn silent() -> Scripted {
    scripted(|_, _| {})
}

/// A protocol that sends back what comes.
pub(crate) fn echo() -> Scripted {
    scripted(|transport, event| {
        if let Event::Data(data) = event {
            transport.write(data);
        }
    })
}

impl Protocol for Scripted {
    fn connection_made(&mut self, transport: &Transport) {
        (self.on)(transport, Event::Made);
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        (self.on)(transport, Event::Data(data));
    }
    fn read_connection_lost(&mut self, transport: &Transport) {
        (self.on)(transport, Event::ReadLost);
        if !self.half_closeable {
            transport.lose_connection();
        }
    }
    fn write_connection_lost(&mut self, transport: &Transport) {
        (self.on)(transport, Event::WriteLost);
    }
    fn output_high(&mut self, transport: &Transport) {
        (self.on)(transport, Event::High);
    }
    fn output_drained(&mut self, transport: &Transport) {
        (self.on)(transport, Event::Drained);
    }
    fn connection_lost(&mut self, transport: &Transport, reason: &Failure) {
        (self.on)(transport, Event::Lost(reason));
    }
}

/// A hook of a client factory.
pub(crate) enum Hook<'a> {
    Started,
    Failed(&'a Failure),
    Lost(&'a Failure),
}

/// A factory, for ports and connectors, that writes its hooks to the log.
pub(crate) struct Recording {
    log: Log,
    build: Box<Build>,
    hook: Box<OnHook>,
}

type Build = dyn FnMut(&Address) -> Option<Scripted>;
type OnHook = dyn FnMut(&Connector, Hook<'_>);

impl Recording {
    pub(crate) fn new(log: &Log) -> Self {
        let protocols = log.clone();
        Self { log: log.clone(), build: Box::new(move |_| Some(recorder(&protocols))), hook: Box::new(|_, _| {}) }
    }

    pub(crate) fn building(mut self, build: impl FnMut(&Address) -> Option<Scripted> + 'static) -> Self {
        self.build = Box::new(build);
        self
    }

    pub(crate) fn hooked(mut self, hook: impl FnMut(&Connector, Hook<'_>) + 'static) -> Self {
        self.hook = Box::new(hook);
        self
    }
}

impl Factory for Recording {
    type Protocol = Scripted;
    fn build_protocol(&mut self, peer: &Address) -> Option<Scripted> {
        self.log.add("build");
        (self.build)(peer)
    }
    fn start_factory(&mut self) {
        self.log.add("start factory");
    }
    fn stop_factory(&mut self) {
        self.log.add("stop factory");
    }
}

impl ClientFactory for Recording {
    fn started_connecting(&mut self, connector: &Connector) {
        self.log.add("started connecting");
        (self.hook)(connector, Hook::Started);
    }
    fn client_connection_failed(&mut self, connector: &Connector, reason: &Failure) {
        self.log.add(format!("failed: {reason}"));
        (self.hook)(connector, Hook::Failed(reason));
    }
    fn client_connection_lost(&mut self, connector: &Connector, reason: &Failure) {
        self.log.add(format!("client lost: {reason}"));
        (self.hook)(connector, Hook::Lost(reason));
    }
}

/// A slot that one closure fills and another empties.
pub(crate) fn slot<T>() -> Rc<Cell<Option<T>>> {
    Rc::new(Cell::new(None))
}

/// A reactor on the real poller that leaves the process's signals alone.
pub(crate) fn real_reactor() -> Reactor {
    let reactor = Reactor::new().expect("a poller");
    reactor.set_signal_handlers(false);
    reactor
}

/// Runs the reactor until the program stops it.
pub(crate) fn run(reactor: &Reactor) {
    let late = Rc::new(Cell::new(false));
    let (flag, stopper) = (late.clone(), reactor.clone());
    let watchdog = reactor.call_later(PATIENCE, move || {
        flag.set(true);
        stopper.stop();
    });
    reactor.run().expect("the loop runs");
    let _ = watchdog.cancel();
    assert!(!late.get(), "nobody stopped the reactor");
}

/// Runs the reactor until `script`, in a thread of its own, has played its part.
pub(crate) fn play<R: Send + 'static>(reactor: &Reactor, script: impl FnOnce() -> R + Send + 'static) -> R {
    let handle = reactor.handle();
    let player = std::thread::spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(script));
        let _ = handle.stop();
        outcome
    });
    run(reactor);
    let outcome: Result<R, Box<dyn Any + Send>> = player.join().expect("its panics are caught");
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

/// A blocking client of a port, which waits for nothing too long.
pub(crate) fn dial(address: &Address) -> TcpStream {
    let address = address.socket_addr().expect("a TCP address");
    bounded(TcpStream::connect(address).expect("somebody listens"))
}

pub(crate) fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Closes with RST.
pub(crate) fn reset(stream: TcpStream) {
    let linger = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    linger.expect("SO_LINGER");
}

/// All that comes up to FIN.
pub(crate) fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("bytes, then FIN");
    all
}

/// A port where nobody listens.
pub(crate) fn dead_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}
