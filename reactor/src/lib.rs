//! A single-threaded reactor on mio with Twisted's `Protocol`, `Factory`, `Transport` and `Connector`.
//!
//! Sockets, time, threads and deferreds; not a byte of any protocol. Start at [`Reactor`] and [`Protocol`].
//!
//! # The one rule
//!
//! **A method of a handle never runs user code before it returns.** Handles ([`Reactor`], [`Transport`],
//! [`Connector`], [`ListeningPort`], [`DelayedCall`], [`Deferred`], [`Resolver`]) change a buffer or a flag, or append
//! to the reactor's queue; every callback starts from the loop, with no other callback on the stack. So a `RefCell`
//! borrow may be held over any handle call. The exception is named for it: [`ProtocolHandle::with`].

mod address;
mod carried;
mod clock;
mod conn;
mod connect;
mod core;
mod deferred;
mod dispatch;
mod ending;
mod error;
mod factory;
mod failure;
mod flushing;
mod listen;
mod outbox;
mod producer;
mod producing;
mod protocol;
mod reactor;
mod reading;
mod signals;
mod stream;
mod sys;
pub mod testing;
mod thread;
mod timers;
mod transport;
mod triggers;
mod turn;
mod writing;

// The loop, its time and its results.
pub use deferred::{Deferred, Resolver};
pub use reactor::Reactor;
pub use thread::{CallFromThreadError, ReactorHandle};
pub use timers::DelayedCall;
pub use triggers::{Phase, SystemEvent, TriggerId, TriggerResult};

// What users write.
pub use factory::{ClientFactory, Factory, for_protocol};
pub use producer::{Producer, Streaming};
pub use protocol::{Protocol, ProtocolHandle, WithError};

// Connections.
pub use address::Address;
pub use carried::{Carried, Carrier};
pub use connect::{ConnectInProgress, ConnectOptions, Connector, ConnectorState, WeakConnector};
pub use listen::{ListenAddress, ListenError, ListenOptions, ListeningPort};
pub use transport::{BufferLimits, ProducerRegistered, Transport};

// How things end.
pub use error::{
    AlreadyCalled, AlreadyCancelled, BufferOverflow, CallbackPanicked, ConnectBindError, ConnectError,
    ConnectionAborted, ConnectionClosed, ConnectionDone, ConnectionLost, ConnectionRefusedError, DNSLookupError,
    NoRouteError, NotConnectingError, NotListeningError, ReactorAlreadyRunning, ReactorNotRunning, ResolverDropped,
    TCPTimedOutError, TimeoutError, UserError,
};
pub use failure::Failure;
