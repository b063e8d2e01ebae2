//! Servers that do wrong, and our client.

use std::net::TcpListener;
use std::thread;

use crate::support::{CLOSE, Event, FIN, Got, Ours, PING, Raw, TEXT, accept_key, bounded, masked, plain};

/// Plays a test with our client and a server that is given the client's request.
fn play<R: Send + 'static>(
    server: impl FnOnce(Raw, String) -> R + Send + 'static,
    test: impl FnOnce(&Ours) + Send + 'static,
) -> R {
    bounded(move || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = Ours::connect(&format!("ws://{}/chat", listener.local_addr().expect("an address")));
        let server = thread::spawn(move || {
            let mut peer = Raw::from(listener.accept().expect("our client").0);
            let request = peer.head();
            server(peer, request)
        });
        test(&client);
        server.join().expect("the server played its part")
    })
}

fn switching(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// The end of a connection whose handshake failed, for a reason that has these words.
fn fails(words: &'static str) -> impl FnOnce(&Ours) + Send {
    move |client| {
        let Event::Ended { was_clean: false, code: 1006, reason } = client.next() else { panic!("opened") };
        assert!(reason.contains(words), "{reason}");
        let lost = client.lost();
        assert!(lost.contains(words), "{lost}");
    }
}

// T62
#[test]
fn frames_in_the_segment_of_the_101_are_delivered() {
    let server = |mut peer: Raw, request: String| {
        let head = switching(&accept_key(&request)).into_bytes();
        peer.send([head, plain(FIN | TEXT, "first"), plain(FIN | PING, ""), plain(FIN | TEXT, "second")].concat());
        let pong = peer.frame();
        peer.send(plain(FIN | CLOSE, 1000_u16.to_be_bytes()));
        (pong.payload, peer.frame())
    };
    let (pong, close) = play(server, |client| {
        let events: Vec<Event> = (0..4).map(|_| client.next()).collect();
        let expected = [Event::Made, Event::Text("first".into()), Event::Ping(vec![]), Event::Text("second".into())];
        assert_eq!(events, expected);
        assert_eq!(client.next(), Event::Ended { was_clean: true, code: 1000, reason: String::new() });
    });
    assert_eq!((pong, close), (vec![], Got { first: FIN | CLOSE, payload: vec![3, 232] }));
}

// T22
#[test]
fn a_masked_frame_is_answered_with_1002() {
    let server = |mut peer: Raw, request: String| {
        peer.send(switching(&accept_key(&request)));
        peer.send(masked(FIN | TEXT, "masked"));
        peer.close()
    };
    let (code, reason) = play(server, |client| {
        assert_eq!(client.next(), Event::Made);
        let Event::Ended { was_clean: false, code: 1002, reason } = client.next() else { panic!("taken") };
        assert_eq!(reason, "expected an unmasked frame from the server, got a masked one");
    });
    assert_eq!((code, &*reason), (1002, "expected an unmasked frame from the server, got a masked one"));
}

// T62
#[test]
fn a_wrong_accept_fails_the_handshake() {
    let server = |mut peer: Raw, _| {
        peer.send(switching("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        peer.ends_by_reset()
    };
    assert!(play(server, fails("in the Sec-WebSocket-Accept header, but \"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\" came")));
}

// T62
#[test]
fn a_refusal_says_what_the_server_said() {
    let answers = |answer: &'static str| {
        move |mut peer: Raw, _: String| {
            peer.send(answer);
            peer.ends_by_reset()
        }
    };
    let forbidden = "HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\n\r\nno token";
    play(answers(forbidden), fails("403 Forbidden \"no token\""));
    let elsewhere = "HTTP/1.1 301 Moved Permanently\r\nLocation: ws://elsewhere/\r\nContent-Length: 0\r\n\r\n";
    play(answers(elsewhere), fails("301 Moved Permanently to \"ws://elsewhere/\""));
    play(answers("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), fails("200 OK \"hello\""));
    play(answers("SSH-2.0-OpenSSH_9.2\r\n"), fails("expected an HTTP/1.1 response, but \"S\" came"));
}

// T62: the body of a refusal may have no other end.
#[test]
fn a_refusal_without_a_length_ends_with_its_connection() {
    let server = |mut peer: Raw, _| {
        peer.send("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\nno ");
        peer.send("token");
        peer.stream().shutdown(std::net::Shutdown::Write).expect("FIN");
    };
    play(server, fails("403 Forbidden \"no token\""));
}

// T62
#[test]
fn a_head_without_end_fails_the_handshake_at_its_limit() {
    for line in ["X: short\r\n", "X-Long: "] {
        let server = move |mut peer: Raw, _| {
            peer.send("HTTP/1.1 101 Switching Protocols\r\n");
            peer.send_in_vain(line.repeat((1 << 20) / line.len()));
        };
        play(server, fails("but more came"));
    }
    let server = |mut peer: Raw, _| {
        peer.send_in_vain("HTTP/1.1 102 Processing\r\n\r\n".repeat(50));
    };
    play(server, fails("expected at most 8 interim responses"));
}

#[test]
fn a_server_that_closes_within_its_answer_fails_the_handshake() {
    for answer in ["", "HTTP/1.1 101 Switching Protocols\r\nUpgr"] {
        let server = move |mut peer: Raw, _| peer.send(answer);
        play(server, |client| {
            let Event::Ended { was_clean: false, code: 1006, reason } = client.next() else { panic!("opened") };
            assert!(reason.contains("peer dropped the TCP connection"), "{reason}");
            assert_eq!(client.lost(), "Connection was closed cleanly.", "the factory is told of the connection below");
        });
    }
}
