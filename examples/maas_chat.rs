//! A chat in the dialect of Twisted's ticket #4173, as MAAS and Spyne speak it: the protocol takes and sends frames.
//!
//!     cargo run --example maas_chat                    # then open http://localhost:8000 in two windows
//!     cargo run --example maas_chat -- --port 9000     # --port 0 takes a free one
//!
//! Talk to it with `cargo run --example client`, too.

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;

use twistor::websocket::http::Response;
use twistor::websocket::sansio::OpCode;
use twistor::websocket::{FrameReceiver, FrameTransport, FramesFactory, Resource, Site, WebSocket, close_frame};
use twistor::{Address, Factory, Failure, Reactor};

type Clients = Rc<RefCell<Vec<WebSocket>>>;

struct ChatProtocol {
    clients: Clients,
    /// The frames of a message that has not ended: at most as many bytes as a message may have.
    message: Vec<u8>,
}

impl ChatProtocol {
    fn message_received(&self, transport: &WebSocket, message: &[u8]) {
        let said = format!("{}: {}", transport.peer(), String::from_utf8_lossy(message));
        for client in self.clients.borrow().iter() {
            if let Err(error) = client.send_frame(OpCode::Text, said.as_bytes(), true) {
                log::error!("{error}");
            }
        }
    }
}

impl FrameReceiver for ChatProtocol {
    fn connection_made(&mut self, transport: &WebSocket) {
        self.clients.borrow_mut().push(transport.clone());
    }

    fn frame_received(&mut self, transport: &WebSocket, opcode: OpCode, data: &[u8], fin: bool) {
        match opcode {
            OpCode::Text | OpCode::Binary | OpCode::Continuation => {
                self.message.extend_from_slice(data);
                if fin {
                    let message = std::mem::take(&mut self.message);
                    self.message_received(transport, &message);
                }
            }
            OpCode::Close => {
                let (code, reason) = close_frame(data);
                println!("{}: closes with {code} \"{}\"", transport.peer(), reason.escape_debug());
            }
            OpCode::Ping | OpCode::Pong => println!("{}: {opcode}", transport.peer()),
        }
    }

    fn connection_lost(&mut self, transport: &WebSocket, _reason: &Failure) {
        self.clients.borrow_mut().retain(|client| client != transport);
    }
}

#[derive(Default)]
struct ChatFactory {
    clients: Clients,
}

impl Factory for ChatFactory {
    type Protocol = ChatProtocol;

    fn build_protocol(&mut self, _peer: &Address) -> Option<ChatProtocol> {
        Some(ChatProtocol { clients: self.clients.clone(), message: Vec::new() })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let port = port()?;
    let reactor = Reactor::new()?;
    let root = Resource::new()
        .websocket(FramesFactory(ChatFactory::default()))
        .render_get(|_request| Response::html(include_str!("chat.html")));
    let listening = reactor.listen_tcp(format!("127.0.0.1:{port}"), Site::new(root))?;
    println!("http://localhost:{}", listening.address().port().unwrap_or(port));
    reactor.run()?;
    Ok(())
}

/// The value of `--port`.
fn port() -> Result<u16, Box<dyn Error>> {
    let mut arguments = lexopt::Parser::from_env();
    let mut port = 8000;
    while let Some(argument) = arguments.next()? {
        match argument {
            lexopt::Arg::Long("port") => port = arguments.value()?.to_string_lossy().parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(port)
}
