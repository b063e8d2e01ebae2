//! `ReconnectingClientFactory`: a client that comes back, and does not come back in a crowd.

use std::cell::RefCell;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use twistor_reactor::{Address, ClientFactory, Connector, ConnectorState, Factory, Failure};

use crate::backoff::{ReconnectOptions, State};
use crate::reconnecting::Reconnecting;

/// Connects again whenever an attempt fails or a connection ends:
/// `twisted.internet.protocol.ReconnectingClientFactory`. It wraps a factory, whose hooks are called as ever, and
/// serves one connector.
///
/// For a WebSocket it goes inside the [`WebSocketClientFactory`](crate::WebSocketClientFactory), or around it, and
/// behaves the same: it counts as connected once the WebSocket is open, and obeys the close codes 1012 and 1013 and a
/// refusal's `Retry-After`. Around a factory of plain protocols, in a [`WrappingFactory`](crate::WrappingFactory) or
/// not, it does the rest.
///
/// ```no_run
/// use twistor_reactor::{Reactor, for_protocol};
/// use twistor_websocket::{Frame, WebSocket, WebSocketProtocol};
/// use twistor_websocket::{ReconnectingClientFactory, WebSocketClientFactory, connect_ws};
///
/// struct Ticker;
/// impl WebSocketProtocol for Ticker {
///     fn frame_received(&mut self, _: &WebSocket, frame: Frame<'_>) {
///         println!("{}", frame.decode());
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reactor = Reactor::new()?;
/// let factory = ReconnectingClientFactory::new(for_protocol(|| Ticker))
///     .on_retry(|retry| println!("attempt {} in {:?}", retry.retries, retry.delay));
/// let reconnection = factory.handle(); // to stop it, from anywhere
/// connect_ws(&reactor, WebSocketClientFactory::new("ws://localhost:8000", factory)?);
/// reactor.run()?;
/// # let _ = reconnection;
/// # Ok(()) }
/// ```
pub struct ReconnectingClientFactory<F> {
    factory: F,
    state: Rc<State>,
    /// Weak, for the handle knows the connector, which owns this factory.
    control: RefCell<Weak<Control>>,
    on_retry: Option<OnRetry>,
}

type OnRetry = Box<dyn FnMut(&Retry)>;

/// What becomes of a connection that failed or ended, for [`ReconnectingClientFactory::on_retry`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Retry {
    /// The attempts since the first connection, or the last stable one, this one included.
    pub retries: u32,
    /// How long it waits for this attempt; `None` when it has given up.
    pub delay: Option<Duration>,
    /// Why.
    pub reason: Failure,
}

impl<F: ClientFactory> ReconnectingClientFactory<F> {
    /// With the default options.
    pub fn new(factory: F) -> Self {
        Self::with_options(factory, ReconnectOptions::default())
    }

    /// With options.
    pub fn with_options(factory: F, options: ReconnectOptions) -> Self {
        Self { factory, state: Rc::new(State::new(options)), control: RefCell::default(), on_retry: None }
    }

    /// Calls `f` for each attempt that is going to be made, and when none is any more.
    #[must_use]
    pub fn on_retry(mut self, f: impl FnMut(&Retry) + 'static) -> Self {
        self.on_retry = Some(Box::new(f));
        self
    }

    /// The handle by which it is stopped and resumed; to be taken before it connects.
    pub fn handle(&self) -> Reconnection {
        let mut control = self.control.borrow_mut();
        let new = || Rc::new(Control { state: self.state.clone(), connector: RefCell::default() });
        let handle = control.upgrade().unwrap_or_else(new);
        *control = Rc::downgrade(&handle);
        Reconnection(handle)
    }

    fn retry(&mut self, connector: &Connector, reason: &Failure) {
        let state = &self.state;
        let closed = state.closed.take();
        if let Some(since) = state.connected.take() {
            if connector.reactor().now().saturating_duration_since(since) >= state.options.stable_after {
                state.reset();
            }
        }
        if !state.trying.get() {
            state.given_up.set(false);
            return;
        }
        if state.given_up.take() {
            let _ = connector.connect(); // continued before this came: at once
            return;
        }
        let (host, port) = connector.destination();
        let retries = state.retries.get().saturating_add(1);
        let delay = if state.options.max_retries.is_some_and(|most| retries > most) {
            log::info!("{host}:{port}: abandoned after {} retries: {reason}", retries - 1);
            None
        } else {
            state.retries.set(retries);
            let delay = state.next_wait(closed.as_ref(), reason);
            log::info!("{host}:{port}: will retry in {:.1} seconds: {reason}", delay.as_secs_f64());
            self.connect_later(connector, delay);
            Some(delay)
        };
        if let Some(on_retry) = &mut self.on_retry {
            let reason = closed.unwrap_or_else(|| reason.clone());
            on_retry(&Retry { retries: self.state.retries.get(), delay, reason });
        }
    }

    fn connect_later(&self, connector: &Connector, delay: Duration) {
        let (state, target) = (self.state.clone(), connector.clone());
        let call = connector.reactor().call_later(delay, move || {
            if state.trying.get() {
                let _ = target.connect(); // connecting already: so be it
            }
        });
        self.state.waiting.set(Some(call));
    }
}

impl<F: ClientFactory> Factory for ReconnectingClientFactory<F> {
    type Protocol = Reconnecting<F::Protocol>;

    fn build_protocol(&mut self, peer: &Address) -> Option<Self::Protocol> {
        let inner = self.factory.build_protocol(peer)?;
        Some(Reconnecting::new(inner, self.state.clone()))
    }

    fn start_factory(&mut self) {
        self.factory.start_factory();
    }

    fn stop_factory(&mut self) {
        self.factory.stop_factory();
    }

    fn identity(&self) -> Option<*const ()> {
        self.factory.identity()
    }
}

/// The next attempt is arranged for before the wrapped factory's hook is called, which may thus stop it.
impl<F: ClientFactory> ClientFactory for ReconnectingClientFactory<F> {
    fn started_connecting(&mut self, connector: &Connector) {
        self.state.stop_waiting(); // somebody did not wait, and calls `connect` perhaps each time
        if let Some(control) = self.control.borrow().upgrade() {
            control.connector.replace(Some(connector.clone()));
        }
        self.factory.started_connecting(connector);
    }

    fn client_connection_failed(&mut self, connector: &Connector, reason: &Failure) {
        self.retry(connector, reason);
        self.factory.client_connection_failed(connector, reason);
    }

    fn client_connection_lost(&mut self, connector: &Connector, reason: &Failure) {
        self.retry(connector, reason);
        self.factory.client_connection_lost(connector, reason);
    }
}

impl<F> fmt::Debug for ReconnectingClientFactory<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReconnectingClientFactory({} retries)", self.state.retries.get())
    }
}

/// Stops and resumes a [`ReconnectingClientFactory`]. Cheap to clone. No method runs user code before it returns.
///
/// It knows the connector, and with it the factory: a factory or protocol that keeps one should drop it in the end.
///
/// ```
/// fn switch(reconnection: &twistor_websocket::Reconnection) { // a button, "try to stay online"
///     if reconnection.is_trying() { reconnection.stop_trying() } else { reconnection.continue_trying() }
/// }
/// ```
#[derive(Clone)]
pub struct Reconnection(Rc<Control>);

struct Control {
    state: Rc<State>,
    connector: RefCell<Option<Connector>>,
}

impl Reconnection {
    /// `stopTrying()`: no further attempt; one that is made is given up. A connection stays, in its handshake, too, but is
    /// not redirected, and not made again after its end.
    pub fn stop_trying(&self) {
        self.0.state.trying.set(false);
        self.0.state.stop_waiting();
        let Some(connector) = self.connector() else { return };
        if connector.stop_connecting().is_ok() {
            self.0.state.given_up.set(true);
        } else if connector.transport().is_some_and(|transport| transport.disconnecting()) {
            connector.disconnect(); // it may be on its way to where it was redirected
        }
    }

    /// Tries again after `stop_trying`, or after it gave up: at once if there is no connection, and with the delays of
    /// the beginning.
    pub fn continue_trying(&self) {
        self.0.state.trying.set(true);
        self.0.state.reset();
        if let Some(connector) = self.connector().filter(|_| self.next_attempt().is_none()) {
            let _ = connector.connect(); // connected or connecting: nothing to do
        }
    }

    /// `resetDelay()`: the next wait is as the first, and the attempts are counted anew. For programs that know before
    /// [`ReconnectOptions::stable_after`] that a connection is good.
    pub fn reset_delay(&self) {
        self.0.state.reset();
    }

    /// `continueTrying`: whether it is not stopped.
    pub fn is_trying(&self) -> bool {
        self.0.state.trying.get()
    }

    /// `retries`: attempts since the first connection, or the last stable one.
    pub fn retries(&self) -> u32 {
        self.0.state.retries.get()
    }

    /// When the next attempt is due, if it waits for one.
    pub fn next_attempt(&self) -> Option<Instant> {
        self.0.state.waiting().map(|call| call.time())
    }

    /// The connector, from the first attempt on.
    pub fn connector(&self) -> Option<Connector> {
        self.0.connector.borrow().clone()
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.connector().is_some_and(|connector| connector.state() == ConnectorState::Connected)
    }
}

impl fmt::Debug for Reconnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reconnection(trying: {}, {} retries)", self.is_trying(), self.retries())
    }
}

#[cfg(test)]
#[path = "reconnect_tests.rs"]
mod tests;
