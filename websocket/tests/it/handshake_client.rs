//! The opening handshake as a client asks for it and judges the answer: RFC 6455, 4.1.

use std::time::Duration;

use twistor_reactor::{ConnectionDone, ConnectionLost, ConnectionRefusedError, Failure};
use twistor_websocket::handshake::HandshakeError;
use twistor_websocket::sansio::deflate::DeflateOptions;
use twistor_websocket::{ClientError, ExtensionError, LimitExceeded, Options, WebSocketClientFactory, WebSocketClosed};

use crate::support::{ACCEPT, Client, Log, Recorder, Recorders, close, switching, text};

const PROXY: &str = "http://proxy.example:3128";

/// Why the handshake failed, after this answer; the protocol heard of it once, the factory after it.
fn failure(client: &Client, answer: impl AsRef<[u8]>) -> Failure {
    client.server.send(answer);
    ended(client)
}

fn ended(client: &Client) -> Failure {
    let told = client.log.take();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[2], "stop factory");
    assert_eq!(told[0], "lost");
    assert!(told[1].starts_with("client lost: "), "{}", told[1]);
    assert_eq!(client.reactor.pending_calls(), 0);
    let status = client.log.last_status();
    assert_eq!((status.was_clean, status.code), (false, 1006));
    client.log.last_reason().value::<WebSocketClosed>().expect("a WebSocketClosed").cause.clone()
}

fn error(answer: impl AsRef<[u8]>) -> HandshakeError {
    let failure = failure(&Client::new(), answer);
    failure.value::<HandshakeError>().unwrap_or_else(|| panic!("{failure}")).clone()
}

/// The right answer with one line replaced.
fn twisted_answer(client: &Client, from: &str, to: &str) -> String {
    let request = client.server.http();
    let key = request.header("Sec-WebSocket-Key").expect("a key");
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let answer = switching(&accept, &[]);
    assert!(answer.contains(from));
    answer.replacen(from, to, 1)
}

fn outcome_of(from: &str, to: &str) -> Result<(), HandshakeError> {
    let client = Client::new();
    let answer = twisted_answer(&client, from, to);
    client.server.send(answer);
    if client.log.count("made") == 1 {
        return Ok(());
    }
    Err(ended(&client).value::<HandshakeError>().expect("a HandshakeError").clone())
}

// P255
#[test]
fn the_request_asks_for_all_that_the_rfc_wants() {
    let client = Client::new();
    let request = client.server.http();
    assert_eq!(request.start, "GET /chat?x=1 HTTP/1.1");
    assert_eq!(request.header("Host"), Some("server.example"));
    assert_eq!(request.header("Upgrade"), Some("websocket"));
    assert_eq!(request.header("Connection"), Some("Upgrade"));
    assert_eq!(request.header("Sec-WebSocket-Version"), Some("13"));
    assert_eq!(request.header("Sec-WebSocket-Key").map(str::len), Some(24));
    assert_eq!(request.headers.len(), 5, "{request}");
    let other = Client::new().server.http();
    assert_ne!(request.header("Sec-WebSocket-Key"), other.header("Sec-WebSocket-Key"), "a new key each time");
}

// P267
#[test]
fn what_the_options_name_is_offered_and_the_answer_is_told() {
    let options = Options {
        protocols: vec!["v2".into(), "v1".into()],
        compression: Some(DeflateOptions::default()),
        ..Options::default()
    };
    let client = Client::custom(options, |mould| mould, |factory| factory.header("Cookie", "a=b").unwrap());
    let request = client.server.accept(&["Sec-WebSocket-Protocol: v1", "X-Server: x"], &[]);
    assert_eq!(request.header("Sec-WebSocket-Protocol"), Some("v2, v1"));
    assert!(request.header("Sec-WebSocket-Extensions").unwrap().starts_with("permessage-deflate"));
    assert_eq!(request.header("Cookie"), Some("a=b"));
    assert_eq!(client.log.take(), ["accepted Some(\"v1\")", "made"]);
    let socket = client.log.socket(0);
    assert_eq!((socket.subprotocol(), socket.compression()), (Some("v1"), None));
}

// P276
#[test]
fn t62_frames_in_the_segment_of_the_answer_are_delivered() {
    let client = Client::new();
    client.server.accept(&[], &[text("early"), text("bird"), close(1000, "")]);
    assert_eq!(client.log.take(), ["accepted None", "made", "text early", "text bird", "close 1000"]);
}

/// RFC 6455, 4.1: the connection is none before the server's handshake has come and was found right.
#[test]
fn t62_frames_before_the_answer_are_no_answer_and_no_message() {
    let frame = text("early").plain();
    let client = Client::new();
    let answer = twisted_answer(&client, "HTTP/1.1 101", "HTTP/1.1 101").into_bytes();
    let both = [&frame[..], &answer].concat(); // the right answer behind it does not mend it
    for came in [&frame[..], &frame[..1], &both] {
        let HandshakeError::NotHttp { got } = error(came) else { panic!("{}", came.escape_ascii()) };
        assert_eq!(got, "\\x81", "up to the first wrong byte");
    }
    let failure = failure(&client, both);
    assert!(matches!(failure.value(), Some(HandshakeError::NotHttp { .. })), "{failure}");
    assert!(client.server.is_over());
}

#[test]
fn t62_frames_amid_the_answers_head_are_no_head_and_no_message() {
    let frames = [text("early").plain(), close(1000, "").plain()].concat();
    let heads = [
        ("HTTP/1.1", "line"),
        ("HTTP/1.1 101 Switching", "status line"),
        ("HTTP/1.1 101 Switching Protocols\r\n", "header name"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConn", "header name"),
    ];
    for (head, broken) in heads {
        let came = [head.as_bytes(), &frames, b"\r\n\r\n"].concat();
        for drips in [false, true] {
            let client = Client::new();
            if drips {
                client.server.drip(&came);
            } else {
                client.server.send(&came);
            }
            let failure = ended(&client);
            let Some(HandshakeError::Malformed { what }) = failure.value() else { panic!("{head:?}: {failure}") };
            assert!(what.contains(broken), "{head:?}: {what}");
            assert!(client.server.is_over(), "{head:?}");
        }
    }
}

#[test]
fn t62_an_answer_in_single_bytes_is_understood() {
    let client = Client::new();
    let answer = twisted_answer(&client, "HTTP/1.1 101", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101");
    client.server.drip(answer);
    client.server.drip(text("x").plain());
    assert_eq!(client.log.take(), ["accepted None", "made", "text x"]);
}

#[test]
fn t62_a_wrong_accept_is_refused() {
    let client = Client::new();
    let failure = failure(&client, switching(ACCEPT, &[]));
    assert!(matches!(failure.value(), Some(HandshakeError::WrongAccept { .. })), "{failure}");
    assert!(matches!(outcome_of("Sec-WebSocket-Accept", "X"), Err(HandshakeError::WrongAccept { got: None, .. })));
}

#[test]
fn t62_upgrade_and_connection_are_needed_in_any_case() {
    assert!(matches!(outcome_of("Upgrade: websocket\r\n", ""), Err(HandshakeError::MissingUpgrade { got: None })));
    assert!(matches!(outcome_of("Upgrade: websocket", "Upgrade: h2c"), Err(HandshakeError::MissingUpgrade { .. })));
    let none = outcome_of("Connection: Upgrade\r\n", "");
    assert!(matches!(none, Err(HandshakeError::MissingConnection { got: None })));
    assert!(outcome_of("Connection: Upgrade", "Connection: upgrade, keep-alive").is_ok());
    assert!(outcome_of("Upgrade: websocket", "upgrade: WEBSOCKET").is_ok());
    let old = outcome_of("HTTP/1.1", "HTTP/1.0");
    assert!(matches!(old, Err(HandshakeError::WrongVersion { .. })));
}

// P259, P270
#[test]
fn t62_a_refusal_is_told_with_its_status_headers_and_body() {
    let answers = [(200, "OK"), (401, "Unauthorized"), (404, "Not Found"), (500, "Oops")];
    for (status, reason) in answers {
        let answer = format!("HTTP/1.1 {status} {reason}\r\nContent-Length: 5\r\nX-Why: because\r\n\r\nsorry");
        let HandshakeError::Status(rejection) = error(answer) else { panic!("{status}") };
        assert_eq!((rejection.status.as_u16(), &*rejection.body), (status, &b"sorry"[..]));
        assert_eq!(rejection.headers["x-why"], "because");
    }
}

/// Whoever refuses, and however the body comes and ends: what came is told.
// P259
#[test]
fn t62_t68_the_body_of_a_refusal_may_come_later() {
    type Case = (&'static str, [&'static str; 2], fn(&Client));
    let cases: [Case; 8] = [
        ("Content-Length: 5", ["so", "rry"], |_| {}),
        ("Transfer-Encoding: chunked", ["3\r\nsor\r\n0002", ";x\r\nry\r\n0\r\n"], |_| {}),
        ("Content-Length: 10", ["so", "rry"], |client| client.server.finish()),
        ("Connection: close", ["so", "rry"], |client| client.server.close()),
        ("Content-Length: 10", ["so", "rry"], |client| client.server.reset()),
        ("Content-Length: 10", ["so", "rry"], |client| client.server.wait(10.0)),
        ("Transfer-Encoding: chunked", ["a\r\nso", "rry"], |client| client.server.wait(10.0)),
        ("Content-Length: 10", ["so", "rry"], |client| client.connector.disconnect()),
    ];
    for (field, body, end) in cases {
        for status in [407, 403] {
            let client = Client::custom(Options::default(), |mould| mould, |factory| factory.proxy(PROXY).unwrap());
            if status == 403 {
                client.server.send("HTTP/1.1 200 Connected\r\n\r\n");
            }
            client.server.send(format!("HTTP/1.1 {status} No\r\n{field}\r\n\r\n{}", body[0]));
            assert!(client.log.take().is_empty());
            client.server.send(body[1]);
            end(&client);
            client.reactor.settle();
            let failure = ended(&client);
            let ((407, Some(HandshakeError::Proxy(rejection))) | (403, Some(HandshakeError::Status(rejection)))) =
                (status, failure.value())
            else {
                panic!("{field}, {status}: {failure}")
            };
            assert_eq!((rejection.status.as_u16(), &*rejection.body), (status, &b"sorry"[..]), "{field}");
        }
    }
}

#[test]
fn t62_t68_the_body_of_a_refusal_is_bounded() {
    let through = Client::custom(Options::default(), |mould| mould, |factory| factory.proxy(PROXY).unwrap());
    for client in [Client::new(), through] {
        client.server.send("HTTP/1.1 403 Forbidden\r\n\r\n");
        for _ in 0..100 {
            client.server.send([b'x'; 1000]);
        }
        let failure = ended(&client);
        let Some(HandshakeError::Status(rejection) | HandshakeError::Proxy(rejection)) = failure.value() else {
            panic!("{failure}")
        };
        assert_eq!(rejection.body.len(), 16 * 1024);
    }
}

#[test]
fn t62_retry_after_is_told() {
    let answer = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
    let HandshakeError::Status(rejection) = error(answer) else { panic!() };
    assert_eq!(rejection.retry_after, Some(Duration::from_secs(7)));
}

#[test]
fn t62_a_redirect_is_told_and_not_followed() {
    let answer = "HTTP/1.1 301 Moved\r\nLocation: ws://elsewhere.example/\r\nContent-Length: 0\r\n\r\n";
    let HandshakeError::Redirect { status, location } = error(answer) else { panic!() };
    assert_eq!((status.as_u16(), &*location), (301, "ws://elsewhere.example/"));
}

#[test]
fn t62_interim_answers_are_skipped_and_a_flood_of_them_is_not() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 101";
    assert!(outcome_of("HTTP/1.1 101", interim).is_ok());
    let flood = "HTTP/1.1 100 Continue\r\n\r\n".repeat(9);
    assert!(matches!(error(flood), HandshakeError::TooManyInterim { .. }));
}

#[test]
fn t62_endless_and_malformed_heads_are_refused() {
    let line = format!("X: {}\r\n", "a".repeat(990));
    let endless = "HTTP/1.1 101 Switching Protocols\r\n".to_owned() + &line.repeat(20);
    assert!(matches!(error(endless), HandshakeError::HeadTooLarge { .. }));
    let many = "HTTP/1.1 101 Switching Protocols\r\n".to_owned() + &"a: b\r\n".repeat(101) + "\r\n";
    assert!(matches!(error(many), HandshakeError::TooManyHeaders { .. }));
    assert!(matches!(error("SSH-2.0-OpenSSH\r\n"), HandshakeError::NotHttp { .. }));
    assert!(matches!(error("HTTP/1.1 101 X\r\nbad header\r\n\r\n"), HandshakeError::Malformed { .. }));
    assert!(matches!(error("HTTP/1.1 xyz X\r\n\r\n"), HandshakeError::Malformed { .. }));
}

// P267
#[test]
fn t62_what_was_not_asked_for_is_refused() {
    let answers = [
        "Sec-WebSocket-Protocol: v1",
        "Sec-WebSocket-Protocol: v1\r\nSec-WebSocket-Protocol: v1",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "Sec-WebSocket-Extensions: x-webkit-deflate-frame",
    ];
    for line in answers {
        let outcome = outcome_of("Upgrade: websocket", &format!("Upgrade: websocket\r\n{line}"));
        let protocol = line.contains("Protocol");
        match outcome {
            Err(HandshakeError::UnrequestedProtocol { .. }) if protocol => {}
            Err(HandshakeError::UnrequestedExtension { .. }) if !protocol => {}
            other => panic!("{line}: {other:?}"),
        }
    }
}

// P275
#[test]
fn t62_extension_parameters_that_cannot_be_are_refused() {
    for parameters in ["server_max_window_bits=99", "server_max_window_bits=abc", "unknown", "client_max_window_bits=7"]
    {
        let options = Options { compression: Some(DeflateOptions::default()), ..Options::default() };
        let client = Client::with(options, |mould| mould);
        let extension = format!("Sec-WebSocket-Extensions: permessage-deflate; {parameters}");
        client.server.accept(&[&extension], &[]);
        let failure = ended(&client);
        assert!(failure.check::<ExtensionError>(), "{parameters}: {failure}");
    }
}

// P265
#[test]
fn a_server_that_does_not_answer_is_left_after_ten_seconds() {
    for answer in ["", "HTTP/1.1 101 Switching"] {
        let client = Client::new();
        client.server.send(answer);
        client.server.wait(9.9);
        assert!(client.log.take().is_empty());
        client.server.wait(0.2);
        assert!(client.server.saw_reset());
        let failure = ended(&client);
        assert!(failure.check::<LimitExceeded>());
        let text = "WebSocket opening handshake timeout (peer did not finish the opening handshake in time)";
        assert!(failure.to_string().contains(text), "{failure}");
    }
}

// P277, P271
#[test]
fn a_drop_amid_the_handshake_is_told() {
    for partial in ["", "HTTP/1.1 101 Swi"] {
        for reset in [false, true] {
            let client = Client::new();
            client.server.send(partial);
            if reset {
                client.server.reset();
            } else {
                client.server.close();
            }
            client.reactor.settle();
            let failure = ended(&client);
            assert!(failure.check::<ConnectionDone>() != reset && failure.check::<ConnectionLost>() == reset);
        }
    }
}

// P277
#[test]
fn a_refused_connection_is_told_to_the_factory() {
    let log = Log::default();
    let factory = WebSocketClientFactory::new("ws://server.example/", Recorders(Recorder::new(&log))).unwrap();
    let reactor = twistor_reactor::testing::MemoryReactor::new();
    let connector = twistor_websocket::connect_ws(&reactor, factory);
    reactor.settle();
    assert_eq!(connector.destination(), ("server.example", 80));
    reactor.refuse(&connector, Failure::new(ConnectionRefusedError::new()));
    let expected = ["start factory", "client failed: Connection was refused by other side.", "stop factory"];
    assert_eq!(log.take(), expected);
}

#[test]
fn a_client_can_come_back_with_a_new_key() {
    let client = Client::open();
    client.server.frame(&close(1000, ""));
    client.server.close();
    client.reactor.settle();
    assert_eq!(client.log.count("client lost"), 1);
    client.connector.connect().unwrap();
    client.reactor.settle();
    let again = crate::support::Peer::server(&client.reactor, client.reactor.accept(&client.connector));
    again.accept(&[], &[text("again")]);
    assert_eq!(client.log.count("text again"), 1);
}

// P272
#[test]
fn urls_that_cannot_be_connected_to_are_errors_at_once() {
    let make = |url: &str| WebSocketClientFactory::new(url, Recorders(Recorder::new(&Log::default()))).err();
    for url in ["http://x/", "ws://", "ws://x/#f", "ws://x:99999/", "nonsense"] {
        assert!(matches!(make(url), Some(ClientError::Url(_))), "{url}");
    }
    assert!(make("ws://user:secret@x:81/a?b").is_none());
}

#[test]
fn user_and_password_of_the_url_become_basic_authentication() {
    let log = Log::default();
    let url = "ws://user:secret@server.example:81/";
    let factory = WebSocketClientFactory::new(url, Recorders(Recorder::new(&log))).unwrap();
    let reactor = std::rc::Rc::new(twistor_reactor::testing::MemoryReactor::new());
    let connector = twistor_websocket::connect_ws(&reactor, factory);
    reactor.settle();
    let server = crate::support::Peer::server(&reactor, reactor.accept(&connector));
    let request = server.http();
    assert_eq!(request.header("Host"), Some("server.example:81"));
    assert_eq!(request.header("Authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
}

#[test]
fn a_refusals_body_does_not_depend_on_the_cut() {
    let extension = "y".repeat(300);
    let answer = format!("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n5;x={extension}\r\nhello\r\n0\r\n\r\n");
    let body = |drip: bool| {
        let client = Client::new();
        if drip {
            client.server.drip(&answer);
        } else {
            client.server.send(&answer);
        }
        let reason = client.log.last_reason();
        let closed = reason.value::<WebSocketClosed>().unwrap();
        let Some(HandshakeError::Status(rejection)) = closed.cause.value() else { panic!("{}", closed.cause) };
        String::from_utf8(rejection.body.clone()).unwrap()
    };
    assert_eq!(body(true), body(false));
}
