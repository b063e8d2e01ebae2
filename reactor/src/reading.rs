//! Reading from a connection, and the end of what can be read.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use crate::conn::{Conn, Phase};
use crate::core::{Core, READ_BUFFER, Source};
use crate::protocol::Protocol;
use crate::transport::Transport;

/// A connection's stream, as a protocol that reads for itself is lent it.
struct Lent<'a> {
    conn: &'a Conn,
    /// How the last read went, and whether it filled its buffer.
    outcome: Cell<Option<(io::Result<usize>, bool)>>,
}

impl Read for Lent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match &mut *self.conn.stream.borrow_mut() {
            Some(stream) if !buffer.is_empty() => stream.read(buffer),
            _ => return Ok(0),
        };
        let told = match &result {
            Ok(count) => Ok(*count),
            Err(error) => Err(error.kind().into()),
        };
        self.outcome.set(Some((result, matches!(told, Ok(count) if count == buffer.len()))));
        told
    }
}

impl Transport {
    /// Reads, dispatches, and sends the replies at once, in one call: not on the next turn, as Twisted does. If other
    /// connections have written to this one in this turn it is flushed at the turn's end with the rest.
    pub(crate) fn read_and_reply(&self, core: &Rc<Core>) {
        let conn = self.conn();
        if conn.listed.replace(true) {
            return self.read(core);
        }
        conn.out.borrow_mut().swap_empty(&mut core.spare_outbox.borrow_mut());
        self.read(core);
        conn.listed.set(false);
        let mut out = conn.out.borrow_mut();
        let failed = self.send_all(&mut out);
        let mut spare = core.spare_outbox.borrow_mut();
        out.give_back(&mut spare);
        if spare.capacity() > READ_BUFFER {
            *spare = Vec::new();
        }
        drop((out, spare));
        if let Some(error) = failed {
            self.send_failed(error);
        }
    }

    #[inline(always)] // a call less for each message
    fn read(&self, core: &Rc<Core>) {
        let conn = self.conn();
        self.switch_if_asked(core);
        if conn.phase.get() != Phase::Open || conn.paused.get() {
            return self.look_for_end(core);
        }
        if conn.detour.get() && self.detour(core) {
            return;
        }
        let mut buffer = core.read_buffer.borrow_mut();
        if buffer.is_empty() {
            *buffer = vec![0; READ_BUFFER];
        }
        while conn.readable.get() && conn.wants_input() {
            let result = match &mut *conn.stream.borrow_mut() {
                Some(stream) => stream.read(&mut buffer),
                None => break,
            };
            match result {
                Ok(count @ 1..) => {
                    self.deliver(core, &mut buffer[..count]);
                    if self.is_drained(core, count == buffer.len()) {
                        break;
                    }
                }
                Ok(_) => self.read_end(core),
                Err(error) => self.read_failed(error),
            }
        }
    }

    /// After a read that filled its buffer, or not: whether nothing more is to be read in this turn.
    #[inline(always)]
    fn is_drained(&self, core: &Rc<Core>, full: bool) -> bool {
        let conn = self.conn();
        if full {
            // there may be more: other connections first
            if !conn.waiting.replace(true) {
                core.push_ready(Source::Connection(self.clone()));
            }
            return true;
        }
        // a short read has drained the socket, except when the end is behind it: that makes no new event
        let drained = !conn.end_in_sight.get();
        if drained {
            conn.readable.set(false);
        }
        drained
    }

    #[cold]
    fn read_end(&self, core: &Rc<Core>) {
        if let Some(reason) = self.conn().broken() {
            return self.conn().end(self, reason, false);
        }
        self.conn().readable.set(false);
        self.conn().read_ended.set(true);
        self.callback(core, Protocol::read_connection_lost);
    }

    #[cold]
    fn read_failed(&self, error: io::Error) {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                self.conn().readable.set(false);
                if let Some(reason) = self.conn().broken() {
                    self.conn().end(self, reason, false);
                }
            }
            io::ErrorKind::Interrupted => {}
            _ => self.lost(error),
        }
    }

    /// What comes before a plain read. True when nothing more is to be read in this turn.
    #[inline(never)]
    fn detour(&self, core: &Rc<Core>) -> bool {
        let conn = self.conn();
        if conn.has_unread.replace(false) {
            self.deliver(core, &mut conn.unread.take().unwrap_or_default());
        }
        let mut taken = 0;
        while conn.delegated.get() && conn.readable.get() && conn.wants_input() {
            conn.delegated.set(false);
            let mut lent = Lent { conn, outcome: Cell::new(None) };
            self.callback(core, |protocol, transport| protocol.read_from(transport, &mut lent));
            match lent.outcome.take() {
                Some((Ok(count @ 1..), filled)) => {
                    taken += count;
                    let goes_on = filled && conn.delegated.get() && taken < READ_BUFFER;
                    if !goes_on && self.is_drained(core, filled) {
                        return true;
                    }
                }
                Some((Ok(_), _)) => self.read_end(core),
                Some((Err(error), _)) => self.read_failed(error),
                None => break, // it did not want to
            }
        }
        conn.detour.set(conn.has_unread.get() || conn.delegated.get());
        false
    }

    #[inline]
    fn deliver(&self, core: &Rc<Core>, data: &mut [u8]) {
        self.callback(core, |protocol, transport| protocol.data_received_mut(transport, data));
    }

    /// A connection that does not read still notices that its peer is gone, once nothing unread is before the end.
    fn look_for_end(&self, core: &Rc<Core>) {
        let conn = self.conn();
        if !conn.end_in_sight.get() || conn.is_over() || conn.read_ended.get() {
            return;
        }
        if conn.paused.get() {
            // as where it had paused before: nothing would drain, so that perhaps nobody would resume it
            if let Some(reason) = conn.broken() {
                return conn.end(self, reason, false);
            }
        }
        if conn.has_unread.get() && conn.phase.get() == Phase::Open {
            return;
        }
        let end = conn.stream.borrow_mut().as_mut().and_then(|stream| stream.end());
        match end {
            None => {}
            Some(Err(error)) => self.lost(error),
            Some(Ok(())) => {
                if let Some(reason) = conn.broken() {
                    return conn.end(self, reason, false);
                }
                conn.read_ended.set(true);
                // a closing connection expects no more than that
                if conn.phase.get() == Phase::Open {
                    self.callback(core, Protocol::read_connection_lost);
                }
            }
        }
    }

    /// Nobody reads any more, so that nobody would hear of a reset.
    pub(crate) fn look_for_error(&self) {
        let error = self.conn().stream.borrow_mut().as_mut().and_then(|stream| stream.take_error());
        if let Some(error) = error {
            self.lost(error);
        }
    }
}
