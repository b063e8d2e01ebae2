//! The parameters of permessage-deflate: RFC 7692, sections 5 and 7.1.

use std::{error::Error, fmt};

const NAME: &str = "permessage-deflate";
const SERVER_NO_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_BITS: &str = "server_max_window_bits";
const CLIENT_BITS: &str = "client_max_window_bits";

/// Offers looked at before the rest is declined: browsers make one, careful libraries three.
const MAX_OFFERS: usize = 16;

/// zlib cannot compress with a window of 2^8 bytes, and flate2 panics when asked to.
const MIN_BITS: u8 = 9;
const MAX_BITS: u8 = 15;

/// How this side wants messages compressed.
///
/// ```
/// use twistor_websocket::{Options, sansio::deflate::DeflateOptions};
///
/// // A few clients, and small messages that resemble each other: the window is worth its memory.
/// let deflate = DeflateOptions { server_no_context_takeover: false, threshold: 32, ..DeflateOptions::default() };
/// let options = Options { compression: Some(deflate), ..Options::default() }; // for a server or a client
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflateOptions {
    /// Whether the server forgets its LZ77 window after each message. Default true.
    ///
    /// Keeping it shrinks small messages that resemble each other much further, at 370 KiB for each connection's
    /// compressor here and 47 KiB for its decompressor there. uWebSockets' shared compressor makes the same choice; ws
    /// and Python's websockets make the other.
    pub server_no_context_takeover: bool,
    /// The same for the client. Default true.
    pub client_no_context_takeover: bool,
    /// The base-2 logarithm of the largest window the server compresses with, 9..=15; others are taken for the nearest.
    /// Default 15, DEFLATE's own.
    pub server_max_window_bits: u8,
    /// The same for the client. Default 15. A server can ask for less only of a client that offers to be asked.
    pub client_max_window_bits: u8,
    /// zlib's level, 1 (fast) to 9 (small). Default 1.
    ///
    /// What a JSON message of 1 KiB takes and shrinks to, and one of 64 KiB, without context takeover (2-core EPYC VM):
    ///
    /// | level | compress | inflate | of 1 KiB | compress | inflate | of 64 KiB |
    /// |---|---|---|---|---|---|---|
    /// | 1 | 2.6 µs | 1.0 µs | 43 % | 126 µs | 63 µs | 35 % |
    /// | 3 | 7.3 µs | 1.6 µs | 31 % | 265 µs | 58 µs | 23 % |
    /// | 6 | 7.6 µs | 1.6 µs | 31 % | 471 µs | 57 µs | 22 % |
    ///
    /// Level 1 saves most of what there is to save at 4 ns a byte; each byte that level 3 saves beyond it costs ten
    /// times as much. Where bandwidth is dear, take 3; more is rarely worth its time. (zlib's own default, which
    /// uWebSockets, ws and Python's websockets keep, is 6.)
    pub level: u8,
    /// Messages of fewer bytes go out as they are. Default 128.
    ///
    /// JSON of 64 bytes does not get smaller at all without context takeover, of 128 bytes a quarter smaller, of 256
    /// nearly half; and the packet around it has 60 bytes of its own. With takeover, where small messages shrink to a
    /// tenth, take less. (uWebSockets 0, ws 1024.)
    pub threshold: usize,
}

impl Default for DeflateOptions {
    fn default() -> Self {
        Self {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: MAX_BITS,
            client_max_window_bits: MAX_BITS,
            level: 1,
            threshold: 128,
        }
    }
}

impl DeflateOptions {
    fn server_bits(&self) -> u8 {
        self.server_max_window_bits.clamp(MIN_BITS, MAX_BITS)
    }

    fn client_bits(&self) -> u8 {
        self.client_max_window_bits.clamp(MIN_BITS, MAX_BITS)
    }
}

/// What both sides agreed on in the handshake, with this side's own choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The server resets its window after each message.
    pub server_no_context_takeover: bool,
    /// The client resets its window after each message.
    pub client_no_context_takeover: bool,
    /// The server's window is at most 2 to this power bytes, 8..=15.
    pub server_max_window_bits: u8,
    /// The client's window is at most 2 to this power bytes, 8..=15.
    pub client_max_window_bits: u8,
    /// See [`DeflateOptions::level`].
    pub level: u8,
    /// See [`DeflateOptions::threshold`].
    pub threshold: usize,
}

/// Chooses from what a client offers: the agreement, and the `Sec-WebSocket-Extensions` header that tells the client.
///
/// `headers` are the values of all the request's `Sec-WebSocket-Extensions` headers. The first acceptable offer wins
/// (RFC 7692, 5); offers of other extensions, of unknown parameters or of impossible values are passed over, and `None`
/// means to go on uncompressed. Takes time linear in the length of the headers, and looks at no more than 16 offers.
///
/// ```
/// # use twistor_websocket::sansio::deflate::{DeflateOptions, accept_offer};
/// let offers = ["permessage-deflate; client_max_window_bits"];
/// let (agreed, response) = accept_offer(offers, &DeflateOptions::default()).unwrap();
/// assert_eq!(response, "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
/// assert_eq!(agreed.client_max_window_bits, 15);
/// ```
pub fn accept_offer<'a>(
    headers: impl IntoIterator<Item = &'a str>,
    options: &DeflateOptions,
) -> Option<(Agreed, String)> {
    let offers = headers.into_iter().flat_map(|header| split(header, b','));
    offers.take(MAX_OFFERS).find_map(|offer| {
        let offered = Parameters::parse(offer?, Bits::Optional).ok()?;
        let client_bits = match offered.client_bits {
            // RFC 7692, 7.1.2.2: the server may limit the client's window only if the client offered that.
            None => MAX_BITS,
            Some(offered) => offered.unwrap_or(MAX_BITS).min(options.client_bits()),
        };
        let server_bits = offered.server_bits.unwrap_or(MAX_BITS).min(options.server_bits());
        let agreed = Agreed {
            server_no_context_takeover: offered.server_no_takeover || options.server_no_context_takeover,
            client_no_context_takeover: offered.client_no_takeover || options.client_no_context_takeover,
            server_max_window_bits: server_bits,
            client_max_window_bits: client_bits,
            level: options.level,
            threshold: options.threshold,
        };
        let response = Parameters {
            server_no_takeover: agreed.server_no_context_takeover,
            client_no_takeover: agreed.client_no_context_takeover,
            // RFC 7692, 7.1.2.1: an offered limit is accepted by including it.
            server_bits: (offered.server_bits.is_some() || server_bits < MAX_BITS).then_some(server_bits),
            client_bits: (client_bits < MAX_BITS).then_some(Some(client_bits)),
        };
        Some((agreed, response.to_string()))
    })
}

/// The `Sec-WebSocket-Extensions` header with which a client asks for compression.
pub fn offer(options: &DeflateOptions) -> String {
    let (server_bits, client_bits) = (options.server_bits(), options.client_bits());
    let offer = Parameters {
        server_no_takeover: options.server_no_context_takeover,
        client_no_takeover: options.client_no_context_takeover,
        server_bits: (server_bits < MAX_BITS).then_some(server_bits),
        // Always included: it lets the server choose a smaller window for us, which we can do.
        client_bits: Some((client_bits < MAX_BITS).then_some(client_bits)),
    };
    offer.to_string()
}

/// Judges a server's `Sec-WebSocket-Extensions` header against what [`offer`] asked for; `None` if it is empty.
///
/// # Errors
///
/// [`OfferError`] if the server names an extension that was not offered, or parameters that do not answer the offer.
/// The client then fails the connection (RFC 6455, 4.1; RFC 7692, 7.1).
pub fn check_response(value: &str, options: &DeflateOptions) -> Result<Option<Agreed>, OfferError> {
    if value.trim_matches([' ', '\t']).is_empty() {
        return Ok(None);
    }
    let mut extensions = split(value, b',');
    let first = extensions.next().flatten().ok_or(OfferError::Malformed)?;
    let response = Parameters::parse(first, Bits::Required)?;
    match extensions.next() {
        None => {}
        Some(None) => return Err(OfferError::Malformed),
        Some(Some(_)) => return Err(OfferError::UnrequestedExtension),
    }
    // RFC 7692, 7.1.1.1 and 7.1.2.1: a server accepts these two by including them.
    if options.server_no_context_takeover && !response.server_no_takeover {
        return Err(OfferError::Ignored(SERVER_NO_TAKEOVER));
    }
    let server_bits = response.server_bits.unwrap_or(MAX_BITS);
    if server_bits > options.server_bits() {
        return Err(OfferError::Ignored(SERVER_BITS));
    }
    let client_bits = response.client_bits.flatten().unwrap_or(MAX_BITS);
    Ok(Some(Agreed {
        server_no_context_takeover: response.server_no_takeover,
        client_no_context_takeover: response.client_no_takeover || options.client_no_context_takeover,
        server_max_window_bits: server_bits,
        client_max_window_bits: client_bits.min(options.client_bits()),
        level: options.level,
        threshold: options.threshold,
    }))
}

/// Why a server's answer to an offer of compression is unacceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfferError {
    /// An extension that was not offered, or permessage-deflate twice.
    UnrequestedExtension,
    /// A parameter that permessage-deflate does not have.
    UnknownParameter,
    /// A parameter of this name more than once.
    Duplicate(&'static str),
    /// A parameter of this name with a value it cannot have, or without one that it must have.
    InvalidValue(&'static str),
    /// A parameter of this name was asked for and is missing, or exceeds what was asked for.
    Ignored(&'static str),
    /// Not a list of extensions as RFC 6455, 9.1 defines it.
    Malformed,
}

impl Error for OfferError {}

impl fmt::Display for OfferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnrequestedExtension => f.write_str("extension was not requested"),
            Self::UnknownParameter => f.write_str("unknown permessage-deflate parameter"),
            Self::Duplicate(name) => write!(f, "permessage-deflate parameter {name} is repeated"),
            Self::InvalidValue(name) => write!(f, "permessage-deflate parameter {name} has an invalid value"),
            Self::Ignored(name) => write!(f, "permessage-deflate parameter {name} was requested and is not kept"),
            Self::Malformed => f.write_str("malformed list of extensions"),
        }
    }
}

/// Whether `client_max_window_bits` may stand without a value: in an offer, not in a response (RFC 7692, 7.1.2.2).
#[derive(Clone, Copy, PartialEq)]
enum Bits {
    Optional,
    Required,
}

/// An offer or response, parsed. `Display` is its header value.
#[derive(Default)]
struct Parameters {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: Option<u8>,
    client_bits: Option<Option<u8>>,
}

impl Parameters {
    fn parse(extension: &str, client_bits: Bits) -> Result<Self, OfferError> {
        let mut parts = split(extension, b';').map(|part| part.ok_or(OfferError::Malformed));
        match parts.next() {
            Some(Ok(name)) if name.eq_ignore_ascii_case(NAME) => {}
            Some(Err(error)) => return Err(error),
            _ => return Err(OfferError::UnrequestedExtension),
        }
        let mut found = Self::default();
        for part in parts {
            let part = part?;
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (trim(name), Some(unquote(trim(value)))),
                None => (part, None),
            };
            // RFC 7692, 7.1: decline an unknown parameter, an invalid value, and a name that occurs twice.
            if name.eq_ignore_ascii_case(SERVER_NO_TAKEOVER) {
                flag(&mut found.server_no_takeover, SERVER_NO_TAKEOVER, value)?;
            } else if name.eq_ignore_ascii_case(CLIENT_NO_TAKEOVER) {
                flag(&mut found.client_no_takeover, CLIENT_NO_TAKEOVER, value)?;
            } else if name.eq_ignore_ascii_case(SERVER_BITS) {
                let bits = value.and_then(window_bits).ok_or(OfferError::InvalidValue(SERVER_BITS))?;
                once(&mut found.server_bits, SERVER_BITS, bits)?;
            } else if name.eq_ignore_ascii_case(CLIENT_BITS) {
                let bits = value.and_then(window_bits);
                if bits.is_none() && (value.is_some() || client_bits == Bits::Required) {
                    return Err(OfferError::InvalidValue(CLIENT_BITS));
                }
                once(&mut found.client_bits, CLIENT_BITS, bits)?;
            } else {
                return Err(OfferError::UnknownParameter);
            }
        }
        Ok(found)
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if self.server_no_takeover {
            write!(f, "; {SERVER_NO_TAKEOVER}")?;
        }
        if self.client_no_takeover {
            write!(f, "; {CLIENT_NO_TAKEOVER}")?;
        }
        if let Some(bits) = self.server_bits {
            write!(f, "; {SERVER_BITS}={bits}")?;
        }
        match self.client_bits {
            None => Ok(()),
            Some(None) => write!(f, "; {CLIENT_BITS}"),
            Some(Some(bits)) => write!(f, "; {CLIENT_BITS}={bits}"),
        }
    }
}

fn flag(found: &mut bool, name: &'static str, value: Option<&str>) -> Result<(), OfferError> {
    match (value, std::mem::replace(found, true)) {
        (Some(_), _) => Err(OfferError::InvalidValue(name)),
        (None, true) => Err(OfferError::Duplicate(name)),
        (None, false) => Ok(()),
    }
}

fn once<T>(found: &mut Option<T>, name: &'static str, value: T) -> Result<(), OfferError> {
    match found.replace(value) {
        None => Ok(()),
        Some(_) => Err(OfferError::Duplicate(name)),
    }
}

/// RFC 7692, 7.1.2: a decimal integer from 8 to 15 without leading zeros.
fn window_bits(value: &str) -> Option<u8> {
    match value.as_bytes() {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// The content of a quoted string, or the value itself. No value that is looked for needs an escape.
fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Splits at a separator outside of quoted strings, each part trimmed and the empty ones of a list left out (RFC 9110,
/// 5.6.1). What follows an unclosed quote is one last `None`.
fn split(list: &str, separator: u8) -> impl Iterator<Item = Option<&str>> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        loop {
            let text = rest.take()?;
            let (mut quoted, mut escaped) = (false, false);
            let end = text.bytes().position(|byte| {
                match (quoted, byte) {
                    (true, _) if escaped => escaped = false,
                    (true, b'\\') => escaped = true,
                    (_, b'"') => quoted = !quoted,
                    (false, byte) if byte == separator => return true,
                    _ => {}
                }
                false
            });
            let part = match end {
                None if quoted => return Some(None),
                None => trim(text),
                Some(end) => {
                    // The separator is ASCII, so both sides of it are character boundaries.
                    rest = text.get(end + 1..);
                    trim(text.get(..end)?)
                }
            };
            if !part.is_empty() {
                return Some(Some(part));
            }
        }
    })
}

#[cfg(test)]
#[path = "negotiate_tests.rs"]
mod tests;
