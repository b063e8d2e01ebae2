//! What a port from Twisted may rely on, promise by promise, through the crate's public API.
//!
//! `// P112` names an item of the parity list in docs/from-twisted.md. `// T46` numbers an attack or a fault, the same in
//! all crates; which it is, says the name of its test or the comment there. Most tests run in memory and virtual time;
//! those that need the kernel use loopback sockets, whose peers are plain `std::net` in threads, and give up after
//! seconds instead of hanging.

mod at_rest;
mod breaking;
mod carried;
mod closing;
mod common;
mod connectors;
mod corner_cases;
mod deferred;
mod endings;
mod factory;
mod failure;
mod faults;
mod half_close;
mod lifecycle;
mod listening;
mod producers;
mod random;
mod reading;
mod rule;
mod rule_world;
mod soak;
mod testing_doubles;
mod threads;
mod timers;
mod transport;
mod triggers;
mod watermarks;
