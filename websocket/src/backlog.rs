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
    /// A frame of a message that is sent in pieces, or a Close: as it is, and not to be dropped.
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

type Queue = VecDeque<(Option<u64>, Waiting)>;

/// The messages of one connection that wait for room in its transport, in order.
#[derive(Default)]
pub(crate) struct Backlog {
    /// Boxed: most connections never need it.
    waiting: Option<Box<Queue>>,
    bytes: usize,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, key: Option<u64>, message: Waiting) {
        self.bytes += message.cost();
        self.waiting.get_or_insert_default().push_back((key, message));
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let (_, message) = self.waiting.as_mut()?.pop_front()?;
        Some(self.taken(message))
    }

    /// Takes out the waiting message with this key, if there is one: a newer value supersedes it.
    pub(crate) fn remove(&mut self, key: u64) -> Option<Waiting> {
        let waiting = self.waiting.as_mut()?;
        let index = waiting.iter().position(|(other, _)| *other == Some(key))?;
        let (_, message) = waiting.remove(index)?;
        Some(self.taken(message))
    }

    fn taken(&mut self, message: Waiting) -> Waiting {
        self.bytes -= message.cost();
        if self.waiting.as_ref().is_some_and(|waiting| waiting.is_empty()) {
            self.waiting = None;
        }
        message
    }

    /// Drops the oldest messages that may be dropped, until there is room for `cost` below `cap`; how many were dropped,
    /// and whether there is room now.
    pub(crate) fn drop_oldest(&mut self, cost: usize, cap: usize) -> (u64, bool) {
        let mut dropped = 0;
        while self.bytes + cost > cap {
            let droppable = |(_, message): &(Option<u64>, Waiting)| !matches!(message, Waiting::Frame { .. });
            let oldest = self.waiting.as_mut().and_then(|waiting| {
                let index = waiting.iter().position(droppable)?;
                waiting.remove(index)
            });
            let Some((_, message)) = oldest else { return (dropped, false) };
            drop(self.taken(message));
            dropped += 1;
        }
        (dropped, true)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
