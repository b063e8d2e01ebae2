//! Receiving [`Delivery::Frames`](super::Delivery::Frames): messages as they come.

use super::{
    Event, FrameError, Receiver,
    receive::{Found, Phase},
};

/// Compressed bytes unmasked at a time. An input may hold far more than the inflater takes for one chunk of output, and
/// what it leaves is masked again.
const PIECE: usize = 4 * 1024;

impl Receiver {
    /// The next piece of payload. `None`: this needs more input, unless the phase has changed.
    pub(super) fn stream_payload<'d>(&mut self, input: &mut &'d mut [u8]) -> Result<Option<Found<'d>>, FrameError> {
        if self.message.compressed {
            self.stream_inflated(input)?;
            if !self.message.chunk().is_empty() {
                return Ok(Some(Found::Chunk));
            }
        } else {
            let piece = self.frame.take(input);
            if self.message.text {
                self.message.utf8.push(piece, |_| {})?;
            }
            if !piece.is_empty() {
                return Ok(Some(Found::Event(Event::Data(piece))));
            }
        }
        if self.frame.remaining > 0 {
            return Ok(None);
        }
        if !self.frame.fin {
            self.phase = Phase::Header;
            return Ok(Some(Found::Event(Event::FrameEnd)));
        }
        self.phase = if self.message.compressed { Phase::Tail } else { Phase::FrameEnd };
        Ok(None)
    }

    /// What is to be told between two pieces of input.
    pub(super) fn stream_due<'d>(&mut self) -> Result<Option<Found<'d>>, FrameError> {
        let (event, phase) = match self.phase {
            Phase::FrameBegin => (Event::FrameBegin { length: self.frame.remaining }, Phase::Payload),
            Phase::Tail => {
                let Some(inflater) = self.inflater.as_deref_mut() else {
                    return Err(FrameError::CorruptDeflate);
                };
                if self.message.inflate_chunk(&self.limits, |chunk| inflater.finish(chunk))? {
                    self.phase = Phase::FrameEnd;
                }
                return Ok((!self.message.chunk().is_empty()).then_some(Found::Chunk));
            }
            Phase::FrameEnd => {
                self.message.utf8.finish()?;
                (Event::FrameEnd, Phase::End)
            }
            _ => {
                self.message.open = false;
                (Event::End, Phase::Delivered)
            }
        };
        self.phase = phase;
        Ok(Some(Found::Event(event)))
    }

    /// Inflates from `input` until there is a chunk, or the input or the frame is used up.
    fn stream_inflated(&mut self, input: &mut &mut [u8]) -> Result<(), FrameError> {
        let Some(inflater) = self.inflater.as_deref_mut() else {
            return Err(FrameError::CorruptDeflate);
        };
        loop {
            let here = self.frame.here(input.len()).min(PIECE);
            let (piece, _) = input.split_at_mut(here);
            self.frame.unmask(piece);
            let mut rest = &*piece;
            self.message.inflate_chunk(&self.limits, |chunk| inflater.part(&mut rest, chunk))?;
            let taken = here - rest.len();
            self.frame.advance(taken);
            self.frame.unmask(&mut piece[taken..]);
            *input = std::mem::take(input).split_at_mut(taken).1;
            if taken == 0 || !self.message.chunk().is_empty() {
                return Ok(());
            }
        }
    }
}
