//! A chat: every message goes to everybody. WebSocket clients and browsers, on one port.
//!
//!     cargo run --example chat_server                  # then open http://localhost:8000 in two windows
//!     cargo run --example chat_server -- --port 9000   # --port 0 takes a free one, --host says where to listen
//!
//! Talk to it with `cargo run --example client`, too. Ctrl-C or SIGTERM ends it, after it has said goodbye to all.

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use twistor::websocket::{Frame, Resource, Site, WebSocket, WebSocketProtocol, WebSocketResource, http::Response};
use twistor::{Address, Factory, Failure, Phase, Reactor, SystemEvent};

/// How long clients have to answer the goodbye.
const GRACE: Duration = Duration::from_secs(3);

type Clients = Rc<RefCell<Vec<WebSocket>>>;

struct MyWebSocketProtocol {
    clients: Clients,
}

impl MyWebSocketProtocol {
    fn send_message_to_all_clients(&self, message: &str) {
        for client in self.clients.borrow().iter() {
            client.send_message(message);
        }
    }
}

impl WebSocketProtocol for MyWebSocketProtocol {
    fn connection_made(&mut self, socket: &WebSocket) {
        self.clients.borrow_mut().push(socket.clone());
    }

    fn frame_received(&mut self, _socket: &WebSocket, frame: Frame<'_>) {
        let message = frame.decode();
        self.send_message_to_all_clients(&message);
    }

    fn connection_lost(&mut self, socket: &WebSocket, _reason: &Failure) {
        self.clients.borrow_mut().retain(|client| client != socket);
    }
}

#[derive(Default)]
struct MyWebSocketFactory {
    clients: Clients,
}

impl Factory for MyWebSocketFactory {
    type Protocol = MyWebSocketProtocol;

    fn build_protocol(&mut self, _peer: &Address) -> Option<MyWebSocketProtocol> {
        Some(MyWebSocketProtocol { clients: self.clients.clone() })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let (host, port) = arguments()?;
    let reactor = Reactor::new()?;

    // The root resource is the entrypoint for WebSockets, and the page that opens one.
    let ws_factory = MyWebSocketFactory::default();
    let chat = WebSocketResource::new(ws_factory);
    let everybody = chat.handle();
    let root = Resource::new().websocket(chat).render_get(|_request| Response::html(include_str!("chat.html")));

    let listening = reactor.listen_tcp(format!("{host}:{port}"), Site::new(root))?;
    println!("http://localhost:{}", listening.address().port().unwrap_or(port));

    // When it is told to stop: nobody new, goodbye to everybody, and some time to leave.
    reactor.add_system_event_trigger(Phase::Before, SystemEvent::Shutdown, move |reactor| {
        let gone = everybody.with_port(listening).shutdown(reactor, GRACE, Duration::ZERO);
        gone.add_callback(|late| late.iter().for_each(|client| eprintln!("{} had to be cut off", client.peer())))
    });
    reactor.run()?;
    Ok(())
}

/// `--host` and `--port`.
fn arguments() -> Result<(String, u16), Box<dyn Error>> {
    let (mut host, mut port) = ("127.0.0.1".to_owned(), 8000);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("host") => host = parser.value()?.to_string_lossy().into_owned(),
            lexopt::Arg::Long("port") => port = parser.value()?.to_string_lossy().parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok((host, port))
}
