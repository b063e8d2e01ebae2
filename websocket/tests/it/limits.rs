//! What a peer can make us keep: sizes, counts, connections.

use twistor_reactor::testing::MemoryPeer;
use twistor_websocket::{Accept, Options};

use crate::negotiation::later;
use crate::support::{Peer, Recorder, Server, binary, close, continuation, heap, text, upgrade};

fn with(options: Options) -> Server {
    Server::with(options, |mould| mould)
}

// P262
#[test]
fn t28_huge_declared_length_is_refused_at_the_header() {
    for length in [1 << 62, u64::MAX >> 1, (1 << 20) + 1] {
        let server = Server::new();
        let peer = server.open();
        let wire = binary("").declaring(length).masked();
        let peak = heap::peak_of(|| peer.send(&wire));
        assert!(peak < 64 * 1024, "{peak} bytes for {length} promised");
        assert_eq!(peer.closed_with().0, 1009);
        assert_eq!(server.log.take(), ["made"]);
    }
}

#[test]
fn t28_no_memory_is_reserved_for_what_is_promised() {
    let server = Server::new();
    let peer = server.open();
    let wire = binary("").declaring(1 << 20).masked();
    let peak = heap::peak_of(|| peer.send(wire));
    assert!(peak < 4096, "{peak} bytes for none");
    let peak = heap::peak_of(|| peer.send([0; 1000]));
    assert!(peak < 16 * 1024, "{peak} bytes for a thousand");
}

/// By the hundred, for a reactor in memory looks at all its connections at each step.
#[test]
fn t29_ten_thousand_connections_that_promise_the_largest_frame_cost_what_they_send() {
    let servers: Vec<Server> = (0..100).map(|_| Server::new()).collect();
    let peers: Vec<Peer> = servers.iter().flat_map(|server| (0..100).map(|_| server.open())).collect();
    let each = |wire: &[u8]| {
        let before = heap::held();
        peers.iter().for_each(|peer| peer.send(wire));
        (heap::held() - before) / peers.len()
    };
    let promise = each(&binary("").declaring(1 << 20).masked());
    assert!(promise < 64, "{promise} bytes a connection");
    // the test's pipes are among it
    let part = each(&[0; 1000]);
    assert!(part < 4096, "{part} bytes a connection for a thousand");
    assert_eq!(servers.iter().map(|server| server.handle.connection_count()).sum::<usize>(), 10_000);
}

#[test]
fn an_idle_connection_owns_no_buffer() {
    let server = Server::echo();
    let send_to = |peer: &Peer| {
        peer.frames(&[binary(vec![1; 500_000]).more(), continuation(vec![1; 500_000])]);
        drop(peer.drain());
    };
    // the two pipes of a connection belong to the test; the read buffer and a spare one to all connections
    let peers: Vec<Peer> = (0..3).map(|_| server.open()).collect();
    peers.iter().for_each(&send_to);
    let before = heap::held();
    peers.iter().for_each(&send_to);
    let kept = heap::held().saturating_sub(before);
    assert!(kept < 10_000, "{kept}");
    assert_eq!(server.log.socket(0).buffered(), 0);
}

#[test]
fn t30_a_flood_of_empty_fragments_ends_with_1008() {
    let server = Server::new();
    let peer = server.open();
    peer.frame(&text("").more());
    let peak = heap::peak_of(|| peer.frames(&vec![continuation("").more(); 1023]));
    assert!(peer.got().is_empty());
    assert!(peak < 256 * 1024, "{peak}"); // the test's own encoding of them among it
    peer.frame(&continuation("").more());
    assert_eq!(peer.closed_with().0, 1008);
    assert_eq!(server.log.take(), ["made"]);
}

#[test]
fn t30_the_number_of_fragments_is_an_option() {
    let server = with(Options { max_fragments: 2, ..Options::default() });
    let peer = server.open();
    peer.frames(&[text("a").more(), continuation("b")]);
    assert_eq!(server.log.take(), ["made", "text ab"]);
    peer.frames(&[text("a").more(), continuation("b").more(), continuation("c")]);
    assert_eq!(peer.closed_with().0, 1008);
}

#[test]
fn t31_fragments_of_one_byte_are_bounded_in_number_and_memory() {
    let server = with(Options { max_fragments: u32::MAX, max_message: 50_000, ..Options::default() });
    let peer = server.open();
    peer.frame(&binary("x").more());
    let before = heap::held();
    for sent in 2..=50_000 {
        peer.frame(&continuation("x").more());
        if sent % 10_000 == 0 {
            assert!(heap::held() - before < 2 * sent + 4096, "{} for {sent}", heap::held() - before);
        }
    }
    assert!(peer.got().is_empty());
    peer.frame(&continuation("x").more());
    assert_eq!(peer.closed_with().0, 1009);

    let server = Server::new();
    let peer = server.open();
    peer.frame(&binary("x").more());
    peer.frames(&vec![continuation("x").more(); 1024]);
    assert_eq!(peer.closed_with().0, 1008);
}

// P262
#[test]
fn messages_and_frames_up_to_the_limits_are_taken() {
    let server = with(Options { max_message: 1000, max_frame: 600, ..Options::default() });
    let peer = server.open();
    peer.frames(&[binary([1; 600]).more(), continuation([1; 400]), binary([1; 600])]);
    assert_eq!(server.log.take(), ["made", "binary [1000 bytes]", "binary [600 bytes]"]);
    peer.frame(&binary([1; 601]));
    assert_eq!(peer.closed_with().0, 1009);
    let peer = server.open();
    peer.frames(&[binary([1; 600]).more(), continuation([1; 401])]);
    assert_eq!(peer.closed_with().0, 1009);
}

// T60
#[test]
fn connections_beyond_the_limit_are_told_when_to_come_again() {
    let server = with(Options { max_connections: Some(2), ..Options::default() });
    let first = server.open();
    let _second = server.open();
    let answer = server.refusal_of(upgrade("/", &[]));
    assert_eq!(answer.status(), 503);
    let seconds: u32 = answer.header("Retry-After").expect("when").parse().expect("a number");
    assert!((1..=60).contains(&seconds));
    assert_eq!((server.handle.connection_count(), server.handle.accepted(), server.handle.refused()), (2, 2, 1));
    first.frame(&close(1000, ""));
    server.open();
    assert_eq!(server.handle.sockets().len(), 2);
}

#[test]
fn connections_of_one_address_are_limited_apart() {
    let server = with(Options { max_connections_per_address: Some(1), ..Options::default() });
    let first: &MemoryPeer = &server.open(); // all peers in memory are 127.0.0.1
    assert_eq!(server.refusal_of(upgrade("/", &[])).status(), 503);
    first.reset();
    server.reactor.settle();
    server.open();
}

#[test]
fn a_factory_may_refuse_a_connection() {
    let reactor = twistor_reactor::testing::MemoryReactor::new();
    let factory = |_: &twistor_reactor::Address| None::<Recorder>;
    let port = reactor.listen_tcp(80, twistor_websocket::WebSocketServerFactory::new(factory)).unwrap();
    let peer = reactor.connect_to(&port);
    peer.send(upgrade("/", &[]));
    reactor.settle();
    assert!(peer.received().starts_with(b"HTTP/1.1 403 "));
    assert!(peer.saw_end());
}

// T2
#[test]
fn handshakes_in_progress_are_limited_and_their_places_are_given_back() {
    let server = with(Options { max_handshakes: Some(2), ..Options::default() });
    let (slow, silent) = (server.connect(), server.connect());
    slow.send("GET / HTTP/1.1\r\n");
    let third = server.connect();
    let answer = third.http();
    assert_eq!((answer.status(), answer.header("Retry-After").is_some()), (503, true));
    assert!(third.saw_end());
    silent.open("/", &[]);
    let fourth = server.open();
    slow.reset();
    server.reactor.settle();
    let _third = server.open();
    server.wait(11.0);
    assert_eq!(server.handle.connection_count(), 3, "an open WebSocket is no handshake");
    fourth.frame(&close(1000, ""));
}

#[test]
fn handshakes_that_wait_for_the_application_are_limited_apart() {
    let (server, promises) = later(Options { max_handshakes: Some(1), ..Options::default() });
    let first = server.connect();
    first.send(upgrade("/", &[]));
    server.reactor.settle();
    assert_eq!(server.refusal_of(upgrade("/", &[])).status(), 503);
    promises.next().resolve(Accept::default().into());
    server.reactor.settle();
    assert_eq!(first.http().status(), 101);
    let second = server.connect();
    second.send(upgrade("/", &[]));
    second.reset();
    server.reactor.settle();
    drop(promises.next());
    let third = server.connect();
    third.send(upgrade("/", &[]));
    server.reactor.settle();
    promises.next().resolve(Accept::default().into());
    server.reactor.settle();
    assert_eq!(third.http().status(), 101);
}
