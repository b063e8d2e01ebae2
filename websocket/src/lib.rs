//! RFC 6455 and RFC 7692 WebSocket for the twistor reactor: server, client, `Site` and `Resource`.

#[doc(hidden)]
pub mod http;
mod handshake;
pub mod sansio;
