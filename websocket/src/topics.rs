//! `Topics`: rooms by name.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::rc::Rc;

use crate::message::{AsMessage, PreparedMessage};
use crate::room::Room;
use crate::socket::WebSocket;

/// How many topics one WebSocket may subscribe to by default. Names come from peers, and each costs memory: enough for
/// a dashboard of everything, too few to fill a server.
const TOPICS_PER_SOCKET: usize = 1024;

/// Subscriptions of sockets that have gone are looked for when this many were made since the last time, or as many as
/// were found alive then, whichever is more.
const SUBSCRIPTIONS_BEFORE_SWEEP: usize = 64;

/// Publish and subscribe: each topic is a set of WebSockets, as a [`Room`](crate::Room), that is there while somebody
/// is subscribed. Cheap to clone; the clones are one. A WebSocket unsubscribes by itself when it closes.
///
/// Topics are names, compared byte by byte; no wildcards. No method runs user code, so each may be called from
/// anywhere, under any borrow.
///
/// ```
/// use twistor_websocket::{Frame, Topics, WebSocket, WebSocketProtocol};
///
/// struct Ticker { topics: Topics }
///
/// impl WebSocketProtocol for Ticker {
///     fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
///         match frame.decode().split_once(' ') {
///             Some(("subscribe", topic)) => {
///                 if let Err(error) = self.topics.subscribe(topic, socket) {
///                     socket.send_message(error.to_string());
///                 }
///             }
///             Some((topic, news)) => self.topics.publish(topic, news, Some(socket)),
///             None => {}
///         }
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Topics(Rc<RefCell<Subscriptions>>);

struct Subscriptions {
    topics: HashMap<Rc<str>, Room>,
    sockets: HashMap<WebSocket, Vec<Rc<str>>>,
    per_socket: usize,
    before_sweep: usize,
}

impl Topics {
    /// Without a topic; a WebSocket may subscribe to 1024.
    pub fn new() -> Self {
        Self::with_limit(TOPICS_PER_SOCKET)
    }

    /// `new` with another limit of topics a WebSocket.
    pub fn with_limit(per_socket: usize) -> Self {
        Self(Rc::new(RefCell::new(Subscriptions {
            topics: HashMap::new(),
            sockets: HashMap::new(),
            per_socket,
            before_sweep: SUBSCRIPTIONS_BEFORE_SWEEP,
        })))
    }

    /// Lets a WebSocket have what is published under `topic`; nothing happens if it has already, or is not open.
    ///
    /// # Errors
    /// [`TooManyTopics`] when it has subscribed to as many as it may.
    pub fn subscribe(&self, topic: &str, socket: &WebSocket) -> Result<(), TooManyTopics> {
        let (room, swept) = self.0.borrow_mut().subscribe(topic, socket)?;
        room.join(socket);
        drop(swept); // not inside the borrow: what a dead socket still owns may be the user's
        Ok(())
    }

    /// Ends a subscription. Whether there was one.
    pub fn unsubscribe(&self, topic: &str, socket: &WebSocket) -> bool {
        let room = self.0.borrow().topics.get(topic).cloned();
        let left = room.as_ref().is_some_and(|room| room.leave(socket));
        self.0.borrow_mut().unsubscribed(topic, socket);
        drop(room); // not inside the borrow, as above
        left
    }

    /// Ends all subscriptions of a WebSocket.
    pub fn unsubscribe_all(&self, socket: &WebSocket) {
        for topic in self.topics_of(socket) {
            self.unsubscribe(&topic, socket);
        }
    }

    /// Sends a message to all subscribers of `topic`, but to `except`, usually the one it came from. It is encoded
    /// once.
    pub fn publish(&self, topic: &str, message: impl AsMessage, except: Option<&WebSocket>) {
        if let Some(room) = self.room(topic) {
            room.broadcast_prepared(&PreparedMessage::new(message), except);
        }
    }

    /// Sends a message that is prepared already, for those who publish it under several topics.
    pub fn publish_prepared(&self, topic: &str, message: &PreparedMessage, except: Option<&WebSocket>) {
        if let Some(room) = self.room(topic) {
            room.broadcast_prepared(message, except);
        }
    }

    /// The subscribers of a topic, if there are any; else it is forgotten.
    fn room(&self, topic: &str) -> Option<Room> {
        let room = self.0.borrow().topics.get(topic).cloned()?;
        if room.is_empty() {
            self.0.borrow_mut().topics.remove(topic);
            return None;
        }
        Some(room)
    }

    /// The topics that a WebSocket is subscribed to, in the order it did.
    pub fn topics_of(&self, socket: &WebSocket) -> Vec<Rc<str>> {
        let subscriptions = self.0.borrow();
        let topics = subscriptions.sockets.get(socket).filter(|_| socket.is_open());
        topics.cloned().unwrap_or_default()
    }

    /// The subscribers of a topic at this moment.
    pub fn subscribers(&self, topic: &str) -> Vec<WebSocket> {
        self.0.borrow().topics.get(topic).map_or_else(Vec::new, Room::members)
    }

    /// The topics that have subscribers, in no particular order.
    pub fn topics(&self) -> Vec<Rc<str>> {
        let subscriptions = self.0.borrow();
        let alive = subscriptions.topics.iter().filter(|(_, room)| !room.is_empty());
        alive.map(|(topic, _)| topic.clone()).collect()
    }
}

impl Subscriptions {
    /// The room to join, and what was swept out.
    fn subscribe(&mut self, topic: &str, socket: &WebSocket) -> Result<(Room, Swept), TooManyTopics> {
        let topics = self.sockets.get(socket).map_or(&[][..], Vec::as_slice);
        if !socket.is_open() {
            return Ok(Default::default());
        }
        if topics.iter().any(|other| **other == *topic) {
            return Ok((self.topics.get(topic).cloned().unwrap_or_default(), Swept::default()));
        }
        if topics.len() >= self.per_socket {
            return Err(TooManyTopics { limit: self.per_socket });
        }
        let swept = if self.before_sweep == 0 { self.sweep() } else { Swept::default() };
        self.before_sweep -= 1;
        let name = self.topics.get_key_value(topic).map_or_else(|| Rc::from(topic), |(name, _)| name.clone());
        self.sockets.entry(socket.clone()).or_default().push(name.clone());
        Ok((self.topics.entry(name).or_default().clone(), swept))
    }

    fn unsubscribed(&mut self, topic: &str, socket: &WebSocket) {
        if self.topics.get(topic).is_some_and(Room::is_empty) {
            self.topics.remove(topic);
        }
        if let Some(topics) = self.sockets.get_mut(socket) {
            topics.retain(|other| **other != *topic);
            if topics.is_empty() {
                self.sockets.remove(socket);
            }
        }
    }

    /// Takes out, and gives, the sockets that are not open any more, and the topics that are left without one.
    fn sweep(&mut self) -> Swept {
        let sockets: Vec<_> = self.sockets.keys().filter(|socket| !socket.is_open()).cloned().collect();
        let rooms: Vec<_> = self.topics.values().filter(|room| room.is_empty()).cloned().collect();
        self.sockets.retain(|socket, _| socket.is_open());
        self.topics.retain(|_, room| !room.is_empty());
        let alive = self.sockets.values().map(Vec::len).sum::<usize>();
        self.before_sweep = alive.max(SUBSCRIPTIONS_BEFORE_SWEEP);
        (sockets, rooms)
    }
}

/// What is to be dropped.
type Swept = (Vec<WebSocket>, Vec<Room>);

impl Default for Topics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topics({})", self.topics().len())
    }
}

/// A WebSocket has subscribed to as many topics as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyTopics {
    /// The limit.
    pub limit: usize,
}

impl fmt::Display for TooManyTopics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected at most {} topics, but one more was subscribed to", self.limit)
    }
}

impl Error for TooManyTopics {}

#[cfg(test)]
#[path = "topics_tests.rs"]
mod tests;
