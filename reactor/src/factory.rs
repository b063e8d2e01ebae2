//! `Factory` and `ClientFactory`: what makes a protocol for each connection.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use crate::address::Address;
use crate::connect::Connector;
use crate::failure::Failure;

/// Makes protocols: `twisted.internet.protocol.Factory`.
///
/// There is one `Factory` trait for every layer; what a protocol must be stands where the factory is used
/// ([`Reactor::listen_tcp`](crate::Reactor::listen_tcp) wants a [`Protocol`](crate::Protocol), a WebSocket factory its
/// own trait). A closure `|address| Some(MyProtocol)` is a factory, and so is an `Rc<RefCell<F>>`, for one factory on
/// several ports.
///
/// State that connections share is plain std: an `Rc<RefCell<Vec<Transport>>>` in the factory, cloned into each
/// protocol. No handle method runs user code before it returns, so a borrow may be held over any of them.
///
/// ```
/// use twistor_reactor::{Address, Factory, Protocol, Transport};
///
/// struct Quote(&'static str);
/// impl Protocol for Quote {
///     fn connection_made(&mut self, transport: &Transport) {
///         transport.write(self.0);
///         transport.lose_connection();
///     }
///     fn data_received(&mut self, _: &Transport, _: &[u8]) {}
/// }
///
/// struct QuoteFactory { quote: &'static str }
/// impl Factory for QuoteFactory {
///     type Protocol = Quote;
///     fn build_protocol(&mut self, _peer: &Address) -> Option<Quote> {
///         Some(Quote(self.quote))
///     }
/// }
/// ```
#[allow(unused_variables)] // as in `Protocol`
pub trait Factory: 'static {
    /// What this factory builds.
    type Protocol: 'static;

    /// A protocol for a connection with `peer`; `None` refuses the connection, which is then closed.
    fn build_protocol(&mut self, peer: &Address) -> Option<Self::Protocol>;

    /// Called when the factory's first port or connector starts.
    fn start_factory(&mut self) {}

    /// Called when the factory's last port or connector is gone. Connections that it made may live on.
    fn stop_factory(&mut self) {}

    /// For wrappers: what tells that two factories given to the reactor are one and are counted together. The default
    /// says that each stands for itself.
    fn identity(&self) -> Option<*const ()> {
        None
    }
}

impl<P: 'static, F: FnMut(&Address) -> Option<P> + 'static> Factory for F {
    type Protocol = P;
    fn build_protocol(&mut self, peer: &Address) -> Option<P> {
        self(peer)
    }
}

impl<F: Factory> Factory for Rc<RefCell<F>> {
    type Protocol = F::Protocol;
    fn build_protocol(&mut self, peer: &Address) -> Option<F::Protocol> {
        self.borrow_mut().build_protocol(peer)
    }
    fn start_factory(&mut self) {
        self.borrow_mut().start_factory();
    }
    fn stop_factory(&mut self) {
        self.borrow_mut().stop_factory();
    }
    fn identity(&self) -> Option<*const ()> {
        Some(Self::as_ptr(self).cast())
    }
}

/// A factory for connections that we open: `twisted.internet.protocol.ClientFactory`.
#[allow(unused_variables)] // as in `Protocol`
pub trait ClientFactory: Factory {
    /// An attempt begins. `connector.stop_connecting()` gives it up.
    fn started_connecting(&mut self, connector: &Connector) {}

    /// The attempt failed. `connector.connect()` tries again.
    fn client_connection_failed(&mut self, connector: &Connector, reason: &Failure) {}

    /// An established connection ended, after its protocol's `connection_lost`. `connector.connect()` reconnects.
    fn client_connection_lost(&mut self, connector: &Connector, reason: &Failure) {}
}

impl<F: ClientFactory> ClientFactory for Rc<RefCell<F>> {
    fn started_connecting(&mut self, connector: &Connector) {
        self.borrow_mut().started_connecting(connector);
    }
    fn client_connection_failed(&mut self, connector: &Connector, reason: &Failure) {
        self.borrow_mut().client_connection_failed(connector, reason);
    }
    fn client_connection_lost(&mut self, connector: &Connector, reason: &Failure) {
        self.borrow_mut().client_connection_lost(connector, reason);
    }
}

/// A factory that builds with a closure and needs no hooks: `Factory.forProtocol`. It serves both `listen_tcp` and
/// `connect_tcp`.
///
/// ```no_run
/// # use twistor_reactor::{Protocol, Reactor, Transport, for_protocol};
/// # #[derive(Default)] struct Echo;
/// # impl Protocol for Echo { fn data_received(&mut self, t: &Transport, data: &[u8]) { t.write(data); } }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// reactor.listen_tcp(7, for_protocol(Echo::default))?;
/// # Ok(()) }
/// ```
pub fn for_protocol<P: 'static>(build: impl FnMut() -> P + 'static) -> impl ClientFactory<Protocol = P> {
    ForProtocol(build)
}

struct ForProtocol<F>(F);

impl<P: 'static, F: FnMut() -> P + 'static> Factory for ForProtocol<F> {
    type Protocol = P;
    fn build_protocol(&mut self, _: &Address) -> Option<P> {
        Some((self.0)())
    }
}

impl<P: 'static, F: FnMut() -> P + 'static> ClientFactory for ForProtocol<F> {}

/// How many ports and connectors use each factory: Twisted's `numPorts`, for factories that share an identity.
#[derive(Default)]
pub(crate) struct FactoryCounts {
    shared: RefCell<HashMap<*const (), usize>>,
}

/// One use of a factory by a port or a connector.
#[derive(Default)]
pub(crate) struct FactoryUse {
    started: Cell<bool>,
}

impl FactoryUse {
    /// `doStart`: true when this is the factory's first use.
    pub(crate) fn start(&self, identity: Option<*const ()>, counts: &FactoryCounts) -> bool {
        if self.started.replace(true) {
            return false;
        }
        let Some(identity) = identity else { return true };
        let mut shared = counts.shared.borrow_mut();
        let count = shared.entry(identity).or_insert(0);
        *count += 1;
        *count == 1
    }

    /// `doStop`: true when this was the factory's last use.
    pub(crate) fn stop(&self, identity: Option<*const ()>, counts: &FactoryCounts) -> bool {
        if !self.started.replace(false) {
            return false;
        }
        let Some(identity) = identity else { return true };
        let mut shared = counts.shared.borrow_mut();
        let Some(count) = shared.get_mut(&identity) else {
            return false;
        };
        *count -= 1;
        let last = *count == 0;
        if last {
            shared.remove(&identity);
        }
        last
    }
}
