//! The connections of a WebSocket resource: counted, limited, and found again for a shutdown.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;
use twistor_reactor::{Protocol, Transport};

use crate::closed::close_code;
use crate::observer::HandshakeFailure;
use crate::options::Options;
use crate::server::{Refused, busy};
use crate::socket::WebSocket;

/// When a refused client may come again: long enough for some to have left, short enough to be served soon.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The reason in the Close of a shutdown.
pub(crate) const SHUTTING_DOWN: &str = "the server is shutting down";

/// Connections by address.
#[derive(Default)]
pub(crate) struct Tally(HashMap<IpAddr, usize>);

/// What counts as one address: of IPv6 the /64, which the smallest customer has whole, and could go through.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        address => address,
    }
}

impl Tally {
    /// Counts one more, unless there are as many as may be.
    pub(crate) fn add(&mut self, address: IpAddr, most: usize) -> bool {
        let address = counted(address);
        let here = self.0.entry(address).or_default();
        let fits = *here < most;
        *here += usize::from(fits);
        if *here == 0 {
            self.0.remove(&address);
        }
        fits
    }

    pub(crate) fn remove(&mut self, address: IpAddr) {
        let address = counted(address);
        if let Some(here) = self.0.get_mut(&address) {
            *here -= 1;
            if *here == 0 {
                self.0.remove(&address);
            }
        }
    }
}

/// Told, once all are gone, who had to be cut off.
pub(crate) type OnEmpty = Box<dyn FnOnce(Vec<WebSocket>)>;

/// All connections of one resource, those in the handshake included.
#[derive(Default)]
pub(crate) struct Connections {
    places: RefCell<Slab<Place>>,
    by_address: RefCell<Tally>,
    undecided: Cell<usize>,
    /// Those that are waited for, but not counted.
    visiting: Cell<usize>,
    pub(crate) closing: Cell<bool>,
    pub(crate) accepted: Cell<u64>,
    pub(crate) refused: Cell<u64>,
    /// Those that a shutdown had to cut off.
    cut_off: RefCell<Vec<WebSocket>>,
    pub(crate) on_empty: RefCell<Vec<OnEmpty>>,
}

impl Connections {
    pub(crate) fn count(&self) -> usize {
        self.places.borrow().len() - self.visiting.get()
    }

    /// Whether there is nobody to wait for.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.borrow().is_empty()
    }

    /// The open ones, at this moment.
    pub(crate) fn sockets(&self) -> Vec<WebSocket> {
        let open = |(_, place): (usize, &Place)| match place {
            Place::Open(socket) => Some(socket.clone()),
            Place::New | Place::Visiting(_) | Place::Undecided(_) => None,
        };
        self.places.borrow().iter().filter_map(open).collect()
    }

    /// The connections that are no WebSockets.
    pub(crate) fn visitors(&self) -> Vec<Visitor> {
        let visiting = |(_, place): (usize, &Place)| match place {
            Place::New | Place::Open(_) => None,
            Place::Visiting(visitor) | Place::Undecided(visitor) => Some((**visitor).clone()),
        };
        self.places.borrow().iter().filter_map(visiting).collect()
    }

    /// The answer to one that is not served.
    pub(crate) fn refuse(&self, why: HandshakeFailure) -> Refused {
        self.refused.set(self.refused.get() + 1);
        (why, busy(why))
    }

    /// A place for a connection of the server's own port, from which a request is awaited.
    pub(crate) fn visit<P: Visits>(self: &Rc<Self>, transport: &Transport) -> Membership {
        self.seat(Place::Visiting(Visitor::new::<P>(transport)), None)
    }

    /// A place for one more, or why there is none.
    pub(crate) fn admit(self: &Rc<Self>, transport: &Transport, options: &Options) -> Result<Membership, Refused> {
        if self.closing.get() {
            return Err(self.refuse(HandshakeFailure::ShuttingDown));
        }
        let full = options.max_connections.is_some_and(|most| self.count() >= most)
            || options.max_handshakes.is_some_and(|most| self.undecided.get() >= most);
        // counted by address only where that is limited: it costs memory for each address
        let limited = options.max_connections_per_address.zip(transport.peer().ip()).filter(|_| !full);
        let full = full || limited.is_some_and(|(most, address)| !self.by_address.borrow_mut().add(address, most));
        if full {
            return Err(self.refuse(HandshakeFailure::Busy));
        }
        Ok(self.seat(Place::New, limited.map(|(_, address)| Box::new(address))))
    }

    fn seat(self: &Rc<Self>, place: Place, address: Option<Box<IpAddr>>) -> Membership {
        self.enter(&place);
        let key = self.places.borrow_mut().insert(place);
        Membership { connections: self.clone(), key, address }
    }

    fn enter(&self, place: &Place) {
        if let Some(counter) = self.counter(place) {
            counter.set(counter.get() + 1);
        }
    }

    fn leave(&self, place: &Place) {
        if let Some(counter) = self.counter(place) {
            counter.set(counter.get() - 1);
        }
    }

    fn counter(&self, place: &Place) -> Option<&Cell<usize>> {
        match place {
            Place::Visiting(_) => Some(&self.visiting),
            Place::Undecided(_) => Some(&self.undecided),
            Place::New | Place::Open(_) => None,
        }
    }
}

/// Who has a place. Small, for an open WebSocket keeps it: visitors are boxed.
enum Place {
    /// A request is awaited, or its refusal has yet to be read.
    Visiting(Box<Visitor>),
    /// Just admitted.
    New,
    /// The application will say later whether it accepts.
    Undecided(Box<Visitor>),
    Open(WebSocket),
}

/// The protocol of a connection that is no WebSocket.
pub(crate) trait Visits: Protocol {
    /// The server shuts down: answers 503, unless it has answered.
    fn turn_away(&mut self, transport: &Transport);
}

/// A connection that is no WebSocket, but is to hear of a shutdown.
#[derive(Clone)]
pub(crate) struct Visitor {
    transport: Transport,
    turn_away: fn(&Transport),
}

impl Visitor {
    fn new<P: Visits>(transport: &Transport) -> Box<Self> {
        let turn_away = |transport: &Transport| transport.protocol::<P>().post(P::turn_away);
        Box::new(Self { transport: transport.clone(), turn_away })
    }

    /// Has it told of the shutdown, from the queue.
    pub(crate) fn turn_away(&self) {
        (self.turn_away)(&self.transport);
    }

    /// Ends it now. A reset could destroy what it was told: that is for those who do not take it.
    pub(crate) fn cut_off(&self) {
        if self.transport.disconnecting() && self.transport.buffered() > 0 {
            return self.transport.abort_connection();
        }
        self.transport.set_close_timeout(Some(Duration::ZERO));
        self.transport.lose_connection();
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
        self.connections.enter(&place);
        if let Some(slot) = self.connections.places.borrow_mut().get_mut(self.key) {
            self.connections.leave(&std::mem::replace(slot, place));
        }
    }

    /// The handshake waits for the application; `P` does so.
    pub(crate) fn undecided<P: Visits>(&self, transport: &Transport) {
        let visitor = Visitor::new::<P>(transport);
        if self.is_closing() {
            visitor.turn_away(); // the shutdown began meanwhile
        }
        self.set(Place::Undecided(visitor));
    }

    /// The handshake is refused: it counts no more, but a shutdown waits until the peer has read why.
    pub(crate) fn refused<P: Visits>(&mut self, transport: &Transport) {
        self.forget_address();
        self.set(Place::Visiting(Visitor::new::<P>(transport)));
    }

    fn forget_address(&mut self) {
        if let Some(address) = self.address.take() {
            self.connections.by_address.borrow_mut().remove(*address);
        }
    }

    /// The answer of a server that shuts down.
    pub(crate) fn turn_away(&self) -> Refused {
        self.connections.refuse(HandshakeFailure::ShuttingDown)
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
        if let Some(Place::Open(socket)) = removed {
            if self.is_closing() && socket.has_timed_out() {
                self.connections.cut_off.borrow_mut().push(socket);
            }
        }
        self.forget_address();
        if self.connections.is_empty() {
            let (on_empty, cut_off) = (self.connections.on_empty.take(), self.connections.cut_off.take());
            on_empty.into_iter().for_each(|tell| tell(cut_off.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_ipv4() {
        let mut tally = Tally::default();
        let mut add = |address: &str| tally.add(address.parse().expect("an address"), 1);
        assert!(add("2001:db8:0:1::1"));
        assert!(!add("2001:db8:0:1:ffff::2"));
        assert!(add("2001:db8:0:2::1"));
        assert!(add("192.0.2.1"));
        assert!(!add("::ffff:192.0.2.1"));
        assert!(add("::ffff:192.0.2.2"));
        for address in ["2001:db8:0:1::3", "2001:db8:0:2::", "192.0.2.2", "::ffff:192.0.2.1"] {
            tally.remove(address.parse().expect("an address"));
        }
        assert!(tally.0.is_empty(), "{:?}", tally.0);
    }
}
