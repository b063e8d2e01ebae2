//! RFC 6455 and RFC 7692 WebSocket for the twistor reactor: server, client, `Site` and `Resource`.
//!
//! Below, without input or output: [`sansio`] (frames, messages, compression), [`http`] and [`handshake`]. Above, on
//! the reactor: [`WebSocketProtocol`] is what you write; [`WebSocketServerFactory`], [`WebSocketResource`] and
//! [`WebSocketClientFactory`] adapt a factory of it; [`WebSocket`] is the handle.

mod autobahn;
mod backlog;
mod backoff;
mod channel;
mod client;
mod closed;
mod closing;
mod connections;
mod deciding;
mod endpoint;
mod following;
mod forwarding;
mod frames;
pub mod handshake;
pub mod http;
mod lookup;
mod message;
mod observer;
mod opening;
mod options;
mod pending;
mod pieces;
mod protocol;
mod reconnect;
mod reconnecting;
mod resource;
mod room;
pub mod sansio;
mod sending;
mod server;
mod server_handle;
mod session;
mod settings;
mod site;
mod socket;
mod topics;
mod twisted;
mod wrapping;

#[cfg(test)]
mod lobby;

// What users write, and what their callbacks get.
pub use message::{AsMessage, Frame, Message, PreparedMessage};
pub use pieces::MessageUnfinished;
pub use protocol::{Accept, Negotiation, Piece, Refusal, WebSocketProtocol};
pub use sending::ControlTooLong;
pub use socket::{WebSocket, WebSocketState};

// Servers and clients.
pub use channel::HttpChannel;
pub use client::{ClientError, ExtensionError, WebSocketClient, WebSocketClientFactory, connect_ws};
pub use endpoint::{WebSocketClientEndpoint, WhenConnected};
pub use following::RedirectRefused;
pub use lookup::{AnyWebSocketProtocol, lookup_protocol};
pub use options::{Options, Overflow};
pub use resource::Resource;
pub use server::{WebSocketResource, WebSocketServerFactory};
pub use server_handle::ServerHandle;
pub use site::{Site, SiteOptions};

// What is to be counted.
pub use observer::{HandshakeFailure, Observer, Traffic};

// Messages for many.
pub use room::Room;
pub use topics::{TooManyTopics, Topics};

// Clients that come back.
pub use backoff::ReconnectOptions;
pub use reconnect::{ReconnectingClientFactory, Reconnection, Retry};
pub use reconnecting::Reconnecting;

// Dialects.
pub use autobahn::{Autobahn, AutobahnFactory, AutobahnProtocol, AutobahnTransport};
pub use frames::{FrameMisuse, FrameReceiver, FrameTransport, Frames, FramesFactory, close_frame};
pub use twisted::{Twisted, TwistedFactory, TwistedProtocol, TwistedTransport};
pub use wrapping::{Wrapping, WrappingFactory};

// How things end.
pub use closed::{CloseStatus, Initiator, LimitExceeded, WebSocketClosed, close_code};
pub use sansio::InvalidCloseCode;
