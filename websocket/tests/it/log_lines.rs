//! What the library logs of one connection, line by line: each turn of its life, the peer's address, and no payload.
//! How many lines a peer can cause, and of which text, is in `logs.rs`.

use std::rc::Rc;

use http::StatusCode;
use log::Level;
use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{ConnectionRefusedError, Failure};
use twistor_websocket::handshake::{RedirectPolicy, WsUrl};
use twistor_websocket::{
    Accept, Options, Overflow, ReconnectingClientFactory, Refusal, Resource, WebSocketClientFactory, connect_ws,
};

use crate::logs::logged;
use crate::negotiation::later;
use crate::support::{
    Client, Log, Pages, Peer, Recorder, Recorders, Server, binary, close, continuation, get, ping, pong, text, upgrade,
};

/// The lines of `f`, all of them about this peer.
fn assert_lines(peer: &str, f: impl FnOnce(), expected: &[&str]) {
    let lines: Vec<(Level, String)> = logged(f);
    let expected: Vec<_> = expected.iter().map(|line| (Level::Debug, format!("{peer}: {line}"))).collect();
    assert_eq!(lines, expected);
}

const OPEN: &str = "WebSocket open";
const ENDED: &str = "closed: Connection was closed cleanly.";
/// When it is we who do not wait for the peer any longer.
const LEFT: &str = "closed: Connection was closed cleanly: Connection done.";

/// The second client of a server: the first one's lines would have another address.
fn assert_server(options: Options, life: impl FnOnce(&Server, &Peer), expected: &[&str]) {
    let server = Server::with(Options { ping_interval: None, ..options.clone() }, Recorder::echoing);
    let _other = server.open();
    assert_lines("127.0.0.1:50001", || life(&server, &server.open()), &[&[OPEN], expected].concat());
}

#[test]
fn a_servers_life_that_the_peer_ends() {
    let life = |_: &Server, peer: &Peer| {
        peer.frames(&[text("payload"), binary("payload"), ping("payload"), pong("payload")]);
        peer.frame(&close(1000, "bye"));
    };
    let closed = "WebSocket connection was closed cleanly with code 1000 (\"bye\")";
    assert_server(Options::default(), life, &[ENDED, closed]);
}

#[test]
fn a_servers_life_that_it_ends_itself() {
    let life = |server: &Server, peer: &Peer| {
        let socket = server.log.socket(1);
        socket.send_text("payload");
        socket.lose_connection(4000, "enough").unwrap();
        server.reactor.settle();
        peer.frame(&close(4000, ""));
    };
    let closed = "WebSocket connection was closed cleanly with code 4000";
    assert_server(Options::default(), life, &["closing with 4000", ENDED, closed]);
}

#[test]
fn a_servers_life_that_a_violation_ends() {
    let life = |_: &Server, peer: &Peer| {
        peer.frame(&continuation("payload"));
        peer.wait(3.0);
    };
    let why = "expected a new message, got a continuation frame";
    let failed = format!("failed with 1002: {why}");
    let closed = format!("WebSocket connection was closed uncleanly with code 1002 (\"{why}\")");
    assert_server(Options::default(), life, &[&failed, LEFT, &closed]);
}

#[test]
fn a_servers_life_that_breaks_off() {
    let life = |server: &Server, peer: &Peer| {
        peer.send(&text("payload").masked()[..8]);
        peer.reset();
        server.reactor.settle();
    };
    let why = "Connection to the other side was lost in a non-clean fashion: 104: Connection reset by peer.";
    let closed = format!("closed: {why}");
    let lost = "WebSocket connection was closed uncleanly with code 1006";
    let lost = format!("{lost} (\"connection was closed uncleanly (\\\"{why}\\\")\")");
    assert_server(Options::default(), life, &[&closed, &lost]);
}

#[test]
fn a_servers_life_that_silence_ends() {
    let server = Server::new();
    let why = "WebSocket ping timeout (peer did not respond with pong in time)";
    let closed = format!("closed: {why}");
    let lost = format!("WebSocket connection was closed uncleanly with code 1006 (\"{why}\")");
    let life = || server.open().wait(60.0);
    assert_lines("127.0.0.1:50000", life, &[OPEN, "no sign of life", &closed, &lost]);
}

#[test]
fn a_peer_that_does_not_keep_up() {
    let options = Options { overflow: Overflow::DropNewest, write_timeout: None, ..Options::default() };
    let life = |server: &Server, peer: &Peer| {
        peer.set_room(0);
        let payload = "payload".repeat(10_000);
        (0..100).for_each(|_| server.log.socket(1).send_text(&payload));
        server.reactor.settle();
    };
    assert_server(options, life, &["messages that wait for it are dropped"]);
}

#[test]
fn handshakes_that_are_refused() {
    let no = Options { max_connections: Some(1), ..Options::default() };
    let server = Server::with(no, |mould| {
        mould.deciding(|request| match request.path() {
            "/no" => Refusal::new(StatusCode::FORBIDDEN, "payload").into(),
            _ => Accept::default().into(),
        })
    });
    let requests = [
        (upgrade("/no", &["Cookie: payload"]), "403 Forbidden"),
        (upgrade("/", &["Content-Length: 7"]) + "payload", "400 Bad Request"),
        (upgrade("/", &["Origin: http://payload.example"]), "403 Forbidden"),
        (get("/payload"), "426 Upgrade Required"),
        ("payload".repeat(5), "400 Bad Request"),
    ];
    for (number, (request, answer)) in requests.iter().enumerate() {
        let life = || {
            let peer = server.connect();
            peer.send(request);
            peer.wait(3.0);
        };
        assert_lines(&format!("127.0.0.1:{}", 50_000 + number), life, &[answer, LEFT]);
    }
    let _only = server.open();
    let life = || {
        server.refusal_of(upgrade("/", &[]));
        server.wait(3.0);
    };
    assert_lines("127.0.0.1:50006", life, &["503 Service Unavailable", LEFT]);
}

#[test]
fn a_handshake_that_is_refused_later() {
    let (server, promises) = later(Options::default());
    let life = || {
        let peer = server.connect();
        peer.send(upgrade("/payload", &[]));
        promises.next().resolve(Refusal::new(StatusCode::FORBIDDEN, "payload").into());
        peer.wait(3.0);
    };
    assert_lines("127.0.0.1:50000", life, &["403 Forbidden", LEFT]);
}

#[test]
fn requests_that_do_not_come() {
    let pages = Pages::new(Resource::new());
    let silent = || pages.connect().wait(13.0);
    assert_lines("127.0.0.1:50000", silent, &["no request in time", ENDED]);
    let slow = || {
        let peer = pages.connect();
        peer.send("GET /payload HT");
        peer.wait(13.0);
    };
    assert_lines("127.0.0.1:50001", slow, &["408 Request Timeout", LEFT]);
}

/// A client's peer is the server.
fn assert_client(life: impl FnOnce(&Client), expected: &[&str]) {
    let client = Client::new();
    assert_lines("127.0.0.1:80", || life(&client), expected);
}

#[test]
fn a_clients_life_that_the_server_ends() {
    let life = |client: &Client| {
        client.server.accept(&["Set-Cookie: payload"], &[text("payload")]);
        client.server.frame(&close(1000, "bye"));
        client.server.close();
        client.reactor.settle();
    };
    assert_client(life, &[OPEN, ENDED, "WebSocket connection was closed cleanly with code 1000 (\"bye\")"]);
}

#[test]
fn a_clients_life_that_a_violation_ends() {
    let life = |client: &Client| {
        client.server.accept(&[], &[]);
        client.server.frame(&continuation("payload"));
        client.server.wait(3.0);
    };
    let why = "expected a new message, got a continuation frame";
    let failed = format!("failed with 1002: {why}");
    let closed = format!("WebSocket connection was closed uncleanly with code 1002 (\"{why}\")");
    assert_client(life, &[OPEN, &failed, LEFT, &closed]);
}

/// What a server says about its refusal is for who reads the log; cut and escaped, as `logs.rs` has it.
#[test]
fn a_clients_handshake_that_is_refused_or_not_answered() {
    let lost = |why: &str| {
        let why = format!("connection was closed uncleanly (\"{why}\")");
        format!("WebSocket connection was closed uncleanly with code 1006 (\"{}\")", why.escape_debug())
    };
    let life = |client: &Client| {
        client.server.send("HTTP/1.1 403 No\r\nSet-Cookie: payload\r\nContent-Length: 8\r\n\r\nno token");
        client.reactor.settle();
    };
    let why = "expected 101 Switching Protocols, but 403 Forbidden \"no token\" came";
    assert_client(life, &[&format!("closed: {why}"), &lost(why)]);
    let why = "WebSocket opening handshake timeout (peer did not finish the opening handshake in time)";
    assert_client(|client| client.server.wait(13.0), &[&format!("closed: {why}"), &lost(why)]);
}

/// Where it was to go stands for an address that it has not.
#[test]
fn a_client_that_nobody_listens_to() {
    let reactor = MemoryReactor::new();
    let factory = Recorders(Recorder::new(&Log::default()));
    let factory = WebSocketClientFactory::new("ws://server.example:8000/payload?payload", factory);
    let connector = connect_ws(&reactor, factory.expect("a URL"));
    reactor.settle();
    let life = || reactor.refuse(&connector, Failure::new(ConnectionRefusedError::new()));
    let failed = "connection failed: Connection was refused by other side.";
    assert_lines("Connector(server.example:8000, Connecting)", life, &[failed]);
}

// T71
#[test]
fn log_lines_do_not_repeat_credentials_in_a_location() {
    for policy in [RedirectPolicy::default(), RedirectPolicy::follow_up_to(1, false)] {
        let lines = logged(|| {
            let factory = ReconnectingClientFactory::new(Recorders(Recorder::new(&Log::default())));
            let factory = WebSocketClientFactory::new("ws://server.example/chat?token=s3cret", factory).unwrap();
            let reactor = Rc::new(MemoryReactor::new());
            let connector = connect_ws(&reactor, factory.follow_redirects(policy));
            reactor.settle();
            let server = Peer::server(&reactor, reactor.accept(&connector));
            server.send("HTTP/1.1 301 Moved\r\nLocation: http://me:pw@server.example/chat/?token=s3cret\r\n\r\n");
        });
        let bad: Vec<_> = lines.iter().filter(|(_, line)| line.contains("s3cret") || line.contains("me:pw")).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

// T71
#[test]
fn errors_of_the_client_show_no_secrets() {
    for url in ["ws://me:s3cr/et@host/", "ws://me:s3cr?et@host/"] {
        let error = WsUrl::parse(url).unwrap_err().to_string();
        assert!(!error.contains("s3cr"), "{error}");
    }
    let factory = || WebSocketClientFactory::new("ws://a", Recorders(Recorder::new(&Log::default()))).unwrap();
    let error = factory().proxy("http://me:s3cr/et@proxy:3128").err().unwrap().to_string();
    assert!(!error.contains("s3cr"), "{error}");
    // the line end of the file that the token was read from
    let error = factory().header("Authorization", "Bearer s3cret\n").err().unwrap().to_string();
    assert!(!error.contains("s3cret"), "{error}");
}
