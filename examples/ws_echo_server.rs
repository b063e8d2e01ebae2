//! A WebSocket server for benchmarks and conformance suites: echoes, or sends every message to everybody.
//!
//!     cargo run --release --example ws_echo_server -- --port 9001
//!     cargo run --release --example ws_echo_server -- --port 9001 --mode broadcast
//!
//! Options: --host HOST (127.0.0.1), --port PORT (9001; 0 takes a free one), --mode echo | deflate (echo, with
//! permessage-deflate accepted) | broadcast (to a plain list) | room (to a [`Room`]), --max-message BYTES (64 MiB;
//! frames, fragments and output are bounded accordingly).

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;

use twistor::websocket::sansio::deflate::DeflateOptions;
use twistor::websocket::{Frame, Options, Room, WebSocket, WebSocketProtocol, WebSocketServerFactory};
use twistor::{BufferLimits, Failure, Reactor, for_protocol};

struct Echo;

impl WebSocketProtocol for Echo {
    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        socket.send_message(frame);
    }
}

struct Broadcast {
    clients: Rc<RefCell<Vec<WebSocket>>>,
}

impl WebSocketProtocol for Broadcast {
    fn connection_made(&mut self, socket: &WebSocket) {
        self.clients.borrow_mut().push(socket.clone());
    }

    fn frame_received(&mut self, _socket: &WebSocket, frame: Frame<'_>) {
        for client in self.clients.borrow().iter() {
            client.send_message(frame);
        }
    }

    fn connection_lost(&mut self, socket: &WebSocket, _reason: &Failure) {
        self.clients.borrow_mut().retain(|client| client != socket);
    }
}

struct Member {
    room: Room,
}

impl WebSocketProtocol for Member {
    fn connection_made(&mut self, socket: &WebSocket) {
        self.room.join(socket);
    }

    fn frame_received(&mut self, _socket: &WebSocket, frame: Frame<'_>) {
        self.room.broadcast(frame);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let (mut host, mut port, mut mode, mut max_message) =
        ("127.0.0.1".to_owned(), 9001_u16, "echo".to_owned(), 64 << 20);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("host") => host = parser.value()?.to_string_lossy().into_owned(),
            lexopt::Arg::Long("port") => port = parser.value()?.to_string_lossy().parse()?,
            lexopt::Arg::Long("mode") => mode = parser.value()?.to_string_lossy().into_owned(),
            lexopt::Arg::Long("max-message") => max_message = parser.value()?.to_string_lossy().parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    let options = Options {
        max_message,
        max_frame: max_message,
        max_fragments: 1 << 20, // the conformance suite sends 4 MiB in frames of 64 bytes
        buffer: BufferLimits { cap: max_message.saturating_mul(2), ..Options::default().buffer },
        compression: (mode == "deflate").then(DeflateOptions::default),
        ..Options::default()
    };
    let factory = match mode.as_str() {
        "echo" | "deflate" => WebSocketServerFactory::with_options(for_protocol(|| Echo), options),
        "broadcast" => {
            let clients = Rc::default();
            let build = move || Broadcast { clients: Rc::clone(&clients) };
            WebSocketServerFactory::with_options(for_protocol(build), options)
        }
        "room" => {
            let room = Room::new();
            let build = move || Member { room: room.clone() };
            WebSocketServerFactory::with_options(for_protocol(build), options)
        }
        other => return Err(format!("expected --mode echo, deflate, broadcast or room, got {other}").into()),
    };
    let reactor = Reactor::new()?;
    let listening = reactor.listen_tcp(format!("{host}:{port}"), factory)?;
    println!("ws://{}", listening.address());
    reactor.run()?;
    Ok(())
}
