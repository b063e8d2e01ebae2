//! `Options`: every limit and timeout of a WebSocket, with its default and the reason for it.

use std::time::Duration;

use twistor_reactor::BufferLimits;

use crate::handshake::{HostPolicy, OriginPolicy};
use crate::http::HeadLimits;
use crate::sansio::{Limits, deflate::DeflateOptions};

/// How a server or a client treats its connections. Change what you need and leave the rest:
///
/// ```
/// use twistor_websocket::Options;
/// let options = Options { max_message: 64 * 1024, ..Options::default() };
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    /// The request's (server) or response's (client) head: 16 KiB in all, 8 KiB a line, 100 fields. For a
    /// [`WebSocketResource`](crate::WebSocketResource) the site's: [`SiteOptions::limits`](crate::SiteOptions::limits).
    pub head: HeadLimits,
    /// From the TCP connection to the end of the opening handshake, whatever trickles in meanwhile. Default 10 s, as
    /// uWebSockets, netty and Python's websockets have it; Autobahn's 5 s are few for a telephone. `None`: no limit.
    /// For a [`WebSocketResource`](crate::WebSocketResource) it limits what is decided [later](crate::Negotiation); the
    /// request has [`SiteOptions::request_timeout`](crate::SiteOptions::request_timeout).
    pub open_handshake_timeout: Option<Duration>,
    /// From our Close to the end of the connection. Default 5 s; Autobahn has 1 s, ws 30 s. `None`: no limit.
    pub close_handshake_timeout: Option<Duration>,
    /// The largest message that is taken in, in bytes, after inflation, in pieces or whole: default 1 MiB, as Python's
    /// websockets. A larger one ends the connection with 1009.
    pub max_message: usize,
    /// The largest frame, in bytes: default 1 MiB.
    pub max_frame: usize,
    /// The most frames a message may come in, empty ones counted: default 1024, so that a flood of nothing ends, with
    /// 1008.
    pub max_fragments: u32,
    /// A peer that has been silent for so long is pinged, after one and a half of it at the latest, for a connection is
    /// looked at twice in it: default 30 s, so that 45 s of silence are the most, below the idle timeouts of common
    /// proxies (60 s). Any byte from the peer is a sign of life. `None`: no pings.
    pub ping_interval: Option<Duration>,
    /// How long to wait for a sign of life after a ping: default 15 s. Output that the peer takes is one, too. While
    /// reading is [paused](crate::WebSocket::pause_producing) no answer could be heard, and none is missed.
    pub ping_timeout: Duration,
    /// For how long the peer may take hardly any of the output that waits: in each period of this length, default 15 s,
    /// all that waited at its beginning, or 256 bytes for each second of it. A peer that takes less is cut off. `None`:
    /// no limit.
    pub write_timeout: Option<Duration>,
    /// Whether connections that are not silent are pinged, too, every `ping_interval`: for the round-trip time of the
    /// busy ones. Default no: a ping and a pong each for a number that nobody may look at.
    pub ping_when_busy: bool,
    /// Output: above `high` (64 KiB) [`output_high`](crate::WebSocketProtocol::output_high) is called, at `low` (16
    /// KiB) [`output_drained`](crate::WebSocketProtocol::output_drained), and beyond `cap` (1 MiB) bytes waiting,
    /// [`overflow`](Self::overflow) decides about messages. Control frames are sent all the same.
    pub buffer: BufferLimits,
    /// What becomes of a message that finds the output full: default [`Overflow::Close`].
    pub overflow: Overflow,
    /// Control frames that a peer may send: default 100 a second, after 200 at once. More ends the connection, with
    /// 1008. 0: no limit.
    pub control_frames_per_second: u32,
    /// Server: which pages may connect, by `Origin`. Default [`OriginPolicy::SameOrigin`], against cross-site WebSocket
    /// hijacking; a client that is no browser sends none and may always connect.
    pub origins: OriginPolicy,
    /// Server: under which names it serves, by `Host`. Default any; a list protects from DNS rebinding.
    pub hosts: HostPolicy,
    /// The subprotocols that are spoken, the preferred first. A server takes its first that the client offers; a client
    /// offers them all. Default none.
    pub protocols: Vec<String>,
    /// permessage-deflate (RFC 7692): accepted by a server, offered by a client. Default `None`: it costs CPU that only
    /// pays where bandwidth is dear, and it makes secrets that share a message with a guess guessable (CRIME).
    pub compression: Option<DeflateOptions>,
    /// Server: connections at once, over all addresses; more are answered 503 with `Retry-After`. Default `None`.
    pub max_connections: Option<usize>,
    /// Server: connections at once from one IP address (of IPv6, from one /64), and apart from them handshakes in
    /// progress. Default `None`: behind a proxy all have one. In a site, requests in progress are limited by
    /// [`SiteOptions::max_requests_per_address`](crate::SiteOptions::max_requests_per_address).
    pub max_connections_per_address: Option<usize>,
    /// Server: opening handshakes in progress at once; more are answered 503 with `Retry-After`. Counted are
    /// connections from which a request is awaited and, apart, those whose answer is
    /// ([`Negotiation::Later`](crate::Negotiation)). Default 4096: 64 MiB of unfinished heads at worst, and as many as
    /// a server accepts in a tenth of a second, so that clients in a hurry do not meet it. `None`: no limit. In a site,
    /// requests are limited by [`SiteOptions::max_requests`](crate::SiteOptions::max_requests), and only those whose
    /// answer is awaited by this.
    pub max_handshakes: Option<usize>,
    /// Outgoing messages longer than this many bytes are sent in fragments of it (Autobahn's autoFragmentSize).
    /// Default `None`: never.
    pub auto_fragment: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            head: HeadLimits::default(),
            open_handshake_timeout: Some(Duration::from_secs(10)),
            close_handshake_timeout: Some(Duration::from_secs(5)),
            max_message: limits.max_message,
            max_frame: limits.max_frame,
            max_fragments: limits.max_fragments,
            ping_interval: Some(Duration::from_secs(30)),
            ping_timeout: Duration::from_secs(15),
            ping_when_busy: false,
            write_timeout: Some(Duration::from_secs(15)),
            buffer: BufferLimits { high: 64 * 1024, low: 16 * 1024, cap: 1024 * 1024 },
            overflow: Overflow::Close,
            control_frames_per_second: 100,
            origins: OriginPolicy::default(),
            hosts: HostPolicy::default(),
            protocols: Vec::new(),
            compression: None,
            max_connections: None,
            max_connections_per_address: None,
            max_handshakes: Some(4096),
            auto_fragment: None,
        }
    }
}

impl Options {
    pub(crate) fn limits(&self) -> Limits {
        Limits { max_message: self.max_message, max_frame: self.max_frame, max_fragments: self.max_fragments }
    }
}

/// What becomes of a message when the peer does not keep up, and it would make the output longer than
/// [`BufferLimits::cap`]. One message alone, with nothing waiting, is never too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The connection ends, with close code 1013 (try again later). The default: nobody misses a message unknowingly.
    #[default]
    Close,
    /// The new message is dropped, and counted ([`WebSocket::dropped`](crate::WebSocket::dropped)).
    DropNewest,
    /// The oldest messages that wait are dropped, and counted. What is in the hands of the kernel, or next, stays.
    DropOldest,
}
