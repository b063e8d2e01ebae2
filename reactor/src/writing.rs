//! Writing to a connection: to its queue, or past it where that is empty. Nothing here runs user code.

use std::io;

use bytes::Bytes;

use crate::conn::Delivery;
use crate::error::BufferOverflow;
use crate::failure::Failure;
use crate::outbox::Outbox;
use crate::transport::Transport;

/// With more than this queued, `write` hands it to the kernel at once instead of at the turn's end: one large send is
/// as good as another, and memory stays small.
pub(crate) const SEND_NOW: usize = 64 * 1024;

/// Records that may wait, where each stands for itself: short ones take more memory than their bytes, about 1 MiB here.
const MAX_RECORDS: usize = 16 * 1024;

impl Transport {
    /// Queues bytes to be sent, copied, in order; sent when the running callback returns or at the end of the turn.
    /// Dropped if the connection is gone or its sending half is shut.
    #[inline]
    pub fn write(&self, data: impl AsRef<[u8]>) {
        let data = data.as_ref();
        self.queue(data.len(), |out| out.push(data));
    }

    /// `write` for several pieces: `writeSequence`.
    #[inline]
    pub fn write_sequence(&self, pieces: &[&[u8]]) {
        let added = pieces.iter().map(|piece| piece.len()).sum();
        self.queue(added, |out| pieces.iter().for_each(|piece| out.push(piece)));
    }

    /// `write` for a short header, the first `used` bytes of `header`, and the payload that it frames: what a framing
    /// protocol writes for each message, in the fewest instructions.
    ///
    /// # Panics
    /// When `used` is more than 16.
    #[inline]
    pub fn write_framed(&self, header: &[u8; 16], used: usize, payload: &[u8]) {
        assert!(used <= header.len(), "a header of {used} bytes in an array of 16");
        self.queue(used + payload.len(), |out| out.push_framed(header, used, payload));
    }

    /// [`write_framed`](Self::write_framed) for a payload that is masked on its way: `change` is handed the queue's copy
    /// of it, unless that is dropped. It is to leave this transport alone.
    ///
    /// # Panics
    /// When `used` is more than 16, or `change` uses the transport.
    ///
    /// ```
    /// # use twistor_reactor::testing::StringTransport;
    /// let transport = StringTransport::new();
    /// transport.write_framed_with(&[0x83; 16], 1, b"abc", |copy| copy.iter_mut().for_each(|byte| *byte ^= 1));
    /// assert_eq!(transport.value(), b"\x83`cb");
    /// ```
    #[inline]
    pub fn write_framed_with(&self, header: &[u8; 16], used: usize, payload: &[u8], change: impl FnOnce(&mut [u8])) {
        assert!(used <= header.len(), "a header of {used} bytes in an array of 16");
        self.queue(used + payload.len(), |out| {
            out.push_framed(header, used, payload);
            change(out.last(payload.len()));
        });
    }

    /// [`write_framed`](Self::write_framed) for a large payload: when nothing is queued before it, it is sent from
    /// where it lies. What the socket does not take is queued: as a slice of what `share` gives, which is to be the
    /// same bytes, or as a copy if it gives nothing.
    ///
    /// # Panics
    /// When `used` is more than 16.
    #[inline(never)]
    pub fn write_framed_large(
        &self,
        header: &[u8; 16],
        used: usize,
        payload: &[u8],
        share: impl FnOnce() -> Option<Bytes>,
    ) {
        let conn = self.conn();
        let header = &header[..used];
        if self.keeps_records() {
            return self.write_sequence(&[header, payload]);
        }
        let sent = self.send_directly(header, payload);
        let header_left = &header[sent.min(used)..];
        let payload_sent = sent.saturating_sub(used);
        let left = used + payload.len() - sent;
        if left > 0 {
            self.queue(left, |out| {
                out.push(header_left);
                match share() {
                    Some(shared) => out.push_shared(shared.slice(payload_sent..)),
                    None => out.push(&payload[payload_sent..]),
                }
            });
        } else if conn.watched.get() {
            self.flushed(0, true);
        }
    }

    /// Sends at once what the socket takes, if nothing is queued before it; how much that was.
    fn send_directly(&self, header: &[u8], payload: &[u8]) -> usize {
        let conn = self.conn();
        if !conn.accepts_output() || !conn.writable.get() || !conn.out.borrow().is_empty() {
            return 0;
        }
        let sent = self.with_stream(|stream| match header {
            [] => stream.write(payload),
            _ => stream.write_vectored(&[io::IoSlice::new(header), io::IoSlice::new(payload)]),
        });
        // an error will be met again, and dealt with, when the queue is sent
        let Ok(sent) = sent else { return 0 };
        conn.bytes_sent.set(conn.bytes_sent.get() + sent as u64);
        if sent < header.len() + payload.len() {
            conn.writable.set(false);
        }
        sent
    }

    /// `write` for a buffer that may be shared: a large one is queued as it is, without a copy.
    pub fn write_bytes(&self, data: Bytes) {
        self.queue(data.len(), |out| out.push_shared(data));
    }

    /// `write_bytes` at the turn's end, for what goes to many: handed to the kernel at once where nothing is queued, so
    /// that the bytes are copied to no queue, and are in the cache for the next.
    pub fn write_now(&self, data: &Bytes) {
        if data.is_empty() {
            return;
        }
        let sent = self.send_directly(&[], data);
        if sent < data.len() {
            self.write_bytes(data.slice(sent..));
        } else if self.conn().watched.get() {
            self.flushed(0, true);
        }
    }

    #[inline]
    fn queue(&self, added: usize, push: impl FnOnce(&mut Outbox)) {
        let conn = self.conn();
        if added == 0 || !conn.accepts_output() {
            return;
        }
        let mut out = conn.out.borrow_mut();
        let queued = out.len() + added;
        if queued > added && queued > conn.limits.get().cap {
            drop(out);
            return self.overflow(queued - added, added);
        }
        push(&mut out);
        drop(out);
        self.written(queued);
    }

    #[cold]
    fn overflow(&self, queued: usize, added: usize) {
        let cap = self.conn().limits.get().cap;
        let text = format!("{queued} bytes are queued and {added} more would pass the limit of {cap}");
        self.abort_with(Failure::new(BufferOverflow::with_detail(text)));
    }

    #[inline]
    fn written(&self, queued: usize) {
        if !self.conn().listed.replace(true) {
            self.list();
        }
        if queued > self.conn().much.get() {
            self.written_much();
        }
    }

    #[inline(never)]
    fn list(&self) {
        if let Some(core) = self.conn().core() {
            core.push_dirty(self.clone());
        }
    }

    /// Whether each write stands for itself: it is handed on at once, or queued alone.
    pub(crate) fn keeps_records(&self) -> bool {
        self.conn().stream.borrow().as_ref().is_some_and(|stream| stream.keeps_records())
    }

    #[cold]
    fn written_much(&self) {
        self.flush();
        if self.keeps_records() {
            let records = self.conn().out.borrow_mut().close_tail();
            if records > MAX_RECORDS {
                let text = format!("{records} records are queued, and the limit is {MAX_RECORDS}");
                return self.abort_with(Failure::new(BufferOverflow::with_detail(text)));
            }
        }
        self.look_whether_high();
    }

    /// Has the protocol told when there is more in the queue than is liked, once.
    pub(crate) fn look_whether_high(&self) {
        if self.buffered() > self.conn().limits.get().high && !self.conn().output_high.replace(true) {
            self.conn().watched.set(true);
            self.enqueue(Delivery::OutputHigh);
        }
    }
}
