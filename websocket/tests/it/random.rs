//! Random operations against a simple model: what is sent arrives, in order, or is counted as dropped; nothing follows
//! a Close; who reads is not cut off; and nothing is left in the end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::BufferLimits;
use twistor_websocket::sansio::deflate::DeflateOptions;
use twistor_websocket::{Options, Overflow, PreparedMessage, Room, WebSocket};

use crate::compression::inflated;
use crate::support::{CLOSE, Event, Got, PING, PONG, Peer, Server, close, frame, ping, pong, text, upgrade};

#[derive(Default)]
struct Model {
    /// A message in pieces has its place where it was begun, and is empty if it never ended.
    sent: Vec<String>,
    unfinished: Option<(usize, String)>,
    high: bool,
    told: Rc<Cell<(u32, u32)>>,
}

#[derive(Default)]
struct World {
    state: Cell<u64>,
    number: Cell<u64>,
    models: RefCell<HashMap<WebSocket, Model>>,
    room: Room,
    quiet: Cell<bool>,
}

impl World {
    fn random(&self, below: u64) -> u64 {
        let mut state = self.state.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.state.set(state);
        (state >> 11) % below
    }

    fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.random(from.len() as u64) as usize]
    }

    fn model<R>(&self, socket: &WebSocket, f: impl FnOnce(&mut Model) -> R) -> R {
        f(self.models.borrow_mut().entry(socket.clone()).or_default())
    }

    fn message(&self, to: &[WebSocket]) -> String {
        self.number.set(self.number.get() + 1);
        let length = self.random(self.pick(&[300, 300, 300, 6000]));
        let message = format!("{}:{}", self.number.get(), "é".repeat(length as usize));
        for socket in to.iter().filter(|socket| socket.is_open()) {
            self.model(socket, |model| model.sent.push(message.clone()));
        }
        message
    }

    fn piece(&self, socket: &WebSocket, last: bool) {
        let Some((at, mut begun)) = self.model(socket, |model| model.unfinished.take()) else { return };
        let piece = "y".repeat(self.random(500) as usize + 1);
        begun += &piece;
        let open = socket.is_open();
        self.model(socket, |model| match last {
            true if open => model.sent[at] = begun,
            true => {}
            false => model.unfinished = Some((at, begun)),
        });
        let piece = piece.as_bytes();
        if last { socket.end_message(piece) } else { socket.send_piece(piece) }.expect("begun");
    }

    fn act(self: &Rc<Self>, socket: &WebSocket) {
        if self.quiet.get() {
            return;
        }
        let one = std::slice::from_ref(socket);
        match self.random(30) {
            0..=2 => socket.send_text(&self.message(one)),
            3 => socket.send_prepared(&PreparedMessage::new(self.message(one))),
            4 => socket.send_uncompressed(self.message(one)),
            5 => socket.send_latest(self.random(3), self.message(one)),
            6..=9 => self.room.broadcast(self.message(&self.room.members())),
            10 => self.room.broadcast_latest(self.random(3), self.message(&self.room.members())),
            11 => _ = self.room.leave(socket),
            12 => self.room.join(socket),
            13..=14 if socket.is_open() && socket.begin_message(false).is_ok() => self.model(socket, |model| {
                model.unfinished = Some((model.sent.len(), String::new()));
                model.sent.push(String::new());
            }),
            15..=18 => self.piece(socket, self.random(3) == 0),
            19 => socket.ping(b"are you there").expect("short"),
            20 => socket.pause_producing(),
            21..=22 => socket.resume_producing(),
            23 if self.random(8) == 0 => socket.close(),
            24 if self.random(12) == 0 => socket.abort(),
            25..=27 if socket.transport().is_connected() => {
                let (this, target) = (self.clone(), socket.clone());
                socket.reactor().call_later(Duration::from_millis(self.random(500)), move || this.act(&target));
            }
            _ => {}
        }
    }

    fn on(self: &Rc<Self>, socket: &WebSocket, event: &Event<'_>) {
        match event {
            Event::Made => {
                self.room.join(socket);
                let told = self.model(socket, |model| model.told.clone());
                drop(socket.when_closed().add_callback(move |_| told.set((told.get().0, told.get().1 + 1))));
            }
            Event::High => assert!(!self.model(socket, |it| std::mem::replace(&mut it.high, true)), "high twice"),
            Event::Drained => assert!(self.model(socket, |it| std::mem::replace(&mut it.high, false)), "was not high"),
            Event::Lost => self.model(socket, |model| model.told.set((model.told.get().0 + 1, model.told.get().1))),
            _ => {}
        }
        (0..self.random(3)).for_each(|_| self.act(socket));
    }
}

/// A peer, and what it has got.
struct End {
    peer: Peer,
    came: Vec<u8>,
    message: Option<(bool, Vec<u8>)>,
    got: Vec<String>,
    pings: [Vec<u8>; 2],
    closed: bool,
    reads: bool,
    good: bool,
}

impl End {
    fn read(&mut self) {
        self.came.extend(self.peer.bytes());
        while let Some(got) = Got::take(&mut self.came) {
            assert!(!self.closed, "after the Close: {got}");
            match got.opcode {
                CLOSE => self.closed = true,
                PING => self.peer.frame(&pong(&got.payload)),
                PONG => self.pings[1] = got.payload,
                opcode => {
                    assert_eq!(self.message.is_none(), opcode != 0, "out of order: {got}");
                    self.message.get_or_insert_with(|| (got.rsv == 4, Vec::new())).1.extend(got.payload);
                    let Some((deflated, message)) = self.message.take_if(|_| got.fin) else { continue };
                    let message = if deflated { inflated(&message) } else { message };
                    self.got.push(String::from_utf8(message).expect("text"));
                }
            }
        }
        self.peer.settle();
    }

    fn act(&mut self, world: &World, number: u32) {
        let bad = world.random(40);
        self.good &= bad > 3;
        match (bad, world.random(6)) {
            (0, _) => self.peer.frame(&close(1000, "")),
            (1, _) => self.peer.reset(),
            (2, _) => self.peer.finish(),
            (3, _) => self.peer.frame(&frame(3, "")),
            (_, reads @ 0..=1) => {
                (self.reads, self.good) = (reads == 1, self.good && reads == 1);
                self.peer.set_room(if self.reads { usize::MAX } else { world.random(2000) as usize });
            }
            (_, 2 | 3) => self.peer.frame(&text("hello")),
            _ => {
                self.pings[0] = number.to_string().into();
                self.peer.frame(&ping(&self.pings[0]));
            }
        }
    }
}

fn run(seed: u64) {
    let world = Rc::new(World::default());
    world.state.set(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    world.quiet.set(true);
    let deflate = DeflateOptions { server_no_context_takeover: true, threshold: 100, ..DeflateOptions::default() };
    let options = Options {
        buffer: BufferLimits { high: 1024, low: world.pick(&[0, 256, 1024]), cap: world.pick(&[4096, 64 * 1024]) },
        overflow: world.pick(&[Overflow::Close, Overflow::DropNewest, Overflow::DropOldest]),
        auto_fragment: world.pick(&[None, Some(300)]),
        compression: (world.random(3) == 0).then_some(deflate),
        ping_interval: world.pick(&[None, Some(Duration::from_secs(2))]),
        ping_timeout: Duration::from_secs(1),
        ping_when_busy: world.pick(&[false, true]),
        write_timeout: None,
        ..Options::default()
    };
    let acting = world.clone();
    let server = Server::with(options, |mould| mould.acting(move |socket, event| acting.on(socket, event)));
    let mut ends = Vec::from_iter((0..world.pick(&[3, 10])).map(|_| {
        let peer = server.connect();
        peer.send(upgrade("/", &["Sec-WebSocket-Extensions: permessage-deflate"]));
        peer.http();
        let (came, got, pings) = (Vec::new(), Vec::new(), Default::default());
        End { peer, came, message: None, got, pings, closed: false, reads: true, good: true }
    }));
    let sockets = Vec::from_iter((0..ends.len()).map(|index| server.log.socket(index)));
    world.quiet.set(false);
    for step in 0..80 {
        let index = world.random(ends.len() as u64) as usize;
        match world.random(3) {
            0 => world.act(&sockets[index]),
            1 => ends[index].act(&world, step),
            _ => server.reactor.advance(Duration::from_millis(world.random(500))),
        }
        ends.iter_mut().filter(|end| end.reads).for_each(End::read);
    }
    world.quiet.set(true);
    for over in [false, true] {
        for _ in 0..40 {
            for (end, socket) in ends.iter_mut().zip(&sockets) {
                socket.resume_producing();
                world.piece(socket, true);
                end.peer.set_room(usize::MAX);
                end.read();
            }
            server.reactor.advance(Duration::from_millis(200));
        }
        for (end, socket) in ends.iter().zip(&sockets) {
            let what = format!("seed {seed}, over {over}, {socket:?}, {:?}", socket.close_status());
            world.model(socket, |model| {
                let mut sent = model.sent.iter();
                assert!(end.got.iter().all(|got| sent.any(|sent| sent == got)), "{what}: not in order");
                let all = model.sent.iter().filter(|message| !message.is_empty()).count();
                let known = end.got.len() + socket.dropped() as usize;
                let whole = socket.is_open() || end.closed;
                assert!(if whole { known == all } else { known <= all }, "{what}: {known} of {all}");
                assert!(!end.good || !what.contains("ping timeout"), "{what}");
                let calm = !model.high && end.pings[0] == end.pings[1];
                assert!(calm || !socket.is_open(), "{what}: {:?}", end.pings);
                assert!(!over || model.told.get() == (1, 1), "{what}: told {:?}", model.told);
            });
        }
        sockets.iter().for_each(WebSocket::close); // answered by nobody: cut off in time
    }
    assert_eq!((server.handle.connection_count(), server.reactor.pending_calls()), (0, 0), "seed {seed}");
}

#[test]
fn what_is_sent_arrives_or_is_counted() {
    (0..150).for_each(run);
}
