//! What a [`Room`] has for a WebSocket and has not written yet: it comes before anything else that is written.

use crate::message::PreparedMessage;
use crate::room::Room;
use crate::socket::WebSocket;

impl WebSocket {
    /// From here on `room` has messages that come before anything else.
    #[inline]
    pub(crate) fn enlist(&self, room: &Room) {
        if self.socket().plain.replace(false) {
            self.socket().pending.set(Some(room.clone()));
        } else {
            self.enlist_with_care(room);
        }
    }

    #[inline(never)]
    fn enlist_with_care(&self, room: &Room) {
        let socket = self.socket();
        let pending = socket.pending.take();
        let already = pending.as_ref() == Some(room);
        socket.pending.set(pending);
        if !already && self.is_open() {
            self.catch_up(); // which may end it, and then what `room` has now is dropped, but nothing later
            if !self.is_open() {
                return self.count_dropped(1);
            }
            socket.plain.set(false);
            socket.pending.set(Some(room.clone()));
        }
    }

    /// Writes what a room has for this WebSocket, before something else is written.
    #[inline]
    pub(crate) fn catch_up(&self) {
        if let Some(room) = self.socket().pending.take() {
            self.socket().plain.set(self.is_plain());
            room.deliver(self);
        }
    }

    /// `room` is about to write what it has. `None`: it has nothing; else whether it may write frames just so.
    #[inline]
    pub(crate) fn settle(&self, room: &Room) -> Option<bool> {
        let socket = self.socket();
        let pending = socket.pending.take();
        if pending.as_ref() == Some(room) {
            socket.plain.set(self.is_plain());
            return Some(self.is_clear());
        }
        socket.pending.set(pending);
        None
    }

    /// Writes what a room has, which was sent while this WebSocket was open: what comes behind a message that overflows
    /// is dropped with it.
    pub(crate) fn send_all(&self, messages: &[PreparedMessage]) {
        for message in messages {
            if self.is_open() {
                self.send_prepared(message);
            } else {
                self.count_dropped(1);
            }
        }
    }
}
