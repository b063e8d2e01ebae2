//! Batching must not show: whatever happens in a turn, and wherever it happens, each client gets what it would get if every
//! send wrote at once.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use proptest::prelude::*;
use twistor_reactor::testing::{MemoryPeer, MemoryReactor};
use twistor_reactor::{BufferLimits, for_protocol};

use super::*;
use crate::lobby::UPGRADE;
use crate::message::Frame;
use crate::observer::{Observer, Traffic};
use crate::options::Options;
use crate::protocol::WebSocketProtocol;
use crate::sansio::deflate::{Contexts, DeflateOptions, Inflater};
use crate::sansio::{Event, Receiver, Role};
use crate::server::WebSocketServerFactory;

const CLIENTS: usize = 10;

/// What may happen in a turn, to a room of three and a client of ten.
#[derive(Debug, Clone)]
enum Step {
    /// With the length of the message.
    Broadcast(usize, usize),
    Except(usize, usize),
    Join(usize, usize),
    Leave(usize, usize),
    Send(usize),
    Prepared(usize),
    Ping(usize),
    /// The begin of a message in pieces, or one more piece.
    Piece(usize),
    End(usize),
    Close(usize),
    /// The peer's window, which is what makes messages wait.
    Window(usize, usize),
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    let (room, client) = (0..3_usize, 0..10_usize);
    let length = prop_oneof![9 => 1..200_usize, 1 => 4000..9000_usize];
    prop_oneof![
        8 => (room.clone(), length).prop_map(|(room, length)| Step::Broadcast(room, length)),
        3 => (room.clone(), client.clone()).prop_map(|(room, client)| Step::Except(room, client)),
        3 => client.clone().prop_map(Step::Send),
        2 => client.clone().prop_map(Step::Prepared),
        1 => client.clone().prop_map(Step::Ping),
        2 => client.clone().prop_map(Step::Piece),
        2 => client.clone().prop_map(Step::End),
        2 => (room.clone(), client.clone()).prop_map(|(room, client)| Step::Join(room, client)),
        2 => (room, client.clone()).prop_map(|(room, client)| Step::Leave(room, client)),
        1 => client.clone().prop_map(Step::Close),
        2 => (client, 0..2000_usize).prop_map(|(client, bytes)| Step::Window(client, bytes)),
        3 => Just(Step::Turn),
    ]
}

/// How the server's WebSockets are, and from where the steps of a turn are made.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    /// Compressed, each message with the memory of those before.
    Compressed,
    Fragmenting,
    Observed,
}

#[derive(Debug, Clone, Copy)]
enum From {
    Outside,
    Timer,
    Queue,
}

struct Arrival(Rc<RefCell<Vec<WebSocket>>>);

impl WebSocketProtocol for Arrival {
    fn connection_made(&mut self, socket: &WebSocket) {
        self.0.borrow_mut().push(socket.clone());
    }
    fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {}
}

struct Sent(Rc<Cell<u64>>);

impl Observer for Sent {
    fn traffic(&self, traffic: &Traffic) {
        self.0.set(self.0.get() + traffic.messages_sent);
    }
}

/// Ten clients of a server of this kind; and how many messages its observer was told of.
fn clients(reactor: &MemoryReactor, kind: Kind) -> (Vec<(MemoryPeer, WebSocket)>, Rc<Cell<u64>>) {
    let buffer = BufferLimits { high: 300, low: 100, cap: 10 << 20 };
    let takeover = DeflateOptions { server_no_context_takeover: false, ..DeflateOptions::default() };
    let options = Options {
        buffer,
        compression: (kind == Kind::Compressed).then_some(takeover),
        auto_fragment: (kind == Kind::Fragmenting).then_some(50),
        ..Options::default()
    };
    let (arrived, sent) = (Rc::<RefCell<Vec<WebSocket>>>::default(), Rc::default());
    let build = arrived.clone();
    let mut factory = WebSocketServerFactory::with_options(for_protocol(move || Arrival(build.clone())), options);
    if kind == Kind::Observed {
        factory = factory.observer(Sent(Rc::clone(&sent)));
    }
    let port = reactor.listen_tcp(80, factory).unwrap();
    let request = match kind {
        Kind::Compressed => UPGRADE.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        _ => UPGRADE.to_owned(),
    };
    let open = |_| {
        let peer = reactor.connect_to(&port);
        peer.send(&request);
        reactor.settle();
        assert!(peer.received().starts_with(b"HTTP/1.1 101 "));
        (peer, arrived.borrow_mut().pop().unwrap())
    };
    ((0..CLIENTS).map(open).collect(), sent)
}

/// Does one step, which is the `number`th.
fn act(step: &Step, number: usize, clients: &[(MemoryPeer, WebSocket)], rooms: &[Room]) {
    let note = number.to_string();
    match *step {
        Step::Broadcast(room, length) => rooms[room].broadcast(note.repeat(length / note.len() + 1)),
        Step::Except(room, client) => rooms[room].broadcast_except(&clients[client].1, &note),
        Step::Join(room, client) => rooms[room].join(&clients[client].1),
        Step::Leave(room, client) => drop(rooms[room].leave(&clients[client].1)),
        Step::Send(client) => clients[client].1.send_text(&note),
        Step::Prepared(client) => clients[client].1.send_prepared(&PreparedMessage::new(&note)),
        Step::Ping(client) => clients[client].1.ping(b"?").unwrap(),
        Step::Piece(client) => {
            let _ = clients[client].1.begin_message(false); // may have begun before
            clients[client].1.send_piece(note.as_bytes()).unwrap();
        }
        Step::End(client) => drop(clients[client].1.end_message(b"")), // may not have begun
        Step::Close(client) => clients[client].1.close(),
        Step::Window(client, bytes) => clients[client].0.set_room(bytes),
        Step::Turn => {}
    }
}

/// What each client is to get.
struct Model {
    want: Vec<Vec<String>>,
    members: [[bool; CLIENTS]; 3],
    open: [bool; CLIENTS],
    /// A message in pieces, and how many came before it: others come behind it.
    pieces: [Option<(usize, String)>; CLIENTS],
}

impl Model {
    fn follow(&mut self, step: &Step, number: usize) {
        let note = number.to_string();
        match *step {
            Step::Broadcast(room, length) => self.tell_members(room, None, &note.repeat(length / note.len() + 1)),
            Step::Except(room, client) => self.tell_members(room, Some(client), &note),
            Step::Join(room, client) => self.members[room][client] |= self.open[client],
            Step::Leave(room, client) => self.members[room][client] = false,
            Step::Send(client) | Step::Prepared(client) => self.want[client].extend(self.open[client].then_some(note)),
            Step::Piece(client) if self.open[client] => {
                let place = self.want[client].len();
                self.pieces[client].get_or_insert_with(|| (place, String::new())).1.push_str(&note);
            }
            Step::End(client) => {
                if let Some((place, text)) = self.pieces[client].take() {
                    self.want[client].insert(place, text);
                }
            }
            Step::Close(client) => {
                self.open[client] = false;
                // what is behind an unfinished message is dropped
                if let Some((place, _)) = self.pieces[client].take() {
                    self.want[client].truncate(place);
                }
            }
            Step::Piece(_) | Step::Ping(_) | Step::Window(..) | Step::Turn => {}
        }
    }

    fn tell_members(&mut self, room: usize, except: Option<usize>, text: &str) {
        let gets = |&client: &usize| self.members[room][client] && self.open[client] && except != Some(client);
        (0..CLIENTS).filter(gets).for_each(|client| self.want[client].push(text.to_owned()));
    }
}

/// The texts that a client makes of this.
fn read(wire: &mut [u8], socket: &WebSocket) -> Vec<String> {
    let mut receiver = Receiver::new(Role::Client, Options::default().limits());
    if let Some(agreed) = socket.compression() {
        receiver.set_inflater(Inflater::new(&agreed, Role::Client, &Contexts::of_thread()));
    }
    let (mut input, mut texts) = (wire, Vec::new());
    while let Some(event) = receiver.next(&mut input).expect("a stream that keeps the rules") {
        if let Event::Text(text) = event {
            texts.push(text.to_owned());
        }
    }
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn every_member_gets_the_same_as_without_batches(
        steps in prop::collection::vec(step(), 1..120),
        origins in prop::collection::vec(prop::sample::select(vec![From::Outside, From::Timer, From::Queue]), 120),
        kind in prop::sample::select(vec![Kind::Plain, Kind::Compressed, Kind::Fragmenting, Kind::Observed]),
    ) {
        let reactor = MemoryReactor::new();
        let (clients, sent) = clients(&reactor, kind);
        let (clients, rooms) = (Rc::new(clients), Rc::new([Room::new(), Room::new(), Room::new()]));
        let mut model = Model {
            want: vec![Vec::new(); CLIENTS],
            members: Default::default(),
            open: [true; CLIENTS],
            pieces: Default::default(),
        };
        // one room that batches, one that does now and then, one that does not
        let joins = (0..3).flat_map(|room| (0..CLIENTS - 3 * room).map(move |client| Step::Join(room, client)));
        let ends = (0..CLIENTS).map(Step::End);
        let all: Vec<Step> = joins.chain(steps).chain(ends).chain([Step::Turn]).collect();
        let mut first = 0;
        for (turn, number) in (0..all.len()).filter(|&number| matches!(all[number], Step::Turn)).enumerate() {
            (first..number).for_each(|number| model.follow(&all[number], number));
            let now: Vec<_> = (first..number).map(|number| (number, all[number].clone())).collect();
            let (acting, within) = (clients.clone(), rooms.clone());
            let acts = move || now.iter().for_each(|(number, step)| act(step, *number, &acting, &*within));
            match origins[turn % origins.len()] {
                From::Outside => acts(),
                From::Timer => drop(reactor.call_later(Duration::ZERO, acts)),
                From::Queue => reactor.call_when_running(move |_| acts()),
            }
            reactor.settle();
            first = number + 1;
        }
        let mut got = vec![Vec::new(); CLIENTS];
        for _ in 0..4 {
            for ((peer, _), got) in clients.iter().zip(&mut got) {
                got.extend(peer.received());
                peer.set_room(usize::MAX);
            }
            reactor.settle();
        }
        let mut total = 0;
        for (client, got) in got.iter_mut().enumerate() {
            let texts = read(got, &clients[client].1);
            total += texts.len() as u64;
            prop_assert_eq!(texts, model.want[client].clone(), "client {}", client);
        }
        if kind == Kind::Observed && model.open.iter().all(|open| *open) {
            prop_assert_eq!(sent.get(), total);
        }
    }
}
