//! `Room`: messages for many.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::rc::Rc;

use bytes::Bytes;
use twistor_reactor::Transport;

use crate::message::{AsMessage, PreparedMessage};
use crate::sending::SHARE_FROM;
use crate::socket::WebSocket;

/// Members that have gone are looked for when this many have joined since the last time, or as many as were found open
/// then, whichever is more: so at least half of a large room is alive, and joining stays cheap.
const JOINS_BEFORE_PRUNING: usize = 16;

/// A room with fewer members writes at once: there is not enough to save.
const BATCH_FROM: usize = 8;

/// With as many bytes, or messages, the turn does not wait for its end.
const MAX_BATCH: usize = 64 * 1024;
const MAX_MESSAGES: usize = 1024;

/// A set of WebSockets that messages go to together: the tutorial's list of clients, which keeps itself. Cheap to
/// clone; the clones are one room.
///
/// A message is encoded once, whatever the number of members, and those of one turn of the loop are sent to each in one
/// piece, at the turn's end. A member leaves by itself when its WebSocket closes: it is
/// no longer counted or sent to at once, and forgotten by the next broadcast, or when others join.
///
/// No method runs user code, so each may be called from anywhere, under any borrow. Members receive in no particular
/// order; each receives the messages in the order they were sent to it, by whatever way.
///
/// ```
/// use twistor_websocket::{Frame, Room, WebSocket, WebSocketProtocol};
///
/// struct Chat { room: Room }
///
/// impl WebSocketProtocol for Chat {
///     fn connection_made(&mut self, socket: &WebSocket) {
///         self.room.join(socket);
///     }
///     fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
///         self.room.broadcast_except(socket, frame);
///     }
/// }
///
/// let room = Room::new();
/// let factory = move |_: &twistor_reactor::Address| Some(Chat { room: room.clone() });
/// # let _ = twistor_websocket::WebSocketServerFactory::new(factory);
/// ```
#[derive(Clone, Default)]
pub struct Room(Rc<RefCell<Members>>);

impl Room {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a WebSocket in; nothing happens if it is in already, or not open.
    pub fn join(&self, socket: &WebSocket) {
        let gone = self.0.borrow_mut().insert(socket);
        drop(gone); // not inside the borrow: what a dead socket still owns may be the user's
    }

    /// Takes a WebSocket out. Whether it was in.
    pub fn leave(&self, socket: &WebSocket) -> bool {
        socket.catch_up();
        let left = self.0.borrow_mut().remove(socket);
        left.is_some_and(|socket| socket.is_open())
    }

    /// Sends a message to all members: [`WebSocket::send_message`] to each, encoded once.
    pub fn broadcast(&self, message: impl AsMessage) {
        self.broadcast_prepared(&PreparedMessage::new(message), None);
    }

    /// Sends a message to all members but one, usually the one it came from.
    pub fn broadcast_except(&self, sender: &WebSocket, message: impl AsMessage) {
        self.broadcast_prepared(&PreparedMessage::new(message), Some(sender));
    }

    /// Sends all members the newest value of something: [`WebSocket::send_latest`] to each, encoded once.
    pub fn broadcast_latest(&self, key: u64, message: impl AsMessage) {
        let message = PreparedMessage::new(message);
        self.flush();
        self.0.borrow().open().for_each(|socket| socket.send_latest_prepared(key, &message));
    }

    /// Sends a message that is prepared already, for those who send it to several rooms.
    pub fn broadcast_prepared(&self, message: &PreparedMessage, except: Option<&WebSocket>) {
        let batched = self.0.borrow().batches(message);
        if !batched {
            self.flush();
            let gone = self.0.borrow_mut().send(message, except);
            return drop(gone);
        }
        // the excepted one must have what came before, to be passed over with this
        let except = except.filter(|socket| self.contains(socket));
        except.into_iter().for_each(WebSocket::catch_up);
        let mut members = self.0.borrow_mut();
        if members.turn.messages.is_empty() {
            let Some(transport) = members.connected() else {
                let gone = members.prune();
                drop(members);
                return drop(gone);
            };
            let due = Due(self.clone());
            transport.call_soon(move |_| drop(due));
        }
        members.enlist(self);
        let full = members.turn.push(message, except);
        drop(members);
        if full {
            self.flush();
        }
    }

    /// Writes to one member what it has not had, as it is about to be written to by others.
    #[inline(never)]
    pub(crate) fn deliver(&self, socket: &WebSocket) {
        let turn = &mut self.0.borrow_mut().turn;
        let had = turn.had.insert(socket.clone(), turn.messages.len()).unwrap_or(0);
        turn.behind.push(socket.clone());
        socket.send_all(&turn.messages[had..]);
    }

    /// Writes to all members what they have not had.
    fn flush(&self) {
        let gone = self.0.borrow_mut().flush(self);
        drop(gone); // the turn, too: it may hold the last of a member that has left
    }

    /// How many members there are: open ones, all looked at.
    pub fn len(&self) -> usize {
        self.0.borrow().open().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().open().next().is_none()
    }

    /// Whether a WebSocket is in.
    pub fn contains(&self, socket: &WebSocket) -> bool {
        socket.is_open() && self.0.borrow().contains(socket)
    }

    /// The members at this moment.
    pub fn members(&self) -> Vec<WebSocket> {
        self.0.borrow().open().cloned().collect()
    }
}

/// A room that writes when this is dropped: from the queue, or with the reactor.
struct Due(Room);

impl Drop for Due {
    fn drop(&mut self) {
        self.0.flush();
    }
}

impl PartialEq for Room {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Room {}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Room({} members)", self.len())
    }
}

/// WebSockets, packed for sending to all of them, and found again in constant time.
#[derive(Default)]
struct Members {
    sockets: Vec<WebSocket>,
    places: HashMap<WebSocket, usize>,
    joins_before_pruning: usize,
    turn: Turn,
}

/// The messages of this turn of the loop that are not written yet. All members are enlisted for them but those
/// `behind`.
#[derive(Default)]
struct Turn {
    messages: Vec<PreparedMessage>,
    /// The same as frames, one after the other, for all who take them as they are, and where each ends.
    frames: Vec<u8>,
    ends: Vec<usize>,
    /// How many of the messages a member has had, or is not to have, if not none.
    had: HashMap<WebSocket, usize>,
    /// Members that have had all, and are to be enlisted for the next.
    behind: Vec<WebSocket>,
}

impl Turn {
    /// Adds a message. Whether it is enough now.
    fn push(&mut self, message: &PreparedMessage, except: Option<&WebSocket>) -> bool {
        self.frames.extend_from_slice(message.frame());
        self.ends.push(self.frames.len());
        self.messages.push(message.clone());
        if let Some(socket) = except {
            self.had.insert(socket.clone(), self.messages.len());
        }
        self.frames.len() >= MAX_BATCH || self.messages.len() >= MAX_MESSAGES
    }
}

impl Members {
    /// Adds an open socket, once; gives those that had gone.
    fn insert(&mut self, socket: &WebSocket) -> Vec<WebSocket> {
        if !socket.is_open() || self.places.contains_key(socket) {
            return Vec::new();
        }
        let gone = match self.joins_before_pruning {
            0 => self.prune(),
            _ => Vec::new(),
        };
        self.joins_before_pruning -= 1;
        self.places.insert(socket.clone(), self.sockets.len());
        self.sockets.push(socket.clone());
        if !self.turn.messages.is_empty() {
            self.turn.had.insert(socket.clone(), self.turn.messages.len());
            self.turn.behind.push(socket.clone());
        }
        gone
    }

    fn remove(&mut self, socket: &WebSocket) -> Option<WebSocket> {
        let place = self.places.remove(socket)?;
        let removed = self.sockets.swap_remove(place);
        if let Some(moved) = self.sockets.get(place) {
            self.places.insert(moved.clone(), place);
        }
        Some(removed)
    }

    /// Sends to all but one; gives those that had gone.
    fn send(&mut self, message: &PreparedMessage, except: Option<&WebSocket>) -> Vec<WebSocket> {
        // split at the exception, not compared with it at each member
        let place = except.and_then(|socket| self.places.get(socket).copied());
        let (before, after) = match place {
            Some(place) => (&self.sockets[..place], &self.sockets[place + 1..]),
            None => (&self.sockets[..], &[][..]),
        };
        let mut all_open = true;
        // two plain loops: a chain of two iterators costs ten instructions more for each delivery
        for half in [before, after] {
            for socket in half {
                all_open &= socket.is_open();
                socket.send_prepared(message);
            }
        }
        if all_open { Vec::new() } else { self.prune() }
    }

    fn contains(&self, socket: &WebSocket) -> bool {
        self.places.contains_key(socket)
    }

    fn open(&self) -> impl Iterator<Item = &WebSocket> {
        self.sockets.iter().filter(|socket| socket.is_open())
    }

    fn batches(&self, message: &PreparedMessage) -> bool {
        self.sockets.len() >= BATCH_FROM && message.frame().len() < SHARE_FROM
    }

    /// A connection that is alive, and so is its reactor: one that is gone may have outlived it.
    fn connected(&self) -> Option<Transport> {
        self.sockets.iter().map(WebSocket::transport).find(|transport| transport.is_connected()).cloned()
    }

    /// Prepares for a message of this turn: nothing else is to overtake it.
    fn enlist(&mut self, room: &Room) {
        if self.turn.messages.is_empty() {
            self.sockets.iter().for_each(|socket| socket.enlist(room));
        } else {
            let behind = mem::take(&mut self.turn.behind);
            // some may have left since
            behind.iter().filter(|socket| self.places.contains_key(socket)).for_each(|socket| socket.enlist(room));
        }
    }

    /// Writes what this turn has brought; gives those that had gone.
    fn flush(&mut self, room: &Room) -> (Vec<WebSocket>, Turn) {
        let mut turn = mem::take(&mut self.turn);
        if turn.messages.is_empty() {
            return (Vec::new(), turn);
        }
        let frames = Bytes::from(mem::take(&mut turn.frames));
        let mut all_open = true;
        for socket in &self.sockets {
            all_open &= socket.is_open();
            let Some(clear) = socket.settle(room) else { continue };
            let clear = clear && socket.transport().buffered() + frames.len() <= socket.options().buffer.cap;
            let had = if turn.had.is_empty() { 0 } else { turn.had.get(socket).copied().unwrap_or(0) };
            match (clear, had) {
                (_, had) if had == turn.messages.len() => {}
                (true, 0) => socket.transport().write_now(&frames),
                (true, had) => socket.transport().write_now(&frames.slice(turn.ends[had - 1]..)),
                (false, had) => socket.send_all(&turn.messages[had..]),
            }
        }
        (if all_open { Vec::new() } else { self.prune() }, turn)
    }

    /// Takes out, and gives, those that are not open any more.
    fn prune(&mut self) -> Vec<WebSocket> {
        let mut gone = Vec::new();
        let mut place = 0;
        while let Some(socket) = self.sockets.get(place) {
            if socket.is_open() {
                place += 1;
                continue;
            }
            let socket = socket.clone();
            gone.extend(self.remove(&socket));
        }
        if self.sockets.len() < self.sockets.capacity() / 4 {
            self.sockets.shrink_to(self.sockets.len() * 2);
            self.places.shrink_to(self.sockets.len() * 2);
        }
        self.joins_before_pruning = self.sockets.len().max(JOINS_BEFORE_PRUNING);
        gone
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "room_proptests.rs"]
mod proptests;
