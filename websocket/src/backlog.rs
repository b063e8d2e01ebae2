//! Messages that wait because the peer does not keep up.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::message::PreparedMessage;
use crate::sansio::OpCode;

/// One message, not encoded yet: what is dropped must not have gone through a compressor that remembers it.
pub(crate) enum Waiting {
    Message { opcode: OpCode, payload: Bytes, compress: bool },
    Prepared(PreparedMessage),
}

impl Waiting {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Message { payload, .. } => payload.len(),
            Self::Prepared(message) => message.payload().len(),
        }
    }

    /// Whether it may be dropped: messages may, frames of the protocol may not.
    fn is_data(&self) -> bool {
        !matches!(self, Self::Message { opcode: OpCode::Close, .. })
    }
}

/// The messages of one connection that wait for room in its transport, in order.
#[derive(Default)]
pub(crate) struct Backlog {
    waiting: VecDeque<(Option<u64>, Waiting)>,
    bytes: usize,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, key: Option<u64>, message: Waiting) {
        self.bytes += message.len();
        self.waiting.push_back((key, message));
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let (_, message) = self.waiting.pop_front()?;
        self.bytes -= message.len();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Some(message)
    }

    /// Takes out the waiting message with this key, if there is one: a newer value supersedes it.
    pub(crate) fn remove(&mut self, key: u64) -> Option<Waiting> {
        let index = self.waiting.iter().position(|(other, _)| *other == Some(key))?;
        let (_, message) = self.waiting.remove(index)?;
        self.bytes -= message.len();
        Some(message)
    }

    /// Drops the oldest messages until `room` bytes are free below `cap`; how many were dropped.
    pub(crate) fn drop_oldest(&mut self, room: usize, cap: usize) -> u64 {
        let mut dropped = 0;
        while self.bytes + room > cap && self.waiting.front().is_some_and(|(_, message)| message.is_data()) {
            drop(self.pop());
            dropped += 1;
        }
        dropped
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
