//! Test doubles: a reactor without a poller, connections in memory, a clock turned by hand.
//!
//! They run the very code that sockets run; only the poller, the clock and the stream under a transport are others. The
//! library's own tests use them, and so may yours: no sockets, no sleeps, no threads.
//!
//! ```
//! use twistor_reactor::testing::MemoryReactor;
//! use twistor_reactor::{Protocol, Transport, for_protocol};
//!
//! struct Echo;
//! impl Protocol for Echo {
//!     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
//!         transport.write(data);
//!     }
//! }
//!
//! let reactor = MemoryReactor::new();
//! let port = reactor.listen_tcp(7, for_protocol(|| Echo)).unwrap();
//! let peer = reactor.connect_to(&port);
//! peer.send(b"hello");
//! reactor.settle();
//! assert_eq!(peer.received(), b"hello");
//! ```

mod memory_reactor;
mod pipe;
mod pump;
mod string_transport;

pub use memory_reactor::{Clock, MemoryReactor};
pub use pipe::MemoryPeer;
pub use pump::{Pump, pump};
pub use string_transport::StringTransport;

pub(crate) use memory_reactor::{MemoryDriver, start_in_memory};
