//! Sending what is queued, as much as the socket takes; what follows when that has drained, or does not. Nothing here
//! runs user code.

use std::io;

use crate::conn::{Delivery, Phase, WriteHalf};
use crate::error::ConnectionLost;
use crate::failure::Failure;
use crate::outbox::{MAX_SLICES, Outbox};
use crate::timers::DelayedCall;
use crate::transport::Transport;

/// Bytes a second that a peer must take of waiting output, under a write timeout: below any modem, above a peer that
/// takes single bytes to hold its queue for ever.
const SLOWEST: u64 = 256;

impl Transport {
    /// Sends what the socket takes. `write` may call it, too.
    pub(crate) fn flush(&self) {
        let failed = self.send_all(&mut self.conn().out.borrow_mut());
        if let Some(error) = failed {
            self.send_failed(error);
        }
    }

    /// Sends what the socket takes; why the connection broke, if it did.
    #[inline(always)]
    pub(crate) fn send_all(&self, out: &mut Outbox) -> Option<io::Error> {
        let conn = self.conn();
        if out.is_empty() {
            return None;
        }
        let tried = conn.writable.get();
        while conn.writable.get() {
            match self.send_some(out) {
                Ok((sent, wanted)) => {
                    conn.bytes_sent.set(conn.bytes_sent.get() + sent as u64);
                    out.advance(sent);
                    if sent < wanted {
                        conn.writable.set(false);
                    } else if out.is_empty() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => conn.writable.set(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Some(error),
            }
        }
        if !out.is_empty() || conn.watched.get() {
            self.flushed(out.len(), tried);
        }
        None
    }

    #[inline(always)]
    fn send_some(&self, out: &Outbox) -> io::Result<(usize, usize)> {
        let mut stream = self.conn().stream.borrow_mut();
        let Some(stream) = &mut *stream else { return Err(io::ErrorKind::NotConnected.into()) };
        if let Some(data) = out.only_tail() {
            return Ok((stream.write(data)?, data.len()));
        }
        let mut slices = [io::IoSlice::new(&[]); MAX_SLICES];
        let count = out.fill(&mut slices);
        let wanted = slices[..count].iter().map(|slice| slice.len()).sum();
        Ok((stream.write_vectored(&slices[..count])?, wanted))
    }

    /// The output has drained to `left` bytes, and somebody may wait for that. `tried`: it was not merely blocked.
    #[inline(never)]
    pub(crate) fn flushed(&self, left: usize, tried: bool) {
        let conn = self.conn();
        if left > 0 {
            self.watch_stall(left);
            if conn.phase.get() == Phase::Disconnecting {
                self.watch_close(); // what a producer has written, too, whenever it has
            }
        }
        if (conn.output_high.get() || (tried && conn.drain_awaited.get())) && left <= conn.limits.get().low {
            self.drained();
        }
        if left > 0 {
            return;
        }
        let ending = conn.phase.get() != Phase::Open || conn.write_half.get() == WriteHalf::Ending;
        conn.watched.set(ending || conn.producer.is_pull());
        if conn.phase.get() == Phase::Disconnecting {
            self.enqueue(Delivery::Close);
        } else if conn.producer.is_pull() {
            self.ask_producer();
        } else if conn.write_half.get() == WriteHalf::Ending {
            self.enqueue(Delivery::ShutWrite);
        }
    }

    /// A pull producer is asked once each time the output is empty.
    pub(crate) fn ask_producer(&self) {
        if self.conn().producer.ask() {
            self.enqueue(Delivery::Pull);
        }
    }

    pub(crate) fn drained(&self) {
        let conn = self.conn();
        conn.output_high.set(false);
        conn.drain_awaited.set(false);
        if !conn.drain_due.replace(true) {
            self.enqueue(Delivery::OutputDrained);
        }
    }

    /// While output waits, the peer must take some of it in each period: all that waited, or [`SLOWEST`] bytes a
    /// second.
    pub(crate) fn watch_stall(&self, queued: usize) {
        let conn = self.conn();
        let Some(timeout) = conn.write_timeout.get().limit() else { return };
        let armed = conn.stall_timer.take();
        if armed.as_ref().is_some_and(DelayedCall::active) {
            return conn.stall_timer.set(armed);
        }
        let (this, taken) = (self.clone(), self.taken());
        let wanted = (queued as u64).min(SLOWEST * timeout.as_secs()).max(1);
        let check = move || {
            let conn = this.conn();
            if conn.out.borrow().is_empty() {
                return;
            }
            if this.taken() - taken < wanted {
                let text = format!("the peer took fewer than {wanted} bytes of the queued output in {timeout:?}");
                return conn.end(&this, Failure::new(ConnectionLost::with_detail(text)), true);
            }
            this.watch_stall(this.buffered());
        };
        if let Some(core) = conn.core() {
            conn.stall_timer.set(Some(DelayedCall::schedule(&core, timeout, Box::new(check))));
        }
    }

    /// Bytes that the peer itself has taken: the kernel's buffer may swallow much in one go, and then nothing for long.
    fn taken(&self) -> u64 {
        let in_flight = self.conn().stream.borrow().as_ref().map_or(0, |stream| stream.in_flight());
        self.bytes_sent().saturating_sub(in_flight as u64)
    }
}
