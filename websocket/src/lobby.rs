//! For tests: a server in memory whose WebSockets are in the test's hands, and raw clients of it.

use std::cell::RefCell;
use std::rc::Rc;

use twistor_reactor::testing::{MemoryPeer, MemoryReactor};
use twistor_reactor::{Address, ListeningPort, for_protocol};

use crate::message::Frame;
use crate::options::Options;
use crate::protocol::WebSocketProtocol;
use crate::sansio::{MAX_HEADER, OpCode, copy_masked, encode_header};
use crate::server::WebSocketServerFactory;
use crate::socket::WebSocket;

/// A client's handshake, with the key of RFC 6455, 1.3.
pub(crate) const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

pub(crate) struct Lobby {
    pub(crate) reactor: MemoryReactor,
    port: ListeningPort,
    arrived: Rc<RefCell<Vec<WebSocket>>>,
}

struct Arrival(Rc<RefCell<Vec<WebSocket>>>);

impl WebSocketProtocol for Arrival {
    fn connection_made(&mut self, socket: &WebSocket) {
        self.0.borrow_mut().push(socket.clone());
    }

    fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {}
}

impl Lobby {
    pub(crate) fn new() -> Self {
        Self::with_options(Options::default())
    }

    pub(crate) fn with_options(options: Options) -> Self {
        let arrived = Rc::<RefCell<Vec<WebSocket>>>::default();
        let build = arrived.clone();
        let factory = for_protocol(move || Arrival(build.clone()));
        let reactor = MemoryReactor::new();
        let factory = WebSocketServerFactory::with_options(factory, options);
        let port = reactor.listen_tcp(80, factory).unwrap();
        Self { reactor, port, arrived }
    }

    /// A client whose handshake is done, and the server's handle of it.
    pub(crate) fn client(&self) -> (MemoryPeer, WebSocket) {
        let peer = shake_hands(&self.reactor, &self.port);
        let socket = self.arrived.borrow_mut().pop().unwrap();
        (peer, socket)
    }

    pub(crate) fn clients<const N: usize>(&self) -> [(MemoryPeer, WebSocket); N] {
        std::array::from_fn(|_| self.client())
    }
}

/// A client of any WebSocket server, its handshake done.
pub(crate) fn shake_hands(reactor: &MemoryReactor, port: &ListeningPort) -> MemoryPeer {
    let peer = reactor.connect_to(port);
    peer.send(UPGRADE);
    reactor.settle();
    assert!(peer.received().starts_with(b"HTTP/1.1 101 "));
    peer
}

/// A client's frame.
pub(crate) fn masked(opcode: OpCode, payload: &[u8], fin: bool) -> Vec<u8> {
    let (mut header, key) = ([0; MAX_HEADER], [1, 2, 3, 4]);
    let length = encode_header(&mut header, fin, false, opcode, payload.len(), Some(key));
    let mut frame = header[..length].to_vec();
    copy_masked(&mut frame, payload, key);
    frame
}

/// A server's text message of less than 126 bytes.
pub(crate) fn text(payload: &str) -> Vec<u8> {
    [&[0x81, payload.len() as u8], payload.as_bytes()].concat()
}

pub(crate) fn address() -> Address {
    std::net::SocketAddr::from(([127, 0, 0, 1], 50_000)).into()
}
