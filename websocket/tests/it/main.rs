//! The behaviour of the WebSocket layer as its users and their peers see it: through the public API, over connections
//! in memory, in virtual time.
//!
//! Tests are named after the cases of a list of threats that the tests themselves spell out (`t28_...`); behaviour that
//! programs for Twisted and Autobahn rely on is marked `// P276`. Not here, or not as the list has it:
//!
//! * T19, the PROXY protocol, is not spoken by this crate: that it is refused and not believed is in `request_head.rs`;
//! * T5, how often a head is parsed, is counted in `src/http/head_tests.rs`;
//! * T44 to T61, T64 to T67, T69 and T70 are the reactor's (`reactor/tests/parity`);
//!   T46, T47, T49, T50 and T55 are here as far as frames are concerned.

mod support;

mod autobahn_dialect;
mod back_references;
mod client_limits;
mod closing;
mod compression;
mod control;
mod edges;
mod endpoint;
mod framing;
mod handshake_client;
mod handshake_server;
mod keepalive;
mod large;
mod limits;
mod log_lines;
mod logs;
mod lookup;
mod negotiation;
mod observer;
mod panics;
mod pieces;
mod prepared;
mod producers;
mod proxy;
mod redirects;
mod request_head;
mod sending;
mod shutdown;
mod site;
mod site_times;
mod slow_consumers;
mod utf8;
mod work;
mod wrapping;
