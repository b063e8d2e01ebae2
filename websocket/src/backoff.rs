//! When a `ReconnectingClientFactory` tries again.

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use twistor_reactor::{DelayedCall, Failure};

use crate::closed::{Initiator, WebSocketClosed, close_code};
use crate::handshake::HandshakeError;

/// How long a [`ReconnectingClientFactory`](crate::ReconnectingClientFactory) waits before it tries again.
///
/// A wait is drawn evenly from `min_delay` to a bound, which begins at `initial_delay` and grows with each attempt: ten
/// thousand clients of a server that went down come back spread over the whole of it ("full jitter").
///
/// ```
/// let options = twistor_websocket::ReconnectOptions { max_retries: Some(20), ..Default::default() }; // then: enough
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

/// What the factory, its handle and its protocol share.
pub(crate) struct State {
    pub(crate) options: ReconnectOptions,
    pub(crate) trying: Cell<bool>,
    /// An attempt was given up, and its end is to come: no failure.
    pub(crate) given_up: Cell<bool>,
    pub(crate) retries: Cell<u32>,
    /// The bound of the next wait.
    bound: Cell<Duration>,
    /// The call that makes the next attempt, or made the latest.
    pub(crate) waiting: Cell<Option<DelayedCall>>,
    /// Since when there is a connection.
    pub(crate) connected: Cell<Option<Instant>>,
    /// How the protocol saw it end.
    pub(crate) closed: Cell<Option<Failure>>,
}

impl State {
    pub(crate) fn new(options: ReconnectOptions) -> Self {
        Self {
            trying: Cell::new(true),
            given_up: Cell::new(false),
            retries: Cell::new(0),
            bound: Cell::new(options.initial_delay),
            waiting: Cell::new(None),
            connected: Cell::new(None),
            closed: Cell::new(None),
            options,
        }
    }

    pub(crate) fn reset(&self) {
        self.retries.set(0);
        self.bound.set(self.options.initial_delay);
    }

    pub(crate) fn waiting(&self) -> Option<DelayedCall> {
        let call = self.waiting.take();
        self.waiting.set(call.clone());
        call.filter(DelayedCall::active)
    }

    pub(crate) fn stop_waiting(&self) {
        if let Some(call) = self.waiting.take() {
            let _ = call.cancel(); // called already: its attempt is the connector's
        }
    }

    /// Draws a wait, and moves the bound on.
    pub(crate) fn next_wait(&self, closed: Option<&Failure>, reason: &Failure) -> Duration {
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
