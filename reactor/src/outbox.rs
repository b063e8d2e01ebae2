//! Bytes waiting to be sent.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// How many pieces one `writev` takes. Beyond a few dozen the kernel's time dwarfs the call's.
pub(crate) const MAX_SLICES: usize = 32;

/// A shared piece at least this long is queued as it is; a shorter one is cheaper to copy than to track.
const SHARE_FROM: usize = 4 * 1024;

/// Sent bytes that may lie before those that wait; beyond it the rest is moved, once it is no longer than they are.
const COMPACT_FROM: usize = 64 * 1024;

/// The output queue of a connection: whole shared pieces first, then one growing buffer for what was copied.
/// Partial writes move an offset, and seldom bytes; when empty it owns no memory.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Boxed, and gone when the outbox is empty: most connections never need it.
    #[expect(clippy::box_collection, reason = "three words less in each connection")]
    chunks: Option<Box<VecDeque<Bytes>>>,
    tail: Vec<u8>,
    /// Bytes already sent of the first piece.
    sent: usize,
    len: usize,
}

impl Outbox {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.tail.extend_from_slice(data);
        self.len += data.len();
    }

    pub(crate) fn push_shared(&mut self, data: Bytes) {
        if data.len() < SHARE_FROM {
            return self.push(&data);
        }
        self.close_tail();
        self.len += data.len();
        self.chunks.get_or_insert_default().push_back(data);
    }

    /// A short header, its first `used` bytes, and what it frames. Copying the whole array and cutting it is one or two
    /// moves, where a copy of unknown length is a call.
    #[inline]
    pub(crate) fn push_framed(&mut self, header: &[u8; 16], used: usize, payload: &[u8]) {
        let start = self.tail.len();
        self.tail.reserve(header.len() + payload.len());
        self.tail.extend_from_slice(header);
        self.tail.truncate(start + used);
        self.tail.extend_from_slice(payload);
        self.len += used + payload.len();
    }

    /// The last `count` bytes that were copied.
    #[inline]
    pub(crate) fn last(&mut self, count: usize) -> &mut [u8] {
        let start = self.tail.len() - count;
        &mut self.tail[start..]
    }

    /// Exchanges the growing buffer, while it holds nothing, for one that somebody else keeps between turns.
    #[inline]
    pub(crate) fn swap_empty(&mut self, spare: &mut Vec<u8>) {
        if self.tail.is_empty() {
            std::mem::swap(&mut self.tail, spare);
        }
    }

    /// The end of `swap_empty`: gives the buffer back, though something waits in it, if that needs much less.
    pub(crate) fn give_back(&mut self, spare: &mut Vec<u8>) {
        if self.is_roomy() {
            let waiting = self.tail.as_slice().to_vec();
            *spare = std::mem::replace(&mut self.tail, waiting);
            spare.clear();
        } else {
            self.swap_empty(spare);
        }
    }

    /// Whether what waits in the growing buffer takes less than a half of it, and that is worth a copy.
    #[inline]
    fn is_roomy(&self) -> bool {
        !self.tail.is_empty() && self.tail.capacity() / 2 > self.tail.len().max(SHARE_FROM)
    }

    /// The first pieces to send; how many of `slices` were filled.
    pub(crate) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut skip = self.sent;
        let mut count = 0;
        for piece in self.chunks.iter().flat_map(|chunks| chunks.iter()).map(|chunk| &chunk[..]).chain([&self.tail[..]])
        {
            if count == MAX_SLICES {
                break;
            }
            if piece.len() > skip {
                slices[count] = IoSlice::new(&piece[skip..]);
                count += 1;
            }
            skip = 0;
        }
        count
    }

    /// The only piece, if there is just one of the copied kind: the common case, which needs no `writev`.
    #[inline]
    pub(crate) fn only_tail(&self) -> Option<&[u8]> {
        self.chunks.is_none().then(|| &self.tail[self.sent..])
    }

    /// `count` more bytes have been sent.
    #[inline]
    pub(crate) fn advance(&mut self, count: usize) {
        self.len -= count;
        self.sent += count;
        if let Some(chunks) = &mut self.chunks {
            while let Some(first) = chunks.front() {
                if self.sent < first.len() {
                    return;
                }
                self.sent -= first.len();
                chunks.pop_front();
            }
            self.chunks = None;
        }
        if self.len == 0 {
            self.sent = 0;
            self.tail.clear();
        } else if self.sent > COMPACT_FROM && self.sent >= self.len {
            self.compact();
        }
    }

    /// It may never be empty: what has been sent must not stay for ever.
    #[cold]
    fn compact(&mut self) {
        self.tail.drain(..self.sent);
        self.sent = 0;
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Everything queued, copied: for tests.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut all: Vec<u8> = self.chunks.iter().flat_map(|chunks| chunks.iter()).flatten().copied().collect();
        all.extend_from_slice(&self.tail);
        all.split_off(self.sent)
    }

    /// What was copied so far becomes a piece of its own; how many there are.
    pub(crate) fn close_tail(&mut self) -> usize {
        if !self.tail.is_empty() {
            // the buffer may be the reactor's own, which is too large to wait with a few bytes in it
            let piece = if self.is_roomy() {
                let piece = Bytes::copy_from_slice(&self.tail);
                self.tail.clear();
                piece
            } else {
                Bytes::from(std::mem::take(&mut self.tail))
            };
            self.chunks.get_or_insert_default().push_back(piece);
        }
        self.chunks.as_ref().map_or(0, |chunks| chunks.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut got = Vec::new();
        while !outbox.is_empty() {
            let before = got.len();
            {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let count = outbox.fill(&mut slices);
                for slice in &slices[..count] {
                    let take = slice.len().min(step - (got.len() - before));
                    got.extend_from_slice(&slice[..take]);
                }
            }
            outbox.advance(got.len() - before);
        }
        got
    }

    /// T49, P105
    #[test]
    fn any_partial_writes_send_the_same_bytes() {
        for step in [1, 2, 3, 4095, 4096, 4097, 5000, 20_000] {
            let mut outbox = Outbox::default();
            let mut want = Vec::new();
            for round in 0..4_u8 {
                outbox.push(&[round; 100]);
                want.extend([round; 100]);
                outbox.push_shared(Bytes::from(vec![round + 100; 5000]));
                want.extend([round + 100; 5000]);
                outbox.push_shared(Bytes::from_static(b"short"));
                want.extend(b"short");
            }
            assert_eq!(outbox.len(), want.len());
            assert_eq!(outbox.to_vec(), want);
            assert_eq!(drain(&mut outbox, step), want, "step {step}");
            assert!(outbox.is_empty());
        }
    }

    // T41
    #[test]
    fn what_has_been_sent_does_not_stay_though_it_is_never_empty() {
        let mut outbox = Outbox::default();
        outbox.push(&[1; 128 * 1024]);
        for round in 0..200_u8 {
            outbox.advance(100_000);
            outbox.push(&[round; 100_000]);
        }
        assert_eq!(outbox.len(), 128 * 1024);
        assert!(outbox.tail.capacity() <= 1 << 20, "{} bytes", outbox.tail.capacity());
        assert!(outbox.to_vec().ends_with(&[199; 100_000]));
    }

    /// T41: the growing buffer may be the reactor's spare one, of 256 KiB, and a piece may wait for long.
    #[test]
    fn a_short_piece_does_not_keep_a_large_buffer() {
        let mut outbox = Outbox::default();
        for _ in 0..100 {
            outbox.swap_empty(&mut Vec::with_capacity(256 * 1024));
            outbox.push(b"short");
            outbox.close_tail();
        }
        let chunks = *outbox.chunks.take().unwrap();
        let kept: usize =
            chunks.into_iter().map(|chunk| chunk.try_into_mut().map_or(0, |bytes| bytes.capacity())).sum();
        assert!(kept < 10_000, "{kept} bytes are kept for 500");
    }

    // T41
    #[test]
    fn a_few_bytes_that_wait_do_not_keep_a_large_buffer() {
        let mut spare = Vec::with_capacity(256 * 1024);
        let mut outbox = Outbox::default();
        outbox.swap_empty(&mut spare);
        outbox.push(b"waits");
        outbox.give_back(&mut spare);
        assert_eq!((outbox.to_vec(), spare.len()), (b"waits".to_vec(), 0));
        assert!(outbox.tail.capacity() < 100 && spare.capacity() >= 256 * 1024);
    }
}
