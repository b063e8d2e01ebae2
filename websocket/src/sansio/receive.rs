//! The receiving side: bytes in, events out.

use std::fmt;

use simdutf8::basic;

use super::{
    CloseFrame, Delivery, Event, FrameError, Limits, OpCode, Role,
    deflate::Inflater,
    header::{Header, PartialHeader, Small},
    mask::mask,
    message::{Frame, Message, data_event},
};

/// Turns the bytes of one peer into [`Event`]s, and finds what the peer does wrong.
///
/// A whole small frame costs a few dozen instructions: it is unmasked where it lies and lent. What is spread over
/// several inputs or frames is put together in a buffer which grows with what has come, never with what a header
/// announces, and is freed after delivery: a receiver between messages owns no heap memory (but its inflater, if it has
/// one).
///
/// Headers are judged before any payload is waited for, text as far as it has come.
///
/// See the [module documentation](super) for an example.
pub struct Receiver {
    pub(super) phase: Phase,
    role: Role,
    delivery: Delivery,
    header: PartialHeader,
    pub(super) limits: Limits,
    pub(super) frame: Frame,
    pub(super) message: Message,
    /// The payload of a control frame that came in pieces, at most 125 bytes.
    control: Vec<u8>,
    pub(super) inflater: Option<Box<Inflater>>,
}

/// What the next byte is, or what is due before it.
///
/// ```text
/// Idle | Header -+-> Control -------------------------------------------> Delivered -> Idle | Header
///                +-> Payload -> Header, until FIN ----------------------> Delivered
///                +-> FrameBegin -> Payload -> Header, until FIN           Delivered
///                                     +----> [Tail] -> FrameEnd -> End -> Delivered
/// any -> Closed
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A header, of a new message, of which no byte is here; whole messages are wanted. Where the fast path applies.
    Idle,
    /// A header, perhaps partly here.
    Header,
    /// Payload of a data frame.
    Payload,
    /// Payload of a control frame that is not all here.
    Control,
    /// Streaming: the begin of a frame is to be told.
    FrameBegin,
    /// Streaming: the last frame is read, the inflater not yet empty.
    Tail,
    /// Streaming: the end of the last frame is to be told.
    FrameEnd,
    /// Streaming: the end of the message is to be told.
    End,
    /// A buffer of the receiver is lent out, to be freed next.
    Delivered,
    /// A Close or an error was delivered: all further input is ignored.
    Closed,
}

/// What was found, before it borrows from the receiver.
pub(super) enum Found<'d> {
    /// In the input, or nowhere.
    Event(Event<'d>),
    /// In the message's buffer.
    Message,
    /// In the message's buffer: a piece, inflated.
    Chunk,
    /// In the buffer for control frames.
    Control,
}

impl Receiver {
    /// A receiver of whole messages for the side that is `role`.
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            phase: Phase::Idle,
            role,
            delivery: Delivery::Messages,
            header: PartialHeader::default(),
            limits,
            frame: Frame::default(),
            message: Message::default(),
            control: Vec::new(),
            inflater: None,
        }
    }

    /// Chooses how messages are delivered, from the next one that begins.
    pub fn set_delivery(&mut self, delivery: Delivery) {
        self.delivery = delivery;
        if self.phase == Phase::Idle {
            self.phase = Phase::Header;
        }
    }

    /// Allows compressed messages, as permessage-deflate was agreed on. To be called before the first input.
    pub fn set_inflater(&mut self, inflater: Inflater) {
        self.inflater = Some(Box::new(inflater));
    }

    /// Takes the next event out of `input`, which shrinks to what follows it, and unmasks it in place. `None`: the
    /// input is used up, and more is needed.
    ///
    /// After a Close or an error all input is taken and ignored.
    ///
    /// # Errors
    ///
    /// [`FrameError`] tells what the peer did wrong. The connection is to be failed with it.
    #[inline(always)] // the caller's loop is the hot path of a server
    pub fn next<'s, 'd: 's>(&'s mut self, input: &mut &'d mut [u8]) -> Result<Option<Event<'s>>, FrameError> {
        if self.phase == Phase::Idle {
            if input.is_empty() {
                return Ok(None);
            }
            if let Some(small) = Small::recognise(input, self.role) {
                let end = small.header + small.length;
                let fits = small.length <= self.limits.max_message && small.length <= self.limits.max_frame;
                if fits && end <= input.len() {
                    let (frame, rest) = std::mem::take(input).split_at_mut(end);
                    *input = rest;
                    let (_, payload) = frame.split_at_mut(small.header);
                    if self.role == Role::Server {
                        mask(payload, small.key);
                    }
                    if !small.text {
                        return Ok(Some(Event::Binary(payload)));
                    }
                    return match basic::from_utf8(payload) {
                        Ok(text) => Ok(Some(Event::Text(text))),
                        Err(_) => Err(self.fail(FrameError::InvalidText)),
                    };
                }
            }
        }
        self.next_slowly(input)
    }

    /// Where the next bytes of input may be put, to save them a copy; [`filled`](Self::filled) says how many were. `None`:
    /// they are [`next`](Self::next)'s. It is for writing: what it holds may be of another message, of this thread.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        if self.phase == Phase::Payload && !self.message.streamed { self.message.room(&self.frame) } else { None }
    }

    /// `count` bytes of input, not 0, have been put into the [`room`](Self::room).
    pub fn filled(&mut self, count: usize) {
        self.message.fill(&mut self.frame, count);
    }

    /// Bytes of heap memory held for what is not complete, or was lent out last: at most twice what has come of it, or
    /// what that inflates to; or, for a large message, a spare buffer of at most four times the announced length. What an
    /// inflater itself holds is not counted.
    pub fn buffered(&self) -> usize {
        self.message.buffered() + self.control.capacity()
    }

    /// Whether nothing has begun: without more input, [`next`](Self::next) would only say `None`.
    #[inline]
    pub fn is_between_messages(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Whether [`next`](Self::next) has an event to tell, or a buffer to free, even without more input.
    pub fn has_due(&self) -> bool {
        match self.phase {
            Phase::Idle | Phase::Header | Phase::Control => false,
            // all read, the end of the frame not yet told
            Phase::Payload => self.frame.remaining == 0,
            _ => true,
        }
    }

    #[cold]
    fn fail(&mut self, error: FrameError) -> FrameError {
        self.phase = Phase::Closed;
        error
    }

    /// Everything that is not one whole small frame.
    #[inline(never)]
    fn next_slowly<'s, 'd: 's>(&'s mut self, input: &mut &'d mut [u8]) -> Result<Option<Event<'s>>, FrameError> {
        let found = match self.find(input) {
            Ok(None) => return Ok(None),
            Ok(Some(found)) => found,
            Err(error) => return Err(self.fail(error)),
        };
        let event = match found {
            Found::Event(event) => Ok(event),
            Found::Message => self.message.event(),
            Found::Chunk => Ok(Event::Data(self.message.chunk())),
            Found::Control => control_event(self.frame.opcode, &self.control),
        };
        if matches!(event, Ok(Event::Close(_)) | Err(_)) {
            self.phase = Phase::Closed;
        }
        event.map(Some)
    }

    fn find<'d>(&mut self, input: &mut &'d mut [u8]) -> Result<Option<Found<'d>>, FrameError> {
        loop {
            let found = match self.phase {
                Phase::Idle | Phase::Header => {
                    let Some(header) = self.header.read(input, self.role, self.inflater.is_some())? else {
                        if !self.header.is_empty() {
                            self.phase = Phase::Header;
                        }
                        return Ok(None);
                    };
                    self.begin_frame(&header, input)?
                }
                Phase::Control => {
                    self.control.extend_from_slice(self.frame.take(input));
                    if self.frame.remaining > 0 {
                        return Ok(None);
                    }
                    self.phase = Phase::Delivered;
                    Some(Found::Control)
                }
                Phase::Payload if self.message.streamed => match self.stream_payload(input)? {
                    None if self.phase == Phase::Payload => return Ok(None),
                    found => found,
                },
                Phase::Payload => {
                    self.message.collect(&mut self.frame, input)?;
                    if self.frame.remaining > 0 {
                        return Ok(None);
                    }
                    self.end_collected_frame()?
                }
                Phase::FrameBegin | Phase::Tail | Phase::FrameEnd | Phase::End => self.stream_due()?,
                Phase::Delivered => {
                    self.rest();
                    None
                }
                Phase::Closed => {
                    *input = &mut [];
                    self.rest();
                    self.phase = Phase::Closed;
                    self.inflater = None;
                    return Ok(None);
                }
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Takes a header in, and delivers what needs no buffer at once.
    fn begin_frame<'d>(&mut self, header: &Header, input: &mut &'d mut [u8]) -> Result<Option<Found<'d>>, FrameError> {
        self.frame = Frame::new(header);
        let whole = self.frame.here(input.len()) as u64 == header.length;
        if header.opcode.is_control() {
            self.phase = Phase::Control;
            if !whole {
                return Ok(None);
            }
            let payload = self.frame.take(input);
            self.rest();
            return Ok(Some(Found::Event(control_event(header.opcode, payload)?)));
        }
        let first = self.message.admit(header, &self.limits)?;
        if first {
            self.message.streamed = self.delivery == Delivery::Frames;
        }
        if self.message.streamed {
            self.phase = Phase::FrameBegin;
            return Ok(first.then_some(Found::Event(Event::Begin { text: self.message.text })));
        }
        self.phase = Phase::Payload;
        if !(first && header.fin && whole) {
            return Ok(None);
        }
        let payload = self.frame.take(input);
        self.message.open = false;
        if header.rsv1 {
            self.message.inflate(payload, self.inflater.as_deref_mut(), &self.limits)?;
            self.phase = Phase::Delivered;
            return Ok(Some(Found::Message));
        }
        let event = data_event(self.message.text, payload)?;
        self.rest();
        Ok(Some(Found::Event(event)))
    }

    fn end_collected_frame<'d>(&mut self) -> Result<Option<Found<'d>>, FrameError> {
        if !self.frame.fin {
            self.phase = Phase::Header;
            return Ok(None);
        }
        self.message.complete(self.inflater.as_deref_mut(), &self.limits)?;
        self.phase = Phase::Delivered;
        Ok(Some(Found::Message))
    }

    /// Frees what was lent out, and goes on to the next header.
    fn rest(&mut self) {
        self.control = Vec::new();
        if !self.message.open || self.phase == Phase::Closed {
            self.message.clear();
        }
        let fast = !self.message.open && self.delivery == Delivery::Messages;
        self.phase = if fast { Phase::Idle } else { Phase::Header };
    }
}

/// Without what the peer wrote.
impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("phase", &self.phase)
            .field("role", &self.role)
            .field("limits", &self.limits)
            .field("buffered", &self.buffered())
            .finish_non_exhaustive()
    }
}

fn control_event(opcode: OpCode, payload: &[u8]) -> Result<Event<'_>, FrameError> {
    Ok(match opcode {
        OpCode::Ping => Event::Ping(payload),
        OpCode::Pong => Event::Pong(payload),
        _ => Event::Close(CloseFrame::parse(payload)?),
    })
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "receive_stream_tests.rs"]
mod stream_tests;

#[cfg(test)]
#[path = "receive_proptests.rs"]
mod proptests;
