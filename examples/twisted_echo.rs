//! An echo server as `twisted.web.websocket` (26.10) has it: a `WebSocketResource` in a `Site`, and its protocol's
//! names.
//!
//!     cargo run --example twisted_echo                 # on ws://127.0.0.1:8080/websocket
//!     cargo run --example twisted_echo -- --port 0     # on a free port, which it prints
//!
//! Try it with `cargo run --example client -- ws://127.0.0.1:8080/websocket`.

use std::error::Error;

use twistor::websocket::http::Response;
use twistor::websocket::{
    Resource, Site, TwistedFactory, TwistedProtocol, TwistedTransport, WebSocket, WebSocketResource,
};
use twistor::{Address, Factory, Failure, Reactor};

/// Sends back whatever comes, as it came.
struct Echo;

impl TwistedProtocol for Echo {
    fn negotiation_finished(&mut self, transport: &WebSocket) {
        println!("{}: connected", transport.peer());
        let pinged = transport.ping(b"are you there?");
        debug_assert!(pinged.is_ok(), "fewer than 126 bytes");
    }

    fn text_message_received(&mut self, transport: &WebSocket, message: &str) {
        transport.send_text_message(message);
    }

    fn bytes_message_received(&mut self, transport: &WebSocket, data: &[u8]) {
        transport.send_bytes_message(data);
    }

    fn pong_received(&mut self, transport: &WebSocket, payload: &[u8]) {
        println!("{}: pong to \"{}\"", transport.peer(), payload.escape_ascii());
    }

    fn connection_lost(&mut self, transport: &WebSocket, reason: &Failure) {
        println!("{}: {reason}", transport.peer());
    }
}

struct EchoFactory;

impl Factory for EchoFactory {
    type Protocol = Echo;

    fn build_protocol(&mut self, _peer: &Address) -> Option<Echo> {
        Some(Echo)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let reactor = Reactor::new()?;
    let websocket = WebSocketResource::new(TwistedFactory(EchoFactory));
    let mut root = Resource::new().render_get(|_| Response::text("the WebSocket is at /websocket\n"));
    root.put_child("websocket", Resource::new().websocket(websocket));
    let listening = reactor.listen_tcp(format!("127.0.0.1:{}", port()?), Site::new(root))?;
    println!("ws://{}/websocket", listening.address());
    reactor.run()?;
    Ok(())
}

/// The value of `--port`.
fn port() -> Result<u16, Box<dyn Error>> {
    let mut arguments = lexopt::Parser::from_env();
    let mut port = 8080;
    while let Some(argument) = arguments.next()? {
        match argument {
            lexopt::Arg::Long("port") => port = arguments.value()?.to_string_lossy().parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(port)
}
