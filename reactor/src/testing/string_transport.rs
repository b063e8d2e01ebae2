//! `StringTransport`: a transport that keeps what is written to it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;

use super::memory_reactor::{MemoryReactor, start_in_memory};
use super::pipe::{MemoryStream, pair};
use crate::address::Address;
use crate::conn::Conn;
use crate::dispatch::ProtocolSlot;
use crate::transport::Transport;

/// A transport with no connection under it, for calling a protocol's methods by hand:
/// `twisted.internet.testing.StringTransport`. It dereferences to the [`Transport`] that callbacks want.
///
/// ```
/// use twistor_reactor::testing::StringTransport;
/// # use twistor_reactor::{Protocol, Transport};
/// # struct Echo;
/// # impl Protocol for Echo {
/// #     fn data_received(&mut self, transport: &Transport, data: &[u8]) { transport.write(data); }
/// # }
/// let transport = StringTransport::new();
/// Echo.data_received(&transport, b"abc");
/// assert_eq!(transport.value(), b"abc");
/// ```
pub struct StringTransport {
    reactor: MemoryReactor,
    transport: Transport,
    /// Kept, so that the connection seems to have another end.
    _far_end: MemoryStream,
}

impl StringTransport {
    /// Peer 192.168.1.1:54321, host 10.0.0.1:12345, as in Twisted.
    #[allow(clippy::new_without_default)] // as MemoryReactor::new
    pub fn new() -> Self {
        let reactor = MemoryReactor::new();
        let peer = Address::from(SocketAddr::from((Ipv4Addr::new(192, 168, 1, 1), 54321)));
        let host = Address::from(SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 12345)));
        let [stream, far_end] = pair([host, peer.clone()], reactor.moved());
        stream.block();
        let transport = Conn::open(&reactor.core, peer, ProtocolSlot::empty(), None);
        start_in_memory(&reactor.core, transport.clone(), Box::new(stream));
        Self { reactor, transport, _far_end: far_end }
    }

    /// Everything written since the last `clear`.
    pub fn value(&self) -> Vec<u8> {
        self.transport.conn().out.borrow().to_vec()
    }

    /// Forgets what was written.
    pub fn clear(&self) {
        self.transport.conn().out.borrow_mut().clear();
    }

    /// The reactor behind `transport.reactor()`: its clock, and `settle` for what waits in its queue.
    pub fn reactor(&self) -> &MemoryReactor {
        &self.reactor
    }
}

impl Deref for StringTransport {
    type Target = Transport;
    fn deref(&self) -> &Transport {
        &self.transport
    }
}

impl fmt::Debug for StringTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StringTransport({} bytes)", self.transport.buffered())
    }
}
