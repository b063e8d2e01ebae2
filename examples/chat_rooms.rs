//! A chat with rooms: `/room/NAME` is the page of a room, and its WebSocket.
//!
//!     cargo run --example chat_rooms                   # then open http://localhost:8000/room/tea in two windows
//!     cargo run --example chat_rooms -- --port 9000    # --port 0 takes a free one
//!
//! Talk to a room with `cargo run --example client -- ws://localhost:8000/room/tea`, too. Ctrl-C or SIGTERM ends it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use twistor::websocket::http::{Request, Response};
use twistor::websocket::{Accept, Frame, Negotiation, Refusal, Resource, Room, Site};
use twistor::websocket::{WebSocket, WebSocketProtocol, WebSocketResource};
use twistor::{Failure, Phase, Reactor, SystemEvent, for_protocol};

/// How long guests have to answer the goodbye.
const GRACE: Duration = Duration::from_secs(3);

/// The longest name of a room, in bytes.
const MAX_NAME: usize = 64;

/// The rooms that somebody is in.
type Rooms = Rc<RefCell<HashMap<String, Room>>>;

struct Guest {
    rooms: Rooms,
    name: String,
    room: Room,
}

impl WebSocketProtocol for Guest {
    /// The path says which room.
    fn negotiate(&mut self, request: &Request) -> Negotiation {
        match request.path_segments().nth(1) {
            Some(name) if !name.is_empty() && name.len() <= MAX_NAME => {
                self.name = name.into_owned();
                Accept::default().into()
            }
            _ => Refusal::from(Response::not_found()).into(),
        }
    }

    fn connection_made(&mut self, socket: &WebSocket) {
        self.room = self.rooms.borrow_mut().entry(self.name.clone()).or_default().clone();
        self.room.broadcast(format!("{} enters {}", socket.peer(), self.name));
        self.room.join(socket);
        socket.send_message(format!("{} here", self.room.len()));
    }

    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        self.room.broadcast(format!("{}: {}", socket.peer(), frame.decode()));
    }

    /// The room has noticed already; only if it is empty it must be forgotten.
    fn connection_lost(&mut self, socket: &WebSocket, _reason: &Failure) {
        self.room.broadcast(format!("{} leaves", socket.peer()));
        if self.room.is_empty() {
            self.rooms.borrow_mut().remove(&self.name);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let port = port()?;
    let reactor = Reactor::new()?;

    let rooms = Rooms::default();
    let guests = for_protocol(move || Guest { rooms: rooms.clone(), name: String::new(), room: Room::new() });
    let websocket = WebSocketResource::new(guests);
    let everybody = websocket.handle();
    let room = Resource::new().leaf().websocket(websocket).render_get(|_| Response::html(include_str!("chat.html")));
    let mut root = Resource::new()
        .render_get(|_| Response::html("<a href='/room/tea'>tea</a> or <a href='/room/coffee'>coffee</a>"));
    root.put_child("room", room);

    let listening = reactor.listen_tcp(format!("127.0.0.1:{port}"), Site::new(root))?;
    println!("http://localhost:{}/room/tea", listening.address().port().unwrap_or(port));

    reactor.add_system_event_trigger(Phase::Before, SystemEvent::Shutdown, move |reactor| {
        everybody.with_port(listening).shutdown(reactor, GRACE, Duration::ZERO)
    });
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
