//! The connections of a WebSocket resource: counted, limited, and found again for a shutdown.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;
use twistor_reactor::Transport;

use crate::closed::close_code;
use crate::observer::HandshakeFailure;
use crate::options::Options;
use crate::socket::WebSocket;

/// When a refused client may come again: long enough for some to have left, short enough to be served soon.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The reason in the Close of a shutdown.
pub(crate) const SHUTTING_DOWN: &str = "the server is shutting down";

/// Connections by address.
#[derive(Default)]
pub(crate) struct Tally(HashMap<IpAddr, usize>);

impl Tally {
    /// Counts one more, unless there are as many as may be.
    pub(crate) fn add(&mut self, address: IpAddr, most: usize) -> bool {
        let here = self.0.entry(address).or_default();
        let fits = *here < most;
        *here += usize::from(fits);
        if *here == 0 {
            self.0.remove(&address);
        }
        fits
    }

    pub(crate) fn remove(&mut self, address: IpAddr) {
        if let Some(here) = self.0.get_mut(&address) {
            *here -= 1;
            if *here == 0 {
                self.0.remove(&address);
            }
        }
    }
}

/// All connections of one resource, those in the handshake included.
#[derive(Default)]
pub(crate) struct Connections {
    places: RefCell<Slab<Place>>,
    by_address: RefCell<Tally>,
    undecided: Cell<usize>,
    pub(crate) closing: Cell<bool>,
    pub(crate) accepted: Cell<u64>,
    pub(crate) refused: Cell<u64>,
    pub(crate) on_empty: RefCell<Vec<Box<dyn FnOnce()>>>,
}

impl Connections {
    pub(crate) fn count(&self) -> usize {
        self.places.borrow().len()
    }

    /// The open ones, at this moment.
    pub(crate) fn sockets(&self) -> Vec<WebSocket> {
        let open = |(_, place): (usize, &Place)| match place {
            Place::Open(socket) => Some(socket.clone()),
            Place::New | Place::Undecided(_) => None,
        };
        self.places.borrow().iter().filter_map(open).collect()
    }

    /// The connections whose handshake is not decided.
    pub(crate) fn undecided(&self) -> Vec<Transport> {
        let undecided = |(_, place): (usize, &Place)| match place {
            Place::New | Place::Open(_) => None,
            Place::Undecided(transport) => Some(transport.clone()),
        };
        self.places.borrow().iter().filter_map(undecided).collect()
    }

    /// A place for one more, or why there is none.
    pub(crate) fn admit(
        self: &Rc<Self>,
        transport: &Transport,
        options: &Options,
    ) -> Result<Membership, HandshakeFailure> {
        if self.closing.get() {
            self.refused.set(self.refused.get() + 1);
            return Err(HandshakeFailure::ShuttingDown);
        }
        let full = options.max_connections.is_some_and(|most| self.count() >= most)
            || options.max_handshakes.is_some_and(|most| self.undecided.get() >= most);
        // counted by address only where that is limited: it costs memory for each address
        let limited = options.max_connections_per_address.zip(transport.peer().ip()).filter(|_| !full);
        let full = full || limited.is_some_and(|(most, address)| !self.by_address.borrow_mut().add(address, most));
        if full {
            self.refused.set(self.refused.get() + 1);
            return Err(HandshakeFailure::Busy);
        }
        let address = limited.map(|(_, address)| address);
        let key = self.places.borrow_mut().insert(Place::New);
        Ok(Membership { connections: self.clone(), key, address: address.map(Box::new) })
    }

    fn leave(&self, place: &Place) {
        self.undecided.set(self.undecided.get() - usize::from(place.is_undecided()));
    }
}

/// Who has a place.
enum Place {
    /// Just admitted.
    New,
    /// The application will say later whether it accepts.
    Undecided(Transport),
    Open(WebSocket),
}

impl Place {
    fn is_undecided(&self) -> bool {
        matches!(self, Self::Undecided(_))
    }
}

/// A connection's place among the connections; given up when dropped.
pub(crate) struct Membership {
    connections: Rc<Connections>,
    key: usize,
    /// Boxed: mostly there is none.
    address: Option<Box<IpAddr>>,
}

impl Membership {
    fn set(&self, place: Place) {
        self.connections.undecided.set(self.connections.undecided.get() + usize::from(place.is_undecided()));
        if let Some(slot) = self.connections.places.borrow_mut().get_mut(self.key) {
            self.connections.leave(&std::mem::replace(slot, place));
        }
    }

    /// The handshake waits for the application.
    pub(crate) fn undecided(&self, transport: &Transport) {
        self.set(Place::Undecided(transport.clone()));
    }

    /// The application has decided, and accepts.
    pub(crate) fn decided(&self) {
        self.set(Place::New);
    }

    /// Whether the server shuts down.
    pub(crate) fn is_closing(&self) -> bool {
        self.connections.closing.get()
    }

    /// The handshake is done.
    pub(crate) fn opened(&self, socket: &WebSocket) {
        self.set(Place::Open(socket.clone()));
        self.connections.accepted.set(self.connections.accepted.get() + 1);
        if self.is_closing() {
            // the shutdown began after the 101
            let _ = socket.lose_connection(close_code::GOING_AWAY, SHUTTING_DOWN);
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let removed = self.connections.places.borrow_mut().try_remove(self.key);
        removed.iter().for_each(|place| self.connections.leave(place));
        drop(removed);
        if let Some(address) = self.address.take() {
            self.connections.by_address.borrow_mut().remove(*address);
        }
        if self.connections.count() == 0 {
            let on_empty = self.connections.on_empty.take();
            on_empty.into_iter().for_each(|tell| tell());
        }
    }
}
