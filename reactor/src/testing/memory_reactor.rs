//! `MemoryReactor`: the reactor without a poller.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use mio::Token;

use super::pipe::{MemoryPeer, pair};
use crate::address::Address;
use crate::clock::Time;
use crate::conn::Readiness;
use crate::connect::Connector;
use crate::core::{Core, Driver, Source, Stage};
use crate::failure::Failure;
use crate::listen::{ListeningPort, both};
use crate::reactor::Reactor;
use crate::stream::Stream;
use crate::thread::Mailbox;
use crate::transport::Transport;

/// Rounds that `settle` makes before it decides that a test will never settle.
const MAX_ROUNDS: usize = 100_000;

#[derive(Default)]
pub(crate) struct MemoryDriver {
    bound: RefCell<Vec<SocketAddr>>,
    connects: RefCell<Vec<Connector>>,
    moved: Rc<Cell<u64>>,
    turning: Cell<bool>,
    stopped: Cell<bool>,
    clients: Cell<u16>,
}

impl MemoryDriver {
    /// A port can be taken once, as with sockets; 0 is a free one.
    pub(crate) fn bind(&self, mut address: SocketAddr) -> io::Result<SocketAddr> {
        let mut bound = self.bound.borrow_mut();
        let in_use = |address: &SocketAddr| {
            let (ip, port) = (address.ip(), address.port());
            let same = |other: IpAddr| other == ip || other.is_unspecified() || ip.is_unspecified();
            bound.iter().any(|other| other.port() == port && other.is_ipv4() == ip.is_ipv4() && same(other.ip()))
        };
        if address.port() == 0 {
            let ports = (1024..u16::MAX).rev();
            let free = ports.map(|port| SocketAddr::new(address.ip(), port)).find(|address| !in_use(address));
            address = free.ok_or(io::ErrorKind::AddrNotAvailable)?;
        } else if in_use(&address) {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        bound.push(address);
        Ok(address)
    }

    pub(crate) fn unbind(&self, address: SocketAddr) {
        self.bound.borrow_mut().retain(|other| *other != address);
    }

    pub(crate) fn connecting(&self, connector: Connector) {
        self.connects.borrow_mut().push(connector);
    }

    pub(crate) fn forget(&self, connector: &Connector) {
        self.connects.borrow_mut().retain(|other| other != connector);
    }
}

/// Registers and starts a connection in memory.
pub(crate) fn start_in_memory(core: &Rc<Core>, transport: Transport, stream: Box<dyn Stream>) {
    match core.add(Source::Connection(transport.clone()), None, both()) {
        Ok(token) => transport.start(core, token, stream),
        Err(error) => log::error!("{error}"),
    }
}

/// A reactor whose connections are in memory and whose clock is turned by hand; otherwise a [`Reactor`], to which it
/// dereferences. `listen_tcp` and `connect_tcp` open no sockets: the test plays their peers.
///
/// It runs from the beginning, so that startup triggers wait in vain; `stop` ends it, triggers included, with the next
/// `settle` or `advance`, and it runs again.
pub struct MemoryReactor {
    reactor: Reactor,
}

impl MemoryReactor {
    /// A new one, at time zero.
    #[allow(clippy::new_without_default)] // as Reactor::new
    pub fn new() -> Self {
        let core = Core::new(Driver::Memory(MemoryDriver::default()), Time::manual(), Mailbox::new(None));
        core.stage.set(Stage::Running);
        Self { reactor: Reactor::from_core(core) }
    }

    fn driver(&self) -> &MemoryDriver {
        match &self.reactor.core.driver {
            Driver::Memory(driver) => driver,
            Driver::Poll { .. } => unreachable!("made with a memory driver"),
        }
    }

    /// Delivers whatever can be delivered at the present time: bytes, queued calls, timers that are due.
    ///
    /// # Panics
    /// Inside a callback, or when the program under test never comes to rest.
    pub fn settle(&self) {
        let (core, driver) = (&self.reactor.core, self.driver());
        assert!(!driver.turning.replace(true), "settle() or advance() inside a callback");
        for _ in 0..MAX_ROUNDS {
            let moved = driver.moved.get();
            core.begin_serving();
            for source in core.all_sources() {
                let Source::Connection(transport) = &source else {
                    continue;
                };
                let readiness = transport.conn().stream.borrow().as_ref().map(|stream| stream.readiness());
                if let Some(readiness) = readiness {
                    core.on_event(&source, readiness);
                }
            }
            core.finish_turn(false, || false);
            let due = core.timers.borrow().next_deadline().is_some_and(|deadline| deadline <= core.time.now());
            if core.stage.get() == Stage::Leaving {
                driver.stopped.set(true);
                crate::turn::shut_down(core);
                core.stage.set(Stage::Running);
            }
            if core.is_idle() && driver.moved.get() == moved && !due {
                driver.turning.set(false);
                return;
            }
        }
        panic!("the reactor does not settle");
    }

    /// Settles, turns the clock forward, and settles again: time jumps first, then what is due runs in the order of its
    /// deadlines.
    pub fn advance(&self, by: Duration) {
        self.settle();
        let core = &self.reactor.core;
        core.time.advance_to(core.time.now() + by);
        self.settle();
    }

    /// A client connects to a port of this reactor. Settles.
    pub fn connect_to(&self, port: &ListeningPort) -> MemoryPeer {
        let driver = self.driver();
        let number = 50_000 + driver.clients.get() % 15_000;
        driver.clients.set(driver.clients.get().wrapping_add(1));
        let client = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, number)));
        let [ours, theirs] = pair([port.address().clone(), client.clone()], &driver.moved);
        let port = port.port.clone();
        let accept = move |reactor: &Reactor| port.connected_in_memory(&reactor.core, Box::new(ours), client);
        self.reactor.core.call_soon(Box::new(accept));
        self.settle();
        MemoryPeer::new(theirs)
    }

    /// The connectors whose attempts wait for the test to decide, oldest first.
    pub fn connecting(&self) -> Vec<Connector> {
        self.driver().connects.borrow().clone()
    }

    /// Lets an attempt succeed; the peer is the server's end. Settles.
    ///
    /// # Panics
    /// When the connector is not connecting.
    pub fn accept(&self, connector: &Connector) -> MemoryPeer {
        self.check_connecting(connector);
        let (_, port) = connector.target();
        let local = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000)));
        let peer = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let [ours, theirs] = pair([local, peer.clone()], &self.driver().moved);
        let this = connector.clone();
        self.reactor.core.call_soon(Box::new(move |reactor| {
            // a connection's slot: the connector puts it there
            match reactor.core.reserve() {
                Ok(token) => this.connected(&reactor.core, token, Box::new(ours), peer, Readiness::default()),
                Err(error) => log::error!("{error}"),
            }
        }));
        self.settle();
        MemoryPeer::new(theirs)
    }

    /// Lets an attempt fail. Settles.
    ///
    /// # Panics
    /// When the connector is not connecting.
    pub fn refuse(&self, connector: &Connector, reason: Failure) {
        self.check_connecting(connector);
        let this = connector.clone();
        self.reactor.core.call_soon(Box::new(move |reactor| this.fail(&reactor.core, &reason)));
        self.settle();
    }

    fn check_connecting(&self, connector: &Connector) {
        let waiting = self.driver().connects.borrow().contains(connector);
        assert!(waiting, "{connector:?} is not connecting (settle() first?)");
    }

    /// Whether the program has stopped the reactor, and everything before shutdown was done.
    pub fn stopped(&self) -> bool {
        self.driver().stopped.get()
    }

    pub(super) fn moved(&self) -> &Rc<Cell<u64>> {
        &self.driver().moved
    }
}

impl Deref for MemoryReactor {
    type Target = Reactor;
    fn deref(&self) -> &Reactor {
        &self.reactor
    }
}

impl fmt::Debug for MemoryReactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryReactor")
    }
}

/// Virtual time alone: `twisted.internet.task.Clock`. It dereferences to a [`Reactor`], whose `call_later` it drives.
///
/// ```
/// use std::{cell::Cell, rc::Rc, time::Duration};
/// use twistor_reactor::testing::Clock;
/// let clock = Clock::new();
/// let called = Rc::new(Cell::new(false));
/// let flag = called.clone();
/// clock.call_later(Duration::from_secs(3), move || flag.set(true));
/// clock.advance(Duration::from_secs(2));
/// assert!(!called.get());
/// clock.advance(Duration::from_secs(1));
/// assert!(called.get());
/// ```
#[derive(Debug)]
pub struct Clock {
    reactor: MemoryReactor,
    start: std::time::Instant,
}

impl Clock {
    /// A clock at zero.
    #[allow(clippy::new_without_default)] // as MemoryReactor::new
    pub fn new() -> Self {
        let reactor = MemoryReactor::new();
        let start = reactor.now();
        Self { reactor, start }
    }

    /// Time since the clock was made.
    pub fn seconds(&self) -> Duration {
        self.reactor.now() - self.start
    }

    /// Turns the clock and runs what is due.
    pub fn advance(&self, by: Duration) {
        self.reactor.advance(by);
    }

    /// `advance` by each of these in turn.
    pub fn pump(&self, steps: impl IntoIterator<Item = Duration>) {
        for step in steps {
            self.advance(step);
        }
    }
}

impl Deref for Clock {
    type Target = Reactor;
    fn deref(&self) -> &Reactor {
        &self.reactor
    }
}

/// A token that stands for nothing yet.
impl Core {
    fn reserve(self: &Rc<Self>) -> io::Result<Token> {
        let nobody = crate::conn::Conn::open(
            self,
            Address::from(SocketAddr::from(([0; 4], 0))),
            crate::dispatch::ProtocolSlot::empty(),
            None,
        );
        self.add(Source::Connection(nobody), None, both())
    }
}
