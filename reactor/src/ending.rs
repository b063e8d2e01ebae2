//! The end of a connection: flushed, half-closed or cut off, and told once.

use std::rc::Rc;

use crate::conn::{Phase, WriteHalf};
use crate::core::Core;
use crate::error::{ConnectionDone, ConnectionLost};
use crate::failure::Failure;
use crate::protocol::Protocol;
use crate::stream::Stream;
use crate::timers::DelayedCall;
use crate::transport::Transport;

impl Transport {
    pub(crate) fn close_if_flushed(&self, core: &Rc<Core>) {
        let conn = self.conn();
        if conn.phase.get() != Phase::Disconnecting {
            return;
        }
        self.flush();
        if conn.is_over() {
            return;
        }
        if let Some(reason) = self.gone() {
            return self.finish(core, &reason);
        }
        if !conn.out.borrow().is_empty() {
            return self.watch_close();
        }
        if conn.producer.holds_open() {
            if conn.end_in_sight.get() {
                self.look_for_error(); // behind what is not read any more
            }
            if conn.is_over() {
                return;
            }
            // it is asked for the rest, each piece with its own time, and the connection closes once it unregisters
            if let Some(timer) = conn.close_timer.take() {
                let _ = timer.cancel();
            }
            self.ask_producer();
            return self.heed(conn.producer.resume());
        }
        let done = match conn.write_half.get() {
            WriteHalf::Shut => ConnectionDone::with_detail("Connection done"),
            _ => ConnectionDone::new(),
        };
        self.finish(core, &Failure::new(done));
    }

    /// Why it is over, where that is known, but has not been told.
    fn gone(&self) -> Option<Failure> {
        let broken = self.conn().broken();
        broken.or_else(|| self.conn().stream.borrow_mut().as_mut().and_then(|stream| stream.reason()))
    }

    /// The peer has some time for what waits on a closing connection.
    pub(crate) fn watch_close(&self) {
        let conn = self.conn();
        let (Some(timeout), Some(core)) = (conn.close_timeout.get().limit(), conn.core()) else {
            return;
        };
        let this = self.clone();
        let give_up = move || {
            let text = format!("the peer did not take the rest of the output within {timeout:?}");
            this.conn().end(&this, Failure::new(ConnectionLost::with_detail(text)), true);
        };
        let armed = conn.close_timer.take();
        conn.close_timer.set(armed.or_else(|| Some(DelayedCall::schedule(&core, timeout, Box::new(give_up)))));
    }

    pub(crate) fn shut_write_if_flushed(&self, core: &Rc<Core>) {
        let conn = self.conn();
        let waiting = conn.phase.get() == Phase::Open && conn.write_half.get() == WriteHalf::Ending;
        if !waiting || !conn.out.borrow().is_empty() || conn.producer.is_registered() {
            return;
        }
        conn.write_half.set(WriteHalf::Shut);
        if let Some(stream) = &mut *conn.stream.borrow_mut() {
            // P126: the peer may be gone already; reading will tell
            if let Err(error) = stream.shutdown_write() {
                log::debug!("{}: shutdown: {error}", conn.peer);
            }
        }
        self.callback(core, Protocol::write_connection_lost);
    }

    /// The end: the socket is closed, then everybody hears of it, once.
    pub(crate) fn finish(&self, core: &Rc<Core>, reason: &Failure) {
        let conn = self.conn();
        if conn.phase.replace(Phase::Closed) == Phase::Closed {
            return;
        }
        drop(core.remove(conn.token.get()));
        let stream = conn.stream.take();
        if let Some(mut stream) = stream {
            if conn.abortive.get() {
                stream.set_abortive();
            } else if conn.readable.get() || conn.paused.get() {
                // Closing with unread input would make the kernel send RST, which can destroy what we sent last.
                discard_input(&mut *stream);
            }
            stream.closed();
        }
        conn.out.borrow_mut().clear();
        drop(conn.unread.take());
        for timer in [conn.close_timer.take(), conn.stall_timer.take()].into_iter().flatten() {
            let _ = timer.cancel();
        }
        log::debug!("{}: closed: {reason}", conn.peer);
        conn.producer.stop();
        self.last_callback(core, reason);
        if let Some(owner) = conn.owner.take() {
            owner.connection_over(reason);
        }
    }
}

/// Reads and drops what has come, within bounds.
fn discard_input(stream: &mut dyn Stream) {
    let _ = stream.shutdown_write();
    let mut scratch = [0; 16 * 1024];
    for _ in 0..16 {
        if !matches!(stream.read(&mut scratch), Ok(count) if count == scratch.len()) {
            return;
        }
    }
}
