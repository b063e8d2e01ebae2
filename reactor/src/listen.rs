//! Listening ports: binding, accepting, running out of descriptors.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};

use crate::address::Address;
use crate::conn::Conn;
use crate::core::{Core, Driver, Source};
use crate::deferred::Deferred;
use crate::dispatch::{ProtocolSlot, guarded};
use crate::error::NotListeningError;
use crate::factory::{Factory, FactoryUse};
use crate::failure::Failure;
use crate::protocol::{AnyProtocol, Protocol};
use crate::stream::Stream;
use crate::timers::DelayedCall;

mod address;

pub use address::{ListenAddress, ListenError, ListenOptions};

/// Connections accepted in one turn, so that a rush of new ones does not keep the old ones waiting.
const ACCEPTS_PER_TURN: usize = 64;

/// How often that is worth a warning: peers cause it.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// How long to accept nothing after the process or the system ran out of something: trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A factory of any type, as a port uses it.
trait ServerFactory {
    fn build(&self, peer: &Address) -> Option<Box<dyn AnyProtocol>>;
    fn start(&self, core: &Core);
    fn stop(&self, core: &Core);
}

struct Server<F> {
    factory: RefCell<F>,
    used: FactoryUse,
}

impl<F: Factory<Protocol: Protocol>> ServerFactory for Server<F> {
    fn build(&self, peer: &Address) -> Option<Box<dyn AnyProtocol>> {
        let protocol = self.factory.borrow_mut().build_protocol(peer)?;
        Some(Box::new(protocol))
    }

    fn start(&self, core: &Core) {
        let identity = self.factory.borrow().identity();
        if self.used.start(identity, &core.factories) {
            let _ = guarded("start_factory", || self.factory.borrow_mut().start_factory());
        }
    }

    fn stop(&self, core: &Core) {
        let identity = self.factory.borrow().identity();
        if self.used.stop(identity, &core.factories) {
            let _ = guarded("stop_factory", || self.factory.borrow_mut().stop_factory());
        }
    }
}

/// A listening socket. Owned by the reactor until it stops listening.
pub(crate) struct Port {
    core: Weak<Core>,
    address: Address,
    token: Cell<Token>,
    listener: RefCell<Option<TcpListener>>,
    listening: Cell<bool>,
    /// Freed once it has stopped.
    factory: RefCell<Option<Box<dyn ServerFactory>>>,
    /// Held open to be closed when descriptors run out, so that those who wait can be told by being accepted and
    /// closed.
    reserve: RefCell<Option<File>>,
    pause: Cell<Option<DelayedCall>>,
    warned: Cell<Option<Instant>>,
    /// On the list of those to be served again in the next turn.
    waiting: Cell<bool>,
    accepted: Cell<u64>,
}

pub(crate) fn listen<F: Factory<Protocol: Protocol>>(
    core: &Rc<Core>,
    address: ListenAddress,
    factory: F,
    options: ListenOptions,
) -> Result<ListeningPort, ListenError<F>> {
    let bound = address.resolve().and_then(|address| match &core.driver {
        // a factory that listens again when it stops would for ever
        _ if core.ending.get() => Err(io::Error::other("the reactor stops")),
        Driver::Poll { .. } => {
            let listener = bind(address, &options)?;
            let actual = listener.local_addr()?;
            Ok((Some(listener), actual))
        }
        Driver::Memory(driver) => Ok((None, driver.bind(address)?)),
    });
    let (mut listener, actual) = match bound {
        Ok(bound) => bound,
        Err(error) => {
            return Err(ListenError { factory, address, error });
        }
    };
    let server = Box::new(Server { factory: RefCell::new(factory), used: FactoryUse::default() });
    let port = Rc::new(Port {
        core: Rc::downgrade(core),
        address: Address::from(actual),
        token: Cell::new(Token(0)),
        listener: RefCell::new(None),
        listening: Cell::new(true),
        factory: RefCell::new(Some(server)),
        reserve: RefCell::new(File::open("/dev/null").ok()),
        pause: Cell::new(None),
        warned: Cell::new(None),
        waiting: Cell::new(false),
        accepted: Cell::new(0),
    });
    let source = listener.as_mut().map(|listener| listener as &mut dyn mio::event::Source);
    match core.add(Source::Port(port.clone()), source, Interest::READABLE) {
        Ok(token) => port.token.set(token),
        Err(error) => log::error!("{actual}: cannot be polled: {error}"),
    }
    *port.listener.borrow_mut() = listener;
    log::info!("starting on {actual}");
    // start_factory is user code: from the queue
    let starting = port.clone();
    core.call_soon(Box::new(move |reactor| {
        starting.start(&reactor.core);
    }));
    Ok(ListeningPort { port })
}

fn bind(address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(SocketProtocol::TCP))?;
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    // accepted sockets inherit it: one system call less for each
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(TcpListener::from_std(socket.into()))
}

impl Port {
    /// Accepts what waits, within the turn's budget.
    pub(crate) fn accept(self: &Rc<Self>, core: &Rc<Core>) {
        if self.waiting.get() || self.is_pausing() {
            return;
        }
        self.start(core);
        for _ in 0..ACCEPTS_PER_TURN {
            let accepted = match &*self.listener.borrow() {
                Some(listener) if self.listening.get() => listener.accept(),
                _ => return,
            };
            match accepted {
                Ok((stream, peer)) => self.connected(core, stream, Address::from(peer)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => return self.exhausted(core, &error),
            }
        }
        self.waiting.set(true);
        core.push_ready(Source::Port(self.clone()));
    }

    /// Starts the factory, once: before its first connection, and whether or not there ever is one.
    fn start(&self, core: &Core) {
        if let Some(factory) = &*self.factory.borrow() {
            factory.start(core);
        }
    }

    pub(crate) fn accept_again(self: &Rc<Self>, core: &Rc<Core>) {
        self.waiting.set(false);
        self.accept(core);
    }

    fn is_pausing(&self) -> bool {
        let pause = self.pause.take();
        let pausing = pause.as_ref().is_some_and(DelayedCall::active);
        self.pause.set(pause);
        pausing
    }

    fn connected(&self, core: &Rc<Core>, mut stream: TcpStream, peer: Address) {
        let Some(protocol) = self.build(&peer) else { return };
        // the transport is made first, since its source holds it; the stream moves in once it is registered
        let transport = Conn::open(core, peer, ProtocolSlot::new(protocol), None);
        match core.add(Source::Connection(transport.clone()), Some(&mut stream), both()) {
            Ok(token) => transport.start(core, token, Box::new(stream)),
            Err(error) => {
                log::error!("{}: cannot be polled: {error}", transport.peer());
                transport.conn().dismantle();
            }
        }
    }

    fn build(&self, peer: &Address) -> Option<Box<dyn AnyProtocol>> {
        let built = match &*self.factory.borrow() {
            Some(factory) => guarded("build_protocol", || factory.build(peer)).ok().flatten(),
            None => None,
        };
        match &built {
            Some(_) => self.accepted.set(self.accepted.get() + 1),
            None => log::debug!("{peer}: refused by the factory"),
        }
        built
    }

    /// A connection in memory.
    pub(crate) fn connected_in_memory(&self, core: &Rc<Core>, stream: Box<dyn Stream>, peer: Address) {
        let Some(protocol) = self.build(&peer) else {
            return;
        };
        crate::testing::start_in_memory(core, Conn::open(core, peer, ProtocolSlot::new(protocol), None), stream);
    }

    /// Out of descriptors or memory. Those who wait are accepted on the reserve and closed, so that they know; then a
    /// pause, since the poller would report the port again at once.
    #[cold]
    fn exhausted(self: &Rc<Self>, core: &Rc<Core>, error: &io::Error) {
        let mut closed = 0;
        if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) && self.reserve.take().is_some() {
            if let Some(listener) = &*self.listener.borrow() {
                while closed < ACCEPTS_PER_TURN && listener.accept().is_ok() {
                    closed += 1;
                }
            }
            self.reserve.replace(File::open("/dev/null").ok());
        }
        let now = core.time.now();
        let often = self.warned.get().is_some_and(|then| now.saturating_duration_since(then) < WARN_EVERY);
        if !often {
            self.warned.set(Some(now));
        }
        let level = if often { log::Level::Debug } else { log::Level::Warn };
        log::log!(level, "{}: could not accept new connections: {error}; closed {closed} that waited", self.address);
        let this = self.clone();
        let again = move || {
            if let Some(core) = this.core.upgrade() {
                this.accept(&core);
            }
        };
        self.pause.set(Some(DelayedCall::schedule(core, ACCEPT_PAUSE, Box::new(again))));
    }

    /// Closes the port, then stops the factory.
    pub(crate) fn stop(&self, core: &Rc<Core>) {
        self.listening.set(false);
        drop(core.remove(self.token.get()));
        if let (Driver::Memory(driver), Address::Tcp(address)) = (&core.driver, &self.address) {
            driver.unbind(*address);
        }
        if self.listener.take().is_some() {
            log::info!("(TCP Port {} Closed)", self.address.port().unwrap_or(0));
        }
        if let Some(pause) = self.pause.take() {
            let _ = pause.cancel();
        }
        let factory = self.factory.take();
        if let Some(factory) = factory {
            factory.stop(core);
            let _ = guarded("dropping a factory", || drop(factory));
        }
    }
}

pub(crate) fn both() -> Interest {
    Interest::READABLE | Interest::WRITABLE
}

/// Errors of `accept` that concern the connection that was to be accepted, not the port.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
        || matches!(error.raw_os_error(), Some(libc::EPERM | libc::EPROTO | libc::ENETDOWN | libc::EHOSTUNREACH))
}

/// A port that listens: `IListeningPort`. Dropping it leaves it listening.
#[derive(Clone)]
pub struct ListeningPort {
    pub(crate) port: Rc<Port>,
}

impl ListeningPort {
    /// Where it listens, with the real port where 0 was asked for: `getHost()`.
    pub fn address(&self) -> &Address {
        &self.port.address
    }

    /// Whether it still listens.
    pub fn listening(&self) -> bool {
        self.port.listening.get()
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.port.accepted.get()
    }

    /// Stops accepting, from the queue; the Deferred fires after the factory's `stop_factory` (if this was its last
    /// port). Connections that were accepted live on.
    ///
    /// # Errors
    /// [`NotListeningError`] when it does not listen any more.
    pub fn stop_listening(&self) -> Result<Deferred<()>, Failure> {
        let core = self.port.core.upgrade().filter(|_| self.port.listening.replace(false));
        let Some(core) = core else {
            return Err(Failure::new(NotListeningError::new()));
        };
        let (resolver, deferred) = Deferred::new(&core);
        let port = self.port.clone();
        core.call_soon(Box::new(move |reactor| {
            port.stop(&reactor.core);
            resolver.resolve(());
        }));
        Ok(deferred)
    }
}

impl fmt::Debug for ListeningPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ListeningPort({}, listening: {})", self.port.address, self.listening())
    }
}
