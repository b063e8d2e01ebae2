//! What a server can make its client keep, and how long it can keep it waiting: the limits of `keepalive.rs`,
//! `control.rs`, `limits.rs`, `compression.rs` and `slow_consumers.rs`, where the end under test is the client.

use std::time::Duration;

use twistor_reactor::BufferLimits;
use twistor_websocket::sansio::deflate::DeflateOptions;
use twistor_websocket::{LimitExceeded, Options, Overflow, WebSocket};

use crate::compression::deflated;
use crate::support::{Client, Got, PING, TEXT, Wire, binary, continuation, heap, ping, pong, text};

const KIB: usize = 1024;

/// A client whose handshake is done, and told.
fn open(options: Options) -> Client {
    let client = Client::with(options, |mould| mould);
    client.server.accept(&[], &[]);
    assert_eq!(client.log.take(), ["accepted None", "made"]);
    client
}

/// How the client's end was told, once.
fn end(client: &Client) -> (bool, u16, String) {
    let lost = (client.log.count("lost"), client.log.count("client lost"));
    assert_eq!(lost, (1, 1), "{:?}", client.log.take());
    let status = client.log.last_status();
    (status.was_clean, status.code, status.reason)
}

/// The server is told with this code, at once, and the application is told after nothing else.
fn assert_failed(client: &Client, code: u16) {
    assert_eq!(client.server.closed_with().0, code);
    assert!(client.server.saw_end(), "and nothing more comes");
    assert!(client.log.take().is_empty(), "nothing is delivered");
    client.server.wait(3.0);
    assert_eq!(end(client).1, code);
}

fn only_ping(client: &Client) -> Got {
    let frames = client.server.got();
    let [ping] = &frames[..] else { panic!("expected a ping, got {frames:?}") };
    assert!(ping.opcode == PING && ping.masked, "{ping}");
    ping.clone()
}

fn every_second() -> Options {
    let second = Duration::from_secs(1);
    Options { ping_interval: Some(second), ping_timeout: second, ..Options::default() }
}

// P266
#[test]
fn a_silent_server_is_pinged_and_its_pong_saves_the_connection() {
    let client = open(Options::default());
    for _ in 0..3 {
        client.server.wait(30.0);
        let payload = only_ping(&client).payload;
        client.server.wait(14.0);
        client.server.frame(&pong(payload));
        assert_eq!(client.log.socket(0).round_trip_time(), Some(Duration::from_secs(14)));
        client.server.wait(1.1);
    }
    assert!(client.log.take().is_empty(), "the pongs are not the application's");
}

// P266
#[test]
fn a_server_that_gives_no_sign_of_life_is_left() {
    let client = open(every_second());
    client.server.wait(1.0);
    only_ping(&client);
    client.server.wait(0.9);
    assert!(!client.server.is_over());
    client.server.wait(0.2);
    assert!(client.server.saw_reset());
    let silent = "WebSocket ping timeout (peer did not respond with pong in time)";
    assert_eq!(end(&client), (false, 1006, silent.into()));
    assert!(client.log.last_reason().check::<LimitExceeded>());
    assert_eq!(client.reactor.pending_calls(), 0);
}

// P266
#[test]
fn any_byte_of_the_server_is_a_sign_of_life() {
    for sign in [text("x").plain(), ping("").plain(), pong("unasked").plain(), vec![0x81]] {
        let client = open(every_second());
        client.server.wait(1.0);
        only_ping(&client);
        client.server.wait(0.5);
        client.server.send(&sign);
        client.server.wait(0.6);
        assert!(!client.server.is_over(), "{sign:02x?}");
    }
}

#[test]
fn t42_a_server_that_takes_nothing_is_left_though_it_pongs() {
    let client = open(Options { write_timeout: Some(Duration::from_secs(5)), ..Options::default() });
    client.server.set_room(0);
    client.log.socket(0).send_text("unread");
    client.reactor.settle();
    for _ in 0..4 {
        client.server.wait(1.0);
        client.server.frame(&pong("alive"));
    }
    assert_eq!(client.log.count("lost"), 0);
    client.server.wait(1.1);
    let (was_clean, code, reason) = end(&client);
    assert_eq!((was_clean, code), (false, 1006));
    assert!(reason.contains("of the queued output in 5s"), "{reason}");
    assert!(client.server.saw_reset(), "what is queued is given up");
}

#[test]
fn t32_a_server_that_floods_with_pings_and_reads_no_pongs_is_left_with_1008() {
    let client = open(Options::default());
    client.server.set_room(0);
    client.server.frames(&vec![ping([b'f'; 125]); 1000]);
    assert_eq!(client.log.count("ping"), 200, "the burst, and no more");
    // those of the one read, before it was known that nobody reads, and the Close
    assert!(client.log.socket(0).buffered() <= 201 * 131);
    client.server.set_room(usize::MAX);
    client.server.settle();
    assert_eq!(client.server.closed_with().0, 1008);
    assert!(client.server.saw_end());
}

#[test]
fn t32_of_a_server_that_does_not_read_a_client_answers_only_the_latest_ping() {
    let client = open(Options { control_frames_per_second: 0, buffer: SMALL, ..Options::default() });
    client.server.set_room(0);
    for number in 0..200 {
        client.server.frame(&ping(format!("{number:0125}")));
    }
    assert_eq!(client.log.socket(0).buffered(), 131);
    let pongs: Vec<String> = received(&client).iter().map(Got::to_string).collect();
    assert_eq!(pongs, [format!("pong {:0125}", 0), format!("pong {:0125}", 199)]);
}

#[test]
fn t33_unsolicited_pongs_of_a_server_are_counted_too() {
    let client = open(Options { control_frames_per_second: 10, ..Options::default() });
    client.server.frames(&vec![pong("unasked"); 20]);
    assert!(client.server.got().is_empty());
    client.server.frame(&pong("one more"));
    assert_eq!(client.log.take(), ["pong unasked"; 20]);
    assert_failed(&client, 1008);
}

// P262
#[test]
fn t28_a_huge_declared_length_is_refused_by_a_client_at_the_header() {
    for length in [1 << 62, u64::MAX >> 1, (1 << 20) + 1] {
        let client = open(Options::default());
        let wire = binary("").declaring(length).plain();
        let peak = heap::peak_of(|| client.server.send(&wire));
        assert!(peak < 64 * KIB, "{peak} bytes for {length} promised");
        assert_failed(&client, 1009);
    }
}

#[test]
fn t30_a_flood_of_empty_fragments_of_a_server_ends_with_1008() {
    let client = open(Options::default());
    client.server.frame(&text("").more());
    let peak = heap::peak_of(|| client.server.frames(&vec![continuation("").more(); 1023]));
    assert!(client.server.got().is_empty());
    assert!(peak < 256 * KIB, "{peak}"); // the test's own encoding of them among it
    client.server.frame(&continuation("").more());
    assert_failed(&client, 1008);
}

#[test]
fn t31_fragments_of_one_byte_of_a_server_are_bounded_in_number_and_in_all() {
    let client = open(Options::default());
    client.server.frame(&binary("x").more());
    client.server.frames(&vec![continuation("x").more(); 1023]);
    assert!(client.server.got().is_empty());
    client.server.frame(&continuation("x"));
    assert_failed(&client, 1008);

    let client = open(Options { max_fragments: u32::MAX, max_message: 5000, ..Options::default() });
    client.server.frame(&binary("x").more());
    client.server.frames(&vec![continuation("x").more(); 4999]);
    assert!(client.server.got().is_empty());
    client.server.frame(&continuation("x"));
    assert_failed(&client, 1009);
}

// P262
#[test]
fn messages_and_frames_up_to_the_limits_are_taken_by_a_client() {
    let limited = || open(Options { max_message: 1000, max_frame: 600, ..Options::default() });
    let client = limited();
    client.server.frames(&[binary([1; 600]).more(), continuation([1; 400]), binary([1; 600])]);
    assert_eq!(client.log.take(), ["binary [1000 bytes]", "binary [600 bytes]"]);
    client.server.frame(&binary([1; 601]));
    assert_failed(&client, 1009);
    let client = limited();
    client.server.frames(&[binary([1; 600]).more(), continuation([1; 401])]);
    assert_failed(&client, 1009);
}

/// With compression agreed on, and the server's context kept between messages or not.
fn inflating(options: Options, takeover: bool) -> Client {
    let deflate = DeflateOptions { server_no_context_takeover: !takeover, ..DeflateOptions::default() };
    let client = Client::with(Options { compression: Some(deflate), ..options }, |mould| mould);
    let agreed = if takeover { "permessage-deflate" } else { "permessage-deflate; server_no_context_takeover" };
    client.server.accept(&[&format!("Sec-WebSocket-Extensions: {agreed}")], &[]);
    // warm: what an inflater needs for itself is there
    client.server.frame(&text(deflated("warm")).rsv(4));
    assert_eq!(client.log.take(), ["accepted None", "made", "text warm"]);
    client
}

// P262
#[test]
fn t39_a_deflate_bomb_of_a_server_is_refused_at_the_message_limit() {
    let bomb = deflated(vec![0; 16 << 20]);
    assert!(bomb.len() < 20_000);
    let whole = vec![binary(&bomb).rsv(4)];
    let mut nested: Vec<Wire> = bomb.chunks(200).map(|piece| continuation(piece).more()).collect();
    nested[0] = binary(&bomb[..200]).rsv(4).more();
    nested.push(continuation(""));
    for wires in [whole, nested] {
        for takeover in [false, true] {
            let client = inflating(Options::default(), takeover);
            let encoded = client.server.encode(&wires);
            let peak = heap::peak_of(|| client.server.send(&encoded));
            assert!(peak < 4 << 20, "{peak} bytes for a limit of 1 MiB");
            assert_failed(&client, 1009);
        }
    }
    let client = inflating(Options { max_message: 1000, ..Options::default() }, false);
    client.server.frame(&binary(deflated([0; 1000])).rsv(4));
    assert_eq!(client.log.take(), ["binary [1000 bytes]"]);
    client.server.frame(&binary(deflated([0; 1001])).rsv(4));
    assert_failed(&client, 1009);
}

const SMALL: BufferLimits = BufferLimits { high: 4 * KIB, low: KIB, cap: 64 * KIB };

const MESSAGES: usize = 150;

/// A client that has sent so many numbered messages of 1000 bytes to a server that does not read.
fn sending(overflow: Overflow, send: impl Fn(&WebSocket, usize, String)) -> (Client, WebSocket) {
    let client = open(Options { overflow, buffer: SMALL, ping_interval: None, ..Options::default() });
    client.server.set_room(0);
    let socket = client.log.socket(0);
    for number in 0..MESSAGES {
        send(&socket, number, format!("{number:01000}"));
        assert!(socket.buffered() <= SMALL.cap, "{} bytes", socket.buffered());
    }
    (client, socket)
}

fn send_text(socket: &WebSocket, _: usize, message: String) {
    socket.send_text(&message);
}

/// What a server gets that reads again, at last.
fn received(client: &Client) -> Vec<Got> {
    client.server.set_room(usize::MAX);
    client.reactor.settle();
    client.server.got()
}

fn numbers(frames: &[Got]) -> Vec<usize> {
    let number = |got: &Got| String::from_utf8_lossy(&got.payload).parse().expect("a number");
    frames.iter().filter(|got| got.opcode == TEXT).map(number).collect()
}

/// All messages have come or are counted.
fn all_but_dropped(client: &Client, socket: &WebSocket) -> Vec<usize> {
    assert!(socket.is_open());
    let got = numbers(&received(client));
    assert_eq!(got.len() as u64 + socket.dropped(), MESSAGES as u64);
    assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "in order");
    got
}

#[test]
fn t41_a_server_that_does_not_read_is_left_with_1013() {
    let (client, socket) = sending(Overflow::Close, send_text);
    assert!(!socket.is_open());
    assert!(socket.buffered() <= SMALL.high + 2 * KIB, "what waited is given up");
    let frames = received(&client);
    let got = numbers(&frames);
    assert_eq!(got, Vec::from_iter(0..got.len()), "all in order up to the end");
    assert_eq!(frames.last().expect("a Close").close().0, 1013);
    client.server.wait(3.0);
    assert_eq!(end(&client).1, 1013);
    assert!(client.log.last_reason().check::<LimitExceeded>());
}

#[test]
fn t41_drop_newest_keeps_a_clients_connection_and_the_oldest() {
    let (client, socket) = sending(Overflow::DropNewest, send_text);
    let got = all_but_dropped(&client, &socket);
    assert_eq!(got, Vec::from_iter(0..got.len()));
    assert!((50..66).contains(&got.len()), "{} kept", got.len());
}

#[test]
fn t41_drop_oldest_keeps_a_clients_connection_and_the_newest() {
    let (client, socket) = sending(Overflow::DropOldest, send_text);
    let got = all_but_dropped(&client, &socket);
    assert_eq!(got.last(), Some(&(MESSAGES - 1)));
    let gaps = got.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
    assert_eq!(gaps, 1, "what was with the kernel, then the newest");
    assert!((50..66).contains(&got.len()), "{} kept", got.len());
}

#[test]
fn t41_send_latest_of_a_client_keeps_one_of_each_key() {
    let (client, socket) =
        sending(Overflow::Close, |socket, number, message| socket.send_latest(number as u64 % 2, message));
    let got = all_but_dropped(&client, &socket);
    assert_eq!(got[got.len() - 2..], [MESSAGES - 2, MESSAGES - 1]);
    assert!(got.len() < 9, "those before the high mark, and the latest: {}", got.len());
}

/// Pieces cannot be dropped, whatever the policy.
#[test]
fn t41_pieces_of_a_client_to_a_server_that_does_not_read_end_with_1013() {
    let (client, socket) = sending(Overflow::DropOldest, |socket, number, message| {
        if number == 0 {
            socket.begin_message(false).unwrap();
        }
        socket.send_piece(message.as_bytes()).unwrap();
    });
    assert!(!socket.is_open());
    assert_eq!(received(&client).last().expect("a Close").close().0, 1013);
}

// P260
#[test]
fn output_high_and_drained_tell_a_client_when_to_stop_and_to_go_on() {
    let client = open(Options { buffer: SMALL, ..Options::default() });
    client.server.set_room(0);
    let socket = client.log.socket(0);
    let send = |bytes: usize| {
        socket.send_binary(&vec![0; bytes]);
        client.reactor.settle();
        client.log.take()
    };
    assert!(send(4 * KIB - 8).is_empty(), "as much as the high mark");
    assert_eq!(send(1), ["high"]);
    assert!(send(40 * KIB).is_empty(), "told once");
    let take = |bytes: usize| {
        client.server.set_room(bytes);
        client.reactor.settle();
        client.log.take()
    };
    assert!(take(43 * KIB).is_empty(), "more than the low mark is left");
    assert_eq!(take(usize::MAX), ["drained"]);
    assert_eq!((socket.buffered(), client.server.got().len()), (0, 3));
}
