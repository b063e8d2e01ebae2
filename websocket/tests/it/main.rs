//! The behaviour of the WebSocket layer as its users and their peers see it: through the public API, over connections in
//! memory, in virtual time.
//!
//! Tests are named after the cases of the project's list of threats (`t28_...`); behaviour that programs for Twisted and
//! Autobahn rely on is marked `// P276`.

mod support;

mod closing;
mod control;
mod framing;
mod handshake_server;
mod keepalive;
mod limits;
mod slow_consumers;
