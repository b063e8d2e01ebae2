//! Ordinary protocols over a WebSocket.

mod flow;

use std::cell::RefCell;
use std::rc::Rc;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Failure, Protocol, Transport, for_protocol};
use twistor_websocket::{
    Options, WebSocketClientFactory, WebSocketClosed, WebSocketServerFactory, WrappingFactory, connect_ws,
};

use crate::support::{Peer, Wire, binary, close, ping, text};

type Told = Rc<RefCell<Vec<String>>>;

/// Obeys: "pause", "close", "abort", "big"; says everything else twice, as two messages.
struct Wrapped(Told, Made);

type Made = Rc<RefCell<Option<Transport>>>;

impl Wrapped {
    fn tell(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }
}

impl Protocol for Wrapped {
    fn connection_made(&mut self, transport: &Transport) {
        self.tell(format!("made {}", transport.peer()));
        *self.1.borrow_mut() = Some(transport.clone());
        transport.write("hello");
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.tell(match std::str::from_utf8(data) {
            Ok(text) if data.len() < 100 => format!("data {text}"),
            _ => format!("{} bytes", data.len()),
        });
        match data {
            b"pause" => transport.pause_producing(),
            b"close" => transport.lose_connection(),
            b"abort" => transport.abort_connection(),
            b"big" => (0..100).for_each(|index| transport.write(vec![index; 10_000])),
            data => {
                transport.write(data);
                transport.write(data);
            }
        }
    }

    fn connection_lost(&mut self, _: &Transport, reason: &Failure) {
        let closed = reason.value::<WebSocketClosed>();
        self.tell(format!("lost {reason} ({:?})", closed.map(|closed| closed.status.code)));
    }
}

struct Rig {
    reactor: Rc<MemoryReactor>,
    peer: Peer,
    told: Told,
    transport: Made,
}

fn rig(as_text: bool) -> Rig {
    let (reactor, told, transport) = (Rc::new(MemoryReactor::new()), Told::default(), Made::default());
    let (shared, made) = (told.clone(), transport.clone());
    let factory = for_protocol(move || Wrapped(shared.clone(), made.clone()));
    let factory = if as_text { WrappingFactory::text(factory) } else { WrappingFactory::new(factory) };
    let options = Options { max_message: 1 << 20, ..Options::default() };
    let port = reactor.listen_tcp(80, WebSocketServerFactory::with_options(factory, options)).expect("a port");
    let peer = Peer::client(&reactor, reactor.connect_to(&port));
    peer.open("/", &[]);
    Rig { reactor, peer, told, transport }
}

impl Rig {
    fn say(&self, frames: &[Wire]) -> Vec<String> {
        self.peer.frames(frames);
        self.told.take()
    }
}

// P256, P258: ticket #4173's WebSocketsProtocolWrapper
#[test]
fn a_message_is_one_call_and_a_write_is_one_message() {
    let rig = rig(false);
    assert_eq!(rig.told.take(), ["made 127.0.0.1:50000"]);
    assert_eq!(rig.peer.lines(), ["binary hello"]);
    assert_eq!(rig.say(&[text("a").more(), binary("late")]), Vec::<String>::new(), "wrong frames are not its business");
    let rig = self::rig(true);
    rig.told.take();
    assert_eq!(rig.say(&[text("one"), binary("two")]), ["data one", "data two"]);
    assert_eq!(rig.peer.lines(), ["text hello", "text one", "text one", "text two", "text two"]);
    // not all bytes are text
    assert_eq!(rig.say(&[binary([0xff])]), ["1 bytes"]);
    assert_eq!(rig.peer.got().len(), 2);
    assert_eq!(rig.say(&[close(1000, "bye")]).len(), 1);
}

#[test]
fn the_reason_of_its_end_is_the_websockets() {
    let rig = rig(false);
    rig.told.take();
    let told = rig.say(&[text("last words").more(), close(4001, "off")]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("lost ") && told[0].ends_with("(Some(4001))"), "{told:?}");
    let rig = self::rig(false);
    rig.told.take();
    rig.peer.reset();
    rig.peer.settle();
    let told = rig.told.take();
    assert!(told.len() == 1 && told[0].ends_with("(Some(1006))"), "{told:?}");
}

#[test]
fn losing_its_connection_is_a_close_and_aborting_it_none() {
    let rig = rig(false);
    assert_eq!(rig.say(&[text("close"), text("too late")])[1..2], ["data close"]);
    assert_eq!(rig.peer.closed_with(), (1000, String::new()));
    assert_eq!(rig.told.take().len(), 0, "told already: its own connection is over");
    let rig = self::rig(false);
    rig.say(&[text("abort")]);
    assert!(rig.peer.saw_reset());
}

// P260, T41
#[test]
fn while_it_has_paused_reading_the_websocket_has() {
    let rig = rig(false);
    rig.say(&[text("pause"), ping("1")]);
    assert_eq!(rig.peer.lines(), ["binary hello", "pong 1"]);
    // what is behind this is not read: else a peer could fill the memory
    assert_eq!(rig.say(&[binary(vec![1; 70_000]), ping("2"), text("more")]).len(), 0);
    assert_eq!(rig.peer.lines().len(), 0);
    let transport = rig.transport.take().expect("made");
    transport.resume_producing();
    rig.reactor.settle();
    assert_eq!(rig.told.take(), ["70000 bytes", "data more"]);
    assert_eq!(rig.peer.got().len(), 5);
}

// P256, T41: the pieces of the backlog keep their boundaries
#[test]
fn messages_that_wait_for_a_slow_peer_are_not_put_together() {
    let rig = rig(false);
    rig.peer.bytes();
    rig.peer.set_room(0);
    rig.say(&[text("big")]);
    rig.peer.set_room(usize::MAX);
    rig.reactor.settle();
    let all = rig.peer.drain();
    let headers = all.chunks(10_004).map(|frame| &frame[..5]).enumerate();
    let mut count = 0;
    for (index, header) in headers {
        assert_eq!(header, [0x82, 126, 0x27, 0x10, index as u8]);
        count += 1;
    }
    assert_eq!(count, 100);
}

// P256
#[test]
fn a_client_can_be_wrapped_too() {
    let (reactor, told) = (Rc::new(MemoryReactor::new()), Told::default());
    let shared = told.clone();
    let factory = WrappingFactory::text(for_protocol(move || Wrapped(shared.clone(), Made::default())));
    let factory = WebSocketClientFactory::new("ws://server.example/", factory).expect("a URL");
    let connector = connect_ws(&reactor, factory);
    reactor.settle();
    let server = Peer::server(&reactor, reactor.accept(&connector));
    server.accept(&[], &[text("early")]);
    assert_eq!(told.borrow()[1..], ["data early"]);
    assert_eq!(server.lines(), ["text hello", "text early", "text early"]);
}
