//! Messages that wait because the peer does not keep up.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::message::PreparedMessage;
use crate::sansio::OpCode;

/// What a waiting message costs beside its payload: empty ones count, too.
const ENTRY: usize = 64;

/// One message, not encoded yet: what is dropped must not have gone through a compressor that remembers it.
pub(crate) enum Waiting {
    Message {
        opcode: OpCode,
        payload: Bytes,
        compress: bool,
    },
    Prepared(PreparedMessage),
    /// A frame of a message that is sent in pieces or fragments, or a Close: as it is, and not to be dropped.
    Frame {
        fin: bool,
        opcode: OpCode,
        payload: Bytes,
    },
}

impl Waiting {
    fn cost(&self) -> usize {
        let payload = match self {
            Self::Message { payload, .. } | Self::Frame { payload, .. } => payload.len(),
            Self::Prepared(message) => message.payload().len(),
        };
        cost(payload)
    }
}

/// What a message of this length takes of the room.
pub(crate) fn cost(length: usize) -> usize {
    length + ENTRY
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<(Option<u64>, Waiting)>,
    /// How many of them, at the end, may not go yet: they would come into the middle of a message that is sent in
    /// pieces.
    held: usize,
}

impl Queue {
    fn ready(&self) -> usize {
        self.entries.len() - self.held
    }

    fn remove(&mut self, index: usize) -> Option<Waiting> {
        let held = index >= self.ready();
        let (_, message) = self.entries.remove(index)?;
        self.held -= usize::from(held);
        Some(message)
    }
}

/// The messages of one connection that wait for room in its transport, in order.
#[derive(Default)]
pub(crate) struct Backlog {
    /// Boxed: most connections never need it.
    queue: Option<Box<Queue>>,
    bytes: usize,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_none()
    }

    /// Whether there is something that may go.
    pub(crate) fn is_ready(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.ready() > 0)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, key: Option<u64>, message: Waiting) {
        self.insert(usize::MAX, key, message);
    }

    /// A message that has to wait for the end of one that is sent in pieces.
    pub(crate) fn hold(&mut self, key: Option<u64>, message: Waiting) {
        self.push(key, message);
        self.queue.get_or_insert_default().held += 1;
    }

    /// A frame that goes before what is held.
    pub(crate) fn push_piece(&mut self, frame: Waiting) {
        let ready = self.queue.as_ref().map_or(0, |queue| queue.ready());
        self.insert(ready, None, frame);
    }

    /// Frames that go before all others.
    pub(crate) fn prepend(&mut self, frames: impl Iterator<Item = Waiting>) {
        frames.enumerate().for_each(|(index, frame)| self.insert(index, None, frame));
    }

    fn insert(&mut self, index: usize, key: Option<u64>, message: Waiting) {
        self.bytes += message.cost();
        let entries = &mut self.queue.get_or_insert_default().entries;
        entries.insert(index.min(entries.len()), (key, message));
    }

    /// Nothing is held any more.
    pub(crate) fn release(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.held = 0;
        }
    }

    /// Drops what is held; how many messages that was.
    pub(crate) fn drop_held(&mut self) -> u64 {
        let mut dropped = 0;
        while let Some(queue) = self.queue.as_mut().filter(|queue| queue.held > 0) {
            let last = queue.entries.len() - 1;
            let removed = queue.remove(last);
            dropped += u64::from(self.taken(removed).is_some());
        }
        dropped
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let queue = self.queue.as_mut().filter(|queue| queue.ready() > 0)?;
        let removed = queue.remove(0);
        self.taken(removed)
    }

    /// Takes out the waiting message with this key, if there is one: a newer value supersedes it.
    pub(crate) fn remove(&mut self, key: u64) -> Option<Waiting> {
        let queue = self.queue.as_mut()?;
        let index = queue.entries.iter().position(|(other, _)| *other == Some(key))?;
        let removed = queue.remove(index);
        self.taken(removed)
    }

    fn taken(&mut self, message: Option<Waiting>) -> Option<Waiting> {
        self.bytes -= message.as_ref().map_or(0, Waiting::cost);
        if self.queue.as_ref().is_some_and(|queue| queue.entries.is_empty()) {
            self.queue = None;
        }
        message
    }

    /// Drops the oldest messages that may be dropped, until there is room for `cost` below `cap`; how many were
    /// dropped, and whether there is room now.
    pub(crate) fn drop_oldest(&mut self, cost: usize, cap: usize) -> (u64, bool) {
        let is_frame = |entry: &&(Option<u64>, Waiting)| matches!(entry.1, Waiting::Frame { .. });
        let frames = self.queue.iter().flat_map(|queue| &queue.entries).filter(is_frame);
        if frames.map(|(_, frame)| frame.cost()).sum::<usize>() + cost > cap {
            return (0, false); // it would be in vain
        }
        let mut dropped = 0;
        while self.bytes + cost > cap {
            let droppable = |(_, message): &(Option<u64>, Waiting)| !matches!(message, Waiting::Frame { .. });
            let oldest = self.queue.as_mut().and_then(|queue| {
                let index = queue.entries.iter().position(droppable)?;
                queue.remove(index)
            });
            if self.taken(oldest).is_none() {
                return (dropped, false);
            }
            dropped += 1;
        }
        (dropped, true)
    }

    /// Whether our Close is still here.
    pub(crate) fn has_close(&self) -> bool {
        let last = self.queue.as_ref().and_then(|queue| queue.entries.back());
        matches!(last, Some((_, Waiting::Frame { opcode: OpCode::Close, .. })))
    }

    /// Drops everything; how many messages that was, each in pieces by its last one.
    pub(crate) fn clear(&mut self) -> u64 {
        let all = std::mem::take(self);
        let ends = |(_, message): &&(Option<u64>, Waiting)| match message {
            Waiting::Frame { fin, opcode, .. } => *fin && !opcode.is_control(),
            _ => true,
        };
        all.queue.iter().flat_map(|queue| &queue.entries).filter(ends).count() as u64
    }
}
