//! Autobahn's `examples/twisted/websocket/reconnecting/client.py`, statement by statement: a client that sends two
//! messages a second, and comes back whenever it loses its server.
//!
//!     cargo run --example autobahn_broadcast_server      # in one terminal; stop and start it
//!     cargo run --example reconnecting_client            # in another: to ws://127.0.0.1:9000
//!
//! Another URL may follow `--`.

use std::error::Error;
use std::time::Duration;

use twistor::websocket::handshake::Accepted;
use twistor::websocket::{
    AutobahnFactory, AutobahnProtocol, ReconnectingClientFactory, WebSocket, WebSocketClientFactory, connect_ws,
};
use twistor::{Address, ClientFactory, Connector, Factory, Failure, Reactor};

struct MyClientProtocol;

impl AutobahnProtocol for MyClientProtocol {
    /// The original calls `self.factory.resetDelay()` here. There is no need: a connection that lasts a minute resets
    /// it.
    fn on_connected(&mut self, socket: &WebSocket, _response: &Accepted) {
        println!("Server connected: {}", socket.peer());
    }

    fn on_open(&mut self, socket: &WebSocket) {
        println!("WebSocket connection open.");
        // start sending messages every second ..
        hello(socket);
    }

    fn on_message(&mut self, _socket: &WebSocket, payload: &[u8], is_binary: bool) {
        if is_binary {
            println!("Binary message received: {} bytes", payload.len());
        } else {
            println!("Text message received: {}", String::from_utf8_lossy(payload));
        }
    }

    fn on_close(&mut self, _socket: &WebSocket, _was_clean: bool, _code: u16, reason: &str) {
        println!("WebSocket connection closed: {}", reason.escape_debug());
    }
}

fn hello(socket: &WebSocket) {
    socket.send_text("Hello, world!");
    socket.send_binary(b"\x00\x01\x03\x04");
    if socket.is_open() {
        let this = socket.clone();
        socket.reactor().call_later(Duration::from_secs(1), move || hello(&this));
    }
}

struct MyClientFactory;

impl Factory for MyClientFactory {
    type Protocol = MyClientProtocol;

    fn build_protocol(&mut self, _peer: &Address) -> Option<MyClientProtocol> {
        Some(MyClientProtocol)
    }
}

/// The original calls `self.retry(connector)` in both; here what wraps this factory does.
impl ClientFactory for MyClientFactory {
    fn client_connection_failed(&mut self, _connector: &Connector, _reason: &Failure) {
        println!("Client connection failed .. retrying ..");
    }

    fn client_connection_lost(&mut self, _connector: &Connector, _reason: &Failure) {
        println!("Client connection lost .. retrying ..");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let url = std::env::args().nth(1).unwrap_or_else(|| "ws://127.0.0.1:9000".to_owned());
    let reactor = Reactor::new()?;
    let factory = ReconnectingClientFactory::new(AutobahnFactory(MyClientFactory));
    connect_ws(&reactor, WebSocketClientFactory::new(&url, factory)?);
    reactor.run()?;
    Ok(())
}
