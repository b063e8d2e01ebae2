//! Both sides of the WebSocket opening handshake (RFC 6455, 4), and a client's way to it: URLs, redirects, proxies.
//!
//! Nothing here owns a socket, a reactor or a clock: requests and bytes in, decisions and bytes out.

mod client;
mod error;
mod host;
mod origin;
mod proxy;
mod reader;
mod redirect;
mod server;
mod tokens;
mod url;

pub use client::{Accepted, ClientRequest};
pub use error::{HandshakeError, Rejection};
pub use host::HostPolicy;
pub use origin::{InvalidOrigin, Origin, OriginPolicy};
pub use proxy::ProxyConnect;
pub use reader::ResponseReader;
pub(crate) use redirect::shown;
pub use redirect::{Redirect, RedirectError, RedirectPolicy, redirect_target};
pub use server::{Upgrade, check, is_upgrade, not_an_upgrade, response};
pub use tokens::tokens_match;
pub use url::{UrlError, WsUrl};
