//! Why connections end and calls fail: the exceptions of `twisted.internet.error`, with their exact texts.

use std::any::TypeId;
use std::error::Error;
use std::{fmt, io};

/// The text of an OS error as Python prints it: `111: Connection refused`.
fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(code) => format!("{code}: {}", text.split(" (os error").next().unwrap_or(&text)),
        None => text,
    }
}

macro_rules! reasons {
    ($( $(#[$doc:meta])* $name:ident: $message:literal $(, is $base:ident)* ;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name {
            detail: Option<String>,
            source: Option<io::Error>,
        }

        impl $name {
            /// Without arguments: Twisted's bare text.
            pub fn new() -> Self {
                Self::default()
            }

            /// With an argument, which follows the text after a colon.
            pub fn with_detail(detail: impl Into<String>) -> Self {
                Self { detail: Some(detail.into()), source: None }
            }
        }

        impl From<io::Error> for $name {
            fn from(error: io::Error) -> Self {
                Self { detail: Some(os_text(&error)), source: Some(error) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match &self.detail {
                    Some(detail) => write!(f, "{}: {detail}.", $message),
                    None => write!(f, "{}.", $message),
                }
            }
        }

        impl Error for $name {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                self.source.as_ref().map(|error| error as &(dyn Error + 'static))
            }
        }
    )*

    /// Whether `error` is of a class that Twisted derives from the one that `wanted` names.
    pub(crate) fn derives_from(error: &(dyn Error + 'static), wanted: TypeId) -> bool {
        $( if error.is::<$name>() {
            return false $( || wanted == TypeId::of::<$base>() )*;
        } )*
        false
    }
}}

reasons! {
    /// The connection was closed in an orderly way: by the peer's FIN, or by our own `lose_connection`.
    ConnectionDone: "Connection was closed cleanly", is ConnectionClosed;
    /// The connection broke: a reset, an I/O error, or the reactor stopped.
    ConnectionLost: "Connection to the other side was lost in a non-clean fashion", is ConnectionClosed;
    /// We called `abort_connection`.
    ConnectionAborted: "Connection was aborted locally using ITCPTransport.abortConnection",
        is ConnectionLost, is ConnectionClosed;
    /// More output was queued than the transport's hard cap allows ([`BufferLimits`](crate::BufferLimits)).
    BufferOverflow: "Output buffer overflowed", is ConnectionLost, is ConnectionClosed;
    /// A connection attempt failed for a reason that has no class of its own.
    ConnectError: "An error occurred while connecting";
    /// The local address of a client could not be bound.
    ConnectBindError: "Couldn't bind", is ConnectError;
    /// The network of the peer cannot be reached (ENETUNREACH).
    NoRouteError: "No route to host", is ConnectError;
    /// Nobody listens there (ECONNREFUSED).
    ConnectionRefusedError: "Connection was refused by other side", is ConnectError;
    /// The kernel gave up connecting (ETIMEDOUT).
    TCPTimedOutError: "TCP connection timed out", is ConnectError;
    /// `stop_connecting` was called.
    UserError: "User aborted connection", is ConnectError;
    /// The connector's own timeout passed.
    TimeoutError: "User timeout caused connection failure", is UserError, is ConnectError;
    /// A host name could not be resolved.
    DNSLookupError: "DNS lookup failed";
    /// `stop_connecting` on a connector that does not connect.
    NotConnectingError: "The Connector was not connecting when it was asked to stop connecting";
    /// `stop_listening` on a port that does not listen.
    NotListeningError: "The Port was not listening when it was asked to stop listening";
    /// `cancel`, `reset` or `delay` on a call that has run.
    AlreadyCalled: "Tried to cancel an already-called event";
    /// `cancel`, `reset` or `delay` on a call that was cancelled.
    AlreadyCancelled: "Tried to cancel an already-cancelled event";
    /// `run` inside `run`.
    ReactorAlreadyRunning: "The reactor is already running";
    /// The reactor that was to deliver a result is gone or has stopped.
    ReactorNotRunning: "The reactor is not running";
    /// A [`Resolver`](crate::Resolver) was dropped without having fired.
    ResolverDropped: "The result was given up: its Resolver was dropped";
}

/// The base class of [`ConnectionDone`], [`ConnectionLost`] and their kin: only for
/// `reason.check::<ConnectionClosed>()`.
#[derive(Debug)]
pub enum ConnectionClosed {}

/// A callback panicked; its connection was aborted for it. Twisted's "Unhandled Error".
#[derive(Debug)]
pub struct CallbackPanicked {
    message: String,
}

impl CallbackPanicked {
    pub(crate) fn new(payload: &(dyn std::any::Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "(no message)".to_owned());
        Self { message }
    }
}

impl fmt::Display for CallbackPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "A callback panicked: {}.", self.message)
    }
}

impl Error for CallbackPanicked {}
