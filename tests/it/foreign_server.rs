//! tungstenite as the server of our client.

use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

use crate::support::{Event, Ours, bounded, long_text, patient};

/// A server of one connection, and its URL.
fn serve<R: Send + 'static>(
    script: impl FnOnce(tungstenite::WebSocket<TcpStream>) -> R + Send + 'static,
) -> (String, JoinHandle<R>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/path?query", listener.local_addr().expect("an address"));
    let server = thread::spawn(move || {
        let stream = patient(listener.accept().expect("a client").0);
        script(tungstenite::accept(stream).expect("a handshake"))
    });
    (url, server)
}

fn close_frame(code: u16, reason: &str) -> Option<CloseFrame> {
    Some(CloseFrame { code: code.into(), reason: reason.to_owned().into() })
}

#[test]
fn messages_of_all_sizes_come_back_as_they_went() {
    bounded(|| {
        let (url, server) = serve(|mut server| {
            while let Ok(message) = server.read() {
                if !message.is_close() {
                    server.send(message).expect("sent");
                }
            }
        });
        let client = Ours::connect(&url);
        assert_eq!(client.next(), Event::Made);
        for length in [0, 1, 125, 126, 65_535, 65_536, 1_000_000, 1 << 20] {
            let (text, expected) = (long_text(length), long_text(length));
            client.with(move |socket| {
                socket.send_text(&text);
                socket.send_binary(text.as_bytes());
            });
            assert!(client.next() == Event::Text(expected.clone()), "text of {length} bytes");
            assert!(client.next() == Event::Binary(expected.into_bytes()), "{length} bytes");
        }
        client.with(twistor::websocket::WebSocket::close);
        assert_eq!(client.next(), Event::Ended { was_clean: true, code: 1000, reason: String::new() });
        assert_eq!(client.lost(), "Connection was closed cleanly.");
        server.join().expect("served");
    });
}

#[test]
fn pings_are_answered_both_ways() {
    bounded(|| {
        let (url, server) = serve(|mut server| {
            server.send(Message::Ping("from tungstenite".into())).expect("sent");
            let got: Vec<Message> = (0..2).map(|_| server.read().expect("a frame")).collect();
            server.flush().expect("the pong is sent");
            while server.read().is_ok() {}
            got
        });
        let client = Ours::connect(&url);
        assert_eq!(client.next(), Event::Made);
        assert_eq!(client.next(), Event::Ping(b"from tungstenite".to_vec()));
        client.with(|socket| socket.ping(b"from twistor").expect("a short payload"));
        assert_eq!(client.next(), Event::Pong(b"from twistor".to_vec()));
        drop(client);
        let got = server.join().expect("served");
        assert_eq!(got, [Message::Pong("from tungstenite".into()), Message::Ping("from twistor".into())]);
    });
}

#[test]
fn the_server_may_close_with_any_code() {
    bounded(|| {
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 3000, 4999] {
            let (url, server) = serve(move |mut server| {
                server.close(close_frame(code, "until later")).expect("sent");
                let reply = server.read().expect("a Close");
                while server.read().is_ok() {}
                reply
            });
            let client = Ours::connect(&url);
            assert_eq!(client.next(), Event::Made);
            assert_eq!(client.next(), Event::Ended { was_clean: true, code, reason: "until later".into() });
            assert_eq!(client.lost(), "Connection was closed cleanly.");
            assert_eq!(server.join().expect("served"), Message::Close(close_frame(code, "until later")));
        }
    });
}

#[test]
fn the_client_may_close_with_any_code() {
    bounded(|| {
        for code in [1000, 1001, 1003, 1008, 3000, 4999] {
            let (url, server) = serve(|mut server| {
                let close = server.read().expect("a Close");
                while server.read().is_ok() {}
                close
            });
            let client = Ours::connect(&url);
            assert_eq!(client.next(), Event::Made);
            client.with(move |socket| socket.lose_connection(code, "bye").expect("a code that may be sent"));
            // tungstenite answers with the same code and reason
            assert_eq!(client.next(), Event::Ended { was_clean: true, code, reason: "bye".into() });
            assert_eq!(server.join().expect("served"), Message::Close(close_frame(code, "bye")));
        }
    });
}

#[test]
fn a_server_that_vanishes_is_an_unclean_end() {
    bounded(|| {
        let (url, server) = serve(|server| crate::support::reset(server.into_inner()));
        let client = Ours::connect(&url);
        assert_eq!(client.next(), Event::Made);
        let Event::Ended { was_clean: false, code: 1006, .. } = client.next() else { panic!("not unclean") };
        let lost = client.lost();
        assert!(lost.starts_with("Connection to the other side was lost in a non-clean fashion"), "{lost}");
        server.join().expect("served");
    });
}
