#![doc = include_str!("../README.md")]

pub use twistor_reactor::*;
pub use twistor_websocket as websocket;
