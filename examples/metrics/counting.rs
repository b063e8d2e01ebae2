//! The counters, and their page.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use twistor::Address;
use twistor::websocket::http::Response;
use twistor::websocket::{HandshakeFailure, Observer, Traffic, WebSocket, WebSocketClosed};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Label = [(&'static str, String); 1];

/// What Prometheus is told.
pub(crate) struct Metrics {
    registry: Registry,
    opened: Counter,
    open: Gauge,
    closed: Family<Label, Counter>,
    failed: Family<Label, Counter>,
    received: Counter,
    bytes_received: Counter,
    sent: Counter,
    bytes_sent: Counter,
    dropped: Counter,
    queued: Gauge,
    round_trips: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("websocket"),
            opened: Counter::default(),
            open: Gauge::default(),
            closed: Family::default(),
            failed: Family::default(),
            received: Counter::default(),
            bytes_received: Counter::default(),
            sent: Counter::default(),
            bytes_sent: Counter::default(),
            dropped: Counter::default(),
            queued: Gauge::default(),
            round_trips: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
        };
        let registry = &mut metrics.registry;
        registry.register("connections_opened", "WebSockets that opened", metrics.opened.clone());
        registry.register("connections_open", "WebSockets open now", metrics.open.clone());
        registry.register("connections_closed", "WebSockets that closed, by code", metrics.closed.clone());
        registry.register("handshakes_failed", "Opening handshakes that failed, by reason", metrics.failed.clone());
        registry.register("messages_received", "Messages received", metrics.received.clone());
        registry.register("received_bytes", "Payloads received", metrics.bytes_received.clone());
        registry.register("messages_sent", "Messages sent", metrics.sent.clone());
        registry.register("sent_bytes", "Payloads sent", metrics.bytes_sent.clone());
        registry.register("messages_dropped", "Messages dropped for slow peers", metrics.dropped.clone());
        registry.register("queued_bytes", "Bytes that wait to be sent", metrics.queued.clone());
        registry.register("round_trip_seconds", "Answers to keepalive pings", metrics.round_trips.clone());
        metrics
    }

    /// The page; `queued` bytes wait to be sent.
    pub(crate) fn render(&self, queued: usize) -> Response {
        self.queued.set(i64::try_from(queued).unwrap_or(i64::MAX));
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            log::error!("metrics: {error}");
        }
        Response::bytes(OPENMETRICS, text).unwrap_or_else(|_| Response::not_found())
    }
}

impl Observer for Metrics {
    fn handshake_failed(&self, _peer: &Address, why: HandshakeFailure) {
        self.failed.get_or_create(&[("reason", why.as_str().to_owned())]).inc();
    }

    fn opened(&self, _socket: &WebSocket) {
        self.opened.inc();
        self.open.inc();
    }

    fn traffic(&self, traffic: &Traffic) {
        self.received.inc_by(traffic.messages_received);
        self.bytes_received.inc_by(traffic.bytes_received);
        self.sent.inc_by(traffic.messages_sent);
        self.bytes_sent.inc_by(traffic.bytes_sent);
        self.dropped.inc_by(traffic.messages_dropped);
    }

    fn round_trip(&self, _socket: &WebSocket, time: Duration) {
        self.round_trips.observe(time.as_secs_f64());
    }

    fn closed(&self, _socket: &WebSocket, end: &WebSocketClosed) {
        self.open.dec();
        // applications' and libraries' own codes are the peer's choice: not a series for each
        let code = end.status.code;
        let code = if code < 3000 { code.to_string() } else { "3000-4999".to_owned() };
        self.closed.get_or_create(&[("code", code)]).inc();
    }
}
