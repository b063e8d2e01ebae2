//! tungstenite as the client of our server.

use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message};
use twistor::for_protocol;
use twistor::websocket::WebSocketServerFactory;

use crate::support::{Log, Recorder, Server, bounded, long_text, tungstenite};

fn recording_server(log: &Log) -> Server {
    let log = log.clone();
    Server::run(move |_| WebSocketServerFactory::new(for_protocol(move || Recorder(log.clone()))))
}

/// What `read` gives after everything else.
fn last<S: std::io::Read + std::io::Write>(client: &mut tungstenite::WebSocket<S>) -> Error {
    loop {
        if let Err(end) = client.read() {
            return end;
        }
    }
}

fn close_frame(code: u16, reason: &str) -> Option<CloseFrame> {
    Some(CloseFrame { code: code.into(), reason: reason.to_owned().into() })
}

#[test]
fn messages_of_all_sizes_come_back_as_they_went() {
    bounded(|| {
        let server = recording_server(&Log::default());
        let mut client = tungstenite(server.address, "/");
        for length in [0, 1, 125, 126, 65_535, 65_536, 1_000_000, 1 << 20] {
            for message in [Message::text(long_text(length)), Message::binary(long_text(length))] {
                client.send(message.clone()).expect("sent");
                assert!(client.read().expect("an echo") == message, "of {length} bytes");
            }
        }
    });
}

#[test]
fn pings_are_answered_both_ways() {
    bounded(|| {
        let log = Log::default();
        let server = recording_server(&log);
        let mut client = tungstenite(server.address, "/");
        client.send(Message::Ping("from tungstenite".into())).expect("sent");
        assert_eq!(client.read().expect("a pong"), Message::Pong("from tungstenite".into()));
        client.send(Message::text("ping")).expect("sent");
        assert_eq!(client.read().expect("a ping"), Message::Ping("from twistor".into()));
        client.flush().expect("the pong is sent");
        client.send(Message::Pong("unasked".into())).expect("sent");
        log.wait_for("pong unasked");
        assert_eq!(
            log.entries(),
            ["made", "ping from tungstenite", "message of 4", "pong from twistor", "pong unasked"]
        );
    });
}

// T36
#[test]
fn the_client_may_close_with_any_code() {
    bounded(|| {
        let log = Log::default();
        let server = recording_server(&log);
        let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 4000, 4999];
        for (index, code) in codes.into_iter().enumerate() {
            let mut client = tungstenite(server.address, "/");
            client.close(close_frame(code, "à bientôt")).expect("sent");
            let reply = client.read().expect("a Close");
            assert_eq!(reply, Message::Close(close_frame(code, "à bientôt")), "RFC 6455, 5.5.1: the code is echoed");
            assert!(matches!(last(&mut client), Error::ConnectionClosed));
            assert_eq!(log.wait_for_nth(index + 1, "lost"), format!("lost cleanly {code} à bientôt"));
        }
        let mut client = tungstenite(server.address, "/");
        client.close(None).expect("sent");
        assert_eq!(client.read().expect("a Close"), Message::Close(None));
        assert!(matches!(last(&mut client), Error::ConnectionClosed));
        assert_eq!(log.wait_for_nth(codes.len() + 1, "lost"), "lost cleanly 1005");
    });
}

#[test]
fn the_server_may_close_with_any_code() {
    bounded(|| {
        let log = Log::default();
        let server = recording_server(&log);
        for (index, code) in [1000, 1001, 1003, 1008, 1011, 1013, 3000, 4999].into_iter().enumerate() {
            let mut client = tungstenite(server.address, "/");
            client.send(Message::text(format!("close {code} until later"))).expect("sent");
            assert_eq!(client.read().expect("a Close"), Message::Close(close_frame(code, "until later")));
            assert!(matches!(last(&mut client), Error::ConnectionClosed));
            // tungstenite answers with the same code and reason
            assert_eq!(log.wait_for_nth(index + 1, "lost"), format!("lost cleanly {code} until later"));
        }
    });
}
