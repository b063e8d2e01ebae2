//! What flows through a wrapped protocol: nothing stalls, nothing overflows, and its end is told.

use std::cell::RefCell;
use std::rc::Rc;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{BufferLimits, Failure, Producer, Protocol, Streaming, Transport, for_protocol};
use twistor_websocket::{Options, Overflow, ServerHandle, WebSocketClosed, WebSocketServerFactory, WrappingFactory};

use crate::support::{Peer, binary, close, heap, text};

type Act = Rc<dyn Fn(&Transport, &[u8])>;

struct Wrapped {
    act: Act,
    told: Rc<RefCell<Vec<String>>>,
    made: Rc<RefCell<Option<Transport>>>,
}

impl Protocol for Wrapped {
    fn connection_made(&mut self, transport: &Transport) {
        self.told.borrow_mut().push("made".into());
        *self.made.borrow_mut() = Some(transport.clone());
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.told.borrow_mut().push(format!("data {}", data.len()));
        (self.act)(transport, data);
    }
    fn output_high(&mut self, _: &Transport) {
        self.told.borrow_mut().push("high".into());
    }
    fn output_drained(&mut self, _: &Transport) {
        self.told.borrow_mut().push("drained".into());
    }
    fn connection_lost(&mut self, _: &Transport, reason: &Failure) {
        let code = reason.value::<WebSocketClosed>().map(|closed| closed.status.code);
        self.told.borrow_mut().push(format!("lost {code:?} {reason}"));
    }
}

struct Rig {
    reactor: Rc<MemoryReactor>,
    peer: Rc<Peer>,
    told: Rc<RefCell<Vec<String>>>,
    made: Rc<RefCell<Option<Transport>>>,
    handle: ServerHandle,
}

fn rig(options: Options, act: impl Fn(&Transport, &[u8], &Peer) + 'static) -> Rig {
    let reactor = Rc::new(MemoryReactor::new());
    let told: Rc<RefCell<Vec<String>>> = Rc::default();
    let made: Rc<RefCell<Option<Transport>>> = Rc::default();
    let slot: Rc<RefCell<Option<Rc<Peer>>>> = Rc::default();
    let mine = slot.clone();
    let act: Act = Rc::new(move |transport, data| {
        let peer = mine.borrow().clone().expect("a peer");
        act(transport, data, &peer);
    });
    let (t, m) = (told.clone(), made.clone());
    let factory = for_protocol(move || Wrapped { act: act.clone(), told: t.clone(), made: m.clone() });
    let factory = WebSocketServerFactory::with_options(WrappingFactory::new(factory), options);
    let handle = factory.handle();
    let port = reactor.listen_tcp(80, factory).expect("a port");
    let peer = Rc::new(Peer::client(&reactor, reactor.connect_to(&port)));
    *slot.borrow_mut() = Some(peer.clone());
    peer.open("/", &[]);
    Rig { reactor, peer, told, made, handle }
}

#[test]
fn a_peer_that_reads_at_once_is_sent_all() {
    let rig = rig(Options::default(), |transport, _, peer| {
        peer.set_room(0); // its buffer is full for a moment
        for index in 0..20 {
            transport.write([index; 10_000]);
        }
        peer.set_room(usize::MAX); // and it reads before the loop comes to the next turn
    });
    rig.peer.frames(&[text("go")]);
    let all = rig.peer.drain();
    let left = rig.made.borrow().as_ref().expect("made").buffered();
    assert_eq!((all.len(), left), (20 * 10_004, 0));
}

#[test]
fn what_is_written_waits_in_the_wrapped_transport_and_overflows_nothing() {
    for overflow in [Overflow::Close, Overflow::DropNewest] {
        let options = Options { auto_fragment: Some(1000), overflow, ..Options::default() };
        let rig = rig(options, |transport, data, _| match data {
            b"one" => transport.write(vec![1; 300_000]),
            _ => (0..1500).for_each(|_| transport.write([2; 1000])),
        });
        rig.peer.set_room(0);
        rig.peer.frames(&[text("one")]);
        rig.peer.set_room(30_000);
        rig.reactor.settle();
        rig.peer.frames(&[text("two")]);
        rig.peer.set_room(usize::MAX);
        rig.reactor.settle();
        let all = rig.peer.drain();
        let twos = all.iter().filter(|byte| **byte == 2).count();
        assert!(twos >= 1_500_000, "{overflow:?}: {twos} of 1500000, {:?}", rig.told.borrow());
    }
}

#[test]
fn the_end_is_told_at_once_to_one_that_closes() {
    let rig = rig(Options { write_timeout: None, ..Options::default() }, |transport, _, _| {
        for _ in 0..20 {
            transport.write([1; 10_000]);
        }
        transport.lose_connection();
    });
    rig.peer.set_room(0);
    rig.peer.frames(&[text("go")]);
    rig.peer.frames(&[text("late")]);
    rig.peer.reset();
    rig.reactor.settle();
    let told = rig.told.borrow().clone();
    assert!(told.last().expect("told").starts_with("lost Some(1006)"), "{told:?}");
}

#[test]
fn one_that_closes_while_it_has_paused_leaves_no_websocket_paused() {
    let rig = rig(Options::default(), |transport, data, _| {
        if data == b"pause" {
            transport.pause_producing();
        }
    });
    rig.peer.frames(&[text("pause"), binary(vec![0; 40_000]), binary(vec![0; 40_000]), text("x"), close(1000, "")]);
    let made = rig.made.borrow().clone().expect("made");
    made.lose_connection();
    rig.reactor.settle();
    assert!(rig.told.borrow().last().expect("told").starts_with("lost"), "{:?}", rig.told.borrow());
    assert!(rig.peer.saw_end(), "{:?}", rig.peer.lines());
}

#[test]
fn limits_of_zero_stop_nothing_for_ever() {
    let options = Options { buffer: BufferLimits { low: 0, high: 0, cap: 1 << 20 }, ..Options::default() };
    let rig = rig(options, |transport, _, _| {
        for index in 0..20 {
            transport.write([index; 1000]);
        }
    });
    rig.peer.frames(&[text("go")]);
    let all = rig.peer.drain();
    assert_eq!(all.len(), 20 * 1004);
}

#[test]
fn tiny_messages_for_a_paused_protocol_are_bounded() {
    let rig =
        rig(Options { max_message: 1 << 20, ..Options::default() }, |transport, _, _| transport.pause_producing());
    let before = heap::held();
    let wire: Vec<u8> = (0..70_000).flat_map(|_| binary([1]).masked()).collect();
    for part in wire.chunks(7 * 1000) {
        rig.peer.send(part);
    }
    let held = heap::held().saturating_sub(before).saturating_sub(wire.capacity());
    assert!(held < 1_000_000, "{held} bytes are held for a paused protocol");
}

#[test]
fn a_peer_that_closes_while_output_waits_ends_it_once() {
    let rig = rig(Options::default(), |transport, _, _| (0..40).for_each(|i| transport.write([i; 10_000])));
    rig.peer.set_room(0);
    rig.peer.frames(&[text("go")]);
    rig.peer.frames(&[close(1000, "")]);
    rig.peer.set_room(usize::MAX);
    rig.reactor.settle();
    assert!(rig.told.borrow().last().expect("told").starts_with("lost Some(1000)"), "{:?}", rig.told.borrow());
    assert_eq!(rig.told.borrow().iter().filter(|t| t.starts_with("lost")).count(), 1);
}

/// A file's pieces: the peer stops reading and goes away while the connection closes.
#[test]
fn a_wrapped_pull_producer_on_a_closing_connection_ends_with_the_websocket() {
    struct Pieces(Transport);
    impl Producer for Pieces {
        fn resume_producing(&mut self) {
            self.0.write([1; 100_000]);
        }
        fn stop_producing(&mut self) {}
    }
    let rig = rig(Options::default(), |transport, _, _| {
        transport.register_producer(Pieces(transport.clone()), Streaming::Pull).unwrap();
    });
    rig.peer.set_room(50_000);
    rig.peer.frames(&[text("go")]);
    rig.made.borrow().as_ref().expect("made").lose_connection();
    rig.reactor.settle();
    rig.peer.reset();
    rig.reactor.settle();
    rig.reactor.advance(std::time::Duration::from_secs(3600));
    assert_eq!(rig.told.borrow().iter().filter(|told| told.starts_with("lost")).count(), 1, "{:?}", rig.told.borrow());
}

#[test]
fn a_protocol_that_waits_for_a_message_in_pieces_does_not_spin() {
    let rig = rig(Options::default(), |_, _, _| {});
    let socket = rig.handle.sockets()[0].clone();
    socket.begin_message(false).unwrap();
    socket.send_piece(b"one ").unwrap();
    rig.made.borrow().as_ref().expect("made").write("wrapped");
    rig.reactor.settle();
    socket.end_message(b"two").unwrap();
    rig.reactor.settle();
    assert_eq!(rig.peer.lines().len(), 3);
}
