//! The connections of a WebSocket resource: counted, limited, and found again for a shutdown.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;
use twistor_reactor::Address;

use crate::options::Options;
use crate::socket::WebSocket;

/// When a refused client may come again: long enough for some to have left, short enough to be served soon.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// All connections of one resource, those in the handshake included.
#[derive(Default)]
pub(crate) struct Connections {
    /// `None` until the handshake is done.
    sockets: RefCell<Slab<Option<WebSocket>>>,
    by_address: RefCell<HashMap<IpAddr, usize>>,
    pub(crate) closing: Cell<bool>,
    pub(crate) accepted: Cell<u64>,
    pub(crate) refused: Cell<u64>,
    pub(crate) on_empty: Cell<Option<Box<dyn FnOnce()>>>,
}

impl Connections {
    pub(crate) fn count(&self) -> usize {
        self.sockets.borrow().len()
    }

    /// The open ones, at this moment.
    pub(crate) fn sockets(&self) -> Vec<WebSocket> {
        self.sockets.borrow().iter().filter_map(|(_, socket)| socket.clone()).collect()
    }

    /// A place for one more, or when to come again.
    pub(crate) fn admit(self: &Rc<Self>, peer: &Address, options: &Options) -> Result<Membership, Duration> {
        // counted by address only where that is limited: the map costs memory for each address
        let address = options.max_connections_per_address.and_then(|_| peer.ip());
        let here = address.map_or(0, |address| self.by_address.borrow().get(&address).copied().unwrap_or(0));
        let full = options.max_connections.is_some_and(|most| self.count() >= most)
            || options.max_connections_per_address.is_some_and(|most| here >= most);
        if full || self.closing.get() {
            self.refused.set(self.refused.get() + 1);
            return Err(RETRY_AFTER);
        }
        if let Some(address) = address {
            *self.by_address.borrow_mut().entry(address).or_default() += 1;
        }
        let key = self.sockets.borrow_mut().insert(None);
        Ok(Membership { connections: self.clone(), key, address: address.map(Box::new) })
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
    /// The handshake is done.
    pub(crate) fn opened(&self, socket: &WebSocket) {
        if let Some(place) = self.connections.sockets.borrow_mut().get_mut(self.key) {
            *place = Some(socket.clone());
        }
        self.connections.accepted.set(self.connections.accepted.get() + 1);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let removed = self.connections.sockets.borrow_mut().try_remove(self.key);
        drop(removed);
        if let Some(address) = self.address.take() {
            let mut by_address = self.connections.by_address.borrow_mut();
            if let Some(count) = by_address.get_mut(&*address) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&*address);
                }
            }
        }
        if self.connections.count() == 0 {
            if let Some(on_empty) = self.connections.on_empty.take() {
                on_empty();
            }
        }
    }
}
