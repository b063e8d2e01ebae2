//! Connectors: connections that we open.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::{Rc, Weak};
use std::time::Duration;

use mio::Token;
use mio::net::TcpStream;
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};

use crate::address::Address;
use crate::conn::{Conn, Owner, Readiness};
use crate::core::{Core, Driver, Source};
use crate::dispatch::{ProtocolSlot, guarded};
use crate::error::{ConnectBindError, DNSLookupError, NotConnectingError, TimeoutError, UserError};
use crate::factory::{ClientFactory, FactoryUse};
use crate::failure::Failure;
use crate::listen::both;
use crate::protocol::{AnyProtocol, Protocol};
use crate::reactor::Reactor;
use crate::stream::Stream;
use crate::timers::DelayedCall;
use crate::transport::Transport;

/// How to connect. Start from `ConnectOptions::default()`.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// From `connect` to the established connection, name resolution and all addresses included: default 30 s, as in
    /// Twisted; `None` waits as long as the kernel does.
    pub timeout: Option<Duration>,
    /// The local address to connect from; default: the kernel chooses.
    pub bind_address: Option<SocketAddr>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { timeout: Some(Duration::from_secs(30)), bind_address: None }
    }
}

/// Where a [`Connector`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectorState {
    /// Neither connected nor trying to.
    Disconnected,
    /// Resolving the name or trying its addresses.
    Connecting,
    /// The protocol has its connection.
    Connected,
}

/// A factory of any type, as a connector uses it.
trait ConnectorFactory {
    fn build(&self, peer: &Address) -> Option<Box<dyn AnyProtocol>>;
    fn start(&self, core: &Core);
    fn stop(&self, core: &Core);
    fn started_connecting(&self, connector: &Connector);
    fn failed(&self, connector: &Connector, reason: &Failure);
    fn lost(&self, connector: &Connector, reason: &Failure);
}

struct Client<F> {
    factory: RefCell<F>,
    used: FactoryUse,
}

impl<F: ClientFactory<Protocol: Protocol>> ConnectorFactory for Client<F> {
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

    fn started_connecting(&self, connector: &Connector) {
        let _ = guarded("started_connecting", || self.factory.borrow_mut().started_connecting(connector));
    }

    fn failed(&self, connector: &Connector, reason: &Failure) {
        let mut factory = self.factory.borrow_mut();
        let _ = guarded("client_connection_failed", || factory.client_connection_failed(connector, reason));
    }

    fn lost(&self, connector: &Connector, reason: &Failure) {
        let mut factory = self.factory.borrow_mut();
        let _ = guarded("client_connection_lost", || factory.client_connection_lost(connector, reason));
    }
}

struct Inner {
    core: Weak<Core>,
    host: String,
    port: u16,
    options: ConnectOptions,
    factory: Box<dyn ConnectorFactory>,
    state: Cell<ConnectorState>,
    /// Counts the calls of `connect`: what belongs to an earlier one is stale.
    attempt: Cell<u64>,
    /// The attempt is over but for its failure, which waits in the queue.
    abandoned: Cell<bool>,
    /// `disconnect` was called while the protocol was being built.
    unwanted: Cell<bool>,
    addresses: RefCell<VecDeque<SocketAddr>>,
    trying: RefCell<Option<Rc<Attempt>>>,
    last_error: Cell<Option<Failure>>,
    transport: RefCell<Option<Transport>>,
    timer: Cell<Option<DelayedCall>>,
}

/// What [`Reactor::connect_tcp`] gives: `IConnector`. Cheap to clone; equal to its clones.
///
/// ```text
///  Disconnected --connect--> Connecting --build_protocol--> Connected --connection_lost--> Disconnected
///                            Connecting --client_connection_failed--> Disconnected
/// ```
#[derive(Clone)]
pub struct Connector(Rc<Inner>);

impl Connector {
    pub(crate) fn new<F>(core: &Rc<Core>, host: &str, port: u16, factory: F, options: ConnectOptions) -> Self
    where
        F: ClientFactory<Protocol: Protocol>,
    {
        let factory = Box::new(Client { factory: RefCell::new(factory), used: FactoryUse::default() });
        let connector = Self(Rc::new(Inner {
            core: Rc::downgrade(core),
            host: host.to_owned(),
            port,
            options,
            factory,
            state: Cell::new(ConnectorState::Disconnected),
            attempt: Cell::new(0),
            abandoned: Cell::new(false),
            unwanted: Cell::new(false),
            addresses: RefCell::default(),
            trying: RefCell::default(),
            last_error: Cell::default(),
            transport: RefCell::default(),
            timer: Cell::default(),
        }));
        let begun = connector.connect();
        debug_assert!(begun.is_ok(), "a new connector is disconnected");
        connector
    }

    /// Tries to connect (again): for `client_connection_failed`, `client_connection_lost`, or a timer set there. While the
    /// reactor shuts down this does nothing.
    ///
    /// # Errors
    /// [`ConnectInProgress`] unless the connector is disconnected.
    pub fn connect(&self) -> Result<(), ConnectInProgress> {
        let inner = &self.0;
        if inner.state.get() != ConnectorState::Disconnected {
            return Err(ConnectInProgress(inner.state.get()));
        }
        let Some(core) = inner.core.upgrade().filter(|core| !core.ending.get()) else { return Ok(()) };
        inner.state.set(ConnectorState::Connecting);
        inner.attempt.set(inner.attempt.get() + 1);
        inner.addresses.borrow_mut().clear();
        inner.last_error.set(None);
        inner.abandoned.set(false);
        core.connecting.borrow_mut().insert(Rc::as_ptr(&self.0).cast(), self.clone());
        let (this, attempt) = (self.clone(), inner.attempt.get());
        core.call_soon(Box::new(move |reactor| this.begin(reactor, attempt)));
        Ok(())
    }

    /// Ends whatever goes on: an attempt fails with [`UserError`], a connection is lost cleanly.
    pub fn disconnect(&self) {
        match self.0.state.get() {
            ConnectorState::Connecting => drop(self.stop_connecting()),
            ConnectorState::Connected => {
                let transport = self.0.transport.borrow().clone();
                match transport {
                    Some(transport) => transport.lose_connection(),
                    // in build_protocol: once there is something to lose
                    None => self.0.unwanted.set(true),
                }
            }
            ConnectorState::Disconnected => {}
        }
    }

    /// Gives the attempt up; `client_connection_failed` comes, from the queue, with [`UserError`].
    ///
    /// # Errors
    /// [`NotConnectingError`] when there is no attempt.
    pub fn stop_connecting(&self) -> Result<(), Failure> {
        if self.0.state.get() != ConnectorState::Connecting {
            return Err(Failure::new(NotConnectingError::with_detail("we're not trying to connect")));
        }
        let Some(core) = self.0.core.upgrade() else {
            return Ok(());
        };
        let (this, attempt) = (self.clone(), self.0.attempt.get());
        // what has been started for this attempt must not succeed meanwhile
        self.abandon(&core);
        core.call_soon(Box::new(move |reactor| {
            if this.is_trying(attempt) {
                this.fail(&reactor.core, &Failure::new(UserError::new()));
            }
        }));
        Ok(())
    }

    /// The host and port that were given.
    pub fn destination(&self) -> (&str, u16) {
        (&self.0.host, self.0.port)
    }

    /// Where the connector is.
    pub fn state(&self) -> ConnectorState {
        self.0.state.get()
    }

    /// The connection, while there is one.
    pub fn transport(&self) -> Option<Transport> {
        self.0.transport.borrow().clone()
    }

    /// The reactor.
    ///
    /// # Panics
    /// When that reactor has been dropped, which cannot be inside a callback.
    pub fn reactor(&self) -> Reactor {
        match self.0.core.upgrade() {
            Some(core) => Reactor::from_core(core),
            None => panic!("the reactor of this connector has been dropped"),
        }
    }

    fn is_trying(&self, attempt: u64) -> bool {
        self.0.state.get() == ConnectorState::Connecting && self.0.attempt.get() == attempt
    }

    fn begin(&self, reactor: &Reactor, attempt: u64) {
        let core = &reactor.core;
        if !self.is_trying(attempt) {
            return;
        }
        self.0.factory.start(core);
        self.0.factory.started_connecting(self);
        if !self.is_trying(attempt) || self.0.abandoned.get() {
            return; // stop_connecting in started_connecting: its failure is in the queue
        }
        if let Some(timeout) = self.0.options.timeout {
            let this = self.clone();
            let expire = move || {
                if let Some(core) = this.0.core.upgrade().filter(|_| this.is_trying(attempt)) {
                    this.fail(&core, &Failure::new(TimeoutError::new()));
                }
            };
            self.0.timer.set(Some(DelayedCall::schedule(core, timeout, Box::new(expire))));
        }
        if let Driver::Memory(driver) = &core.driver {
            return driver.connecting(self.clone());
        }
        if let Ok(ip) = self.0.host.parse::<IpAddr>() {
            self.0.addresses.borrow_mut().push_back((ip, self.0.port).into());
            return self.try_next(core);
        }
        let (host, port, this) = (self.0.host.clone(), self.0.port, self.clone());
        let lookup = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        let looked_up = reactor.defer_to_thread(lookup);
        let then = looked_up.add_both(move |found| {
            if let Some(core) = this.0.core.upgrade().filter(|_| this.is_trying(attempt) && !this.0.abandoned.get()) {
                this.resolved(&core, found);
            }
        });
        drop(then);
    }

    fn resolved(&self, core: &Rc<Core>, found: Result<io::Result<Vec<SocketAddr>>, Failure>) {
        match found {
            Ok(Ok(addresses)) if !addresses.is_empty() => {
                self.0.addresses.borrow_mut().extend(addresses);
                self.try_next(core);
            }
            Ok(Err(error)) => {
                log::debug!("{}: {error}", self.0.host);
                self.fail(core, &Failure::new(DNSLookupError::with_detail(self.0.host.clone())));
            }
            Ok(Ok(_)) => self.fail(core, &Failure::new(DNSLookupError::with_detail(self.0.host.clone()))),
            Err(failure) => self.fail(core, &failure),
        }
    }

    fn abandon(&self, core: &Core) {
        self.0.abandoned.set(true);
        core.connecting.borrow_mut().remove(&Rc::as_ptr(&self.0).cast());
        self.0.addresses.borrow_mut().clear();
        let trying = self.0.trying.take();
        if let Some(attempt) = trying {
            drop(core.remove(attempt.token.get()));
            attempt.dismantle();
        }
        if let Some(timer) = self.0.timer.take() {
            let _ = timer.cancel();
        }
        if let Driver::Memory(driver) = &core.driver {
            driver.forget(self);
        }
    }

    /// Tries the next address; when none is left, the attempt has failed as its last address has.
    fn try_next(&self, core: &Rc<Core>) {
        loop {
            let next = self.0.addresses.borrow_mut().pop_front();
            let Some(address) = next else {
                let last = self.0.last_error.take();
                return self.fail(core, &last.unwrap_or_else(|| Failure::new(ConnectBindError::new())));
            };
            match Attempt::begin(core, self, address) {
                Ok(attempt) => {
                    *self.0.trying.borrow_mut() = Some(attempt);
                    return;
                }
                Err(failure) => self.0.last_error.set(Some(failure)),
            }
        }
    }

    /// A connection is there.
    pub(crate) fn connected(
        &self,
        core: &Rc<Core>,
        token: Token,
        stream: Box<dyn Stream>,
        peer: Address,
        event: Readiness,
    ) {
        // the slot stays registered; abandon() would free it
        drop(self.0.trying.take());
        self.abandon(core);
        self.0.state.set(ConnectorState::Connected);
        self.0.unwanted.set(false);
        let built = guarded("build_protocol", || self.0.factory.build(&peer));
        let reason = match built {
            Ok(Some(protocol)) => {
                let owner: Rc<dyn Owner> = Rc::new(self.clone());
                let transport = Conn::open(core, peer, ProtocolSlot::new(protocol), Some(owner));
                *self.0.transport.borrow_mut() = Some(transport.clone());
                drop(core.replace(token, Source::Connection(transport.clone())));
                transport.start(core, token, stream);
                if self.0.unwanted.get() {
                    transport.lose_connection();
                }
                // the event that told of the connection may also have told of what came with it, and will not again
                transport.on_event(core, event);
                return;
            }
            // P097: accepted by the peer, refused by us: closed cleanly
            Ok(None) => Failure::new(crate::error::ConnectionDone::new()),
            Err(failure) => failure,
        };
        drop(core.remove(token));
        drop(stream);
        self.connection_over(&reason);
    }

    /// The attempt is over without a connection.
    pub(crate) fn fail(&self, core: &Rc<Core>, reason: &Failure) {
        if self.0.state.get() != ConnectorState::Connecting {
            return;
        }
        self.abandon(core);
        self.0.state.set(ConnectorState::Disconnected);
        log::debug!("{}:{}: connection failed: {reason}", self.0.host, self.0.port);
        self.0.factory.failed(self, reason);
        self.stop_if_idle(core);
    }

    fn stop_if_idle(&self, core: &Core) {
        if self.0.state.get() == ConnectorState::Disconnected {
            self.0.factory.stop(core);
        }
    }
}

impl Owner for Connector {
    fn connection_over(&self, reason: &Failure) {
        drop(self.0.transport.take());
        self.0.state.set(ConnectorState::Disconnected);
        self.0.factory.lost(self, reason);
        if let Some(core) = self.0.core.upgrade() {
            self.stop_if_idle(&core);
        }
    }
}

impl PartialEq for Connector {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Connector {}

impl Hash for Connector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Rc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector({}:{}, {:?})", self.0.host, self.0.port, self.0.state.get())
    }
}

/// [`Connector::connect`] found the connector in this state: Twisted's "can't connect in this state".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectInProgress(pub ConnectorState);

impl fmt::Display for ConnectInProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't connect in this state: {:?}", self.0)
    }
}

impl std::error::Error for ConnectInProgress {}

/// One address being tried.
pub(crate) struct Attempt {
    connector: Connector,
    address: SocketAddr,
    token: Cell<Token>,
    stream: Cell<Option<TcpStream>>,
}

impl Attempt {
    fn begin(core: &Rc<Core>, connector: &Connector, address: SocketAddr) -> Result<Rc<Self>, Failure> {
        let mut stream = match connector.0.options.bind_address {
            None => TcpStream::connect(address).map_err(Failure::from_connect_error)?,
            Some(local) => connect_from(local, address)?,
        };
        let attempt = Rc::new(Self {
            connector: connector.clone(),
            address,
            token: Cell::new(Token(0)),
            stream: Cell::new(None),
        });
        let token = core
            .add(Source::Attempt(attempt.clone()), Some(&mut stream), both())
            .map_err(Failure::from_connect_error)?;
        attempt.token.set(token);
        attempt.stream.set(Some(stream));
        Ok(attempt)
    }

    pub(crate) fn dismantle(&self) {
        drop(self.stream.take());
    }

    pub(crate) fn on_event(&self, core: &Rc<Core>, event: Readiness) {
        let Some(stream) = self.stream.take() else { return };
        let failed = match stream.take_error() {
            Ok(None) => match stream.peer_addr() {
                Ok(_) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        log::debug!("{}: TCP_NODELAY: {error}", self.address);
                    }
                    let peer = Address::from(self.address);
                    return self.connector.connected(core, self.token.get(), Box::new(stream), peer, event);
                }
                // an early event: not connected yet
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return self.stream.set(Some(stream)),
                Err(error) => error,
            },
            Ok(Some(error)) | Err(error) => error,
        };
        drop(core.remove(self.token.get()));
        drop(stream);
        log::debug!("{}: {failed}", self.address);
        self.connector.0.last_error.set(Some(Failure::from_connect_error(failed)));
        drop(self.connector.0.trying.take());
        self.connector.try_next(core);
    }
}

fn connect_from(local: SocketAddr, address: SocketAddr) -> Result<TcpStream, Failure> {
    let bound = Socket::new(Domain::for_address(address), Type::STREAM, Some(SocketProtocol::TCP)).and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        socket.bind(&local.into())?;
        Ok(socket)
    });
    let socket = bound.map_err(|error| Failure::new(ConnectBindError::from(error)))?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(Failure::from_connect_error(error)),
    }
    Ok(TcpStream::from_std(socket.into()))
}
