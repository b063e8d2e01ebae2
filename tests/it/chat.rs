//! The tutorial's chat, as `examples/chat_server` runs it: everybody receives everybody's messages in one order.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpStream};
use std::thread;

use tungstenite::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::support::{Event, Example, Ours, bounded, long_text, reset, tungstenite};

/// What each of the clients says before its special message.
const MESSAGES: usize = 25;
const LONG: usize = 300_000;

type Foreign = tungstenite::WebSocket<TcpStream>;

fn chat_server() -> (Example, SocketAddr) {
    let (server, port) = Example::serve("chat_server", 0);
    (server, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A client that is in the chat: it has heard itself.
fn join(address: SocketAddr, name: &str) -> Foreign {
    let mut client = tungstenite(address, "/");
    let hello = format!("{name} is here");
    client.send(Message::text(&hello)).expect("sent");
    hear_until(&mut client, &hello);
    client
}

fn join_ours(address: SocketAddr, name: &str) -> Ours {
    let client = Ours::connect(&format!("ws://{address}/"));
    assert_eq!(client.next(), Event::Made);
    let hello = format!("{name} is here");
    let said = hello.clone();
    client.with(move |socket| socket.send_message(said));
    while client.text() != hello {}
    client
}

fn hear(client: &mut Foreign) -> String {
    match client.read().expect("a message") {
        Message::Text(text) => text.to_string(),
        other => panic!("expected text, got {other:?}"),
    }
}

fn hear_until(client: &mut Foreign, last: &str) {
    while hear(client) != last {}
}

fn said_by(name: &str) -> impl Iterator<Item = String> {
    (0..MESSAGES).map(move |index| format!("{name} {index}"))
}

#[test]
fn everybody_receives_everybodys_messages_in_one_order() {
    bounded(|| {
        let (_server, address) = chat_server();
        let (long, fragments, mut plain) = (join(address, "a"), join(address, "b"), join(address, "c"));
        let ours = join_ours(address, "d");
        plain.send(Message::text("all are here")).expect("sent");

        let all = 4 * MESSAGES + 3;
        let foreign = |mut client: Foreign, name: &'static str, special: fn(&mut Foreign)| {
            thread::spawn(move || {
                hear_until(&mut client, "all are here");
                said_by(name).for_each(|text| client.send(Message::text(text)).expect("sent"));
                special(&mut client);
                (0..all).map(|_| hear(&mut client)).collect::<Vec<_>>()
            })
        };
        let send_long = |client: &mut Foreign| client.send(Message::text(long_text(LONG))).expect("sent");
        let send_fragments = |client: &mut Foreign| {
            for (piece, data, last) in [("in ", Data::Text, false), ("three ", Data::Continue, false)]
                .into_iter()
                .chain([("pieces", Data::Continue, true)])
            {
                let frame = Frame::message(piece.as_bytes(), OpCode::Data(data), last);
                client.send(Message::Frame(frame)).expect("sent");
            }
        };
        let listeners =
            [foreign(long, "a", send_long), foreign(fragments, "b", send_fragments), foreign(plain, "c", |_| {})];
        while ours.text() != "all are here" {}
        ours.with(|socket| {
            said_by("d").for_each(|text| socket.send_message(text));
            socket.begin_message(false).expect("no other is unfinished");
            socket.send_piece(b"in two ").expect("begun");
            socket.end_message(b"pieces, from twistor").expect("begun");
        });
        let heard: Vec<String> = (0..all).map(|_| ours.text()).collect();

        for listener in listeners {
            assert!(listener.join().expect("it heard all") == heard, "another order, or other messages");
        }
        for name in ["a", "b", "c", "d"] {
            let of_one: Vec<_> = heard.iter().filter(|text| text.starts_with(&format!("{name} "))).cloned().collect();
            assert_eq!(of_one, said_by(name).collect::<Vec<_>>());
        }
        let special = [long_text(LONG), "in three pieces".into(), "in two pieces, from twistor".into()];
        let heard: HashSet<String> = heard.into_iter().collect();
        assert!(special.iter().all(|text| heard.contains(text)));
    });
}

// T46, T47
#[test]
fn the_chat_goes_on_however_its_clients_leave() {
    bounded(|| {
        let (server, address) = chat_server();
        let mut stays = join(address, "stays");

        let mut closes = join(address, "closes");
        closes.close(None).expect("sent");
        let end = std::iter::repeat_with(|| closes.read()).find(Result::is_err);
        assert!(matches!(end, Some(Err(tungstenite::Error::ConnectionClosed))), "{end:?}");

        reset(join(address, "resets").into_inner());
        drop(join(address, "drops"));

        let ours = join_ours(address, "ours");
        ours.with(|socket| socket.lose_connection(1001, "going").expect("a code that may be sent"));
        assert_eq!(ours.next(), Event::Ended { was_clean: true, code: 1001, reason: "going".into() });

        let mut comes = join(address, "comes");
        for (speaker, text) in [(0, "one"), (1, "two"), (0, "three")] {
            let pair = [&mut stays, &mut comes];
            pair[speaker].send(Message::text(text)).expect("sent");
            pair.into_iter().for_each(|client| hear_until(client, text));
        }
        server.terminate();
    });
}
