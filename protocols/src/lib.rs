//! Protocols of text and strings for the twistor reactor: what `twisted.protocols.basic` is to Twisted.
//!
//! A layer is an explicit adapter, a pair: [`Lines`] is a [`Protocol`](twistor_reactor::Protocol) around a protocol of
//! lines, [`LineFactory`] wraps a factory of those for `listen_tcp` and `connect_tcp`. What is written by hand
//! implements [`LineOnlyReceiver`], and sends through a [`LineTransport`].

mod lines;
mod splitter;

pub use lines::{LineFactory, LineOnlyReceiver, LineOptions, LineTransport, Lines};
