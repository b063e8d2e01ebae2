//! Large messages: their buffers are kept for the next ones, and shared with the output.
//!
//! A megabyte of fresh memory costs more to be faulted in, page by page, than everything else that is done with it.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;

/// From this length on a message is large. Below, an allocator has its own ways to be fast.
pub(crate) const LARGE: usize = 64 * 1024;

/// What the spare buffers of a thread may take, all together: a few messages of the largest size that is taken by
/// default.
const KEPT: usize = 16 * 1024 * 1024;

/// One read brings at most so much, so that others get their turn. Messages that share the caches are better read one
/// after the other than all at once, piece by piece: a message of the largest size taken by default is not divided.
const MOST: usize = 1024 * 1024;

#[derive(Default)]
struct Spare {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    /// The message that is being delivered.
    lent: Option<Arc<Large>>,
}

thread_local! {
    static SPARE: RefCell<Spare> = RefCell::default();
}

/// A spare buffer that is not much too large for so many bytes, or a new one.
fn spare(bytes: u64) -> Vec<u8> {
    SPARE.with_borrow_mut(|spare| {
        let fits = |buffer: &Vec<u8>| buffer.capacity() as u64 <= bytes.saturating_mul(4);
        let Some(index) = spare.buffers.iter().rposition(fits) else { return Vec::new() };
        let buffer = spare.buffers.swap_remove(index);
        spare.bytes -= buffer.capacity();
        buffer
    })
}

fn keep(buffer: Vec<u8>) {
    // not while the thread ends
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.bytes + buffer.capacity() <= KEPT {
            spare.bytes += buffer.capacity();
            spare.buffers.push(buffer);
        }
    });
}

/// An empty text for a message of which as much as this is here, and so much more is to come.
pub(super) fn text(here: usize, more: u64) -> String {
    let mut buffer = if is_large(here, more) { spare(here as u64 + more) } else { Vec::new() };
    buffer.clear();
    String::from_utf8(buffer).unwrap_or_default()
}

/// Whether a message is worth a spare buffer. Not by the peer's word alone: a good part of it must be here.
pub(super) fn is_large(here: usize, more: u64) -> bool {
    here >= LARGE / 4 && here as u64 + more >= LARGE as u64
}

/// A large message, as it comes: the front of a buffer whose rest holds anything, so that it can be read into.
pub(super) struct Filling {
    buffer: Vec<u8>,
    filled: usize,
}

impl Filling {
    /// For a message of about so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        Self { buffer: spare(bytes), filled: 0 }
    }

    /// Room for some of the `wanted` bytes that come next. It grows with what has come.
    pub(super) fn room(&mut self, wanted: u64) -> &mut [u8] {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        if self.filled == self.buffer.len() {
            let grown = self.filled.saturating_add(wanted.min(self.filled.max(LARGE)));
            self.buffer.resize(grown, 0);
        }
        let end = self.buffer.len().min(self.filled.saturating_add(wanted)).min(self.filled + MOST);
        &mut self.buffer[self.filled..end]
    }

    /// What has come into the room.
    pub(super) fn fill(&mut self, count: usize) -> &mut [u8] {
        let start = self.filled;
        self.filled = self.buffer.len().min(start + count);
        &mut self.buffer[start..self.filled]
    }

    pub(super) fn push(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let room = self.room(piece.len() as u64);
            let (now, later) = piece.split_at(room.len());
            room.copy_from_slice(now);
            self.fill(now.len());
            piece = later;
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

/// A large message, whole.
pub(super) enum Large {
    Text(String),
    Bytes(Filling),
}

impl Large {
    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::Text(text) => text.capacity(),
            Self::Bytes(bytes) => bytes.capacity(),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => &bytes.buffer[..bytes.filled],
        }
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        keep(match self {
            Self::Text(text) => std::mem::take(text).into_bytes(),
            Self::Bytes(bytes) => std::mem::take(&mut bytes.buffer),
        });
    }
}

struct Owner(Arc<Large>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// This message is being delivered; `None`: that is over.
pub(super) fn lend(message: Option<&Arc<Large>>) {
    let before = SPARE.with_borrow_mut(|spare| std::mem::replace(&mut spare.lent, message.cloned()));
    drop(before);
}

/// A payload without a copy, if it is a part of the large message that is being delivered: an echo, a broadcast.
pub(crate) fn shared(payload: &[u8]) -> Option<Bytes> {
    let lent = SPARE.with_borrow(|spare| spare.lent.clone())?;
    let (whole, part) = (lent.as_bytes().as_ptr_range(), payload.as_ptr_range());
    let within = whole.start <= part.start && part.end <= whole.end;
    // a part must not keep a whole that is much larger: nobody counts that
    (within && payload.len() * 2 >= lent.capacity()).then(|| Bytes::from_owner(Owner(lent)).slice_ref(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(payload: &[u8]) -> Arc<Large> {
        let mut filling = Filling::new(payload.len() as u64);
        filling.push(payload);
        Arc::new(Large::Bytes(filling))
    }

    #[test]
    fn a_buffer_is_used_again_and_shows_nothing_of_the_message_before() {
        let first = whole(&[1; 3 * LARGE]);
        let place = first.as_bytes().as_ptr();
        drop(first);
        let second = whole(&[2; 2 * LARGE]);
        assert_eq!(second.as_bytes().as_ptr(), place);
        assert!(second.as_bytes() == [2; 2 * LARGE]);
        drop(second);
        let mut text = text(LARGE / 4, 3 * LARGE as u64);
        assert_eq!((text.as_ptr(), &*text), (place, ""));
        text.push('x');
    }

    #[test]
    fn buffers_are_kept_up_to_a_bound() {
        let many: Vec<_> = (0..100).map(|_| whole(&vec![1; 8 * LARGE])).collect();
        drop(many);
        SPARE.with_borrow(|spare| {
            assert!(spare.bytes <= KEPT && spare.bytes + 16 * LARGE > KEPT, "{}", spare.bytes);
            assert_eq!(spare.bytes, spare.buffers.iter().map(Vec::capacity).sum::<usize>());
        });
    }

    #[test]
    fn only_the_message_that_is_being_delivered_is_shared_and_only_its_own_bytes() {
        let message = whole(&[7; 2 * LARGE]);
        let payload = message.as_bytes();
        assert_eq!(shared(payload), None);
        lend(Some(&message));
        let part = shared(&payload[10..]).expect("a part of it");
        assert_eq!((part.as_ptr(), part.len()), (payload[10..].as_ptr(), 2 * LARGE - 10));
        assert_eq!(shared(&vec![7; 2 * LARGE]), None);
        lend(None);
        assert_eq!(shared(payload), None);
        drop(message);
        assert!(part == vec![7; 2 * LARGE - 10], "it lives as long as its parts");
    }

    #[test]
    fn a_small_part_of_a_large_message_is_copied_and_does_not_keep_it() {
        let message = whole(&[1; 16 * LARGE]);
        lend(Some(&message));
        assert_eq!(shared(&message.as_bytes()[..LARGE]), None);
        assert!(shared(&message.as_bytes()[LARGE..]).is_some());
        lend(None);
    }

    #[test]
    fn a_spare_buffer_is_not_given_to_a_message_that_is_much_smaller() {
        drop(whole(&[1; 16 * LARGE]));
        let small = whole(&[1; LARGE]);
        assert!(small.capacity() <= 4 * LARGE, "{}", small.capacity());
        assert!(whole(&[1; 10 * LARGE]).capacity() >= 16 * LARGE);
    }

    #[test]
    fn room_grows_with_what_has_come() {
        let mut filling = Filling { buffer: Vec::new(), filled: 0 };
        let mut come = 0;
        while come < 1 << 22 {
            let room = filling.room(u64::MAX).len();
            assert!(room <= come.clamp(LARGE, MOST), "{room} for {come}");
            filling.fill(room);
            come += room;
        }
        assert_eq!(filling.room(3).len(), 3);
    }
}
