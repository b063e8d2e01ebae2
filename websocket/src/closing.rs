//! The closing handshake (RFC 6455, 7), and the other ways for a WebSocket to end.

use std::cell::RefMut;
use std::time::Duration;

use twistor_reactor::{Deferred, Failure, Resolver, Transport};

use crate::closed::{CloseStatus, Initiator, LimitExceeded, WebSocketClosed, close_code};
use crate::sansio::{ClosePayload, FrameError, Role};
use crate::socket::{WebSocket, WebSocketState};

/// After an error, how long a peer that still sends is listened to (and ignored) so that it can read why: closing at
/// once would make the kernel reset the connection, and the reset can overtake the Close.
const LINGER: Duration = Duration::from_secs(2);

/// What is known about the end so far.
#[derive(Default)]
pub(crate) struct End {
    pub(crate) status: Option<CloseStatus>,
    sent: Option<u16>,
    /// What we have ended it for.
    failed_with: Option<u16>,
    received: Option<(u16, String)>,
    initiator: Option<Initiator>,
    failure: Option<Failure>,
    /// The peer did not answer our Close in time.
    pub(crate) timed_out: bool,
    /// Who waits for it.
    waiting: Vec<Resolver<CloseStatus>>,
}

/// Ends a connection after what is queued, leaving the peer time to read it.
pub(crate) fn linger(transport: &Transport) -> twistor_reactor::DelayedCall {
    transport.unregister_producer();
    transport.resume_producing();
    transport.lose_write_connection();
    let closing = transport.clone();
    transport.reactor().call_later(LINGER, move || closing.lose_connection())
}

impl WebSocket {
    /// What is known about the end; nothing is kept of it before there is something to know.
    fn end(&self) -> RefMut<'_, End> {
        RefMut::map(self.socket().end.borrow_mut(), |end| &mut **end.get_or_insert_default())
    }

    /// Fires when it is over, with how it ended: Autobahn's future `is_closed`, as
    /// [`close_status`](Self::close_status). At once if it is over.
    ///
    /// # Panics
    /// As [`reactor`](Self::reactor).
    ///
    /// ```
    /// # use twistor_reactor::Failure;
    /// # use twistor_websocket::WebSocket;
    /// async fn goodbye(socket: WebSocket) -> Result<bool, Failure> {
    ///     socket.close();
    ///     Ok(socket.when_closed().await?.was_clean)
    /// }
    /// ```
    pub fn when_closed(&self) -> Deferred<CloseStatus> {
        let (resolver, closed) = self.reactor().deferred();
        match self.close_status() {
            Some(status) => resolver.resolve(status),
            None => self.end().waiting.push(resolver),
        }
        closed
    }

    /// Our Close comes first.
    pub(crate) fn begin_close(&self, code: Option<u16>) {
        self.set_state(WebSocketState::Closing);
        log::debug!("{}: closing with {}", self.peer(), code.unwrap_or(close_code::NO_STATUS));
        let mut end = self.end();
        end.sent = code;
        end.initiator = Some(Initiator::Local);
        drop(end);
        self.resume_producing(); // to read the peer's
        self.limit_close();
    }

    /// Whether it was cut off, because the peer did not leave in time.
    pub(crate) fn has_timed_out(&self) -> bool {
        self.socket().end.borrow().as_ref().is_some_and(|end| end.timed_out)
    }

    fn limit_close(&self) {
        let socket = self.socket();
        let Some(timeout) = socket.options.close_handshake_timeout else { return };
        let this = self.clone();
        self.set_deadline(self.reactor().call_later(timeout, move || this.cut_off()));
    }

    /// The peer has had its time for the closing handshake.
    pub(crate) fn cut_off(&self) {
        let failure = Failure::new(LimitExceeded::CloseTimeout);
        let mut end = self.end();
        end.failure = Some(failure.clone());
        end.timed_out = true;
        drop(end);
        self.abort_with(failure);
    }

    /// A shutdown's deadline: what has ended it before stays its end.
    pub(crate) fn cut_off_late(&self) {
        if self.state() != WebSocketState::Closed {
            return self.cut_off();
        }
        self.end().timed_out = true;
        self.abort();
    }

    fn set_deadline(&self, timer: twistor_reactor::DelayedCall) {
        if let Some(old) = self.socket().deadline.replace(Some(timer)) {
            let _ = old.cancel();
        }
    }

    /// The peer's Close has come. True when it was the first and is answered now.
    pub(crate) fn close_received(&self, code: u16, reason: &str) {
        self.catch_up();
        let socket = self.socket();
        let began = self.state();
        self.set_state(WebSocketState::Closed);
        self.end().received = Some((code, reason.to_owned()));
        if began == WebSocketState::Open {
            self.drop_backlog();
            let reply = if code == close_code::NO_STATUS { None } else { Some((code, reason)) };
            // RFC 6455, 5.5.1: typically the code that came; Python's websockets gives the reason back, too
            if let Ok(payload) = ClosePayload::new(reply) {
                self.write_close(payload.as_bytes());
            }
            let mut end = self.end();
            end.sent = Some(code);
            end.initiator = Some(Initiator::Peer);
        }
        // RFC 6455, 7.1.1: the server closes the TCP connection; a client waits for it to do so
        match socket.role {
            Role::Server => {
                socket.transport.unregister_producer();
                socket.transport.lose_connection();
            }
            Role::Client if began == WebSocketState::Open => self.limit_close(),
            Role::Client => {}
        }
    }

    /// The peer broke the protocol: it is told why, and the connection ends.
    #[cold]
    pub(crate) fn fail_frame(&self, error: FrameError) {
        self.fail_with(error.close_code(), &error.to_string(), Failure::new(error));
    }

    /// The peer passed a limit of ours.
    #[cold]
    pub(crate) fn fail_limit(&self, code: u16, limit: LimitExceeded) {
        self.fail_with(code, &limit.to_string(), Failure::new(limit));
    }

    #[cold]
    pub(crate) fn overflowed(&self) {
        self.fail_limit(close_code::TRY_AGAIN_LATER, LimitExceeded::Output);
    }

    /// The peer gives no sign of life: there is nobody to talk to.
    pub(crate) fn silent(&self) {
        if self.end().failure.is_some() {
            return self.abort(); // what has ended it before stays its end
        }
        let failure = Failure::new(LimitExceeded::PingTimeout);
        self.end().failure = Some(failure.clone());
        self.abort_with(failure);
    }

    /// Ends the connection for `failure`, with a Close that says so.
    pub(crate) fn fail_with(&self, code: u16, reason: &str, failure: Failure) {
        self.catch_up();
        let socket = self.socket();
        let began = socket.state.get();
        if matches!(began, WebSocketState::Gone | WebSocketState::Closed) {
            return;
        }
        log::debug!("{}: failed with {code}: {failure}", self.peer());
        self.set_state(WebSocketState::Closed);
        // our Close, if it waits, goes with it, and was not sent
        let unsent = began == WebSocketState::Open || socket.backlog.borrow().has_close();
        self.drop_backlog();
        if unsent {
            if let Ok(payload) = ClosePayload::new(Some((code, reason))) {
                self.write_close(payload.as_bytes());
            }
        }
        let mut end = self.end();
        if unsent {
            end.sent = Some(code);
        }
        end.failed_with = Some(code);
        end.initiator = Some(Initiator::Local);
        end.failure = Some(failure);
        drop(end);
        self.set_deadline(linger(&socket.transport));
    }

    /// The connection is gone: settles how it ended.
    pub(crate) fn gone(&self, reason: &Failure) -> Failure {
        let socket = self.socket();
        drop(socket.pending.take()); // there is nobody to catch up
        self.set_state(WebSocketState::Gone);
        self.drop_backlog();
        for timer in [socket.deadline.take(), socket.keepalive.take()].into_iter().flatten() {
            let _ = timer.cancel();
        }
        let mut end = self.end();
        let failure = end.failure.take();
        let initiator = end.initiator.unwrap_or(Initiator::Network);
        let sent = end.sent;
        let status = match (end.received.take(), &failure) {
            (Some((code, reason)), None) => CloseStatus { was_clean: true, code, reason, initiator, sent },
            (_, Some(failure)) => {
                let code = end.failed_with.unwrap_or(close_code::ABNORMAL);
                CloseStatus { was_clean: false, code, reason: failure.to_string(), initiator, sent }
            }
            (None, None) => {
                CloseStatus { was_clean: false, code: close_code::ABNORMAL, reason: unclean(reason), initiator, sent }
            }
        };
        end.status = Some(status.clone());
        let waiting = std::mem::take(&mut end.waiting);
        drop(end);
        waiting.into_iter().for_each(|resolver| resolver.resolve(status.clone()));
        log::debug!("{}: {status}", self.peer());
        Failure::new(WebSocketClosed { status, cause: failure.unwrap_or_else(|| reason.clone()) })
    }
}

/// Autobahn's words for a connection that broke.
fn unclean(reason: &Failure) -> String {
    let cause = if reason.check::<twistor_reactor::ConnectionDone>() {
        "peer dropped the TCP connection without previous WebSocket closing handshake".to_owned()
    } else {
        reason.to_string()
    };
    format!("connection was closed uncleanly (\"{cause}\")")
}
