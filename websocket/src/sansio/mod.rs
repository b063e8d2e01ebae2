//! The WebSocket wire without input or output: RFC 6455 sections 5 to 8 and RFC 7692, bytes in and events out.
//!
//! Nothing here knows a socket, a clock or the reactor. [`Receiver`] turns received bytes into [`Event`]s and judges
//! the peer ([`FrameError`]); [`encode_header`], [`mask`] and [`ClosePayload`] make what is sent; [`deflate`]
//! negotiates and carries out permessage-deflate.
//!
//! ```
//! use twistor_websocket::sansio::{Event, Limits, MAX_HEADER, OpCode, Receiver, Role, encode_header, mask};
//!
//! // A client masks what it sends ...
//! let key = [0x37, 0xfa, 0x21, 0x3d];
//! let mut header = [0; MAX_HEADER];
//! let length = encode_header(&mut header, true, false, OpCode::Text, 5, Some(key));
//! let mut wire = header[..length].to_vec();
//! wire.extend_from_slice(b"Hello");
//! mask(&mut wire[length..], key);
//!
//! // ... and a server reads it, in place.
//! let mut receiver = Receiver::new(Role::Server, Limits::default());
//! let mut input = wire.as_mut_slice();
//! assert_eq!(receiver.next(&mut input), Ok(Some(Event::Text("Hello"))));
//! assert_eq!(receiver.next(&mut input), Ok(None));
//! ```

mod close;
pub mod deflate;
mod error;
mod event;
mod header;
pub(crate) mod large;
mod mask;
mod message;
mod receive;
mod stream;
mod utf8;

pub use close::{CloseFrame, ClosePayload, InvalidCloseCode, MAX_REASON};
pub use error::FrameError;
pub use event::{Delivery, Event, Limits, Role};
pub use header::{MAX_CONTROL_PAYLOAD, MAX_HEADER, OpCode, encode_header};
pub use mask::{copy_masked, mask, mask_at};
pub use receive::Receiver;
