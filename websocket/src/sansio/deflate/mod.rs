//! permessage-deflate: RFC 7692.
//!
//! A handshake agrees on the parameters ([`accept_offer`] on a server, [`offer`] and [`check_response`] on a client);
//! what they [`Agreed`] on makes a [`Deflater`] for what is sent and an [`Inflater`] for what is received.
//!
//! # Memory
//!
//! A zlib compressor holds 370 KiB with the default window (245 KiB with the smallest), a decompressor 47 KiB. Without
//! context takeover, the default here, a connection borrows them from [`Contexts`] for the duration of one message, so
//! that an idle compressed connection costs what a plain one does. With takeover each connection owns its own, from its
//! first compressed message on.

mod context;
mod negotiate;

pub use context::{Contexts, Deflater, InflateError, Inflater};
pub use negotiate::{Agreed, DeflateOptions, OfferError, accept_offer, check_response, offer};
