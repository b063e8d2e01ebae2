//! Messages for many: `PreparedMessage`.

use twistor_websocket::sansio::deflate::DeflateOptions;
use twistor_websocket::{Options, PreparedMessage};

use crate::support::{Client, Server, heap};

// P273
#[test]
fn the_bytes_are_those_of_send_message() {
    for length in [0, 1, 125, 126, 65535, 65536] {
        let payload = "x".repeat(length);
        let server = Server::new();
        let peer = server.open();
        let socket = server.log.socket(0);
        socket.send_message(&payload);
        socket.send_message(payload.as_bytes());
        server.reactor.settle();
        let usual = peer.drain();
        socket.send_prepared(&PreparedMessage::new(&payload));
        socket.send_prepared(&PreparedMessage::new(payload.as_bytes()));
        server.reactor.settle();
        assert_eq!(peer.drain(), usual, "{length}");
    }
}

#[test]
fn order_is_kept_between_prepared_and_other_messages() {
    let server = Server::new();
    let peer = server.open();
    let socket = server.log.socket(0);
    peer.set_room(0);
    let large = PreparedMessage::new([7; 70_000]);
    socket.send_prepared(&large);
    socket.send_text("a");
    socket.send_prepared(&PreparedMessage::new("b"));
    socket.send_prepared(&large);
    socket.send_text("c");
    peer.set_room(usize::MAX);
    server.reactor.settle();
    let big = "binary [70000 bytes]";
    assert_eq!(peer.lines(), [big, "text a", "text b", big, "text c"]);
}

#[test]
fn a_large_message_is_not_copied_for_each_receiver() {
    let server = Server::new();
    let peers: Vec<_> = (0..100).map(|_| server.open()).collect();
    peers.iter().for_each(|peer| peer.set_room(0));
    let message = PreparedMessage::new(vec![1; 500_000]);
    let peak = heap::peak_of(|| {
        (0..100).for_each(|index| server.log.socket(index).send_prepared(&message));
        server.reactor.settle();
    });
    assert!(peak < 500_000, "{peak} bytes for a hundred receivers");
    peers[0].set_room(usize::MAX);
    server.reactor.settle();
    assert_eq!(peers[0].got()[0].payload.len(), 500_000);
}

// P273
#[test]
fn it_is_compressed_for_those_who_agreed_and_for_nobody_else() {
    let server =
        Server::with(Options { compression: Some(DeflateOptions::default()), ..Options::default() }, |mould| mould);
    let (plain, deflated) = (server.open(), server.connect());
    deflated.open("/", &["Sec-WebSocket-Extensions: permessage-deflate"]);
    let keeps = server.connect();
    keeps.open("/", &["Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9"]);
    let message = PreparedMessage::new("to be or not to be ".repeat(50));
    for _ in 0..2 {
        (0..3).for_each(|index| server.log.socket(index).send_prepared(&message));
        server.reactor.settle();
        assert_eq!(plain.got()[0].payload, message.payload());
        for peer in [&deflated, &keeps] {
            let got = peer.got();
            assert_eq!((got.len(), got[0].rsv), (1, 4));
            assert_eq!(crate::compression::inflated(&got[0].payload), message.payload());
        }
    }
}

// P273
#[test]
fn it_is_compressed_once_for_each_window_whoever_comes_first() {
    let server =
        Server::with(Options { compression: Some(DeflateOptions::default()), ..Options::default() }, |mould| mould);
    let windows = ["", "; server_max_window_bits=9", "; server_max_window_bits=12", "", "; server_max_window_bits=9"];
    let peers: Vec<_> = windows
        .iter()
        .map(|window| {
            let peer = server.connect();
            peer.open("/", &[&format!("Sec-WebSocket-Extensions: permessage-deflate{window}")]);
            peer
        })
        .collect();
    let message = PreparedMessage::new("to be or not to be ".repeat(5000));
    let send_to = |index: usize| {
        server.log.socket(index).send_prepared(&message);
        server.reactor.settle();
    };
    (0..3).for_each(send_to);
    // what is made once is only shared later: a few bytes for each receiver
    let peak = heap::peak_of(|| (3..5).for_each(send_to));
    assert!(peak < 8 * 1024, "{peak}");
    for peer in &peers {
        let got = peer.got();
        assert_eq!((got.len(), got[0].rsv), (1, 4));
        assert!(crate::compression::inflated(&got[0].payload) == message.payload());
    }
}

#[test]
fn one_that_is_not_to_be_compressed_never_is() {
    let options = || Options { compression: Some(DeflateOptions::default()), ..Options::default() };
    let message = PreparedMessage::uncompressed("a secret ".repeat(50));
    let server = Server::with(options(), |mould| mould);
    let peer = server.connect();
    peer.open("/", &["Sec-WebSocket-Extensions: permessage-deflate"]);
    server.log.socket(0).send_prepared(&message);
    server.reactor.settle();
    let client = Client::with(options(), |mould| mould);
    client.server.accept(&["Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"], &[]);
    client.log.socket(0).send_prepared(&message);
    client.reactor.settle();
    for got in [peer.got(), client.server.got()] {
        assert_eq!((got.len(), got[0].rsv, &*got[0].payload), (1, 0, message.payload()));
    }
}

#[test]
fn a_client_masks_it_and_auto_fragment_cuts_it() {
    let client = Client::with(Options { auto_fragment: Some(3), ..Options::default() }, |mould| mould);
    client.server.accept(&[], &[]);
    client.log.socket(0).send_prepared(&PreparedMessage::new("hello"));
    client.reactor.settle();
    let got = client.server.got();
    assert!(got.iter().all(|frame| frame.masked));
    assert_eq!(got.iter().map(ToString::to_string).collect::<Vec<_>>(), ["fragment of text hel", "continuation lo"]);
}

#[test]
fn a_prepared_message_heeds_each_threshold() {
    let deflate = |threshold| Options {
        compression: Some(DeflateOptions { threshold, ..DeflateOptions::default() }),
        ..Options::default()
    };
    let (low, high) = (Server::with(deflate(32), |m| m), Server::with(deflate(1024), |m| m));
    let (a, b) = (low.connect(), high.connect());
    let ext = ["Sec-WebSocket-Extensions: permessage-deflate"];
    a.open("/", &ext);
    b.open("/", &ext);
    let message = PreparedMessage::new("x".repeat(100));
    low.log.socket(0).send_prepared(&message);
    high.log.socket(0).send_prepared(&message);
    low.reactor.settle();
    high.reactor.settle();
    drop((a.got(), b.lines()));
    high.log.socket(0).send_message("x".repeat(100));
    high.log.socket(0).send_prepared(&message);
    high.reactor.settle();
    let got = b.got();
    assert_eq!(got[0], got[1]);
}
