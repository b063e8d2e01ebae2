//! Autobahn's `examples/twisted/websocket/broadcast/server.py`, statement by statement: every text message goes to
//! everybody, and once a second so does a tick. Listen with `cargo run --example client -- ws://127.0.0.1:9000`.
//!
//!     cargo run --example autobahn_broadcast_server                   # on ws://127.0.0.1:9000
//!     cargo run --example autobahn_broadcast_server -- --port 9001    # --port 0 takes a free one, which it prints
//!     cargo run --example autobahn_broadcast_server -- --prepared     # encodes each message once, for all

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use twistor::websocket::{AutobahnFactory, AutobahnProtocol, PreparedMessage, WebSocket, WebSocketServerFactory};
use twistor::{Reactor, for_protocol};

/// What the original's protocols reach as `self.factory`.
type SharedFactory = Rc<RefCell<BroadcastServerFactory>>;

struct BroadcastServerProtocol {
    factory: SharedFactory,
}

impl AutobahnProtocol for BroadcastServerProtocol {
    fn on_open(&mut self, socket: &WebSocket) {
        self.factory.borrow_mut().register(socket);
    }

    fn on_message(&mut self, socket: &WebSocket, payload: &[u8], is_binary: bool) {
        if !is_binary {
            let msg = format!("{} from {}", String::from_utf8_lossy(payload), socket.peer());
            self.factory.borrow().broadcast(&msg);
        }
    }

    fn on_close(&mut self, socket: &WebSocket, _was_clean: bool, _code: u16, _reason: &str) {
        self.factory.borrow_mut().unregister(socket);
    }
}

/// Simple broadcast server broadcasting any message it receives to all currently connected clients.
#[derive(Default)]
struct BroadcastServerFactory {
    clients: Vec<WebSocket>,
    tickcount: u64,
    prepared: bool,
}

impl BroadcastServerFactory {
    fn tick(&mut self) {
        self.tickcount += 1;
        self.broadcast(&format!("tick {} from server", self.tickcount));
    }

    fn register(&mut self, client: &WebSocket) {
        if !self.clients.contains(client) {
            println!("registered client {}", client.peer());
            self.clients.push(client.clone());
        }
    }

    fn unregister(&mut self, client: &WebSocket) {
        if self.clients.contains(client) {
            println!("unregistered client {}", client.peer());
            self.clients.retain(|other| other != client);
        }
    }

    fn broadcast(&self, msg: &str) {
        if self.prepared {
            return self.broadcast_prepared(msg);
        }
        println!("broadcasting message '{}' ..", msg.escape_debug());
        for c in &self.clients {
            c.send_message(msg);
            println!("message sent to {}", c.peer());
        }
    }

    /// The original's `BroadcastPreparedServerFactory`.
    fn broadcast_prepared(&self, msg: &str) {
        println!("broadcasting prepared message '{}' ..", msg.escape_debug());
        let prepared_msg = PreparedMessage::new(msg);
        for c in &self.clients {
            c.send_prepared(&prepared_msg);
            println!("prepared message sent to {}", c.peer());
        }
    }
}

/// `reactor.callLater(1, self.tick)`, again and again.
fn tick(reactor: &Reactor, factory: SharedFactory) {
    factory.borrow_mut().tick();
    let this = reactor.clone();
    reactor.call_later(Duration::from_secs(1), move || tick(&this, factory));
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let (mut port, mut prepared) = (9000_u16, false);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            lexopt::Arg::Long("port") => port = arguments.value()?.to_string_lossy().parse()?,
            lexopt::Arg::Long("prepared") => prepared = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let reactor = Reactor::new()?;
    let factory = SharedFactory::new(RefCell::new(BroadcastServerFactory { prepared, ..Default::default() }));
    let shared = factory.clone();
    let protocol = for_protocol(move || BroadcastServerProtocol { factory: shared.clone() });
    let listening =
        reactor.listen_tcp(format!("127.0.0.1:{port}"), WebSocketServerFactory::new(AutobahnFactory(protocol)))?;
    println!("listening on ws://{}", listening.address());
    tick(&reactor, factory);
    reactor.run()?;
    Ok(())
}
