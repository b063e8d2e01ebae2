//! One client that does not read, in a room of those who do: what each policy makes of it, with the kernel's buffers
//! between. The others read each batch before the next is sent, so nothing here depends on anybody's speed.

use std::io::Read;
use std::iter;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use twistor::websocket::{Frame, Options, Overflow, Room, WebSocket, WebSocketProtocol, WebSocketServerFactory};
use twistor::{Address, Failure, Reactor};

use crate::support::{BINARY, CLOSE, FIN, Got, Log, Raw, Server, TEXT, bounded, masked, patient, plain};

const GOOD: usize = 20;
const BATCH: usize = 8;
/// 7.5 MiB: more than the kernel (4 MiB, `tcp_wmem`) and the server keep for one connection.
const MESSAGES: usize = 60 * BATCH;
const SIZE: usize = 16 * 1024;
/// What a message takes of the room while it waits.
const COST: usize = SIZE + 64;
/// The defaults.
const HIGH: usize = 64 * 1024;
const CAP: usize = 1024 * 1024;

/// Numbered, and not the same twice.
fn payload(number: usize) -> Vec<u8> {
    let mut payload = vec![number as u8; SIZE];
    payload[..8].copy_from_slice(&(number as u64).to_be_bytes());
    payload
}

fn number(got: &Got) -> usize {
    assert_eq!((got.first, got.payload.len()), (FIN | BINARY, SIZE));
    let number = got.payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes) as usize).expect("a number");
    assert!(got.payload == payload(number), "message {number} is damaged");
    number
}

/// What the server saw, looking after each message.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    most_buffered: usize,
    most_buffered_in_all: usize,
    dropped: usize,
}

/// How a message goes to all.
type Say = fn(&Room, usize);

fn by_room(room: &Room, number: usize) {
    room.broadcast(payload(number));
}

fn by_key(room: &Room, number: usize) {
    let payload = payload(number);
    room.members().iter().for_each(|member| member.send_latest((number % BATCH) as u64, &payload[..]));
}

/// Sends a batch to everybody when anybody says from which number on.
#[derive(Clone)]
struct Broadcaster {
    room: Room,
    say: Say,
    seen: Arc<Mutex<Seen>>,
    log: Log,
}

impl WebSocketProtocol for Broadcaster {
    fn connection_made(&mut self, socket: &WebSocket) {
        self.room.join(socket);
        self.log.add("made");
    }

    fn frame_received(&mut self, _: &WebSocket, frame: Frame<'_>) {
        let first: usize = frame.decode().parse().expect("a number");
        for number in first..first + BATCH {
            (self.say)(&self.room, number);
            let members = self.room.members();
            let buffered = members.iter().map(WebSocket::buffered);
            let mut seen = self.seen.lock().expect("unpoisoned");
            seen.most_buffered = seen.most_buffered.max(buffered.clone().max().unwrap_or(0));
            seen.most_buffered_in_all = seen.most_buffered_in_all.max(buffered.sum());
            seen.dropped = members.iter().map(|member| member.dropped() as usize).sum();
        }
    }

    fn connection_lost(&mut self, socket: &WebSocket, _: &Failure) {
        self.log.add(format_args!("lost {}", socket.close_status().expect("it has ended").code));
    }
}

/// What is left after the broadcast.
struct Afterwards {
    stuck: Raw,
    seen: Seen,
    log: Log,
    _good: Vec<Raw>,
    _server: Server,
}

/// All messages, to all; that the good ones got each, in order, is checked.
fn broadcast(say: Say, options: fn() -> Options) -> Afterwards {
    let (seen, log) = (Arc::<Mutex<Seen>>::default(), Log::default());
    let (sees, logs) = (seen.clone(), log.clone());
    let server = Server::run(move |_: &Reactor| {
        let broadcaster = Broadcaster { room: Room::new(), say, seen: sees, log: logs };
        // how long this takes must not matter
        let options = Options { write_timeout: None, ping_interval: None, ..options() };
        WebSocketServerFactory::with_options(move |_: &Address| Some(broadcaster.clone()), options)
    });
    let stuck = open_narrow(server.address);
    let mut good: Vec<Raw> = (0..GOOD).map(|_| Raw::open(server.address, "/")).collect();
    log.wait_for_nth(GOOD + 1, "made");

    let mut frames = vec![0; BATCH * plain(FIN | BINARY, payload(0)).len()];
    for first in (0..MESSAGES).step_by(BATCH) {
        good[first % GOOD].send(masked(FIN | TEXT, first.to_string()));
        let wanted: Vec<u8> = (first..first + BATCH).flat_map(|number| plain(FIN | BINARY, payload(number))).collect();
        for client in &good {
            client.stream().read_exact(&mut frames).expect("a batch");
            assert!(frames == wanted, "something else than messages from {first} on");
        }
    }
    let seen = *seen.lock().expect("unpoisoned");
    assert!(seen.most_buffered <= CAP, "{seen:?}");
    assert!(seen.most_buffered_in_all <= CAP + GOOD * BATCH * COST, "{seen:?}");
    Afterwards { stuck, seen, log, _good: good, _server: server }
}

/// A client that lets the kernel take little for it.
fn open_narrow(address: SocketAddr) -> Raw {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("SO_RCVBUF");
    socket.connect(&address.into()).expect("somebody listens");
    let mut client = Raw::from(patient(socket.into()));
    client.upgrade("/");
    assert_eq!(client.head().split(' ').nth(1), Some("101"));
    client
}

/// What a client that was kept gets when it reads at last: all but what was dropped, in order.
fn reads_at_last(after: &mut Afterwards) -> Vec<usize> {
    assert_eq!(after.log.count("lost"), 0);
    let got: Vec<usize> = (after.seen.dropped..MESSAGES).map(|_| number(&after.stuck.frame())).collect();
    assert!(got.is_sorted_by(|one, next| one < next), "{got:?}");
    after.stuck.send(masked(FIN | CLOSE, 1000_u16.to_be_bytes()));
    assert_eq!(after.stuck.frame().first, FIN | CLOSE, "more messages than were not dropped");
    got
}

// T41
#[test]
fn a_slow_consumer_is_closed_with_1013_and_the_others_miss_nothing() {
    bounded(|| {
        let options = || Options { overflow: Overflow::Close, close_handshake_timeout: None, ..Options::default() };
        let mut after = broadcast(by_room, options);
        let frames = iter::repeat_with(|| after.stuck.frame()).take_while(|got| got.first != FIN | CLOSE);
        let got: Vec<usize> = frames.map(|got| number(&got)).collect();
        after.stuck.end();
        assert_eq!(after.log.wait_for("lost"), "lost 1013");
        assert!((1..MESSAGES).contains(&got.len()));
        assert_eq!(got, Vec::from_iter(0..got.len()));
    });
}

// T41
#[test]
fn a_slow_consumer_that_never_reads_again_is_cut_off() {
    bounded(|| {
        const SOON: Duration = Duration::from_millis(100);
        let options =
            || Options { overflow: Overflow::Close, close_handshake_timeout: Some(SOON), ..Options::default() };
        let after = broadcast(by_room, options);
        assert_eq!(after.log.wait_for("lost"), "lost 1013");
        assert_eq!(after.log.count("lost"), 1);
        assert!(after.stuck.ends_by_reset());
    });
}

// T41
#[test]
fn a_slow_consumer_misses_the_newest_and_the_others_miss_nothing() {
    bounded(|| {
        let mut after = broadcast(by_room, || Options { overflow: Overflow::DropNewest, ..Options::default() });
        assert!(after.seen.dropped > 0);
        let got = reads_at_last(&mut after);
        assert_eq!(got[..CAP / SIZE], Vec::from_iter(0..CAP / SIZE));
    });
}

// T41
#[test]
fn a_slow_consumer_misses_the_oldest_and_the_others_miss_nothing() {
    bounded(|| {
        let mut after = broadcast(by_room, || Options { overflow: Overflow::DropOldest, ..Options::default() });
        assert!(after.seen.dropped > 0);
        let got = reads_at_last(&mut after);
        assert_eq!(got.last(), Some(&(MESSAGES - 1)));
    });
}

// T41
#[test]
fn a_slow_consumer_gets_the_latest_of_each_key_and_the_others_all() {
    bounded(|| {
        let mut after = broadcast(by_key, Options::default);
        assert!(after.seen.dropped > 0);
        assert!(after.seen.most_buffered <= HIGH + (1 + BATCH) * COST, "one of each key: {:?}", after.seen);
        let got = reads_at_last(&mut after);
        assert_eq!(got[got.len() - BATCH..], Vec::from_iter(MESSAGES - BATCH..MESSAGES));
    });
}
