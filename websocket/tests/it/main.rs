//! The behaviour of the WebSocket layer as its users and their peers see it: through the public API, over connections
//! in memory, in virtual time.
//!
//! Tests are named after the cases of a list of threats that the tests themselves spell out (`t28_...`); behaviour that
//! programs for Twisted and Autobahn rely on is marked `// P276`. Not here, or not as the list has it:
//!
//! * T19, the PROXY protocol, is not spoken by this crate: that it is refused and not believed is in `request_head.rs`;
//! * T5, how often a head is parsed, is counted in `src/http/head_tests.rs`;
//! * T44, T45, T51, T52, T54, T57 to T59, T64 and T70 are the reactor's (`reactor/tests/parity`); T46, T47, T49, T50,
//!   T55, T56, T60 and T69 are there, too, and here as far as WebSocket connections are concerned;
//! * T48, T53 and T66 need processes and sockets (the workspace's own `tests/it`), T66 is in `src/http`, too;
//! * T61, clients that come back all at once, is in `src/reconnect_tests.rs`;
//! * T65 and T67 are about TLS, which is not spoken.

mod support;

mod autobahn_dialect;
mod back_references;
mod client_limits;
mod closing;
mod compression;
mod connecting;
mod control;
mod dropping;
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
mod overflows;
mod panics;
mod pieces;
mod prepared;
mod producers;
mod proxy;
mod random;
mod reconnecting;
mod redirects;
mod request_head;
mod rooms;
mod sending;
mod shutdown;
mod site;
mod site_times;
mod slow_consumers;
mod utf8;
mod work;
mod wrapping;
