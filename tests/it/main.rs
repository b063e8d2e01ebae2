//! The facade over loopback sockets: a reactor in one thread or process, and peers that are not ours in others.
//!
//! Nothing sleeps to be in step, and everything that waits gives up in time: [`support::bounded`].

mod addresses;
mod bad_input;
mod chat;
mod examples;
mod foreign_client;
mod foreign_server;
mod later;
mod memory;
mod proxy;
mod reactors;
mod shutdown;
mod slow_consumer;
mod support;
