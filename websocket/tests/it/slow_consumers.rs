//! Peers that do not read what is sent to them.

use twistor_reactor::BufferLimits;
use twistor_websocket::{LimitExceeded, Options, Overflow, PreparedMessage, WebSocket};

use crate::support::{Got, Peer, Server, binary, heap, pong};

const KIB: usize = 1024;
const CAP: usize = 1024 * KIB;

fn with(overflow: Overflow) -> Server {
    Server::with(Options { overflow, ping_interval: None, ..Options::default() }, |mould| mould)
}

fn numbered(number: usize) -> String {
    format!("{number:01000}")
}

fn numbers(frames: &[Got]) -> Vec<usize> {
    let number = |got: &Got| String::from_utf8_lossy(&got.payload).parse().expect("a number");
    frames.iter().filter(|got| got.opcode == 1).map(number).collect()
}

/// A sixteenth of the default limits: what is tested is the policy, a hundredfold.
const SMALL: BufferLimits = BufferLimits { high: 4 * KIB, low: KIB, cap: 64 * KIB };

const MESSAGES: usize = 150;

fn small(overflow: Overflow) -> Server {
    Server::with(Options { overflow, buffer: SMALL, ping_interval: None, ..Options::default() }, |mould| mould)
}

/// 100 peers that read and one that does not; what the good ones got is checked; the bad one comes first of all.
fn broadcast(server: &Server, send: impl Fn(&WebSocket, usize)) -> Vec<Peer> {
    let peers: Vec<Peer> = (0..101).map(|_| server.open()).collect();
    peers[0].set_room(0);
    let sockets: Vec<WebSocket> = (0..101).map(|index| server.log.socket(index)).collect();
    for number in 0..MESSAGES {
        sockets.iter().for_each(|socket| send(socket, number));
        assert!(sockets[0].buffered() <= SMALL.cap, "{} bytes", sockets[0].buffered());
        if number % 10 == 9 {
            server.reactor.settle();
            for peer in &peers[1..] {
                assert_eq!(numbers(&peer.got()), Vec::from_iter(number - 9..=number));
            }
        }
    }
    assert!(sockets[1..].iter().all(|socket| socket.is_open() && socket.dropped() == 0));
    peers
}

#[test]
fn t41_a_slow_reader_is_closed_with_1013_and_nobody_else_notices() {
    let server = small(Overflow::Close);
    let peers = broadcast(&server, |socket, number| socket.send_text(&numbered(number)));
    let bad = &peers[0];
    assert!(!server.log.socket(0).is_open());
    assert!(server.log.socket(0).buffered() <= SMALL.high + 2 * KIB, "what waited is given up");
    assert_eq!(server.log.count("lost"), 0);
    bad.set_room(usize::MAX);
    server.reactor.settle();
    let frames = bad.got();
    let got = numbers(&frames);
    assert_eq!(got, Vec::from_iter(0..got.len()), "all in order up to the end");
    assert_eq!(frames.last().expect("a Close").close().0, 1013);
    server.wait(10.0);
    assert_eq!(server.only_end().1, 1013);
    assert!(server.log.last_reason().check::<LimitExceeded>());
    assert_eq!(server.handle.connection_count(), 100);
}

#[test]
fn t41_a_slow_reader_that_never_reads_again_is_gone_in_seconds() {
    let server = with(Overflow::Close);
    let bad = server.open();
    bad.set_room(0);
    for number in 0..1500 {
        server.log.socket(0).send_text(&numbered(number));
    }
    server.wait(3.0);
    server.wait(6.0);
    assert_eq!((server.log.count("lost"), server.handle.connection_count()), (1, 0));
    assert!(bad.saw_reset());
}

#[test]
fn t41_drop_newest_keeps_the_connection_and_the_oldest() {
    let server = small(Overflow::DropNewest);
    let peers = broadcast(&server, |socket, number| socket.send_text(&numbered(number)));
    let socket = server.log.socket(0);
    assert!(socket.is_open());
    let got = received(&server, &peers[0]);
    assert_eq!(got, Vec::from_iter(0..got.len()));
    assert_eq!(got.len() + dropped(&socket), MESSAGES);
    assert!((50..66).contains(&got.len()), "{} kept", got.len());
}

#[test]
fn t41_drop_oldest_keeps_the_connection_and_the_newest() {
    let server = small(Overflow::DropOldest);
    let peers = broadcast(&server, |socket, number| socket.send_text(&numbered(number)));
    let socket = server.log.socket(0);
    let got = received(&server, &peers[0]);
    assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "in order");
    assert_eq!(got.last(), Some(&(MESSAGES - 1)));
    assert_eq!(got.len() + dropped(&socket), MESSAGES);
    let gaps = got.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
    assert_eq!(gaps, 1, "what was with the kernel, then the newest");
}

#[test]
fn t41_send_latest_keeps_one_of_each_key() {
    let server = small(Overflow::Close);
    let peers = broadcast(&server, |socket, number| socket.send_latest(number as u64 % 2, numbered(number)));
    let socket = server.log.socket(0);
    assert!(socket.is_open());
    let got = received(&server, &peers[0]);
    assert_eq!(got[got.len() - 2..], [MESSAGES - 2, MESSAGES - 1]);
    assert!(got.len() < 9, "those before the high mark, and the latest: {}", got.len());
    assert_eq!(got.len() + dropped(&socket), MESSAGES);
}

#[test]
fn t41_prepared_messages_are_bounded_alike() {
    let server = small(Overflow::DropNewest);
    let messages: Vec<PreparedMessage> = (0..MESSAGES).map(|number| PreparedMessage::new(numbered(number))).collect();
    let peers = broadcast(&server, |socket, number| socket.send_prepared(&messages[number]));
    let got = received(&server, &peers[0]);
    assert_eq!(got, Vec::from_iter(0..got.len()));
    assert_eq!(got.len() + dropped(&server.log.socket(0)), MESSAGES);
}

fn dropped(socket: &WebSocket) -> usize {
    usize::try_from(socket.dropped()).expect("a few")
}

/// What a peer gets that reads again, at last.
fn received(server: &Server, peer: &Peer) -> Vec<usize> {
    peer.set_room(usize::MAX);
    server.reactor.settle();
    numbers(&peer.got())
}

#[test]
fn t41_the_cap_holds_for_a_message_larger_than_itself() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        let server = with(overflow);
        let peer = server.open();
        peer.set_room(0);
        let socket = server.log.socket(0);
        socket.send_binary(&[0; 100 * KIB]);
        for _ in 0..3 {
            socket.send_binary(&vec![0; 2 * CAP]);
        }
        assert!(socket.buffered() <= CAP, "{overflow:?}: {}", socket.buffered());
    }
}

/// What an entry of the queue costs beside its payload counts, too.
#[test]
fn t41_empty_messages_to_a_peer_that_does_not_read_are_bounded() {
    let server = Server::with(Options { ping_interval: None, ..Options::default() }, |mould| mould);
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    socket.send_binary(&[0; 100 * KIB]);
    let peak = heap::peak_of(|| {
        for _ in 0..200_000 {
            socket.send_binary(b"");
        }
    });
    assert!(peak < 4 * CAP, "{peak} bytes for empty messages");
}

#[test]
fn t41_pieces_to_a_peer_that_does_not_read_are_bounded() {
    let server = with(Overflow::Close);
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    socket.begin_message(true).unwrap();
    for _ in 0..100 {
        let _ = socket.send_piece(&[0; 100 * KIB]);
    }
    assert!(socket.buffered() <= CAP + 100 * KIB, "{}", socket.buffered());
}

/// Pieces cannot be dropped: what comes behind them is, and the cap holds.
#[test]
fn t41_messages_behind_pieces_are_bounded() {
    let server = small(Overflow::DropOldest);
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    socket.begin_message(true).unwrap();
    for _ in 0..50 {
        socket.send_piece(&[0; KIB]).unwrap();
    }
    socket.end_message(b"").unwrap();
    for number in 0..MESSAGES {
        socket.send_text(&numbered(number));
    }
    assert!(socket.buffered() <= SMALL.cap, "{}", socket.buffered());
    let got = received(&server, &peer);
    assert_eq!(got.last(), Some(&(MESSAGES - 1)));
    assert_eq!(got.len() + dropped(&socket), MESSAGES);
}

/// One message alone is never too long: its bytes exist already.
#[test]
fn a_single_large_message_is_sent_whole() {
    let server = with(Overflow::Close);
    let peer = server.open();
    peer.set_room(100_000);
    server.log.socket(0).send_binary(&vec![1; 5 * CAP]);
    server.reactor.settle();
    let bytes = peer.drain();
    assert_eq!(bytes.len(), 5 * CAP + 10);
    assert!(server.log.socket(0).is_open());
}

#[test]
fn t42_a_reader_that_takes_nothing_is_dropped_though_it_pings() {
    let server = Server::new();
    let peer = server.open();
    peer.set_room(0);
    server.log.socket(0).send_text("unread");
    server.reactor.settle();
    for _ in 0..14 {
        peer.wait(1.0);
        peer.frame(&pong("alive"));
    }
    assert_eq!(server.log.count("lost"), 0);
    peer.wait(1.1);
    let (was_clean, code, reason) = server.only_end();
    assert_eq!((was_clean, code), (false, 1006));
    assert!(reason.contains("took fewer than"), "{reason}");
}

/// A server with 60 KiB on their way to a reader, which takes so many bytes a second, and pongs.
fn dripping(rate: usize) -> (Server, Peer) {
    let server = Server::new();
    let peer = server.open();
    peer.set_room(rate);
    server.log.socket(0).send_binary(&[0; 60 * KIB]);
    server.reactor.settle();
    (server, peer)
}

fn drip(peer: &Peer, rate: usize) {
    assert!(peer.bytes().len() <= rate);
    peer.wait(1.0);
    peer.frame(&pong("alive"));
}

#[test]
fn t42_a_reader_at_a_byte_a_second_is_dropped_after_the_write_timeout_though_it_pings() {
    let (server, peer) = dripping(1);
    for second in 0..14 {
        drip(&peer, 1);
        assert_eq!(server.log.count("lost"), 0, "after {second} s");
    }
    drip(&peer, 1);
    peer.wait(0.1);
    let (was_clean, code, reason) = server.only_end();
    assert_eq!((was_clean, code), (false, 1006));
    // 15 s at 256 bytes a second
    assert!(reason.contains("took fewer than 3840 bytes of the queued output in 15s"), "{reason}");
    assert!(peer.saw_reset(), "what is queued is given up");
    assert_eq!((server.handle.connection_count(), server.reactor.pending_calls()), (0, 0));
}

/// The other side of the rule: 256 bytes a second are slow, and enough.
#[test]
fn t42_a_reader_at_300_bytes_a_second_gets_it_all_and_one_at_200_does_not() {
    let (server, peer) = dripping(300);
    for _ in 0..60 * KIB / 300 + 5 {
        drip(&peer, 300);
    }
    assert_eq!((server.log.count("lost"), server.log.socket(0).buffered()), (0, 0));

    let (server, peer) = dripping(200);
    for _ in 0..16 {
        drip(&peer, 200);
    }
    assert!(server.only_end().2.contains("took fewer than 3840 bytes"));
}

// P260
#[test]
fn output_high_and_drained_tell_a_sender_when_to_stop_and_to_go_on() {
    let server = with(Overflow::Close);
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    socket.send_binary(&[0; 60 * KIB]);
    server.reactor.settle();
    assert_eq!(server.log.take(), ["made"]);
    socket.send_binary(&[0; 10 * KIB]);
    server.reactor.settle();
    assert_eq!(server.log.take(), ["high"]);
    peer.set_room(50 * KIB);
    server.reactor.settle();
    assert!(server.log.take().is_empty(), "20 KiB wait");
    peer.set_room(usize::MAX);
    server.reactor.settle();
    assert_eq!(server.log.take(), ["drained"]);
    assert_eq!(socket.buffered(), 0);
}

/// Whoever was told to stop is told to go on, however much waited behind the high mark.
#[test]
fn drained_follows_high_whatever_waited_meanwhile() {
    for waiting in [0, 10, 20, 40, 60, 200] {
        let server = with(Overflow::Close);
        let peer = server.open();
        peer.set_room(0);
        let socket = server.log.socket(0);
        socket.send_binary(&[0; 65 * KIB]);
        server.reactor.settle();
        for _ in 0..waiting {
            socket.send_binary(&[0; KIB]);
        }
        assert_eq!(server.log.take(), ["made", "high"]);
        peer.set_room(usize::MAX);
        server.reactor.settle();
        assert_eq!(peer.got().len(), 1 + waiting);
        let drained = server.log.take();
        assert_eq!(drained.last().map(String::as_str), Some("drained"), "{waiting} KiB waited: {drained:?}");
    }
}

/// What is sent in order arrives in order, pieces among it, and a message in pieces is never torn (RFC 6455, 5.4).
#[test]
fn a_message_in_pieces_stays_behind_what_waits_and_whole() {
    let server = with(Overflow::Close);
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    socket.send_binary(&[0; 65 * KIB]);
    server.reactor.settle();
    socket.send_text("waits");
    socket.begin_message(false).unwrap();
    socket.send_piece(b"a").unwrap();
    peer.set_room(usize::MAX);
    server.reactor.settle();
    socket.end_message(b"b").unwrap();
    server.reactor.settle();
    let lines = peer.lines();
    assert_eq!(lines[1..], ["text waits", "fragment of text a", "continuation b"]);
}

#[test]
fn the_buffer_limits_are_options() {
    let buffer = BufferLimits { high: 1000, low: 100, cap: 5000 };
    let options = Options { buffer, overflow: Overflow::DropNewest, write_timeout: None, ..Options::default() };
    let server = Server::with(options, |mould| mould);
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    for _ in 0..20 {
        socket.send_binary(&[0; 498]);
        server.reactor.settle();
    }
    assert_eq!(server.log.take(), ["made", "high"]);
    assert!(socket.buffered() <= 5000 && socket.buffered() > 4000, "{}", socket.buffered());
    assert!(socket.dropped() >= 9);
    peer.set_room(usize::MAX);
    server.reactor.settle();
    assert_eq!(peer.got().len() as u64, 20 - socket.dropped());
    server.wait(1.0);
    peer.frame(&binary(""));
    assert_eq!(server.log.take(), ["drained", "binary"]);
}

#[test]
fn high_and_drained_alternate() {
    let server = Server::new();
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    for _ in 0..100 {
        socket.send_binary(&[5; 5000]);
    }
    server.reactor.settle();
    for _ in 0..2000 {
        peer.set_room(5000);
        server.wait(0.001);
        let _ = peer.bytes();
    }
    assert_eq!((server.log.count("high"), server.log.count("drained")), (1, 1));
}
