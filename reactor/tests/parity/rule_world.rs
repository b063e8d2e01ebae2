//! A program in whose course every callback comes, and which does one thing in one of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{
    Address, BufferLimits, CallbackPanicked, ClientFactory, Connector, DelayedCall, Factory, Failure, ListeningPort,
    Producer, Reactor, Resolver, Streaming, Transport, UserError,
};

use crate::common::{Event, Scripted, half_closeable, scripted};

/// A program that does one thing in one of its callbacks, with its shared list borrowed.
#[derive(Clone)]
pub(crate) struct World(Rc<Shared>);

struct Shared {
    reactor: Reactor,
    /// The list that every callback borrows, mutably, for as long as it runs.
    clients: RefCell<Vec<Transport>>,
    others: RefCell<Others>,
    /// Where to act, and what to do there.
    place: &'static str,
    action: Action,
    acted: Cell<bool>,
    made: Cell<u32>,
    lost: Cell<u32>,
    violations: RefCell<Vec<String>>,
}

/// Handles of other kinds, for callbacks to use.
#[derive(Default)]
struct Others {
    connectors: Vec<Connector>,
    ports: Vec<ListeningPort>,
    timers: Vec<DelayedCall>,
    resolvers: Vec<Resolver<()>>,
}

pub(crate) type Action = fn(&World, &Transport);

impl World {
    fn new(reactor: &Reactor, place: &'static str, action: Action) -> Self {
        Self(Rc::new(Shared {
            reactor: reactor.clone(),
            clients: RefCell::default(),
            others: RefCell::default(),
            place,
            action,
            acted: Cell::new(false),
            made: Cell::new(0),
            lost: Cell::new(0),
            violations: RefCell::default(),
        }))
    }

    /// Every callback goes through here. Under another callback the list is borrowed, which is what the rule forbids.
    fn enter(&self, place: &'static str, transport: Option<&Transport>) {
        let world = &*self.0;
        let Ok(mut clients) = world.clients.try_borrow_mut() else {
            let place = format!("{place} ran inside {}", world.place);
            return world.violations.borrow_mut().push(place);
        };
        if let (Some(transport), "connection_made") = (transport, place) {
            clients.push(transport.clone());
        }
        if place == world.place && !world.acted.replace(true) {
            let targets: Vec<&Transport> = transport.into_iter().chain(clients.iter()).collect();
            for target in targets {
                (world.action)(self, target);
            }
        }
    }

    fn protocol(&self) -> Scripted {
        let world = self.clone();
        half_closeable(move |transport, event| {
            let shared = &*world.0;
            let place = match event {
                Event::Made => {
                    shared.made.set(shared.made.get() + 1);
                    let limits = BufferLimits { high: 1000, ..BufferLimits::default() };
                    transport.set_buffer_limits(limits);
                    "connection_made"
                }
                Event::Data(_) => "data_received",
                Event::ReadLost => "read_connection_lost",
                Event::WriteLost => "write_connection_lost",
                Event::High => "output_high",
                Event::Drained => "output_drained",
                Event::Lost(reason) => {
                    shared.lost.set(shared.lost.get() + 1);
                    if reason.check::<CallbackPanicked>() {
                        shared.violations.borrow_mut().push(reason.to_string());
                    }
                    "connection_lost"
                }
            };
            world.enter(place, Some(transport));
        })
    }
}

impl Factory for World {
    type Protocol = Scripted;
    fn build_protocol(&mut self, _: &Address) -> Option<Scripted> {
        self.enter("build_protocol", None);
        Some(self.protocol())
    }
    fn start_factory(&mut self) {
        self.enter("start_factory", None);
    }
    fn stop_factory(&mut self) {
        self.enter("stop_factory", None);
    }
}

impl ClientFactory for World {
    fn started_connecting(&mut self, _: &Connector) {
        self.enter("started_connecting", None);
    }
    fn client_connection_failed(&mut self, _: &Connector, _: &Failure) {
        self.enter("client_connection_failed", None);
    }
    fn client_connection_lost(&mut self, connector: &Connector, _: &Failure) {
        self.enter("client_connection_lost", connector.transport().as_ref());
    }
}

impl Producer for World {
    fn pause_producing(&mut self) {
        self.enter("pause_producing", None);
    }
    fn resume_producing(&mut self) {
        self.enter("resume_producing", None);
    }
    fn stop_producing(&mut self) {
        self.enter("stop_producing", None);
    }
}

pub(crate) const PLACES: [&str; 20] = [
    "connection_made",
    "data_received",
    "read_connection_lost",
    "write_connection_lost",
    "output_high",
    "output_drained",
    "connection_lost",
    "start_factory",
    "build_protocol",
    "stop_factory",
    "started_connecting",
    "client_connection_failed",
    "client_connection_lost",
    "pause_producing",
    "resume_producing",
    "stop_producing",
    "timer",
    "queued call",
    "deferred",
    "future",
];

/// What handles can do, to the connection at hand and to all others.
pub(crate) const ACTIONS: [(&str, Action); 22] = [
    ("write", |_, transport| transport.write("x")),
    ("write much", |_, transport| transport.write([0; 200_000])),
    ("write_bytes", |_, transport| {
        transport.write_bytes(bytes::Bytes::from_static(&[0; 5000]));
    }),
    ("lose", |_, transport| transport.lose_connection()),
    ("abort", |_, transport| transport.abort_connection()),
    ("lose, then abort", |_, transport| {
        transport.write("x");
        transport.lose_connection();
        transport.abort_connection();
    }),
    ("lose_write", |_, transport| transport.lose_write_connection()),
    ("lose after lose_write", |_, transport| {
        transport.lose_write_connection();
        transport.lose_connection();
    }),
    ("pause and resume", |_, transport| {
        transport.pause_producing();
        transport.resume_producing();
    }),
    ("unread", |_, transport| transport.unread(b"again")),
    ("overflow", |_, transport| {
        transport.set_buffer_limits(BufferLimits { high: 10, low: 5, cap: 20 });
        transport.write([0; 15]);
        transport.write([0; 15]);
    }),
    ("producers", |world, transport| {
        transport.unregister_producer();
        let _ = transport.register_producer(world.clone(), Streaming::Push);
        transport.unregister_producer();
        let _ = transport.register_producer(world.clone(), Streaming::Pull);
        transport.unregister_producer();
        let _ = transport.register_producer(world.clone(), Streaming::Push);
    }),
    ("switch_protocol", |world, transport| {
        let world = world.clone();
        let next = scripted(move |transport, event| {
            if let Event::Lost(_) = event {
                world.0.lost.set(world.0.lost.get() + 1);
            }
            world.enter("the next protocol", Some(transport));
        });
        transport.switch_protocol(next, b"leftover");
    }),
    ("post", |world, transport| {
        let (inside, later) = (world.clone(), world.clone());
        let handle = transport.protocol::<Scripted>();
        handle.post(move |_, transport| inside.enter("post", Some(transport)));
        handle.call_later(Duration::ZERO, move |_, transport| later.enter("post", Some(transport)));
    }),
    ("connect", |world, _| {
        let connector = world.0.reactor.connect_tcp("example.org", 80, world.clone());
        connector.disconnect();
    }),
    ("connectors", |world, _| {
        for connector in &world.0.others.borrow().connectors {
            let _ = connector.stop_connecting();
            connector.disconnect();
            let _ = connector.connect();
        }
    }),
    ("listen", |world, _| {
        drop(world.0.reactor.listen_tcp(0, world.clone()));
    }),
    ("ports", |world, _| {
        for port in &world.0.others.borrow().ports {
            drop(port.stop_listening());
        }
    }),
    ("stop the reactor", |world, _| world.0.reactor.stop()),
    ("timers", |world, _| {
        let inside = world.clone();
        world.0.reactor.call_later(Duration::ZERO, move || inside.enter("a new timer", None));
        for timer in &world.0.others.borrow().timers {
            let _ = timer.reset(Duration::ZERO);
            let _ = timer.advance(Duration::from_secs(1));
            let _ = timer.cancel();
        }
    }),
    ("queue", |world, _| {
        let [first, second, third] = [world.clone(), world.clone(), world.clone()];
        let reactor = &world.0.reactor;
        reactor.call_when_running(move |_| first.enter("a new call", None));
        drop(reactor.spawn(async move { second.enter("a new future", None) }));
        let _ = reactor.handle().call_from_thread(|_| {});
        drop(third);
    }),
    ("deferreds", |world, _| {
        let resolvers = std::mem::take(&mut world.0.others.borrow_mut().resolvers);
        resolvers.into_iter().for_each(|resolver| resolver.resolve(()));
        let (resolver, deferred) = world.0.reactor.deferred::<()>();
        resolver.resolve(());
        let inside = world.clone();
        drop(deferred.add_callback(move |()| inside.enter("a new callback", None)));
    }),
];

/// Runs a program in whose course every callback comes at least once, whatever one of them does. What the library did
/// that it must not.
pub(crate) fn play(place: &'static str, action: Action) -> Vec<String> {
    let reactor = MemoryReactor::new();
    let world = World::new(&reactor, place, action);
    let port = reactor.listen_tcp(1, world.clone()).expect("it is free");
    world.0.others.borrow_mut().ports.push(port.clone());
    let peers = [(); 4].map(|()| reactor.connect_to(&port));

    for _ in 0..2 {
        let connector = reactor.connect_tcp("example.org", 80, world.clone());
        world.0.others.borrow_mut().connectors.push(connector);
    }
    reactor.settle();
    let mut accepted = Vec::new();
    for (number, connector) in reactor.connecting().into_iter().enumerate() {
        if !reactor.connecting().contains(&connector) {
            continue; // the program gave it up meanwhile
        }
        if number % 2 == 1 {
            accepted.push(reactor.accept(&connector));
        } else {
            reactor.refuse(&connector, Failure::new(UserError::new()));
        }
    }

    let inside = world.clone();
    let timer = reactor.call_later(Duration::from_secs(1), move || inside.enter("timer", None));
    let (resolver, deferred) = reactor.deferred::<()>();
    let (inside, after) = (world.clone(), world.clone());
    drop(
        deferred
            .add_callback(move |()| inside.enter("deferred", None))
            .add_callback(move |()| after.enter("deferred", None)),
    );
    let (awaited, future) = reactor.deferred::<()>();
    let inside = world.clone();
    drop(reactor.spawn(async move {
        let _ = future.await;
        inside.enter("future", None);
    }));
    {
        let mut others = world.0.others.borrow_mut();
        others.timers.push(timer);
        others.resolvers.extend([resolver, awaited]);
    }

    let clients = world.0.clients.borrow().clone();
    peers[0].set_room(0);
    if let Some(first) = clients.first() {
        let _ = first.register_producer(world.clone(), Streaming::Push);
        first.write([0; 2000]);
    }
    peers.iter().for_each(|peer| peer.send("data"));
    reactor.settle();
    peers[0].set_room(usize::MAX);
    peers[1].finish();
    if let Some(third) = clients.get(2) {
        third.lose_write_connection();
    }
    let inside = world.clone();
    reactor.call_when_running(move |_| inside.enter("queued call", None));
    reactor.settle();
    let resolvers = std::mem::take(&mut world.0.others.borrow_mut().resolvers);
    resolvers.into_iter().for_each(|resolver| resolver.resolve(()));
    reactor.advance(Duration::from_secs(2));
    peers[0].reset();
    peers[3].reset();
    accepted.iter().for_each(twistor_reactor::testing::MemoryPeer::close);
    clients.iter().for_each(Transport::lose_connection);
    reactor.settle();
    for port in &world.0.others.borrow().ports {
        let _ = port.stop_listening();
    }
    reactor.settle();
    reactor.stop();
    reactor.advance(Duration::from_secs(60));
    *world.0.others.borrow_mut() = Others::default();
    world.0.clients.borrow_mut().clear();

    let mut violations = world.0.violations.take();
    if !world.0.acted.get() {
        violations.push(format!("{place} never came"));
    }
    let (made, lost) = (world.0.made.get(), world.0.lost.get());
    if made != lost {
        violations.push(format!("{made} connections were made and {lost} lost"));
    }
    violations
}
