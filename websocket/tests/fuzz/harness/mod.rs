//! What must hold for whatever a peer sends: one function a target, which panics when it does not.
//!
//! Both `cargo test` (`main.rs`, beside this directory) and `cargo fuzz` (the crate in `/fuzz`) run these functions. An
//! input is a few bytes of [`choices`](input::choices) - limits, options, where to cut - and then what the peer sends.

mod client_response;
mod deflate;
mod extensions;
mod frames;
mod http_head;
mod input;
mod oracle;
mod url;
mod utf8;
mod wire;

pub use client_response::client_response;
pub use deflate::deflate;
pub use extensions::extensions;
pub use frames::{client_frames, server_frames};
pub use http_head::http_head;
pub use url::url;
pub use utf8::utf8;

/// A harness, by the name of its fuzz target.
pub struct Target {
    pub name: &'static str,
    /// Panics when a property does not hold for the input.
    pub check: fn(&[u8]),
    /// Inputs that reach far, for mutation.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const TARGETS: [Target; 8] = [
    Target { name: "http_head", check: http_head, seeds: http_head::seeds },
    Target { name: "extensions", check: extensions, seeds: extensions::seeds },
    Target { name: "server_frames", check: server_frames, seeds: wire::server_seeds },
    Target { name: "client_frames", check: client_frames, seeds: wire::client_seeds },
    Target { name: "deflate", check: deflate, seeds: deflate::seeds },
    Target { name: "utf8", check: utf8, seeds: utf8::seeds },
    Target { name: "client_response", check: client_response, seeds: client_response::seeds },
    Target { name: "url", check: url, seeds: url::seeds },
];
