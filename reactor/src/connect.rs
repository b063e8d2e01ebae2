//! Connectors: connections that we open. How they come about is in `attempt.rs`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::address::Address;
use crate::core::Core;
use crate::dispatch::guarded;
use crate::error::{NotConnectingError, UserError};
use crate::factory::{ClientFactory, FactoryUse};
use crate::failure::Failure;
use crate::protocol::{AnyProtocol, Protocol};
use crate::reactor::Reactor;
use crate::timers::DelayedCall;
use crate::transport::Transport;

mod attempt;

use attempt::Successor;

pub(crate) use attempt::Attempt;

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
    /// `disconnect` was called while there was a connection, or while its protocol was being built.
    unwanted: Cell<bool>,
    /// Where this attempt or connection was redirected to.
    elsewhere: RefCell<Option<(String, u16)>>,
    successor: Cell<Option<Box<Successor>>>,
    addresses: RefCell<VecDeque<SocketAddr>>,
    trying: RefCell<Option<Rc<Attempt>>>,
    last_error: Cell<Option<Failure>>,
    transport: RefCell<Option<Transport>>,
    timer: Cell<Option<DelayedCall>>,
}

/// What [`Reactor::connect_tcp`] gives: `IConnector`. Cheap to clone; equal to its clones.
///
/// ```text
///  Disconnected --connect--> Connecting --build_protocol--> Connected --client_connection_lost--> Disconnected
///                            Connecting --client_connection_failed--> Disconnected
///                            Connecting <--redirect-- Connected
/// ```
#[derive(Clone)]
pub struct Connector(Rc<Inner>);

/// A [`Connector`] that keeps nothing alive: for a factory that has to find its connector again. A strong one in its own
/// factory is a cycle.
#[derive(Clone)]
pub struct WeakConnector(Weak<Inner>);

impl WeakConnector {
    /// The connector, if it is still there: it is while it connects or has a connection.
    pub fn upgrade(&self) -> Option<Connector> {
        self.0.upgrade().map(Connector)
    }
}

impl PartialEq for WeakConnector {
    fn eq(&self, other: &Self) -> bool {
        Weak::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for WeakConnector {}

impl fmt::Debug for WeakConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.upgrade() {
            Some(connector) => connector.fmt(f),
            None => f.write_str("Connector(gone)"),
        }
    }
}

impl Connector {
    /// One that keeps nothing alive.
    pub fn downgrade(&self) -> WeakConnector {
        WeakConnector(Rc::downgrade(&self.0))
    }

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
            elsewhere: RefCell::default(),
            successor: Cell::default(),
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

    /// Tries to connect (again): for `client_connection_failed`, `client_connection_lost`, or a timer set there. While
    /// the reactor shuts down this does nothing.
    ///
    /// # Errors
    /// [`ConnectInProgress`] unless the connector is disconnected.
    pub fn connect(&self) -> Result<(), ConnectInProgress> {
        let inner = &self.0;
        if inner.state.get() != ConnectorState::Disconnected {
            return Err(ConnectInProgress(inner.state.get()));
        }
        let Some(core) = inner.core.upgrade().filter(|core| !core.ending.get()) else { return Ok(()) };
        drop(inner.elsewhere.take());
        let (this, attempt) = (self.clone(), self.new_attempt(&core));
        core.call_soon(Box::new(move |reactor| this.begin(reactor, attempt)));
        Ok(())
    }

    /// Ends whatever goes on: an attempt fails with [`UserError`], a connection is lost cleanly.
    pub fn disconnect(&self) {
        match self.0.state.get() {
            ConnectorState::Connecting => drop(self.stop_connecting()),
            ConnectorState::Connected => {
                // in build_protocol there is nothing to lose yet, and a redirect that is under way is to end here
                self.0.unwanted.set(true);
                if let Some(transport) = self.transport() {
                    transport.lose_connection();
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

    /// Goes on at another place: loses the connection and connects there, where `protocol` takes over instead of one
    /// that the factory would build. For protocols whose peer sends its clients elsewhere. It holds this once: the next
    /// `connect` goes to the [`destination`](Self::destination) again.
    ///
    /// The factory is told nothing in between, and stays started; its `client_connection_lost` comes when the new
    /// connection ends, or could not be made: then `protocol` has its `connection_lost`, its only callback, with the
    /// transport of the old one. The timeout of [`ConnectOptions`] begins anew. The old protocol's `connection_lost`
    /// comes as ever.
    ///
    /// # Errors
    /// Gives `protocol` back when there is no connection, or it is being lost already.
    pub fn redirect<P: Protocol>(&self, host: &str, port: u16, protocol: P) -> Result<(), P> {
        let Some(before) = self.transport().filter(Transport::is_connected) else { return Err(protocol) };
        log::debug!("{self:?}: redirected to {host:?}, port {port}");
        before.lose_connection();
        *self.0.elsewhere.borrow_mut() = Some((host.to_owned(), port));
        self.0.successor.set(Some(Box::new(Successor { protocol: Box::new(protocol), before })));
        Ok(())
    }

    /// The host and port that were given.
    pub fn destination(&self) -> (&str, u16) {
        (&self.0.host, self.0.port)
    }

    /// Where the latest attempt went: the `destination`, unless that was redirected.
    pub fn target(&self) -> (String, u16) {
        let elsewhere = self.0.elsewhere.borrow().clone();
        elsewhere.unwrap_or_else(|| (self.0.host.clone(), self.0.port))
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
        let (host, port) = self.target();
        write!(f, "Connector({host}:{port}, {:?})", self.0.state.get())
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
