#![doc = include_str!("../README.md")]

// The reactor: everything of twistor-reactor.
pub use twistor_reactor::*;

// What speaks something on it.
pub use twistor_protocols as protocols;
pub use twistor_websocket as websocket;

/// The guide, one page a module: `getting_started`, `protocols_and_factories`, `websocket`, `websocket_client`,
/// `websocket_limits`, `testing`, `deployment`. The files lie in `docs/guide/`.
pub mod guide {
    #[doc = include_str!("guide/getting-started.md")]
    pub mod getting_started {}

    #[doc = include_str!("guide/protocols-and-factories.md")]
    pub mod protocols_and_factories {}

    #[doc = include_str!("guide/websocket.md")]
    pub mod websocket {}

    #[doc = include_str!("guide/websocket-client.md")]
    pub mod websocket_client {}

    #[doc = include_str!("guide/websocket-limits.md")]
    pub mod websocket_limits {}

    #[doc = include_str!("guide/testing.md")]
    pub mod testing {}

    #[doc = include_str!("guide/deployment.md")]
    pub mod deployment {}
}
