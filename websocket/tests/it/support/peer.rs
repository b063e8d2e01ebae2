//! A peer that speaks HTTP and frames by hand, as either end.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use tungstenite::handshake::derive_accept_key;
use twistor_reactor::testing::{MemoryPeer, MemoryReactor};

use super::frames::{Got, Wire};

/// The example of RFC 6455, 1.3, and the answer to it.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A handshake with these header lines beside the necessary ones.
pub(crate) fn upgrade(path: &str, extra: &[&str]) -> String {
    let necessary = [
        "Host: server.example",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    request("GET", path, &[&necessary, extra].concat())
}

/// A handshake that lacks one of the necessary lines.
pub(crate) fn without(name: &str) -> String {
    let head = upgrade("/", &[]);
    let kept: Vec<&str> = head.split("\r\n").filter(|line| !line.starts_with(&format!("{name}:"))).collect();
    kept.join("\r\n")
}

/// A request with these header lines and no other.
pub(crate) fn request(method: &str, path: &str, lines: &[&str]) -> String {
    let head = lines.iter().fold(format!("{method} {path} HTTP/1.1\r\n"), |head, line| head + line + "\r\n");
    head + "\r\n"
}

/// A GET of a page.
pub(crate) fn get(path: &str) -> String {
    request("GET", path, &["Host: server.example"])
}

/// An HTTP message that was received.
#[derive(Clone)]
pub(crate) struct Http {
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Http {
    /// Takes a whole one off the front; the body is as long as `Content-Length` says unless it answers a HEAD.
    fn take(input: &mut Vec<u8>, with_body: bool) -> Option<Self> {
        let end = input.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(input[..end].to_vec()).expect("a head of ASCII");
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let start = lines.next().expect("a start line").to_owned();
        let fields = lines.map(|line| line.split_once(": ").expect("a field"));
        let headers: Vec<_> = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut http = Self { start, headers, body: String::new() };
        let length = http.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        let length = if with_body { length } else { 0 };
        http.body = String::from_utf8_lossy(input.get(end..end + length)?).into_owned();
        input.drain(..end + length);
        Some(http)
    }

    pub(crate) fn status(&self) -> u16 {
        let status = self.start.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no status line: {self}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.start, self.headers, self.body)
    }
}

/// The peer. What it sends is delivered at once.
pub(crate) struct Peer {
    reactor: Rc<MemoryReactor>,
    wire: MemoryPeer,
    /// Whether the library is the server: then this end masks.
    masks: bool,
    came: RefCell<Vec<u8>>,
}

impl Peer {
    pub(crate) fn client(reactor: &Rc<MemoryReactor>, wire: MemoryPeer) -> Self {
        Self { reactor: reactor.clone(), wire, masks: true, came: RefCell::default() }
    }

    pub(crate) fn server(reactor: &Rc<MemoryReactor>, wire: MemoryPeer) -> Self {
        Self { masks: false, ..Self::client(reactor, wire) }
    }

    /// Sends bytes in one segment.
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes);
        self.reactor.settle();
    }

    /// Sends bytes one by one, each in a segment of its own.
    pub(crate) fn drip(&self, bytes: impl AsRef<[u8]>) {
        bytes.as_ref().iter().for_each(|byte| self.send([*byte]));
    }

    /// Sends frames in one segment, masked if this end has to.
    pub(crate) fn frames(&self, frames: &[Wire]) {
        self.send(self.encode(frames));
    }

    pub(crate) fn frame(&self, frame: &Wire) {
        self.frames(std::slice::from_ref(frame));
    }

    pub(crate) fn encode(&self, frames: &[Wire]) -> Vec<u8> {
        let encode = |frame: &Wire| if self.masks { frame.masked() } else { frame.plain() };
        frames.iter().flat_map(encode).collect()
    }

    fn receive(&self) -> std::cell::RefMut<'_, Vec<u8>> {
        let mut came = self.came.borrow_mut();
        came.extend(self.wire.received());
        came
    }

    /// All bytes that have come and were not looked at.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::mem::take(&mut *self.receive())
    }

    /// Takes all there is, and lets the library send what waited for that, until nothing more comes.
    pub(crate) fn drain(&self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let more = self.bytes();
            if more.is_empty() {
                return all;
            }
            all.extend(more);
            self.reactor.settle();
        }
    }

    /// The frames that have come; all of them are to be whole.
    pub(crate) fn got(&self) -> Vec<Got> {
        let mut came = self.receive();
        let frames = std::iter::from_fn(|| Got::take(&mut came)).collect();
        assert!(came.is_empty(), "{} bytes of a frame: {:02x?}", came.len(), &came[..came.len().min(64)]);
        frames
    }

    /// [`got`](Self::got), a line for each.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.got().iter().map(ToString::to_string).collect()
    }

    /// The Close that ends what came.
    pub(crate) fn closed_with(&self) -> (u16, String) {
        self.got().last().expect("no frame came").close()
    }

    /// The next response or request.
    pub(crate) fn http(&self) -> Http {
        let mut came = self.receive();
        Http::take(&mut came, true).unwrap_or_else(|| panic!("no HTTP: {}", came.escape_ascii()))
    }

    /// The next response, to a HEAD.
    pub(crate) fn http_without_body(&self) -> Http {
        Http::take(&mut self.receive(), false).expect("a response")
    }

    /// Sends a handshake, which is to be accepted.
    pub(crate) fn open(&self, path: &str, extra: &[&str]) -> Http {
        self.send(upgrade(path, extra));
        let response = self.http();
        assert_eq!(response.status(), 101, "{response}");
        response
    }

    /// As a server: accepts the handshake that has come; the request.
    pub(crate) fn accept(&self, extra: &[&str], early: &[Wire]) -> Http {
        let request = self.http();
        let key = request.header("Sec-WebSocket-Key").expect("a key");
        let mut response = switching(&derive_accept_key(key.as_bytes()), extra).into_bytes();
        response.extend(self.encode(early));
        self.send(response);
        request
    }

    /// The library has closed (FIN), behind all that came.
    pub(crate) fn saw_end(&self) -> bool {
        drop(self.receive());
        self.wire.saw_end()
    }

    /// The connection has ended, one way or the other.
    pub(crate) fn is_over(&self) -> bool {
        self.saw_end() || self.saw_reset()
    }

    /// Lets time pass.
    pub(crate) fn wait(&self, seconds: f64) {
        super::pass(&self.reactor, seconds);
    }

    pub(crate) fn settle(&self) {
        self.reactor.settle();
    }
}

/// A 101 with this key.
pub(crate) fn switching(accept: &str, extra: &[&str]) -> String {
    let accept = format!("Sec-WebSocket-Accept: {accept}");
    let necessary = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", &accept];
    [&necessary, extra].concat().join("\r\n") + "\r\n\r\n"
}

/// Its limits, and how it ends.
impl Deref for Peer {
    type Target = MemoryPeer;
    fn deref(&self) -> &MemoryPeer {
        &self.wire
    }
}
