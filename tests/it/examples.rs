//! Each example as a process of its own, as its first lines say to run it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use tungstenite::Message;

use crate::support::{ClosedPort, Example, bounded, dial, patient, tungstenite};

/// The examples that serve, and where their WebSockets are.
const SERVERS: [(&str, Option<&str>); 9] = [
    ("autobahn_broadcast_server", Some("/")),
    ("autobahn_streaming_server", Some("/")),
    ("chat_server", Some("/")),
    ("chat_rooms", Some("/room/tea")),
    ("maas_chat", Some("/")),
    ("metrics", Some("/")),
    ("twisted_echo", Some("/websocket")),
    ("ws_echo_server", Some("/")),
    ("echo_server", None),
];

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Connects to a server until it has answered: its reactor runs, and not only its port is open. What is given waits until
/// the server closes the connection, and answers its Close.
fn talk(port: u16, websocket: Option<&str>) -> Box<dyn FnOnce() + Send> {
    if let Some(path) = websocket {
        let mut client = tungstenite(loopback(port), path);
        return Box::new(move || while client.read().is_ok() {});
    }
    let mut stream = dial(loopback(port));
    stream.write_all(b"?").expect("sent");
    stream.read_exact(&mut [0]).expect("an echo");
    Box::new(move || drop(stream.read_to_end(&mut Vec::new())))
}

/// The answer to a GET, whole.
fn get(port: u16, path: &str) -> String {
    let mut stream = dial(loopback(port));
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, then FIN");
    answer
}

/// A WebSocket server of somebody else that serves one connection.
fn foreign_server(serve: impl FnOnce(tungstenite::WebSocket<TcpStream>) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        let stream = patient(listener.accept().expect("a client").0);
        serve(tungstenite::accept(stream).expect("a handshake"));
    });
    url
}

#[test]
fn the_servers_end_with_sigterm_and_start_again_on_the_same_port_at_once() {
    for (name, websocket) in SERVERS {
        bounded(move || {
            let (first, port) = Example::serve(name, 0);
            // this connection is closed by the server, whose port is in TIME-WAIT for it then
            let until_closed = thread::spawn(talk(port, websocket));
            first.terminate();
            until_closed.join().expect("closed");

            let (second, same) = Example::serve(name, port);
            assert_eq!(same, port, "{name}");
            drop(talk(port, websocket));
            second.terminate();
        });
    }
}

#[test]
fn the_pages_of_the_chats_connect_back() {
    bounded(|| {
        for (name, path) in [("chat_server", "/"), ("maas_chat", "/"), ("chat_rooms", "/room/tea")] {
            let (server, port) = Example::serve(name, 0);
            let answer = get(port, path);
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.to_ascii_lowercase().contains("\r\ncontent-type: text/html"), "{answer}");
            assert!(answer.contains("new WebSocket("), "{answer}");
            assert!(get(port, "/nowhere").starts_with("HTTP/1.1 404 "));
            server.terminate();
        }
    });
}

#[test]
fn the_client_chats_with_the_chat_server() {
    bounded(|| {
        let (server, port) = Example::serve("chat_server", 0);
        let client = Example::start("client", &[&format!("ws://localhost:{port}")]);
        assert_eq!(client.line(), "Received message: Hello, WebSocket Server!");
        tungstenite(loopback(port), "/").send(Message::text("hello, client")).expect("sent");
        assert_eq!(client.line(), "Received message: hello, client");
        server.terminate();
        let (status, output) = client.wait();
        assert!(status.success() && output.starts_with("Connection lost: "), "{status}: {output}");
    });
}

// P104: the string is Twisted's.
#[test]
fn the_client_says_that_nobody_listens() {
    bounded(|| {
        let closed = ClosedPort::new();
        for host in ["127.0.0.1", "localhost"] {
            let output = Example::output("client", &[&format!("ws://{host}:{}", closed.port())]);
            let expected = "Connection failed: Connection was refused by other side: 111: Connection refused.\n";
            assert_eq!(output, expected);
        }
        let output = Example::output("echo_client", &["--port", &closed.port().to_string()]);
        assert!(output.starts_with("Connection failed: Connection was refused by other side: 111"), "{output}");
    });
}

#[test]
fn the_client_says_that_the_server_closes() {
    bounded(|| {
        let url = foreign_server(|mut server| {
            let hello = server.read().expect("a message");
            server.send(hello).expect("sent");
            server.close(None).expect("sent");
            while server.read().is_ok() {}
        });
        let output = Example::output("client", &[&url]);
        let expected = "Received message: Hello, WebSocket Server!\nConnection lost: Connection was closed cleanly.\n";
        assert_eq!(output, expected);
    });
}

#[test]
fn the_echo_client_gets_its_echo() {
    bounded(|| {
        let (server, port) = Example::serve("echo_server", 0);
        let output = Example::output("echo_client", &["--port", &port.to_string()]);
        assert_eq!(output, "Server said: hello, world!\nConnection lost: Connection was closed cleanly.\n");
        server.terminate();
    });
}

#[test]
fn the_websocket_echo_server_has_four_modes() {
    bounded(|| {
        for (mode, to_all) in [("echo", false), ("deflate", false), ("broadcast", true), ("room", true)] {
            let server = Example::start("ws_echo_server", &["--port", "0", "--mode", mode]);
            let line = server.line();
            let address: SocketAddr = line.strip_prefix("ws://").and_then(|at| at.parse().ok()).expect("an address");
            let (mut one, mut other) = (tungstenite(address, "/"), tungstenite(address, "/"));
            let large = Message::binary(vec![7; 100_000]);
            let said = [("one", &mut one, Message::text("hello")), ("other", &mut other, Message::text("hello, too"))];
            for (name, client, message) in said {
                client.send(message.clone()).expect("sent");
                while client.read().unwrap_or_else(|end| panic!("{mode}, {name}: {end}")) != message {}
            }
            one.send(large.clone()).expect("sent");
            let first = one.read().expect("a message");
            if to_all {
                assert_eq!(first, Message::text("hello, too"), "{mode}: the other's");
                assert!(one.read().expect("a message") == large, "{mode}");
                assert!(other.read().expect("a message") == large, "{mode}");
            } else {
                assert!(first == large, "{mode}: its own and no other");
                other.send(Message::text("bye")).expect("sent");
                assert_eq!(other.read().expect("a message"), Message::text("bye"), "{mode}");
            }
            server.terminate();
        }
        let (status, _) = Example::start("ws_echo_server", &["--port", "0", "--mode", "other"]).wait();
        assert!(!status.success(), "there is no fifth");
    });
}

#[test]
fn the_broadcast_server_sends_every_text_and_a_tick_to_everybody() {
    bounded(|| {
        for prepared in [&[][..], &["--prepared"]] {
            let server = Example::start("autobahn_broadcast_server", &[&["--port", "0"], prepared].concat());
            let line = server.line();
            let (_, address) = line.split_once("ws://").expect("a URL");
            let address: SocketAddr = address.parse().expect("an address");
            let mut clients = [(); 3].map(|()| tungstenite(address, "/"));
            for client in &mut clients {
                // it hears a tick once it is registered, and from then on everything
                assert!(next_of(client, "tick ").ends_with(" from server"));
            }
            clients[1].send(Message::binary("not text")).expect("sent");
            clients[1].send(Message::text("hello, all")).expect("sent");
            let sender = clients[1].get_ref().local_addr().expect("an address");
            for client in &mut clients {
                let heard = next_of(client, "hello, all");
                assert_eq!(heard, format!("hello, all from {sender}"), "{prepared:?}");
            }
            server.terminate();
        }
    });
}

/// The next message, which is a text, that begins so; only ticks may come before it.
fn next_of(client: &mut tungstenite::WebSocket<TcpStream>, start: &str) -> String {
    loop {
        let message = client.read().expect("a message");
        let text = message.to_text().expect("text");
        if text.starts_with(start) {
            return text.to_owned();
        }
        assert!(message.is_text() && text.starts_with("tick "), "{message:?}");
    }
}

#[test]
fn the_streaming_server_says_a_digest_after_every_mebibyte_however_it_is_cut() {
    bounded(|| {
        let (server, port) = Example::serve("autobahn_streaming_server", 0);
        let mut client = tungstenite(loopback(port), "/");
        // FNV-1a of 1 and of 2 MiB of zeros; each message begins anew
        let digests = ["a96777069d622325", "7ab6a128b6a22325"];
        for mebibytes in [2, 1] {
            client.send(Message::binary(vec![0; (mebibytes << 20) + 1])).expect("sent");
            for digest in &digests[..mebibytes] {
                assert_eq!(client.read().expect("a digest"), Message::text(*digest), "of {mebibytes} MiB");
            }
        }
        server.terminate();
    });
}

#[test]
fn twisted_echo_pings_and_echoes() {
    bounded(|| {
        let (server, port) = Example::serve("twisted_echo", 0);
        let mut client = tungstenite(loopback(port), "/websocket");
        assert_eq!(client.read().expect("a ping"), Message::Ping("are you there?".into()));
        for message in [Message::text("text"), Message::binary("bytes")] {
            client.send(message.clone()).expect("sent");
            assert_eq!(client.read().expect("an echo"), message);
        }
        server.terminate();
    });
}

#[test]
fn the_metrics_count_what_happens() {
    bounded(|| {
        let (server, port) = Example::serve("metrics", 0);
        let mut client = tungstenite(loopback(port), "/");
        client.send(Message::text("hello")).expect("sent");
        client.read().expect("an echo");
        let _other = tungstenite(loopback(port), "/");
        assert!(get(port, "/").starts_with("HTTP/1.1 426 "));
        client.close(None).expect("sent");
        while client.read().is_ok() {}
        let answer = get(port, "/metrics");
        assert!(answer.contains("\r\nContent-Type: application/openmetrics-text"), "{answer}");
        for line in [
            "websocket_connections_opened_total 2",
            "websocket_connections_open 1",
            "websocket_connections_closed_total{code=\"1005\"} 1",
            "websocket_handshakes_failed_total{reason=\"bad_request\"} 1",
            "websocket_messages_received_total 1",
            "websocket_sent_bytes_total 5",
            "websocket_queued_bytes 0",
            "websocket_round_trip_seconds_count 0",
        ] {
            assert!(answer.lines().any(|got| got == line), "no {line} in {answer}");
        }
        server.terminate();
    });
}

#[test]
fn the_rooms_are_apart() {
    bounded(|| {
        let (server, port) = Example::serve("chat_rooms", 0);
        let enter = |room: &str| {
            let mut client = tungstenite(loopback(port), room);
            assert_eq!(client.read().expect("a count"), Message::text("1 here"));
            client
        };
        let (mut tea, mut coffee) = (enter("/room/tea"), enter("/room/coffee"));
        tea.send(Message::text("milk?")).expect("sent");
        coffee.send(Message::text("sugar?")).expect("sent");
        for (client, text) in [(&mut tea, ": milk?"), (&mut coffee, ": sugar?")] {
            let heard = client.read().expect("its own message");
            assert!(heard.to_text().expect("text").ends_with(text), "{heard}");
        }
        assert!(tungstenite::connect(format!("ws://127.0.0.1:{port}/room/")).is_err(), "a room needs a name");
        server.terminate();
    });
}

#[test]
fn the_reconnecting_client_comes_back() {
    bounded(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("ws://{}", listener.local_addr().expect("an address"));
        let client = Example::start("reconnecting_client", &[&url]);
        for _ in 0..2 {
            let stream = patient(listener.accept().expect("a client").0);
            let mut server = tungstenite::accept(stream).expect("a handshake");
            assert_eq!(server.read().expect("a message"), Message::text("Hello, world!"));
            assert!(client.line().starts_with("Server connected: "));
            assert_eq!(client.line(), "WebSocket connection open.");
            server.send(Message::text("hello")).expect("sent");
            assert_eq!(client.line(), "Text message received: hello");
            drop(server);
            assert!(client.line().starts_with("WebSocket connection closed: "));
            assert_eq!(client.line(), "Client connection lost .. retrying ..");
        }
        drop(listener);
        client.terminate();
    });
}
