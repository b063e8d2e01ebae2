//! Connections that do anything at any moment, against what is promised of every one: bytes in order, and all of them
//! after a graceful end; callbacks and calls of producers in turn; an end, once, whatever the peer does.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use twistor_reactor::testing::{MemoryReactor, Pump};
use twistor_reactor::{Address, BufferLimits, Carried, Carrier, ConnectionDone, Failure, Transport, UserError};

use crate::common::{Event, Scripted, half_closeable};

const SEEDS: u64 = 150;

/// What is sent: which byte it is, that stands at a place.
fn byte(place: usize) -> u8 {
    (place % 251) as u8
}

/// One end of a connection, as a model of it sees it.
#[derive(Default)]
struct End {
    written: Cell<usize>,
    read: Cell<usize>,
    made: Cell<u32>,
    high: Cell<bool>,
    /// It has closed, aborted or panicked: it need not read what comes.
    left: Cell<bool>,
    paused_at_end: Cell<bool>,
    lost: RefCell<Option<Failure>>,
    transport: RefCell<Option<Transport>>,
}

struct World {
    seed: Cell<u64>,
    budget: Cell<u32>,
    faults: RefCell<Vec<String>>,
    ends: [End; 2],
    /// Does something to what is between the ends.
    disturb: RefCell<Box<dyn FnMut(u64)>>,
}

#[derive(Clone)]
struct Side(Rc<World>, usize);

impl Side {
    fn end(&self) -> &End {
        &self.0.ends[self.1]
    }

    /// A panic in a callback would be an end like others.
    fn check(&self, right: bool, fault: &str) {
        if !right {
            self.0.faults.borrow_mut().push(format!("{}: {fault}", self.1));
        }
    }

    fn roll(&self, sides: u64) -> u64 {
        let mut seed = self.0.seed.get();
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        self.0.seed.set(seed);
        (seed >> 16) % sides
    }

    fn write(&self, transport: &Transport, how: u64) {
        let end = self.end();
        let length = [1, 100, 5000, 70_000, 200_000][self.roll(5) as usize];
        let start = end.written.get();
        let data: Vec<u8> = (start..start + length).map(byte).collect();
        let queued = || transport.bytes_sent() as usize + transport.buffered();
        let before = queued();
        match how {
            0 => transport.write(&data),
            1 => transport.write_bytes(Bytes::from(data)),
            2 => transport.write_sequence(&[&data[..1], &data[1..]]),
            3 => transport.write_now(&Bytes::from(data)),
            _ => transport.write_framed_large(&[data[0]; 16], 1, &data[1..], || None),
        }
        end.written.set(start + queued().saturating_sub(before)); // nothing, once it is over or broken
    }

    /// One thing, at random. `data`: what is being received.
    fn act(&self, transport: &Transport, data: Option<&[u8]>, callback: bool) {
        let Some(budget) = self.0.budget.get().checked_sub(1) else { return };
        self.0.budget.set(budget);
        let (end, this, again) = (self.end(), self.clone(), transport.clone());
        let back = data.map_or(0, |data| self.roll(data.len() as u64 + 1) as usize);
        let given_back = &data.unwrap_or_default()[data.map_or(0, <[u8]>::len) - back..];
        let some = Duration::from_secs(1 + self.roll(50));
        match self.roll(55) {
            how @ 0..=11 => self.write(transport, how / 2),
            12..=15 => transport.pause_producing(),
            16..=20 => transport.resume_producing(),
            21..=23 if back > 0 => {
                end.read.set(end.read.get() - back);
                transport.unread(given_back);
            }
            24 | 25 => {
                end.read.set(end.read.get() - back);
                transport.switch_protocol(protocol(this), given_back);
            }
            34 | 35 => transport.notify_drained(),
            36 => transport.lose_write_connection(),
            how @ (37 | 38) => {
                end.left.set(true);
                if how == 37 { transport.lose_connection() } else { transport.abort_connection() }
            }
            39 => transport.set_close_timeout(Some(some)),
            40 => transport.set_write_timeout(Some(some).filter(|_| self.roll(2) == 0)),
            41 if callback && self.roll(3) == 0 => {
                end.left.set(true);
                std::panic::resume_unwind(Box::new(()));
            }
            42 => transport.set_buffer_limits(BufferLimits { high: 1 << self.roll(17), ..BufferLimits::default() }),
            43..=46 => transport.clone().call_soon(move |_| this.act(&again, None, false)),
            47..=49 => drop(transport.reactor().call_later(some, move || this.act(&again, None, false))),
            50 if self.roll(20) == 0 => transport.reactor().stop(),
            _ => (self.0.disturb.borrow_mut())(self.roll(1 << 20)),
        }
    }

    fn called(&self, transport: &Transport, data: Option<&[u8]>) {
        self.check(self.end().lost.borrow().is_none() && self.end().made.get() > 0, "called before or after");
        (0..self.roll(4)).for_each(|_| self.act(transport, None, true));
        self.act(transport, data, true);
    }

    fn received(&self, transport: &Transport, data: &[u8]) {
        let start = self.end().read.get();
        self.check((start..).zip(data).all(|(place, got)| *got == byte(place)), "bytes that do not belong there");
        self.end().read.set(start + data.len());
        self.called(transport, Some(data));
    }
}

fn protocol(side: Side) -> Scripted {
    half_closeable(move |transport, event| {
        let end = side.end();
        match event {
            Event::Made => {
                end.made.set(end.made.get() + 1);
                *end.transport.borrow_mut() = Some(transport.clone());
            }
            Event::Data(data) => return side.received(transport, data),
            Event::High => side.check(!end.high.replace(true), "high twice"),
            Event::Drained => end.high.set(false),
            Event::ReadLost => transport.lose_connection(),
            Event::WriteLost => {}
            Event::Lost(reason) => {
                end.paused_at_end.set(transport.paused());
                side.check(end.lost.replace(Some(reason.clone())).is_none(), "lost twice");
                return side.act(transport, None, true);
            }
        }
        side.called(transport, None);
    })
}

/// Carries records to the other end, when it wants to.
#[derive(Clone, Default)]
struct Wire {
    blocked: Rc<Cell<bool>>,
    other: Rc<RefCell<Option<Carried>>>,
}

impl Carrier for Wire {
    fn is_ready(&self) -> bool {
        !self.blocked.get()
    }
    fn send(&mut self, record: &[u8]) {
        self.other.borrow().iter().for_each(|other| other.received(record));
    }
    fn drained(&mut self) {}
    fn close(&mut self, _: bool) {
        self.other.borrow().iter().for_each(|other| other.end(Failure::new(UserError::new())));
    }
    fn host(&self) -> io::Result<Address> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn world(seed: u64) -> Rc<World> {
    let seed = Cell::new((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (ends, disturb) = (<[End; 2]>::default(), RefCell::new(Box::new(|_| {}) as Box<dyn FnMut(u64)>));
    Rc::new(World { seed, budget: Cell::new(120), faults: RefCell::default(), ends, disturb })
}

/// Everybody is willing now, and closes, unless it is to end by itself; then what was promised of the ends is checked.
fn end(reactor: &MemoryReactor, world: &Rc<World>, close: usize, seed: u64) {
    reactor.advance(Duration::from_secs(30));
    world.budget.set(0);
    (world.disturb.borrow_mut())(u64::MAX);
    reactor.advance(Duration::from_secs(3600));
    let transports: Vec<Transport> = world.ends.iter().filter_map(|end| end.transport.take()).collect();
    transports.iter().for_each(Transport::resume_producing);
    reactor.settle();
    transports[..close.min(transports.len())].iter().for_each(Transport::lose_connection);
    reactor.advance(Duration::from_secs(3600));
    for (number, end) in world.ends.iter().enumerate() {
        let (side, other) = (Side(world.clone(), number), &world.ends[1 - number]);
        let (lost, others) = (end.lost.borrow(), other.lost.borrow());
        side.check(end.made.get() == 0 || lost.is_some(), "no end");
        let graceful = lost.as_ref().is_some_and(Failure::check::<ConnectionDone>);
        let told = |reason: &Failure| reason.check::<ConnectionDone>() || reason.check::<UserError>();
        let reads = others.as_ref().is_none_or(told);
        let complete = end.written.get() == other.read.get() || other.left.get() || other.paused_at_end.get();
        side.check(!graceful || !reads || complete, "it was not read to its end");
    }
    assert_eq!(reactor.pending_calls(), 0, "seed {seed}: a timer is left");
    *world.disturb.borrow_mut() = Box::new(|_| {});
    assert!(world.faults.borrow().is_empty(), "seed {seed}: {:?}", world.faults.borrow());
}

#[test]
fn two_ends_joined_in_memory() {
    for seed in 0..SEEDS {
        let world = world(seed);
        let chunk = [1000, 30_000, usize::MAX][seed as usize % 3];
        let pump = Pump::with_chunks(protocol(Side(world.clone(), 0)), protocol(Side(world.clone(), 1)), chunk);
        end(&pump.reactor, &world, 1 + seed as usize % 2, seed);
    }
}

#[test]
fn two_ends_that_something_carries() {
    for seed in 0..SEEDS {
        let (reactor, world) = (MemoryReactor::new(), world(seed));
        let wires = [Wire::default(), Wire::default()];
        let address = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let ends = [0, 1].map(|number| {
            let (side, wire) = (protocol(Side(world.clone(), number)), wires[number].clone());
            Carried::new(&reactor, address.clone(), side, wire)
        });
        (0..2).for_each(|number| *wires[number].other.borrow_mut() = Some(ends[1 - number].clone()));
        let carried = ends.clone();
        *world.disturb.borrow_mut() = Box::new(move |what| {
            for (number, wire) in wires.iter().enumerate().skip(what as usize / 2 % 2 * usize::from(what != u64::MAX)) {
                wire.blocked.set(what % 2 == 0);
                carried[number].ready();
            }
        });
        reactor.settle();
        end(&reactor, &world, 1 + seed as usize % 2, seed);
    }
}
