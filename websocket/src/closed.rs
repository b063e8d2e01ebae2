//! How a WebSocket ended.

use std::error::Error;
use std::fmt;

use twistor_reactor::Failure;

/// Close codes by name (RFC 6455, 7.4.1 and the registry of IANA).
pub mod close_code {
    /// The purpose is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server goes down, or the page is left.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A kind of data that is not taken.
    pub const UNSUPPORTED_DATA: u16 = 1003;
    /// Never sent: the Close had no code.
    pub const NO_STATUS: u16 = 1005;
    /// Never sent: there was no Close.
    pub const ABNORMAL: u16 = 1006;
    /// Text that is not UTF-8, or the like.
    pub const INVALID_PAYLOAD: u16 = 1007;
    /// A policy was violated.
    pub const POLICY_VIOLATION: u16 = 1008;
    /// A message was too big.
    pub const MESSAGE_TOO_BIG: u16 = 1009;
    /// The client wants an extension that the server did not agree to.
    pub const MANDATORY_EXTENSION: u16 = 1010;
    /// The server failed.
    pub const INTERNAL_ERROR: u16 = 1011;
    /// The server restarts.
    pub const SERVICE_RESTART: u16 = 1012;
    /// The server is overloaded, or this client too slow.
    pub const TRY_AGAIN_LATER: u16 = 1013;
    /// The server is a gateway, and what is behind it failed.
    pub const BAD_GATEWAY: u16 = 1014;
    /// Never sent: there was no TLS.
    pub const TLS_HANDSHAKE_FAILED: u16 = 1015;
}

/// Who began the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initiator {
    /// We did: `lose_connection`, or a violation of the peer's that we ended.
    Local,
    /// The peer's Close came first.
    Peer,
    /// Nobody: the connection broke.
    Network,
}

/// How a WebSocket ended, as Autobahn's `onClose(wasClean, code, reason)` says it.
///
/// ```
/// use twistor_websocket::{CloseStatus, Initiator, close_code};
///
/// fn farewell(status: &CloseStatus) -> String {
///     match (status.initiator, status.code) {
///         (Initiator::Peer, close_code::NORMAL | close_code::GOING_AWAY) => "has left".into(),
///         (Initiator::Peer, code) => format!("has left, with {code} {}", status.reason.escape_debug()),
///         (Initiator::Local, _) => "was sent away".into(), // with the code in `sent`
///         (Initiator::Network, _) => "is gone".into(), // without a Close from either: 1006
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseStatus {
    /// Whether both sides sent a Close.
    pub was_clean: bool,
    /// The peer's close code, 1005 if its Close had none; ours, if we ended the connection for a violation; else 1006.
    pub code: u16,
    /// The peer's reason, as it came: escape it before logging. After an unclean end, what happened.
    pub reason: String,
    /// Who began.
    pub initiator: Initiator,
    /// The code of our own Close, 1005 if it had none; `None`: we sent none.
    pub sent: Option<u16>,
}

impl fmt::Display for CloseStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.was_clean { "cleanly" } else { "uncleanly" };
        write!(f, "WebSocket connection was closed {how} with code {}", self.code)?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, " (\"{}\")", self.reason.escape_debug()) }
    }
}

/// The reason that [`WebSocketProtocol::connection_lost`](crate::WebSocketProtocol::connection_lost) gets:
/// `reason.value::<WebSocketClosed>()`. It was caused by the connection's own end, so that
/// `reason.check::<ConnectionDone>()` answers as for a plain protocol.
///
/// ```
/// use twistor_reactor::Failure;
/// use twistor_websocket::{LimitExceeded, WebSocket, WebSocketClosed};
/// # struct Chat;
/// # impl twistor_websocket::WebSocketProtocol for Chat {
/// # fn frame_received(&mut self, _: &WebSocket, _: twistor_websocket::Frame<'_>) {}
///
/// fn connection_lost(&mut self, socket: &WebSocket, reason: &Failure) {
///     let Some(WebSocketClosed { status, cause }) = reason.value() else { return };
///     println!("{status}, begun by {:?}", status.initiator); // the code, and the reason, escaped
///     if cause.check::<LimitExceeded>() {
///         println!("{} is too slow, or sends too much: {cause}", socket.peer());
///     } else if !status.was_clean {
///         println!("{} is gone: {cause}", socket.peer()); // what broke: the network, or the protocol
///     }
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct WebSocketClosed {
    /// How it ended.
    pub status: CloseStatus,
    /// What ended the connection below.
    pub cause: Failure,
}

impl fmt::Display for WebSocketClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status.fmt(f)
    }
}

impl Error for WebSocketClosed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// A limit of ours that a peer passed, apart from those of single frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitExceeded {
    /// Output waited, and would have grown beyond [`BufferLimits::cap`](twistor_reactor::BufferLimits::cap).
    Output,
    /// More control frames than [`Options::control_frames_per_second`](crate::Options::control_frames_per_second).
    ControlFrames,
    /// No sign of life after a ping.
    PingTimeout,
    /// No Close, or no end of the connection, after ours.
    CloseTimeout,
    /// No handshake in time.
    OpenTimeout,
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Output => "the peer does not keep up with the output",
            Self::ControlFrames => "expected fewer control frames a second",
            // Autobahn's words
            Self::PingTimeout => "WebSocket ping timeout (peer did not respond with pong in time)",
            Self::CloseTimeout => {
                "WebSocket closing handshake timeout (peer did not finish the closing handshake in time)"
            }
            Self::OpenTimeout => {
                "WebSocket opening handshake timeout (peer did not finish the opening handshake in time)"
            }
        })
    }
}

impl Error for LimitExceeded {}
