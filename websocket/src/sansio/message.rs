//! The data message that is being received.

use std::sync::Arc;

use simdutf8::basic;

use super::{
    Event, FrameError, Limits, OpCode,
    deflate::{InflateError, Inflater},
    header::Header,
    large::{self, Filling, LARGE, Large},
    mask::{mask, rotate},
    utf8::Utf8,
};

/// Bytes unmasked before they are validated and copied: all three find them in a first-level cache.
const BLOCK: usize = 8 * 1024;

/// The frame whose header was read last.
pub(super) struct Frame {
    pub(super) opcode: OpCode,
    pub(super) fin: bool,
    /// The key for the next byte of payload.
    key: [u8; 4],
    /// Payload bytes still to come.
    pub(super) remaining: u64,
}

impl Default for Frame {
    /// None yet.
    fn default() -> Self {
        Self { opcode: OpCode::Continuation, fin: true, key: [0; 4], remaining: 0 }
    }
}

impl Frame {
    pub(super) fn new(header: &Header) -> Self {
        Self { opcode: header.opcode, fin: header.fin, key: header.key, remaining: header.length }
    }

    /// How much of `available` bytes belongs to this frame.
    pub(super) fn here(&self, available: usize) -> usize {
        usize::try_from(self.remaining).map_or(available, |remaining| remaining.min(available))
    }

    /// Takes what `input` has of this frame off its front, unmasked.
    pub(super) fn take<'d>(&mut self, input: &mut &'d mut [u8]) -> &'d mut [u8] {
        let here = self.here(input.len());
        let (piece, rest) = std::mem::take(input).split_at_mut(here);
        *input = rest;
        self.unmask(piece);
        self.advance(piece.len());
        piece
    }

    /// Masks or unmasks the bytes that come next.
    pub(super) fn unmask(&self, piece: &mut [u8]) {
        if self.key != [0; 4] {
            mask(piece, self.key);
        }
    }

    /// Leaves `taken` bytes behind.
    pub(super) fn advance(&mut self, taken: usize) {
        self.remaining -= taken as u64;
        self.key = rotate(self.key, taken);
    }
}

/// What has come of the message, across its frames.
#[derive(Default)]
pub(super) struct Message {
    /// It began, and did not end: the fields below are of this message.
    pub(super) open: bool,
    pub(super) text: bool,
    pub(super) compressed: bool,
    /// Delivered as it comes: see [`Delivery::Frames`](super::Delivery::Frames).
    pub(super) streamed: bool,
    fragments: u32,
    /// Payload bytes declared by the headers so far.
    received: usize,
    /// Bytes inflated so far, of a message that is not collected.
    inflated: usize,
    pub(super) utf8: Utf8,
    body: Body,
}

/// What is collected. Text is kept as such, so that it is validated once only.
#[derive(Default)]
enum Body {
    #[default]
    Nothing,
    Text(String),
    Bytes(Vec<u8>),
    /// A large binary message that is not compressed.
    Filling(Filling),
    /// All of a large message.
    Whole(Arc<Large>),
}

impl Message {
    /// Judges the header of a data frame by what came before it, and takes it into the message. True for the first
    /// frame.
    pub(super) fn admit(&mut self, header: &Header, limits: &Limits) -> Result<bool, FrameError> {
        // RFC 6455, 5.4: fragments of one message MUST NOT be interleaved with another's.
        let first = match (header.opcode, self.open) {
            (OpCode::Continuation, true) => false,
            (OpCode::Continuation, false) => return Err(FrameError::NothingToContinue),
            (_, false) => true,
            (opcode, true) => return Err(FrameError::MessageUnfinished(opcode)),
        };
        if first {
            *self =
                Self { open: true, text: header.opcode == OpCode::Text, compressed: header.rsv1, ..Self::default() };
        }
        self.fragments = self.fragments.saturating_add(1);
        if self.fragments > limits.max_fragments.max(1) {
            return Err(FrameError::TooManyFragments(limits.max_fragments));
        }
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        if length > limits.max_frame {
            return Err(FrameError::FrameTooBig { length: header.length, limit: limits.max_frame });
        }
        if length > limits.max_message.saturating_sub(self.received) {
            return Err(FrameError::MessageTooBig(limits.max_message));
        }
        self.received += length;
        Ok(first)
    }

    /// Collects what `input` has of the frame. The buffer grows with what has come, never with what was announced.
    pub(super) fn collect(&mut self, frame: &mut Frame, input: &mut &mut [u8]) -> Result<(), FrameError> {
        let here = frame.here(input.len());
        let (piece, rest) = std::mem::take(input).split_at_mut(here);
        *input = rest;
        if matches!(self.body, Body::Nothing) {
            let more = frame.remaining - piece.len() as u64;
            self.body = match (self.text, self.compressed) {
                (true, false) => Body::Text(large::text(piece.len(), more)),
                (false, false) if large::is_large(piece.len(), more) => {
                    Body::Filling(Filling::new(piece.len() as u64 + more))
                }
                _ => Body::Bytes(Vec::new()),
            };
        }
        for block in piece.chunks_mut(BLOCK) {
            frame.unmask(block);
            frame.advance(block.len());
            match &mut self.body {
                Body::Text(text) => self.utf8.push(block, |valid| text.push_str(valid))?,
                Body::Bytes(bytes) => bytes.extend_from_slice(block),
                Body::Filling(filling) => filling.push(block),
                Body::Nothing | Body::Whole(_) => {}
            }
        }
        Ok(())
    }

    /// Where the next bytes of the frame may be read to, if they are to be collected as they come.
    pub(super) fn room(&mut self, frame: &Frame) -> Option<&mut [u8]> {
        match &mut self.body {
            Body::Filling(filling) if frame.remaining > 0 => Some(filling.room(frame.remaining)),
            _ => None,
        }
    }

    /// `count` bytes have been read there.
    pub(super) fn fill(&mut self, frame: &mut Frame, count: usize) {
        if let Body::Filling(filling) = &mut self.body {
            // no more than there was room for, whatever the caller says
            let piece = filling.fill(frame.here(count));
            frame.unmask(piece);
            frame.advance(piece.len());
        }
    }

    /// The message is all there: makes it ready for [`Message::event`].
    pub(super) fn complete(&mut self, inflater: Option<&mut Inflater>, limits: &Limits) -> Result<(), FrameError> {
        self.open = false;
        match std::mem::take(&mut self.body) {
            Body::Bytes(bytes) if self.compressed => self.inflate(&bytes, inflater, limits),
            body => {
                self.body = match body {
                    Body::Text(text) if text.len() >= LARGE => Body::Whole(Arc::new(Large::Text(text))),
                    Body::Filling(filling) => Body::Whole(Arc::new(Large::Bytes(filling))),
                    small => small,
                };
                self.utf8.finish()
            }
        }
    }

    /// Makes what `payload` inflates to ready for [`Message::event`].
    pub(super) fn inflate(
        &mut self,
        payload: &[u8],
        inflater: Option<&mut Inflater>,
        limits: &Limits,
    ) -> Result<(), FrameError> {
        let Some(inflater) = inflater else {
            return Err(FrameError::CorruptDeflate);
        };
        let inflated = inflater.inflate(payload, limits.max_message).map_err(|error| inflate_error(error, limits))?;
        self.body = Body::Bytes(inflated);
        Ok(())
    }

    /// The collected message. Inflated text is validated here, in one go.
    pub(super) fn event(&self) -> Result<Event<'_>, FrameError> {
        match &self.body {
            Body::Text(text) => Ok(Event::Text(text)),
            Body::Bytes(bytes) => data_event(self.text, bytes),
            Body::Whole(whole) => {
                large::lend(Some(whole));
                Ok(match &**whole {
                    Large::Text(text) => Event::Text(text),
                    Large::Bytes(_) => Event::Binary(whole.as_bytes()),
                })
            }
            Body::Filling(_) | Body::Nothing => data_event(self.text, &[]),
        }
    }

    /// The next piece of a compressed message that is not collected, inflated: puts it where [`Message::chunk`] gives
    /// it. True when `part` is used up and nothing more is to come out of it.
    pub(super) fn inflate_chunk(
        &mut self,
        limits: &Limits,
        step: impl FnOnce(&mut Vec<u8>) -> Result<bool, InflateError>,
    ) -> Result<bool, FrameError> {
        /// Bounds what one callback is given and a connection holds, whatever the ratio of a compressed piece.
        const CHUNK: usize = 64 * 1024;
        if !matches!(self.body, Body::Bytes(_)) {
            self.body = Body::Bytes(Vec::with_capacity(CHUNK));
        }
        let Body::Bytes(chunk) = &mut self.body else {
            return Ok(true);
        };
        chunk.clear();
        let done = step(chunk).map_err(|error| inflate_error(error, limits))?;
        self.inflated += chunk.len();
        if self.inflated > limits.max_message {
            return Err(FrameError::InflatedTooBig(limits.max_message));
        }
        if self.text {
            self.utf8.push(chunk, |_| {})?;
        }
        Ok(done)
    }

    /// What [`Message::inflate_chunk`] made last.
    pub(super) fn chunk(&self) -> &[u8] {
        if let Body::Bytes(chunk) = &self.body { chunk } else { &[] }
    }

    /// Bytes of heap memory held.
    pub(super) fn buffered(&self) -> usize {
        match &self.body {
            Body::Text(text) => text.capacity(),
            Body::Bytes(bytes) => bytes.capacity(),
            Body::Filling(filling) => filling.capacity(),
            Body::Whole(whole) => whole.capacity(),
            Body::Nothing => 0,
        }
    }

    /// Forgets the message, and frees its buffer.
    pub(super) fn clear(&mut self) {
        if let Body::Whole(_) = self.body {
            large::lend(None);
        }
        *self = Self::default();
    }
}

/// A whole message; text is validated.
pub(super) fn data_event(text: bool, payload: &[u8]) -> Result<Event<'_>, FrameError> {
    if text {
        // RFC 6455, 8.1: a text message that is not UTF-8 MUST fail the connection.
        basic::from_utf8(payload).map(Event::Text).map_err(|_| FrameError::InvalidText)
    } else {
        Ok(Event::Binary(payload))
    }
}

fn inflate_error(error: InflateError, limits: &Limits) -> FrameError {
    match error {
        InflateError::TooBig => FrameError::InflatedTooBig(limits.max_message),
        InflateError::Corrupt => FrameError::CorruptDeflate,
    }
}
