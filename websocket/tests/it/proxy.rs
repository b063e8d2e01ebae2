//! Clients that go through an HTTP proxy: where they connect, whom they ask for, and what the proxy answers. T68.

use std::rc::Rc;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{ConnectionRefusedError, Connector, Deferred, Failure};
use twistor_websocket::handshake::{HandshakeError, UrlError};
use twistor_websocket::{
    LimitExceeded, Options, ReconnectingClientFactory, WebSocket, WebSocketClientEndpoint, WebSocketClientFactory,
    WebSocketClosed, connect_ws,
};

use crate::support::{ACCEPT, Client, Http, Log, Peer, Recorder, Recorders, switching, text};

const PROXY: &str = "http://me:s3cret@proxy.example:3128";
const CONNECTED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// A client at its proxy, which has been asked for nothing yet.
fn client() -> Client {
    Client::custom(Options::default(), |mould| mould, |factory| factory.proxy(PROXY).expect("a URL"))
}

fn at_proxy(connector: &Connector) -> bool {
    connector.destination() == ("proxy.example", 3128) && connector.target() == ("proxy.example".to_owned(), 3128)
}

fn assert_asks_for_server(request: &Http) {
    assert_eq!(request.start, "CONNECT server.example:80 HTTP/1.1");
    assert_eq!(request.header("Host"), Some("server.example:80"));
    assert_eq!(request.header("Proxy-Authorization"), Some("Basic bWU6czNjcmV0"));
    assert_eq!(request.headers.len(), 2, "what is for the server is not for the proxy: {request}");
}

fn cause(log: &Log) -> Failure {
    assert_eq!(log.count("lost"), 1);
    log.last_reason().value::<WebSocketClosed>().expect("a WebSocketClosed").cause.clone()
}

#[test]
fn t68_the_client_connects_to_the_proxy_and_asks_it_for_the_server() {
    let client = client();
    assert!(at_proxy(&client.connector));
    assert_asks_for_server(&client.server.http());
    assert_eq!(client.server.bytes(), b"", "nothing is for the server before the tunnel is there");
    client.server.send(CONNECTED);
    let request = client.server.accept(&[], &[text("hello")]);
    assert_eq!((&*request.start, request.header("Host")), ("GET /chat?x=1 HTTP/1.1", Some("server.example")));
    assert_eq!(request.header("Proxy-Authorization"), None);
    assert_eq!(client.log.take(), ["accepted None", "made", "text hello"]);
}

#[test]
fn t68_who_connects_by_himself_decides_where() {
    let (log, reactor) = (Log::default(), Rc::new(MemoryReactor::new()));
    let factory = WebSocketClientFactory::new("ws://server.example/", Recorders(Recorder::new(&log))).unwrap();
    let factory = factory.proxy("http://proxy.example").unwrap();
    assert_eq!(factory.destination(), ("proxy.example".to_owned(), 80));
    let connector = reactor.connect_tcp("127.0.0.1", 8080, factory);
    reactor.settle();
    assert_eq!(connector.target(), ("127.0.0.1".to_owned(), 8080));
    let request = Peer::server(&reactor, reactor.accept(&connector)).http();
    assert_eq!(request.start, "CONNECT server.example:80 HTTP/1.1");
    assert_eq!(request.header("Proxy-Authorization"), None);
}

#[test]
fn t68_an_endpoint_goes_through_the_proxy_each_time() {
    let reactor = Rc::new(MemoryReactor::new());
    let endpoint = WebSocketClientEndpoint::new(&reactor, "ws://me:hush@server.example/").unwrap();
    let endpoint = endpoint.proxy(PROXY).unwrap();
    let shown = format!("{endpoint:?}");
    assert!(!shown.contains("s3cret") && !shown.contains("hush"), "{shown}");
    for _ in 0..2 {
        let log = Log::default();
        let connected: Deferred<WebSocket> = endpoint.connect(Recorders(Recorder::new(&log)));
        reactor.settle();
        let connector = reactor.connecting().remove(0);
        assert!(at_proxy(&connector));
        let proxy = Peer::server(&reactor, reactor.accept(&connector));
        assert_asks_for_server(&proxy.http());
        proxy.send(CONNECTED);
        assert_eq!(proxy.accept(&[], &[]).header("Authorization"), Some("Basic bWU6aHVzaA=="));
        assert_eq!(log.count("made"), 1);
        drop(connected);
    }
}

#[test]
fn t68_a_client_that_comes_back_comes_to_the_proxy() {
    let (log, reactor) = (Log::default(), Rc::new(MemoryReactor::new()));
    let inside = ReconnectingClientFactory::new(Recorders(Recorder::new(&log)));
    let factory = WebSocketClientFactory::new("ws://server.example/", inside).unwrap().proxy(PROXY).unwrap();
    let connector = connect_ws(&reactor, factory);
    reactor.settle();
    for _ in 0..3 {
        assert!(at_proxy(&connector));
        let proxy = Peer::server(&reactor, reactor.accept(&connector));
        assert_asks_for_server(&proxy.http());
        proxy.close();
        proxy.wait(60.0);
    }
}

#[test]
fn t68_a_proxy_that_is_not_there_is_the_factorys_to_hear_of() {
    let (log, reactor) = (Log::default(), MemoryReactor::new());
    let factory = WebSocketClientFactory::new("ws://server.example/", Recorders(Recorder::new(&log))).unwrap();
    let connector = connect_ws(&reactor, factory.proxy(PROXY).unwrap());
    reactor.settle();
    reactor.refuse(&connector, Failure::new(ConnectionRefusedError::new()));
    assert_eq!(log.count("client failed: Connection was refused by other side."), 1);
    assert!(at_proxy(&connector));
}

#[test]
fn t68_a_refusal_of_the_proxy_is_told() {
    let client = client();
    let challenge = "Proxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 4\r\n\r\nwho?";
    client.server.send(format!("HTTP/1.1 407 Proxy Authentication Required\r\n{challenge}"));
    let failure = cause(&client.log);
    let Some(HandshakeError::Proxy(rejection)) = failure.value() else { panic!("{failure}") };
    assert_eq!((rejection.status.as_u16(), &*rejection.body), (407, &b"who?"[..]));
    assert_eq!(rejection.headers["proxy-authenticate"], "Basic realm=\"x\"");
    assert!(client.server.is_over());
}

/// What comes behind the proxy's answer comes from the server, which has not been asked yet: a refusal may be meant,
/// but nothing can be its acceptance.
#[test]
fn t68_early_bytes_of_the_tunnel_are_the_servers_answer() {
    let early = |bytes: &[u8]| {
        let client = client();
        client.server.send([CONNECTED.as_bytes(), bytes].concat());
        assert_eq!(client.log.count("made"), 0);
        let failure = cause(&client.log);
        failure.value::<HandshakeError>().unwrap_or_else(|| panic!("{failure}")).clone()
    };
    assert!(matches!(early(&text("early").plain()), HandshakeError::NotHttp { .. }));
    assert!(matches!(early(b"SSH-2.0-OpenSSH\r\n"), HandshakeError::NotHttp { .. }));
    assert!(matches!(early(switching(ACCEPT, &[]).as_bytes()), HandshakeError::WrongAccept { .. }));
    let refusal = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";
    assert!(matches!(early(refusal), HandshakeError::Status(rejection) if rejection.status == 503));
}

#[test]
fn t68_a_slow_proxy_has_the_time_of_the_handshake() {
    let slow = client();
    slow.server.drip("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 299 Fine\r\nContent-Length: 9\r\n\r\n");
    let _ = slow.server.http();
    slow.server.wait(9.9);
    slow.server.accept(&[], &[]);
    assert_eq!(slow.log.take(), ["accepted None", "made"]);

    for answer in ["", "HTTP/1.1 200", CONNECTED] {
        let client = client();
        client.server.send(answer);
        client.server.wait(9.9);
        assert!(client.log.take().is_empty(), "{answer:?}");
        client.server.wait(0.2);
        let failure = cause(&client.log);
        assert!(matches!(failure.value(), Some(LimitExceeded::OpenTimeout)), "{answer:?}: {failure}");
    }
}

#[test]
fn urls_that_are_no_proxys_are_errors_at_once() {
    let make = || WebSocketClientFactory::new("ws://a", Recorders(Recorder::new(&Log::default()))).unwrap();
    let endpoint = || WebSocketClientEndpoint::new(&MemoryReactor::new(), "ws://a").unwrap();
    for url in ["https://proxy.example", "proxy.example:3128", "http://", "http://a:99999", "http://a/x", ""] {
        let error: UrlError = make().proxy(url).err().unwrap_or_else(|| panic!("{url}"));
        assert_eq!(endpoint().proxy(url).err(), Some(error), "{url}");
    }
    let error = make().proxy("https://proxy.example").err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("invalid URL: expected a proxy's http://, got the scheme \"https\""));
}
