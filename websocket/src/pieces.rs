//! Messages that are sent in pieces.

use std::fmt;

use bytes::Bytes;

use crate::backlog::{Waiting, cost};
use crate::sansio::OpCode;
use crate::socket::WebSocket;

impl WebSocket {
    /// Begins a message that is sent in pieces, each a frame: `send_piece` any number of times, `end_message` last.
    /// Other messages, those of rooms too, wait until then, as [`Options::buffer`](crate::Options::buffer) and
    /// `overflow` say; a close does not, and they are dropped. Pings and pongs go between the pieces.
    ///
    /// # Errors
    /// [`MessageUnfinished`] when another one was begun.
    pub fn begin_message(&self, is_binary: bool) -> Result<(), MessageUnfinished> {
        if self.socket().unfinished.get().is_some() {
            return Err(MessageUnfinished::AlreadyBegun);
        }
        self.catch_up();
        self.socket().unfinished.set(Some(if is_binary { OpCode::Binary } else { OpCode::Text }));
        self.socket().plain.set(false);
        Ok(())
    }

    /// Sends a frame of the message that was begun, uncompressed. Text may be cut anywhere.
    ///
    /// # Errors
    /// [`MessageUnfinished`] when none was begun.
    pub fn send_piece(&self, payload: &[u8]) -> Result<(), MessageUnfinished> {
        self.write_piece(false, payload)
    }

    /// Sends the last frame of the message that was begun.
    ///
    /// # Errors
    /// [`MessageUnfinished`] when none was begun.
    pub fn end_message(&self, payload: &[u8]) -> Result<(), MessageUnfinished> {
        self.write_piece(true, payload)?;
        self.socket().unfinished.set(None);
        self.socket().backlog.borrow_mut().release();
        self.feed();
        if self.socket().drain_awaited.get() {
            self.socket().transport.notify_drained();
        }
        Ok(())
    }

    fn write_piece(&self, fin: bool, payload: &[u8]) -> Result<(), MessageUnfinished> {
        let opcode = self.socket().unfinished.get().ok_or(MessageUnfinished::NotBegun)?;
        self.socket().unfinished.set(Some(OpCode::Continuation));
        if !self.is_open() {
            return Ok(());
        }
        self.catch_up(); // a room's messages may overflow, and nothing follows a Close
        if !self.is_open() {
            self.count_dropped(u64::from(fin));
            return Ok(());
        }
        self.count_sent(u64::from(fin), payload.len());
        let socket = self.socket();
        if socket.transport.buffered() <= socket.high && !socket.backlog.borrow().is_ready() {
            self.write_frame(fin, false, opcode, payload);
            return Ok(());
        }
        if !self.make_room(cost(payload.len())) {
            // a message that has begun can only be finished or ended with its connection
            self.count_dropped(u64::from(fin));
            self.overflowed();
            return Ok(());
        }
        let payload = Bytes::copy_from_slice(payload);
        socket.backlog.borrow_mut().push_piece(Waiting::Frame { fin, opcode, payload });
        Ok(())
    }
}

/// Pieces of a message out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageUnfinished {
    /// `begin_message` while another one is unfinished.
    AlreadyBegun,
    /// `send_piece` or `end_message` before `begin_message`.
    NotBegun,
}

impl fmt::Display for MessageUnfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyBegun => "a message was begun before this one and has not ended",
            Self::NotBegun => "no message was begun",
        })
    }
}

impl std::error::Error for MessageUnfinished {}
