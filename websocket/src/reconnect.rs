//! `ReconnectingClientFactory`: a client that comes back, and does not come back in a crowd.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::RangeInclusive;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use twistor_reactor::{Address, ClientFactory, Connector, ConnectorState, DelayedCall, Factory, Failure};

use crate::closed::{Initiator, WebSocketClosed, close_code};
use crate::handshake::HandshakeError;
use crate::reconnecting::Reconnecting;

/// How long a [`ReconnectingClientFactory`] waits before it tries again.
///
/// A wait is drawn evenly from `min_delay` to a bound, which begins at `initial_delay` and grows with each attempt: ten
/// thousand clients of a server that went down come back spread over the whole of it ("full jitter").
///
/// ```
/// let options = twistor_websocket::ReconnectOptions { max_retries: Some(20), ..Default::default() }; // then it gives up
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ReconnectOptions {
    /// The bound of the first wait: default 1 s, as Twisted's `initialDelay`.
    pub initial_delay: Duration,
    /// No wait is shorter, unless its bound is: default 0.5 s, so that no client is ever in a busy loop.
    pub min_delay: Duration,
    /// What the bound is multiplied by after each attempt: default 2. (Twisted: e; Python's websockets: 1.618.)
    pub factor: f64,
    /// The highest bound: default 60 s, after which a server that is back has all its clients again. (Twisted waits up
    /// to an hour, Python's websockets 90 s.)
    pub max_delay: Duration,
    /// The share of the wait above `min_delay` that is random, 0 to 1: default 1. With 0 each wait is its bound.
    /// (Twisted: 12 %, which keeps a crowd together.)
    pub jitter: f64,
    /// How many attempts in a row, the first connection not counted, before it gives up: default `None`, never, as in
    /// Twisted.
    pub max_retries: Option<u32>,
    /// How long a connection must have lasted for the bound and the count to begin anew: default 60 s. A server that
    /// accepts and then closes is not hammered. Zero: any connection will do, as for a program that calls Twisted's
    /// `resetDelay` once connected.
    pub stable_after: Duration,
    /// The least wait after a close code 1012 (service restart) or 1013 (try again later), drawn from this: default 5
    /// to 30 s, as the registration of 1012 recommends.
    pub restart_delay: RangeInclusive<Duration>,
    /// How far a `Retry-After` of the server is obeyed: default an hour, beyond which it could as well say never. The
    /// usual wait comes on top, since it says the same to all.
    pub max_retry_after: Duration,
}

impl Default for ReconnectOptions {
    fn default() -> Self {
        Self {
            initial_delay: Duration::from_secs(1),
            min_delay: Duration::from_millis(500),
            factor: 2.0,
            max_delay: Duration::from_secs(60),
            jitter: 1.0,
            max_retries: None,
            stable_after: Duration::from_secs(60),
            restart_delay: Duration::from_secs(5)..=Duration::from_secs(30),
            max_retry_after: Duration::from_secs(3600),
        }
    }
}

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
    /// `stopTrying()`: no further attempt; one that is made is given up. A connection stays, and is not made again
    /// after its end.
    pub fn stop_trying(&self) {
        self.0.state.trying.set(false);
        self.0.state.stop_waiting();
        if let Some(connector) = self.connector() {
            let _ = connector.stop_connecting(); // as in Twisted, it need not be connecting
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

/// What the factory, its handle and its protocol share.
pub(crate) struct State {
    options: ReconnectOptions,
    trying: Cell<bool>,
    retries: Cell<u32>,
    /// The bound of the next wait.
    bound: Cell<Duration>,
    /// The call that makes the next attempt, or made the latest.
    waiting: Cell<Option<DelayedCall>>,
    /// Since when there is a connection.
    pub(crate) connected: Cell<Option<Instant>>,
    /// How the protocol saw it end.
    pub(crate) closed: Cell<Option<Failure>>,
}

impl State {
    fn new(options: ReconnectOptions) -> Self {
        Self {
            trying: Cell::new(true),
            retries: Cell::new(0),
            bound: Cell::new(options.initial_delay),
            waiting: Cell::new(None),
            connected: Cell::new(None),
            closed: Cell::new(None),
            options,
        }
    }

    fn reset(&self) {
        self.retries.set(0);
        self.bound.set(self.options.initial_delay);
    }

    fn waiting(&self) -> Option<DelayedCall> {
        let call = self.waiting.take();
        self.waiting.set(call.clone());
        call.filter(DelayedCall::active)
    }

    fn stop_waiting(&self) {
        if let Some(call) = self.waiting.take() {
            let _ = call.cancel(); // called already: its attempt is the connector's
        }
    }

    /// Draws a wait, and moves the bound on.
    fn next_wait(&self, closed: Option<&Failure>, reason: &Failure) -> Duration {
        let options = &self.options;
        let bound = self.bound.get().min(options.max_delay);
        self.bound.set(seconds(bound.as_secs_f64() * options.factor).min(options.max_delay));
        let wait = self.draw(&(options.min_delay.min(bound)..=bound));
        if let Some(asked) = retry_after(closed.unwrap_or(reason)) {
            return asked.min(options.max_retry_after).saturating_add(wait);
        }
        let restarts = closed.or(Some(reason)).is_some_and(is_restart);
        if restarts { wait.max(self.draw(&options.restart_delay)) } else { wait }
    }

    /// Evenly from the range, as far as `jitter` allows: its end, less a random share.
    fn draw(&self, range: &RangeInclusive<Duration>) -> Duration {
        let spread = range.end().saturating_sub(*range.start());
        let share = rand::random::<f64>() * self.options.jitter.clamp(0.0, 1.0);
        *range.end() - seconds(spread.as_secs_f64() * share).min(spread)
    }
}

/// A number that options have had a part in.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// What the server, or the proxy, asked for (RFC 9110, 10.2.3).
fn retry_after(reason: &Failure) -> Option<Duration> {
    let cause = reason.value::<WebSocketClosed>().map_or(reason, |closed| &closed.cause);
    cause.value::<HandshakeError>()?.rejection()?.retry_after
}

/// Whether the server, not we, ended the WebSocket with 1012 or 1013 (RFC 6455, 7.4.1 and its registry).
fn is_restart(reason: &Failure) -> bool {
    reason.value::<WebSocketClosed>().is_some_and(|closed| {
        let asked = matches!(closed.status.code, close_code::SERVICE_RESTART | close_code::TRY_AGAIN_LATER);
        asked && closed.status.initiator == Initiator::Peer
    })
}

#[cfg(test)]
#[path = "reconnect_tests.rs"]
mod tests;
