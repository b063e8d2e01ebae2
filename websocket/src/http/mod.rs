//! HTTP/1.1 as far as a WebSocket server needs it: from bytes to [`Request`]s, from [`Response`]s to bytes.
//!
//! Nothing here owns a socket, a reactor or a clock. Heads are parsed by `httparse` into the types of the `http` crate;
//! what this module adds is what those two leave to their users: limits, incremental reading, message framing
//! (RFC 9112, 6), the rules of connections (RFC 9112, 9) and an answer for every kind of bad request.

mod authority;
mod connection;
mod fields;
mod head;
mod request;
mod response;

// What its signatures name, so that users need not depend on the crate themselves.
pub use ::http::{HeaderMap, Method, StatusCode, Version};

pub use connection::{Connection, Limits};
pub use head::{HeadLimits, ResponseHead};
pub use request::Request;
pub use response::{InvalidHeader, Response};

pub(crate) use authority::Authority;
pub(crate) use fields::{excerpt, has_token, is_token, list, one, shown, write_field};
pub(crate) use head::{HeadError, HeadReader};
pub(crate) use response::{header_name, header_value};
