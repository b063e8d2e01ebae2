//! A WebSocket client: says hello, and prints what comes.
//!
//!     cargo run --example client                        # to ws://localhost:8000, the chat_server
//!     cargo run --example client -- ws://localhost:9000/somewhere
//!
//! It is Autobahn's kind of client, in Autobahn's names: `on_open`, `on_message(payload, is_binary)`.

use std::error::Error;

use twistor::websocket::{AutobahnFactory, AutobahnProtocol, WebSocket, WebSocketClientFactory};
use twistor::{Address, ClientFactory, Connector, Factory, Failure, Reactor};

struct MyWebSocketClientProtocol;

impl AutobahnProtocol for MyWebSocketClientProtocol {
    fn on_open(&mut self, socket: &WebSocket) {
        socket.send_message("Hello, WebSocket Server!");
    }

    fn on_message(&mut self, _socket: &WebSocket, payload: &[u8], _is_binary: bool) {
        println!("Received message: {}", String::from_utf8_lossy(payload));
    }
}

struct MyWebSocketClientFactory;

impl Factory for MyWebSocketClientFactory {
    type Protocol = MyWebSocketClientProtocol;

    fn build_protocol(&mut self, _peer: &Address) -> Option<MyWebSocketClientProtocol> {
        Some(MyWebSocketClientProtocol)
    }
}

impl ClientFactory for MyWebSocketClientFactory {
    fn client_connection_failed(&mut self, connector: &Connector, reason: &Failure) {
        println!("Connection failed: {}", reason.get_error_message());
        connector.reactor().stop();
    }

    fn client_connection_lost(&mut self, connector: &Connector, reason: &Failure) {
        println!("Connection lost: {}", reason.get_error_message());
        connector.reactor().stop();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let url = std::env::args().nth(1).unwrap_or_else(|| "ws://localhost:8000".to_owned());
    let reactor = Reactor::new()?;
    let factory = WebSocketClientFactory::new(&url, AutobahnFactory(MyWebSocketClientFactory))?;
    let (host, port) = (factory.url().host.clone(), factory.url().port);
    reactor.connect_tcp(&host, port, factory);
    reactor.run()?;
    Ok(())
}
