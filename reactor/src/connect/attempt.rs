//! An attempt to connect: from the name over its addresses, one after another, to the connection; and on to another
//! place, if it is redirected.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;

use mio::Token;
use mio::net::TcpStream;
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};

use super::{Connector, ConnectorState};
use crate::address::Address;
use crate::conn::{Conn, Owner, Readiness};
use crate::core::{Core, Driver, Source};
use crate::dispatch::{ProtocolSlot, guarded};
use crate::error::{ConnectBindError, ConnectionDone, DNSLookupError, TimeoutError};
use crate::failure::Failure;
use crate::listen::both;
use crate::protocol::AnyProtocol;
use crate::reactor::Reactor;
use crate::stream::Stream;
use crate::timers::DelayedCall;
use crate::transport::Transport;

impl Connector {
    /// Begins an attempt; what belongs to an earlier one is stale from here on.
    pub(super) fn new_attempt(&self, core: &Core) -> u64 {
        let inner = &self.0;
        inner.state.set(ConnectorState::Connecting);
        inner.attempt.set(inner.attempt.get() + 1);
        inner.addresses.borrow_mut().clear();
        inner.last_error.set(None);
        inner.abandoned.set(false);
        core.connecting.borrow_mut().insert(Rc::as_ptr(&self.0).cast(), self.clone());
        inner.attempt.get()
    }

    pub(super) fn is_trying(&self, attempt: u64) -> bool {
        self.0.state.get() == ConnectorState::Connecting && self.0.attempt.get() == attempt
    }

    pub(super) fn begin(&self, reactor: &Reactor, attempt: u64) {
        let core = &reactor.core;
        if !self.is_trying(attempt) {
            return;
        }
        self.0.factory.start(core);
        self.0.factory.started_connecting(self);
        if !self.is_trying(attempt) || self.0.abandoned.get() {
            return; // stop_connecting in started_connecting: its failure is in the queue
        }
        self.dial(reactor, attempt);
    }

    fn dial(&self, reactor: &Reactor, attempt: u64) {
        let core = &reactor.core;
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
        let (host, port) = self.target();
        if let Ok(ip) = host.parse::<IpAddr>() {
            self.0.addresses.borrow_mut().push_back((ip, port).into());
            return self.try_next(core);
        }
        let this = self.clone();
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
        let unknown = || Failure::new(DNSLookupError::with_detail(self.target().0));
        match found {
            Ok(Ok(addresses)) if !addresses.is_empty() => {
                self.0.addresses.borrow_mut().extend(addresses);
                self.try_next(core);
            }
            Ok(Err(error)) => {
                log::debug!("{self:?}: {error}");
                self.fail(core, &unknown());
            }
            Ok(Ok(_)) => self.fail(core, &unknown()),
            Err(failure) => self.fail(core, &failure),
        }
    }

    pub(super) fn abandon(&self, core: &Core) {
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
        let built = match self.0.successor.take() {
            Some(successor) => Ok(Some(successor.protocol)),
            None => guarded("build_protocol", || self.0.factory.build(&peer)),
        };
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
            Ok(None) => Failure::new(ConnectionDone::new()),
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
        log::debug!("{self:?}: connection failed: {reason}");
        self.abandon(core);
        if let Some(successor) = self.0.successor.take() {
            // the factory has built a protocol for this attempt, so that its end is a connection's
            successor.give_up(reason);
            return self.lost(core, reason);
        }
        self.0.state.set(ConnectorState::Disconnected);
        self.0.factory.failed(self, reason);
        self.stop_if_idle(core);
    }

    /// The connection is over, and its protocol knows.
    fn lost(&self, core: &Core, reason: &Failure) {
        self.0.state.set(ConnectorState::Disconnected);
        self.0.factory.lost(self, reason);
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
        let Some(core) = self.0.core.upgrade() else { return };
        if let Some(successor) = self.0.successor.take() {
            if !self.0.unwanted.get() && !core.ending.get() {
                self.0.successor.set(Some(successor));
                let attempt = self.new_attempt(&core);
                return self.dial(&Reactor::from_core(core), attempt);
            }
            successor.give_up(reason);
        }
        self.lost(&core, reason);
    }
}

/// Who takes over once a redirected connector is connected again.
pub(super) struct Successor {
    pub(super) protocol: Box<dyn AnyProtocol>,
    /// The connection that was redirected.
    pub(super) before: Transport,
}

impl Successor {
    /// There will be no connection for it: its last callback, with the handle of the one before.
    fn give_up(mut self, reason: &Failure) {
        let _ = guarded("connection_lost", || self.protocol.connection_lost(&self.before, reason));
        let _ = guarded("dropping a protocol", || drop(self));
    }
}

/// A socket on its way to one of a connector's addresses.
pub(crate) struct Attempt {
    connector: Connector,
    address: SocketAddr,
    token: Cell<Token>,
    stream: Cell<Option<TcpStream>>,
}

impl Attempt {
    pub(super) fn begin(core: &Rc<Core>, connector: &Connector, address: SocketAddr) -> Result<Rc<Self>, Failure> {
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
