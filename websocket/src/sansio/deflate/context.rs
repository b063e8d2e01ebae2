//! Compressors and decompressors: RFC 7692, section 7.2.

use std::{cell::RefCell, error::Error, fmt, rc::Rc};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Agreed;
use crate::sansio::Role;

/// What a sync flush ends with, and a message on the wire lacks (RFC 7692, 7.2.1).
const FLUSHED: &[u8] = b"\x00\x00\xff\xff";

/// The same, and a final empty block after it. zlib accepts it only where a message could end, which tells a message
/// that was cut off inside a block. Ends the stream, so is only for a context that is reset after each message.
const FLUSHED_AND_FINAL: &[u8] = b"\x00\x00\xff\xff\x01\x00\x00\xff\xff";

/// Final blocks in one message before it counts as corrupt: more than any peer that flushes with them (RFC 7692,
/// 7.2.3.4) needs, few enough that resetting after each is nothing to be flooded with.
const MAX_STREAMS: u32 = 1024;

/// Spare contexts kept of either kind: messages are handled one at a time, only streamed ones hold theirs for longer.
const MAX_SPARE: usize = 4;

/// Inflated bytes asked for at first: most messages, without a second step.
const FIRST_CHUNK: usize = 1024;

/// The (de)compressors that connections without context takeover share. A cheap clone of one set.
///
/// One set serves all connections of a thread, as [`Contexts::of_thread`] does.
#[derive(Clone, Default)]
pub struct Contexts(Rc<Spare>);

#[derive(Default)]
struct Spare {
    deflate: RefCell<Vec<(DeflateKey, Box<Compress>)>>,
    #[expect(clippy::vec_box, reason = "a connection without a context should not have the room for one either")]
    inflate: RefCell<Vec<Box<Decompress>>>,
}

/// Window bits and level.
type DeflateKey = (u8, u8);

impl Contexts {
    /// A new, empty set; contexts are made when first needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// This thread's own set.
    pub fn of_thread() -> Self {
        thread_local!(static CONTEXTS: Contexts = Contexts::new());
        CONTEXTS.with(Self::clone)
    }

    fn take_deflate(&self, key: DeflateKey) -> Box<Compress> {
        let mut spare = self.0.deflate.borrow_mut();
        match spare.iter().position(|(spare, _)| *spare == key) {
            Some(found) => spare.swap_remove(found).1,
            None => Box::new(Compress::new_with_window_bits(Compression::new(key.1.into()), false, key.0)),
        }
    }

    fn give_deflate(&self, key: DeflateKey, mut context: Box<Compress>) {
        let mut spare = self.0.deflate.borrow_mut();
        if spare.len() < MAX_SPARE {
            context.reset();
            spare.push((key, context));
        }
    }

    /// Always of the largest window, which reads what any smaller one wrote.
    fn take_inflate(&self) -> Box<Decompress> {
        self.0.inflate.borrow_mut().pop().unwrap_or_else(|| Box::new(Decompress::new(false)))
    }

    fn give_inflate(&self, mut context: Box<Decompress>) {
        let mut spare = self.0.inflate.borrow_mut();
        if spare.len() < MAX_SPARE {
            context.reset(false);
            spare.push(context);
        }
    }
}

impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contexts").finish_non_exhaustive()
    }
}

/// Compresses the messages of one connection.
#[derive(Debug)]
pub struct Deflater {
    contexts: Contexts,
    context: Option<Box<Compress>>,
    key: DeflateKey,
    takeover: bool,
    shortest: usize,
    longest: usize,
}

impl Deflater {
    /// The compressor of the side that is `role`.
    pub fn new(agreed: &Agreed, role: Role, contexts: &Contexts) -> Self {
        let (bits, no_takeover) = match role {
            Role::Server => (agreed.server_max_window_bits, agreed.server_no_context_takeover),
            Role::Client => (agreed.client_max_window_bits, agreed.client_no_context_takeover),
        };
        // zlib has no window of 2^8 bytes: asked for a raw one it takes 2^9, whose references such a peer cannot
        // follow. No reference reaches back further than the message it is in, though, if the window is reset before
        // it. So that peer gets its messages of up to 256 bytes compressed and longer ones as they are (RFC 7692, 6
        // lets a sender choose for each message); declining its offer would be no better for it.
        let tiny = bits < 9;
        Self {
            contexts: contexts.clone(),
            context: None,
            key: (bits.clamp(9, 15), agreed.level.min(9)),
            takeover: !no_takeover && !tiny,
            shortest: agreed.threshold.max(1),
            longest: if tiny { 256 } else { usize::MAX },
        }
    }

    /// Appends `payload`, compressed, to `out`, for a message whose first frame has RSV1 set.
    ///
    /// `false`: nothing was appended, and the message goes out as it is. It is too short
    /// ([`DeflateOptions::threshold`](super::DeflateOptions::threshold)), or did not get smaller.
    pub fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        if payload.len() < self.shortest || payload.len() > self.longest {
            return false;
        }
        let start = out.len();
        let mut context = self.context.take().unwrap_or_else(|| self.contexts.take_deflate(self.key));
        if flush(&mut context, payload, out).is_none() {
            // zlib reports an error only when misused; if it does, a new context starts over, which no peer can tell.
            out.truncate(start);
            return false;
        }
        if self.takeover {
            // What was compressed is in the window now: the peer must get it to have it in its own.
            self.context = Some(context);
            return true;
        }
        self.contexts.give_deflate(self.key, context);
        if out.len() - start >= payload.len() {
            out.truncate(start);
            return false;
        }
        true
    }
}

/// Compresses `payload` up to a byte boundary and takes the flush marker off the end.
fn flush(context: &mut Compress, payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut payload = payload;
    // Half is usual for text; a flush needs at least seven bytes of room to say that it is complete.
    out.reserve(payload.len() / 2 + 64);
    loop {
        let before = context.total_in();
        context.compress_vec(payload, out, FlushCompress::Sync).ok()?;
        payload = payload.get(usize::try_from(context.total_in() - before).ok()?..)?;
        if payload.is_empty() && out.len() < out.capacity() {
            break;
        }
        out.reserve(payload.len() + 64);
    }
    let length = out.strip_suffix(FLUSHED)?.len();
    out.truncate(length);
    Some(())
}

/// Decompresses the messages of one connection.
#[derive(Debug)]
pub struct Inflater {
    contexts: Contexts,
    context: Option<Box<Decompress>>,
    window_bits: u8,
    takeover: bool,
    /// The context has met a final block: it starts anew if anything follows.
    ended: bool,
    /// Final blocks met inside this message.
    streams: u32,
    /// Something of the message has come.
    begun: bool,
    /// How much of the tail has been fed after the message's own bytes.
    fed: u8,
}

impl Inflater {
    /// The decompressor of the side that is `role`.
    pub fn new(agreed: &Agreed, role: Role, contexts: &Contexts) -> Self {
        let (bits, no_takeover) = match role {
            Role::Server => (agreed.client_max_window_bits, agreed.client_no_context_takeover),
            Role::Client => (agreed.server_max_window_bits, agreed.server_no_context_takeover),
        };
        Self {
            contexts: contexts.clone(),
            context: None,
            // A larger window than agreed reads as well, and peers that agree on 8 and let zlib make it 9 need one.
            window_bits: bits.clamp(9, 15),
            takeover: !no_takeover,
            ended: false,
            streams: 0,
            begun: false,
            fed: 0,
        }
    }

    /// The message whose payload, all frames together, is `payload`.
    ///
    /// Stops when more than `limit` bytes have come out, and never holds more than that and one byte.
    ///
    /// # Errors
    ///
    /// [`InflateError`]. The connection is to be failed: with context takeover, what follows cannot be read either.
    pub fn inflate(&mut self, payload: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
        let inflated = self.inflate_whole(payload, limit);
        if inflated.is_err() {
            self.context = None;
            self.ended = false;
            self.streams = 0;
            self.begun = false;
            self.fed = 0;
        }
        inflated
    }

    fn inflate_whole(&mut self, payload: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
        let mut payload = payload;
        let mut out = Vec::new();
        make_room(&mut out, payload.len().saturating_mul(4).max(FIRST_CHUNK), limit)?;
        while !self.part(&mut payload, &mut out)? {
            make_room(&mut out, 0, limit)?;
        }
        while !self.finish(&mut out)? {
            make_room(&mut out, 0, limit)?;
        }
        if out.len() > limit { Err(InflateError::TooBig) } else { Ok(out) }
    }

    /// Inflates what fits the spare room of `out`, taking it off the front of `part`. True when `part` is used up and
    /// nothing more is to come out; false when `out` is full.
    pub(in crate::sansio) fn part(&mut self, part: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, InflateError> {
        self.begun |= !part.is_empty();
        let context = self.context.get_or_insert_with(|| match self.takeover {
            true => Box::new(Decompress::new_with_window_bits(false, self.window_bits)),
            false => self.contexts.take_inflate(),
        });
        loop {
            if self.ended {
                if part.is_empty() {
                    return Ok(true);
                }
                // RFC 7692, 7.2.3.4: a block may be final inside a message. What follows is a new stream.
                self.ended = false;
                self.streams += 1;
                if self.streams > MAX_STREAMS {
                    return Err(InflateError::Corrupt);
                }
                context.reset(false);
            }
            let before = context.total_in();
            let status = context.decompress_vec(part, out, FlushDecompress::None).map_err(|_| InflateError::Corrupt)?;
            let taken = usize::try_from(context.total_in() - before).unwrap_or(usize::MAX);
            *part = part.get(taken..).unwrap_or_default();
            if status == Status::StreamEnd {
                self.ended = true;
            } else if out.len() == out.capacity() {
                return Ok(false);
            } else if part.is_empty() {
                return Ok(true);
            } else if taken == 0 {
                return Err(InflateError::Corrupt); // room and input, yet no progress
            }
        }
    }

    /// The same for the end of the message. True when the message is complete.
    pub(in crate::sansio) fn finish(&mut self, out: &mut Vec<u8>) -> Result<bool, InflateError> {
        if !self.begun {
            // Not what RFC 7692, 7.2.3.6, makes of an empty message, but what zlib makes of one behind another. The tail
            // alone would be read as the beginning of the next message.
            return Ok(true);
        }
        let tail = tail(self.takeover);
        // RFC 7692, 7.2.3.4: a final block at the very end needs nothing after it.
        if !(self.ended && self.fed == 0) {
            let mut rest = tail.get(usize::from(self.fed)..).unwrap_or_default();
            let done = self.part(&mut rest, out);
            self.fed = (tail.len() - rest.len()) as u8;
            if !done? {
                return Ok(false);
            }
        }
        self.fed = 0;
        self.streams = 0;
        self.begun = false;
        if !self.takeover {
            if !std::mem::take(&mut self.ended) {
                return Err(InflateError::Corrupt);
            }
            if let Some(context) = self.context.take() {
                self.contexts.give_inflate(context);
            }
        }
        Ok(true)
    }
}

/// Why a message could not be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InflateError {
    /// It is larger than the limit given.
    TooBig,
    /// It is not a DEFLATE stream, or not one that ends where the message does.
    Corrupt,
}

impl Error for InflateError {}

impl fmt::Display for InflateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooBig => "inflated message is too big",
            Self::Corrupt => "deflated message is corrupt",
        })
    }
}

fn tail(takeover: bool) -> &'static [u8] {
    if takeover { FLUSHED } else { FLUSHED_AND_FINAL }
}

/// Doubles the room of a full `out`, or makes it `first`: to one byte more than `limit`, the one that gives an excess
/// away.
fn make_room(out: &mut Vec<u8>, first: usize, limit: usize) -> Result<(), InflateError> {
    if out.len() > limit {
        return Err(InflateError::TooBig);
    }
    out.reserve_exact(out.len().max(first).min((limit - out.len()).saturating_add(1)));
    Ok(())
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
