//! `Session`: an open WebSocket as the reactor sees it.

use std::any::{Any, TypeId};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use twistor_reactor::{BufferLimits, Failure, Protocol, Transport};

use crate::closed::{LimitExceeded, close_code};
use crate::connections::Membership;
use crate::handshake::Accepted;
use crate::message::Frame;
use crate::protocol::{Piece, WebSocketProtocol};
use crate::sansio::deflate::{Agreed, Contexts, Inflater};
use crate::sansio::{Delivery, Event, OpCode, Receiver, Role};
use crate::settings::Settings;
use crate::socket::{Awaited, WebSocket, WebSocketState};

/// Enough of a message to see that it is large ([`Receiver::room`]).
const FIRST_READ: usize = 20 * 1024;

/// The adapter between a user's [`WebSocketProtocol`] and its TCP connection, once the opening handshake is done; the
/// same for servers and clients.
pub(crate) struct Session<P> {
    inner: P,
    socket: WebSocket,
    receiver: Receiver,
    control: Control,
    response: Option<Box<Accepted>>,
    /// A server's connection has its place among the others until it is dropped.
    membership: Option<Membership>,
}

impl<P: WebSocketProtocol> Session<P> {
    pub(crate) fn new(
        inner: P,
        transport: &Transport,
        role: Role,
        options: &Rc<Settings>,
        protocol: Option<String>,
        agreed: Option<Agreed>,
    ) -> Self {
        let mut receiver = Receiver::new(role, options.limits());
        if let Some(agreed) = agreed {
            receiver.set_inflater(Inflater::new(&agreed, role, &Contexts::of_thread()));
        }
        if inner.wants_pieces() {
            receiver.set_delivery(Delivery::Frames);
        }
        let socket = WebSocket::new(transport.clone(), role, options.clone(), protocol, agreed);
        Self { inner, socket, receiver, control: Control::default(), response: None, membership: None }
    }

    /// A client's, which tells its protocol what the server answered.
    pub(crate) fn with_response(self, response: Accepted) -> Self {
        Self { response: Some(Box::new(response)), ..self }
    }

    /// A server's, which takes its place among the others.
    pub(crate) fn with_membership(self, membership: Membership) -> Self {
        Self { membership: Some(membership), ..self }
    }

    /// A message that somebody counts. After our own Close none is delivered any more.
    fn on_counted(inner: &mut P, socket: &WebSocket, frame: Frame<'_>) -> bool {
        if socket.is_open() {
            socket.count_received(1, frame.as_bytes().len());
            inner.frame_received(socket, frame);
        }
        true
    }

    /// Events other than messages that go straight to the protocol. False ends the reading.
    #[inline(never)]
    fn on_other(inner: &mut P, socket: &WebSocket, control: &mut Control, event: Event<'_>) -> bool {
        let piece = match event {
            // after a failure nobody is interested but in the peer's Close
            Event::Ping(_) | Event::Pong(_) if socket.state() == WebSocketState::Closed => return true,
            Event::Ping(payload) => {
                if !control.allow(socket) {
                    return false;
                }
                control.answer_ping(socket, payload);
                inner.ping_received(socket, payload);
                return true;
            }
            Event::Pong(payload) => {
                if !control.allow(socket) {
                    return false;
                }
                if !is_keepalive_pong(socket, payload) {
                    inner.pong_received(socket, payload);
                }
                return true;
            }
            Event::Close(frame) => {
                let (code, reason) = frame.map_or((close_code::NO_STATUS, ""), |frame| (frame.code, frame.reason));
                socket.close_received(code, reason);
                inner.close_received(socket, code, reason);
                return false;
            }
            Event::Text(text) => return Self::on_counted(inner, socket, Frame::Text(text)),
            Event::Binary(bytes) => return Self::on_counted(inner, socket, Frame::Binary(bytes)),
            Event::Begin { text } => Piece::Begin { is_binary: !text },
            Event::FrameBegin { length } => Piece::FrameBegin { length },
            Event::Data(data) => Piece::Data(data),
            Event::FrameEnd => Piece::FrameEnd,
            Event::End => Piece::End,
        };
        if socket.is_open() {
            match piece {
                Piece::Data(data) => socket.count_received(0, data.len()),
                Piece::End => socket.count_received(1, 0),
                _ => {}
            }
            inner.piece_received(socket, piece);
        }
        true
    }
}

impl<P: WebSocketProtocol> Protocol for Session<P> {
    fn connection_made(&mut self, transport: &Transport) {
        let options = &self.socket.socket().options;
        // messages are bounded before they get there (`WebSocket::wait`), control frames by their rate
        transport.set_buffer_limits(BufferLimits { cap: usize::MAX, ..options.buffer });
        transport.set_write_timeout(options.write_timeout);
        transport.set_close_timeout(options.close_handshake_timeout);
        if let Some(interval) = options.ping_interval {
            keep_alive(self.socket.clone(), interval / 2);
        }
        if let Some(membership) = &self.membership {
            membership.opened(&self.socket);
        }
        log::debug!("{}: WebSocket open", transport.peer());
        if let Some(observed) = options.observer() {
            observed.tell(|observer| observer.opened(&self.socket));
        }
        if let Some(response) = self.response.take() {
            self.inner.handshake_accepted(&self.socket, &response);
        }
        self.inner.connection_made(&self.socket);
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.data_received_mut(transport, &mut data.to_vec());
    }

    fn data_received_mut(&mut self, transport: &Transport, mut input: &mut [u8]) {
        let socket = &self.socket;
        socket.socket().heard.set(true);
        loop {
            match self.receiver.next(&mut input) {
                Ok(Some(Event::Text(text))) if socket.is_direct() => {
                    self.inner.frame_received(socket, Frame::Text(text));
                }
                Ok(Some(Event::Binary(bytes))) if socket.is_direct() => {
                    self.inner.frame_received(socket, Frame::Binary(bytes));
                }
                Ok(Some(other)) => {
                    if !Self::on_other(&mut self.inner, socket, &mut self.control, other) {
                        return;
                    }
                }
                Ok(None) => {
                    if self.receiver.room().is_some() {
                        transport.delegate_read();
                    }
                    return;
                }
                Err(error) => return socket.fail_frame(error),
            }
            if transport.paused() {
                // or aborted: then nothing more is delivered
                if transport.is_connected() && (!input.is_empty() || self.receiver.has_due()) {
                    transport.unread(input);
                }
                return;
            }
            if input.is_empty() && self.receiver.is_between_messages() {
                return;
            }
        }
    }

    fn read_from(&mut self, transport: &Transport, source: &mut dyn io::Read) {
        let Some(room) = self.receiver.room() else {
            // behind a large message often comes another: only so much of it is to be copied as tells
            let mut first = [0; FIRST_READ];
            if let Ok(count @ 1..) = source.read(&mut first) {
                self.data_received_mut(transport, &mut first[..count]);
            }
            return;
        };
        if let Ok(count @ 1..) = source.read(room) {
            self.receiver.filled(count);
            self.data_received_mut(transport, &mut []);
            if self.receiver.is_between_messages() {
                transport.delegate_read();
            }
        }
    }

    fn output_high(&mut self, _: &Transport) {
        if !self.socket.socket().drain_awaited.replace(true) {
            self.inner.output_high(&self.socket);
        }
    }

    fn output_drained(&mut self, transport: &Transport) {
        let ping = self.socket.socket().unanswered_ping.take();
        if let Some(payload) = ping {
            self.control.answer_ping(&self.socket, &payload);
        }
        self.socket.feed();
        // what is held for the end of a message in pieces does not drain by itself, and its sender waits to go on
        let backlog = self.socket.socket().backlog.borrow();
        let waiting = transport.buffered() + if backlog.is_ready() { backlog.bytes() } else { 0 };
        drop(backlog);
        if waiting > self.socket.options().buffer.low {
            transport.notify_drained();
        } else if self.socket.socket().drain_awaited.replace(false) {
            self.inner.output_drained(&self.socket);
        }
    }

    fn callback_panicked(&mut self, _: &Transport, reason: &Failure) {
        // what the panic says is for the log, not for the peer
        self.socket.fail_with(close_code::INTERNAL_ERROR, "internal error", reason.clone());
    }

    fn connection_lost(&mut self, _: &Transport, reason: &Failure) {
        let reason = self.socket.gone(reason);
        if let (Some(observed), Some(end)) = (self.socket.socket().options.observer(), reason.value()) {
            observed.tell(|observer| observer.closed(&self.socket, end));
        }
        self.inner.connection_lost(&self.socket, &reason);
    }

    fn inner(&mut self, wanted: TypeId) -> Option<&mut dyn Any> {
        if wanted == TypeId::of::<P>() { Some(&mut self.inner) } else { self.inner.inner(wanted) }
    }
}

/// What is done about control frames.
#[derive(Default)]
struct Control {
    /// A token bucket, for they cost work but carry nothing. No clock is read for anything else.
    spent: u32,
    since: Option<Instant>,
    /// Where in the output the latest pong ends.
    answered: u64,
}

impl Control {
    /// RFC 6455, 5.5.2. One pong waits for the peer at a time: one that pings and never reads costs no more. Of the pings
    /// that come meanwhile only the latest is answered (5.5.3 allows it), when the output has drained, unless another
    /// comes after the pong has gone.
    fn answer_ping(&mut self, socket: &WebSocket, payload: &[u8]) {
        let transport = socket.transport();
        let waits = transport.is_blocked() || transport.buffered() > socket.options().buffer.high;
        if waits && transport.bytes_sent() < self.answered {
            socket.socket().unanswered_ping.set(Some(payload.into()));
            transport.notify_drained();
        } else {
            drop(socket.socket().unanswered_ping.take()); // RFC 6455, 5.5.3: the latest answers those before
            socket.write_control(OpCode::Pong, payload);
            self.answered = transport.bytes_sent() + transport.buffered() as u64;
        }
    }

    fn allow(&mut self, socket: &WebSocket) -> bool {
        let rate = socket.options().control_frames_per_second;
        if rate == 0 {
            return true;
        }
        let burst = rate.saturating_mul(2);
        self.spent += 1;
        if self.spent <= burst && self.since.is_none() {
            if self.spent == 1 {
                self.since = Some(socket.reactor().now());
            }
            return true;
        }
        let now = socket.reactor().now();
        let since = *self.since.get_or_insert(now);
        let earned = now.saturating_duration_since(since).as_secs_f64() * f64::from(rate);
        if earned >= 1.0 {
            self.spent = self.spent.saturating_sub(earned as u32);
            self.since = Some(now);
        }
        let allowed = self.spent <= burst;
        if !allowed {
            socket.fail_limit(close_code::POLICY_VIOLATION, LimitExceeded::ControlFrames);
        }
        allowed
    }
}

/// Looks at the connection after `wait`: one timer, never touched when messages come.
fn keep_alive(socket: WebSocket, wait: Duration) {
    let transport = socket.transport();
    let sent = transport.bytes_sent();
    socket.socket().blocked.set(transport.is_blocked());
    let this = socket.clone();
    let timer = socket.reactor().call_later(wait, move || look(&this, sent));
    socket.socket().keepalive.set(Some(timer));
}

/// Twice an interval, so that silence is noticed at one and a half of it at most.
fn look(socket: &WebSocket, sent_before: u64) {
    let state = socket.socket();
    if socket.state() == WebSocketState::Gone {
        return;
    }
    let Some(interval) = state.options.ping_interval else { return };
    // queued output that shrinks, or is gone, was taken by a living peer
    let waited = state.blocked.get() || socket.transport().buffered() > 0;
    let progress = waited && socket.transport().bytes_sent() > sent_before;
    // while the application reads nothing, no answer could be heard
    let alive = state.heard.replace(false) || progress || socket.transport().paused();
    match state.awaited.replace(Awaited::Nothing) {
        Awaited::Life if !alive => {
            let left = ping_time_left(socket);
            // the loop may have been busy, or reading paused until just now: it reads once more before the next timers
            state.awaited.set(if left.is_zero() { Awaited::LastRead } else { Awaited::Life });
            return keep_alive(socket.clone(), left);
        }
        Awaited::LastRead if !alive => {
            log::debug!("{}: no sign of life", socket.peer());
            return socket.silent();
        }
        _ => {}
    }
    let (looks, silent) = state.looks.get();
    let (looks, silent) = (looks + 1, if alive { 0 } else { silent + 1 });
    let measured = state.options.ping_when_busy && !socket.transport().paused();
    if silent < 2 && !(measured && looks >= 2) {
        state.looks.set((looks.min(2), silent));
        return keep_alive(socket.clone(), interval / 2);
    }
    if !socket.is_open() {
        return; // the closing handshake has a deadline of its own
    }
    state.looks.set((0, 0));
    let token: u64 = rand::random();
    state.ping.set(Some(Box::new((token, socket.reactor().now()))));
    state.awaited.set(Awaited::Life);
    socket.write_control(OpCode::Ping, &token.to_be_bytes());
    // one that is alive has shown it, and needs no hurry
    keep_alive(socket.clone(), if alive { interval / 2 } else { state.options.ping_timeout });
}

/// What is left of [`Options::ping_timeout`](crate::Options::ping_timeout).
fn ping_time_left(socket: &WebSocket) -> Duration {
    let state = socket.socket();
    let ping = state.ping.take();
    let waited = ping.as_ref().map(|ping| socket.reactor().now().saturating_duration_since(ping.1));
    state.ping.set(ping);
    state.options.ping_timeout.saturating_sub(waited.unwrap_or(Duration::MAX))
}

/// Whether a pong answers a keepalive ping, which is not the application's.
fn is_keepalive_pong(socket: &WebSocket, payload: &[u8]) -> bool {
    let state = socket.socket();
    match state.ping.take() {
        Some(ping) if payload == ping.0.to_be_bytes() => {
            let took = socket.reactor().now().saturating_duration_since(ping.1);
            state.round_trip.set(u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1));
            if let Some(observed) = state.options.observer() {
                observed.tell(|observer| observer.round_trip(socket, took));
            }
            true
        }
        other => {
            state.ping.set(other);
            false
        }
    }
}
