//! `pump`: two protocols, joined in memory.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use super::memory_reactor::{MemoryReactor, start_in_memory};
use super::pipe::pair;
use crate::address::Address;
use crate::conn::Conn;
use crate::dispatch::ProtocolSlot;
use crate::protocol::Protocol;
use crate::transport::Transport;

/// Joins a server's and a client's protocol in memory: `twisted.test.iosim.connect`. Nothing moves until
/// [`Pump::flush`]; the server's `connection_made` comes first.
pub fn pump(server: impl Protocol, client: impl Protocol) -> Pump {
    Pump::with_chunks(server, client, usize::MAX)
}

/// What [`pump`] gives.
pub struct Pump {
    /// The reactor of both ends.
    pub reactor: MemoryReactor,
    /// The server's end.
    pub server: Transport,
    /// The client's end.
    pub client: Transport,
}

impl Pump {
    /// [`pump`], with at most `bytes` a read on both sides.
    pub fn with_chunks(server: impl Protocol, client: impl Protocol, bytes: usize) -> Self {
        let reactor = MemoryReactor::new();
        let address = |port| Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let (here, there) = (address(8000), address(50_000));
        let streams = pair([here.clone(), there.clone()], reactor.moved());
        streams.iter().for_each(|stream| stream.set_chunk(bytes));
        let [server_stream, client_stream] = streams;
        let server = Conn::open(&reactor.core, there, ProtocolSlot::new(Box::new(server)), None);
        let client = Conn::open(&reactor.core, here, ProtocolSlot::new(Box::new(client)), None);
        let ends = [(server.clone(), server_stream), (client.clone(), client_stream)];
        for (transport, stream) in ends {
            let start = move |reactor: &crate::Reactor| start_in_memory(&reactor.core, transport, Box::new(stream));
            reactor.core.call_soon(Box::new(start));
        }
        Self { reactor, server, client }
    }

    /// Carries bytes both ways, and runs what is queued, until nothing moves any more.
    pub fn flush(&self) {
        self.reactor.settle();
    }
}

impl fmt::Debug for Pump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pump(server: {:?}, client: {:?})", self.server, self.client)
    }
}
