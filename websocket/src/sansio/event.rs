//! What a receiver is told and what it tells: roles, limits, events.

use super::CloseFrame;

/// The end of the connection this side is.
///
/// RFC 6455, 5.1: a client masks every frame it sends and a server masks none. The role says which to expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Expects masked frames, sends unmasked ones.
    Server,
    /// Expects unmasked frames, sends masked ones.
    Client,
}

/// How much of a peer's message is taken in. Exceeding a limit fails the connection; nothing is ever cut short
/// silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest message in bytes, all fragments together; close code 1009 beyond it. Of a compressed message both
    /// the bytes received and the bytes they inflate to count, each against the whole limit.
    ///
    /// Default 1 MiB, as in Python's websockets: larger than nearly every message, small enough for 1000 connections to
    /// send their largest at once. (uWebSockets 16 KiB, netty 64 KiB, ws 100 MiB.)
    pub max_message: usize,
    /// The largest payload of one frame in bytes; close code 1009 beyond it, as soon as the header is read.
    ///
    /// Default 1 MiB, so that only [`Limits::max_message`] matters.
    pub max_frame: usize,
    /// The most frames a message may consist of, empty ones included, at least 1; close code 1008 beyond it.
    ///
    /// Default 1024: a peer that sends the largest message in 1 KiB pieces is served, a flood of empty continuation
    /// frames, each of which costs work and adds nothing, is not. (ws 131072, most others none.)
    pub max_fragments: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message: 1 << 20, max_frame: 1 << 20, max_fragments: 1024 }
    }
}

/// The unit in which data arrives from a [`Receiver`](super::Receiver).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// Whole messages: [`Event::Text`] and [`Event::Binary`]. The default.
    #[default]
    Messages,
    /// Messages as they come in: [`Event::Begin`], then for each frame [`Event::FrameBegin`], [`Event::Data`] any
    /// number of times and [`Event::FrameEnd`], then [`Event::End`]. Nothing is collected.
    Frames,
}

/// One thing a peer said. Borrows from the input it was found in, or from the receiver where it was put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A message begins ([`Delivery::Frames`] only, as the next four).
    Begin {
        /// Whether it is a text message: its data is valid UTF-8 as far as it has come, though a `Data` may end in the
        /// middle of a character.
        text: bool,
    },
    /// A frame of the message begins.
    FrameBegin {
        /// Its payload length on the wire in bytes, before inflation.
        length: u64,
    },
    /// Some payload of the frame, unmasked and inflated, never empty. At most 64 KiB where it was inflated.
    Data(&'a [u8]),
    /// The frame is complete. The last frame of a compressed message ends after all of its inflated data.
    FrameEnd,
    /// The message is complete, and was valid UTF-8 if it was text.
    End,
    /// A ping, with the payload its pong must carry (RFC 6455, 5.5.3), at most 125 bytes.
    Ping(&'a [u8]),
    /// A pong, asked for or not, at most 125 bytes.
    Pong(&'a [u8]),
    /// The peer closes. What it sends after this is ignored.
    Close(Option<CloseFrame<'a>>),
}
