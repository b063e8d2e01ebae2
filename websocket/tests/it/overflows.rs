//! What overflows, and what comes behind it: nothing follows a Close, nothing is forgotten, nothing stays for ever.

use std::time::Duration;

use twistor_reactor::{BufferLimits, Producer, Streaming};
use twistor_websocket::http::Response;
use twistor_websocket::{Options, Overflow, Resource, Room, WebSocket, WebSocketResource};

use crate::support::{Event, Log, Pages, Recorder, Recorders, Server, close, frame, get, upgrade};

const SMALL: BufferLimits = BufferLimits { high: 1024, low: 256, cap: 4096 };

struct Feeder(WebSocket);

impl Producer for Feeder {
    fn resume_producing(&mut self) {
        self.0.send_text("more");
    }
    fn stop_producing(&mut self) {}
}

#[test]
fn the_message_that_overflows_is_counted_too() {
    let server = Server::with(Options { buffer: SMALL, overflow: Overflow::Close, ..Options::default() }, |it| it);
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    let mut sent = 0;
    while socket.is_open() {
        socket.send_binary(&[3; 500]);
        sent += 1;
    }
    peer.set_room(usize::MAX);
    peer.settle();
    let came = peer.got().iter().filter(|got| got.opcode == 2).count();
    assert_eq!(came as u64 + socket.dropped(), sent);
}

#[test]
fn a_message_in_pieces_whose_end_overflows_is_counted_too() {
    let server = Server::with(Options { buffer: SMALL, overflow: Overflow::Close, ..Options::default() }, |it| it);
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    socket.begin_message(true).expect("the first");
    socket.send_piece(&[3; 2000]).expect("begun");
    socket.end_message(&[3; 3000]).expect("begun");
    assert!(!socket.is_open(), "it has overflowed");
    assert_eq!(socket.dropped(), 1);
}

#[test]
fn a_producer_that_comes_after_the_close_keeps_nothing_open() {
    for violation in [close(1000, "bye"), frame(3, "")] {
        let server = Server::with(Options::default(), |recorder| recorder);
        let peer = server.open();
        let socket = server.log.socket(0);
        peer.frame(&violation);
        let _ = socket.register_producer(Feeder(socket.clone()), Streaming::Pull);
        peer.wait(60.0);
        assert_eq!(server.log.count("lost"), 1, "still there after a minute");
    }
}

#[test]
fn a_producer_registered_in_close_received_keeps_nothing_open() {
    let server = Server::with(Options::default(), |recorder| {
        recorder.acting(|socket, event| {
            if let Event::Close(..) = event {
                let _ = socket.register_producer(Feeder(socket.clone()), Streaming::Pull);
            }
        })
    });
    let peer = server.open();
    peer.frame(&close(1000, ""));
    peer.wait(60.0);
    assert_eq!(server.log.count("lost"), 1, "still there after a minute");
    assert_eq!(server.handle.connection_count(), 0);
}

#[test]
fn what_was_written_before_the_handshake_counts_as_high() {
    let log = Log::default();
    let mould = Recorder::new(&log).acting(|socket, event| {
        if let Event::Made = event {
            socket.send_text("hello");
        }
    });
    let buffer = BufferLimits { cap: 64 * 1024, ..SMALL };
    let options = Options { buffer, write_timeout: None, ping_interval: None, ..Options::default() };
    let mut root = Resource::new();
    root.put_child("page", Resource::new().render_get(|_| Response::text("x".repeat(10_000))));
    root.put_child("ws", Resource::new().websocket(WebSocketResource::with_options(Recorders(mould), options)));
    let pages = Pages::new(root);
    let peer = pages.connect();
    peer.set_room(0);
    peer.send(get("/page") + &upgrade("/ws", &[]));
    assert_eq!(log.count("made"), 1);
    peer.set_room(usize::MAX);
    peer.wait(5.0);
    peer.http();
    assert_eq!(peer.http().status(), 101);
    assert_eq!(peer.lines(), ["text hello"]);
}

#[test]
fn what_a_room_has_behind_a_message_that_overflows_is_counted_too() {
    let server = Server::with(Options { buffer: SMALL, overflow: Overflow::Close, ..Options::default() }, |it| it);
    let peers: Vec<_> = (0..8).map(|_| server.open()).collect(); // as many as a room writes to at the turn's end
    let room = Room::new();
    (0..8).for_each(|index| room.join(&server.log.socket(index)));
    peers[0].set_room(0);
    let slow = server.log.socket(0);
    slow.send_binary(&[3; 3000]);
    peers[0].settle();
    let sent = (0..5).filter(|_| {
        let open = slow.is_open();
        room.broadcast(vec![3; 1000]);
        open
    });
    let sent = 1 + sent.count() as u64;
    peers[0].settle();
    assert!(!slow.is_open(), "it has overflowed");
    peers[0].set_room(usize::MAX);
    peers[0].settle();
    let came = peers[0].got().iter().filter(|got| got.opcode == 2).count();
    assert_eq!(came as u64 + slow.dropped(), sent);
}

/// A WebSocket that reads nothing and for which a room has more than fits; what it has got when it reads in the end.
fn after_an_overflow(prepare: impl FnOnce(&WebSocket), act: impl FnOnce(&WebSocket)) -> Vec<String> {
    let server = Server::with(Options { buffer: SMALL, overflow: Overflow::Close, ..Options::default() }, |it| it);
    let peers: Vec<_> = (0..8).map(|_| server.open()).collect(); // as many as a room writes to at the turn's end
    let room = Room::new();
    (0..8).for_each(|index| room.join(&server.log.socket(index)));
    let slow = server.log.socket(0);
    peers[0].set_room(0);
    prepare(&slow);
    peers[0].settle();
    peers[0].set_room(800);
    peers[0].settle();
    (0..5).for_each(|_| room.broadcast(vec![3; 1000]));
    act(&slow);
    assert!(!slow.is_open(), "it has overflowed");
    peers[0].set_room(usize::MAX);
    peers[0].settle();
    let lines = peers[0].lines();
    assert!(lines.last().is_some_and(|line| line.starts_with("close 1013")), "{lines:?}");
    lines
}

#[test]
fn no_message_follows_the_close_of_an_overflow_in_a_room() {
    let fill = |slow: &WebSocket| {
        (0..4).for_each(|_| slow.send_binary(&[2; 700])); // two in the transport, two wait; 800 bytes are taken
    };
    after_an_overflow(fill, |slow| slow.send_text("after"));
    after_an_overflow(fill, |slow| slow.send_latest(1, "after"));
}

#[test]
fn no_piece_and_no_ping_follows_the_close_of_an_overflow_in_a_room() {
    let begin = |slow: &WebSocket| {
        slow.begin_message(true).expect("the first");
        slow.send_piece(b"a piece").expect("begun");
    };
    after_an_overflow(begin, |slow| slow.ping(b"after").expect("short"));
    after_an_overflow(begin, |slow| slow.send_piece(b"after").expect("begun"));
}

#[test]
fn a_peer_that_has_just_taken_all_is_alive() {
    let second = Some(Duration::from_secs(2));
    let (timeout, buffer) = (Duration::from_secs(1), BufferLimits { cap: 64 * 1024, ..SMALL });
    let options = Options {
        ping_interval: second,
        ping_timeout: timeout,
        ping_when_busy: true,
        write_timeout: None,
        buffer,
        ..Options::default()
    };
    let server = Server::with(options, |recorder| recorder);
    let peer = server.open();
    let socket = server.log.socket(0);
    peer.set_room(100);
    socket.send_binary(&[3; 8000]);
    peer.settle();
    for _ in 0..11 {
        // a slow peer, which reads all the time; it is pinged at 2 s, behind the message
        peer.wait(0.25);
        drop(peer.bytes());
        peer.settle();
    }
    peer.set_room(usize::MAX); // it has caught up: the rest, and with it the ping, goes out a moment before the look
    peer.settle();
    peer.wait(0.25); // the look at 3 s; the pong is on its way
    assert_eq!(server.log.count("lost"), 0, "{:?}", server.log.last_status());
}

#[test]
fn what_a_room_sends_after_another_one_has_overflowed_is_not_dropped_but_not_sent() {
    let buffer = BufferLimits { high: 1024, low: 256, cap: 4096 };
    let server = Server::with(Options { buffer, overflow: Overflow::Close, ..Options::default() }, |it| it);
    let peers: Vec<_> = (0..8).map(|_| server.open()).collect();
    let (one, other) = (Room::new(), Room::new());
    (0..8).for_each(|index| {
        one.join(&server.log.socket(index));
        other.join(&server.log.socket(index));
    });
    peers[0].set_room(0);
    let slow = server.log.socket(0);
    slow.send_binary(&[3; 3000]);
    peers[0].settle();
    let mut sent = 0;
    for room in [&one, &one, &other, &other, &other] {
        sent += u64::from(slow.is_open());
        room.broadcast(vec![3; 1000]);
    }
    peers[0].settle();
    assert!(!slow.is_open());
    assert_eq!((sent, slow.dropped()), (3, 3));
}
