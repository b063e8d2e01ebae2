//! Redirects that a client follows, or refuses to: T63, and T62's loops.

use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Address, ClientFactory, ConnectionRefusedError, Connector, Factory, Failure};
use twistor_websocket::handshake::{HandshakeError, RedirectError, RedirectPolicy};
use twistor_websocket::{
    LimitExceeded, Options, ReconnectOptions, ReconnectingClientFactory, RedirectRefused, WebSocketClientFactory,
    WebSocketClosed, connect_ws,
};

use crate::support::{Http, Log, Peer, Recorder, text};

const URL: &str = "ws://me:secret@server.example/chat/room?x=1";

/// Writes down all its hooks.
struct Hooks {
    log: Log,
    recorder: Recorder,
}

impl Hooks {
    fn new(log: &Log) -> Self {
        Self { log: log.clone(), recorder: Recorder::new(log) }
    }
}

impl Factory for Hooks {
    type Protocol = Recorder;
    fn build_protocol(&mut self, _: &Address) -> Option<Recorder> {
        self.log.add("build");
        Some(self.recorder.clone())
    }
    fn start_factory(&mut self) {
        self.log.add("start factory");
    }
    fn stop_factory(&mut self) {
        self.log.add("stop factory");
    }
}

impl ClientFactory for Hooks {
    fn started_connecting(&mut self, _: &Connector) {
        self.log.add("started connecting");
    }
    fn client_connection_failed(&mut self, _: &Connector, reason: &Failure) {
        self.log.add(format!("client failed: {reason}"));
    }
    fn client_connection_lost(&mut self, _: &Connector, reason: &Failure) {
        self.log.add(format!("client lost: {reason}"));
    }
}

/// A client, and its way from server to server.
struct Journey {
    reactor: Rc<MemoryReactor>,
    connector: Connector,
    log: Log,
}

impl Journey {
    fn new(policy: RedirectPolicy) -> (Self, Peer) {
        Self::custom(|factory| factory.follow_redirects(policy))
    }

    fn custom(finish: impl FnOnce(WebSocketClientFactory<Hooks>) -> WebSocketClientFactory<Hooks>) -> (Self, Peer) {
        let log = Log::default();
        let options = Options { protocols: vec!["v1".into()], ..Options::default() };
        let factory = WebSocketClientFactory::with_options(URL, Hooks::new(&log), options).expect("a URL");
        let factory =
            finish(factory).header("Cookie", "id=1").expect("a field").header("X-Room", "1").expect("a field");
        let reactor = Rc::new(MemoryReactor::new());
        let connector = connect_ws(&reactor, factory);
        reactor.settle();
        let this = Self { reactor, connector, log };
        let (host, port) = this.connector.destination();
        let server = this.arrive(host, port);
        assert_eq!(this.log.take(), ["start factory", "started connecting", "build"]);
        (this, server)
    }

    /// The server at the place that the client connects to.
    fn arrive(&self, host: &str, port: u16) -> Peer {
        assert_eq!(self.connector.target(), (host.to_owned(), port));
        Peer::server(&self.reactor, self.reactor.accept(&self.connector))
    }

    /// `server` redirects, and the client leaves it for another; nobody has heard of it.
    fn hop(&self, server: &Peer, answer: &str, host: &str, port: u16) -> Peer {
        server.send(answer);
        assert!(server.saw_end() && !server.saw_reset(), "{answer}");
        assert_eq!(self.reactor.connecting(), std::slice::from_ref(&self.connector));
        let next = self.arrive(host, port);
        assert!(self.log.take().is_empty());
        next
    }

    /// Why it went no further; the protocol heard of it once, and the factory after it.
    fn refusal(&self) -> Failure {
        assert!(self.reactor.connecting().is_empty());
        let told = self.log.take();
        let [lost, client_lost, stopped] = &told[..] else { panic!("{told:?}") };
        assert_eq!((&**lost, &**stopped), ("lost", "stop factory"));
        assert!(client_lost.starts_with("client lost: "), "{client_lost}");
        assert_eq!(self.reactor.pending_calls(), 0);
        let closed = self.log.last_reason();
        closed.value::<WebSocketClosed>().expect("a WebSocketClosed").cause.clone()
    }

    fn reason(&self) -> RedirectError {
        let failure = self.refusal();
        let refused = failure.value::<RedirectRefused>().unwrap_or_else(|| panic!("{failure}"));
        assert!(failure.to_string().starts_with("expected 101 Switching Protocols, but 30"), "{failure}");
        refused.reason.clone()
    }
}

fn anywhere(max: usize) -> RedirectPolicy {
    RedirectPolicy::follow_up_to(max, true)
}

fn moved(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 5\r\n\r\nthere")
}

fn has_credentials(request: &Http) -> bool {
    let found = ["Authorization", "Cookie"].map(|name| request.header(name).is_some());
    assert_eq!(found[0], found[1], "{request}");
    found[0]
}

#[test]
fn t63_within_the_origin_the_same_protocol_arrives_elsewhere() {
    for status in ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 X"] {
        let (journey, first) = Journey::new(RedirectPolicy::follow_up_to(1, false));
        let asked = first.http();
        assert_eq!(asked.start, "GET /chat/room?x=1 HTTP/1.1");
        let answer = format!("HTTP/1.1 {status}\r\nLocation: ws://server.example/v2\r\n\r\n");
        let second = journey.hop(&first, &answer, "server.example", 80);
        let again = second.accept(&["Sec-WebSocket-Protocol: v1"], &[text("hello")]);
        assert_eq!(again.start, "GET /v2 HTTP/1.1");
        assert_ne!(again.header("Sec-WebSocket-Key"), asked.header("Sec-WebSocket-Key"), "a new key each time");
        let rest = |request: &Http| -> Vec<_> {
            request.headers.iter().filter(|(name, _)| name != "Sec-WebSocket-Key").cloned().collect()
        };
        assert_eq!(rest(&again), rest(&asked));
        assert!(has_credentials(&again));
        assert_eq!(journey.log.take(), ["accepted Some(\"v1\")", "made", "text hello"]);
        second.close();
        journey.reactor.settle();
        let told = journey.log.take();
        assert_eq!(told.iter().filter(|told| told.contains("lost")).count(), 2, "{told:?}");
        assert_eq!(told.last().map(String::as_str), Some("stop factory"));
    }
}

#[test]
fn t63_locations_are_resolved_against_what_was_asked_for() {
    let targets = [
        ("../up", "/chat/../up"),
        ("other?y", "/chat/other?y"),
        ("?y=2", "/chat/room?y=2"),
        ("/top#part", "/top"),
        ("//server.example/x", "/x"),
        ("http://SERVER.example:80/y", "/y"),
    ];
    for (location, target) in targets {
        let (journey, first) = Journey::new(RedirectPolicy::follow_up_to(1, false));
        let second = journey.hop(&first, &moved(location), "server.example", 80);
        assert_eq!(second.http().start, format!("GET {target} HTTP/1.1"), "{location}");
    }
}

#[test]
fn t63_credentials_stay_at_their_origin_and_do_not_come_back() {
    let (journey, first) = Journey::custom(|factory| {
        let factory = factory.follow_redirects(anywhere(3)).header("Host", "virtual.example").unwrap();
        factory.header("Proxy-Authorization", "Basic x").unwrap()
    });
    let asked = first.http();
    assert!(has_credentials(&asked));
    assert_eq!(asked.header("Host"), Some("virtual.example"));
    let second = journey.hop(&first, &moved("ws://you:too@other.example:81/x"), "other.example", 81);
    let request = second.http();
    assert!(!has_credentials(&request), "{request}");
    assert_eq!((request.header("Proxy-Authorization"), request.header("X-Room")), (None, Some("1")));
    assert_eq!(request.header("Host"), Some("other.example:81"));
    // back at the first origin: it is not the user who sends them there
    let third = journey.hop(&second, &moved("ws://server.example/chat/room?x=1"), "server.example", 80);
    assert!(!has_credentials(&third.http()));
    let fourth = journey.hop(&third, &moved("/here"), "server.example", 80);
    let request = fourth.accept(&[], &[]);
    assert!(!has_credentials(&request), "{request}");
    assert_eq!(journey.log.take(), ["accepted None", "made"]);
}

#[test]
fn t63_another_port_or_scheme_is_another_origin() {
    for location in ["ws://server.example:81/", "https://server.example/", "//server.example.:80/"] {
        let (journey, first) = Journey::new(RedirectPolicy::follow_up_to(9, false));
        first.send(moved(location));
        assert!(matches!(journey.reason(), RedirectError::OtherOrigin { .. }), "{location}");
    }
    let (journey, first) = Journey::new(anywhere(9));
    let second = journey.hop(&first, &moved("ws://server.example:81/"), "server.example", 81);
    assert!(!has_credentials(&second.http()));
}

/// A client of `wss` that would be led to `ws` is in `src/handshake/redirect.rs`, while there is no TLS here.
#[test]
fn t63_a_redirect_to_tls_says_that_there_is_none() {
    let (journey, first) = Journey::new(anywhere(9));
    first.send(moved("wss://server.example/x"));
    let failure = journey.refusal();
    let refused = failure.value::<RedirectRefused>().expect("a RedirectRefused");
    assert_eq!(refused.reason, RedirectError::Tls { to: "wss://server.example/x".into() });
    let told = "expected 101 Switching Protocols, but 302 Found to \"wss://server.example/x\" came: \
                redirected to wss://server.example/x, and TLS is not supported";
    assert_eq!(failure.to_string(), told);
}

#[test]
fn t63_redirects_are_off_unless_asked_for() {
    let policies: [fn(_) -> _; 2] = [
        |factory| factory,
        |factory: WebSocketClientFactory<Hooks>| factory.follow_redirects(RedirectPolicy::default()),
    ];
    for finish in policies {
        let (journey, first) = Journey::custom(finish);
        first.send(moved("/elsewhere"));
        let failure = journey.refusal();
        let Some(HandshakeError::Redirect { status, location }) = failure.value() else { panic!("{failure}") };
        assert_eq!((status.as_u16(), &**location), (302, "/elsewhere"));
    }
}

#[test]
fn t62_a_loop_ends() {
    let (journey, first) = Journey::new(anywhere(5));
    let mut server = first;
    for _ in 0..5 {
        server = journey.hop(&server, &moved("ws://server.example/loop"), "server.example", 80);
    }
    server.send(moved("/loop"));
    assert_eq!(journey.reason(), RedirectError::TooMany { max: 5 });
}

#[test]
fn t62_a_location_that_is_none_or_no_url_ends_it() {
    for location in ["ftp://server.example/", "ws://", "ws://server.example:0/", "mailto:x", "/a b", "ws://[::1/"] {
        let (journey, first) = Journey::new(anywhere(9));
        first.send(moved(location));
        assert!(matches!(journey.reason(), RedirectError::Url(_)), "{location}");
    }
    for answer in ["302 Found\r\n", "302 Found\r\nLocation: /\u{e9}\r\n", "300 Choices\r\nLocation: /x\r\n"] {
        let (journey, first) = Journey::new(anywhere(9));
        first.send(format!("HTTP/1.1 {answer}Content-Length: 0\r\n\r\n"));
        let failure = journey.refusal();
        assert!(matches!(failure.value(), Some(HandshakeError::Status(_))), "{answer}: {failure}");
    }
}

#[test]
fn t63_where_nobody_answers_the_protocol_hears_of_it_once() {
    let (journey, first) = Journey::new(anywhere(9));
    first.send(moved("ws://other.example/"));
    assert_eq!(journey.connector.target(), ("other.example".to_owned(), 80));
    journey.reactor.refuse(&journey.connector, Failure::new(ConnectionRefusedError::new()));
    assert!(journey.refusal().check::<ConnectionRefusedError>());

    // or gives up there
    let (journey, first) = Journey::new(anywhere(9));
    let second = journey.hop(&first, &moved("ws://other.example/"), "other.example", 80);
    second.wait(9.9);
    assert!(journey.log.take().is_empty(), "each place has the time of a handshake");
    second.wait(0.2);
    let failure = journey.refusal();
    assert!(matches!(failure.value(), Some(LimitExceeded::OpenTimeout)), "{failure}");
}

#[test]
fn t63_a_proxy_is_asked_for_each_place_and_may_not_redirect() {
    let through = |factory: WebSocketClientFactory<Hooks>| {
        factory.proxy("http://me:pw@proxy.example:3128").unwrap().follow_redirects(anywhere(9))
    };
    let (journey, first) = Journey::custom(through);
    assert_eq!(first.http().start, "CONNECT server.example:80 HTTP/1.1");
    first.send("HTTP/1.1 200 OK\r\n\r\n");
    assert!(has_credentials(&first.http()));
    // the connection goes to the proxy, whoever is behind it
    let second = journey.hop(&first, &moved("ws://other.example:81/x"), "proxy.example", 3128);
    let connect = second.http();
    assert_eq!(connect.start, "CONNECT other.example:81 HTTP/1.1");
    assert_eq!(connect.header("Proxy-Authorization"), Some("Basic bWU6cHc="), "the proxy is the same");
    second.send("HTTP/1.1 200 OK\r\n\r\n");
    let request = second.accept(&[], &[]);
    assert!(!has_credentials(&request) && request.header("Proxy-Authorization").is_none(), "{request}");
    assert_eq!(journey.log.take(), ["accepted None", "made"]);

    let (journey, first) = Journey::custom(through);
    first.send(moved("ws://evil.example/"));
    let failure = journey.refusal();
    assert!(matches!(failure.value(), Some(HandshakeError::Proxy(_))), "{failure}");
}

/// Inside and around: the way begins at the first URL, with its credentials and a fresh count, and the redirects were no
/// failures.
#[test]
fn t63_a_reconnection_begins_where_the_first_connection_did() {
    fn check<F: ClientFactory<Protocol: twistor_reactor::Protocol>>(factory: F, log: &Log) {
        let reactor = Rc::new(MemoryReactor::new());
        let connector = reactor.connect_tcp("server.example", 80, factory);
        reactor.settle();
        for round in 0..3 {
            let journey = Journey { reactor: reactor.clone(), connector: connector.clone(), log: log.clone() };
            let first = journey.arrive("server.example", 80);
            assert!(first.http().header("Authorization").is_some());
            assert_eq!(log.take(), ["start factory", "started connecting", "build"]);
            let second = journey.hop(&first, &moved("ws://other.example/x"), "other.example", 80);
            let request = second.accept(&[], &[]);
            assert!(request.start.contains(" /x ") && request.header("Authorization").is_none(), "{request}");
            second.close();
            reactor.settle();
            let told = log.take();
            assert_eq!(told.len(), 6, "{told:?}");
            assert_eq!(told[..3], ["accepted None", "made", "lost"]);
            assert_eq!(told[3], format!("retry {}", round + 1), "before the factory is told");
            assert!(told[4].starts_with("client lost") && told[5] == "stop factory", "{told:?}");
            assert!(reactor.connecting().is_empty(), "it waits first");
            reactor.advance(Duration::from_secs(60));
        }
    }
    fn noted<F: ClientFactory>(log: &Log, factory: F) -> ReconnectingClientFactory<F> {
        let (options, log) = (ReconnectOptions { jitter: 0.0, ..ReconnectOptions::default() }, log.clone());
        let factory = ReconnectingClientFactory::with_options(factory, options);
        factory.on_retry(move |retry| log.add(format!("retry {}", retry.retries)))
    }
    let log = Log::default();
    let inside = WebSocketClientFactory::new(URL, noted(&log, Hooks::new(&log))).unwrap();
    check(inside.follow_redirects(anywhere(1)), &log);
    let log = Log::default();
    let around = WebSocketClientFactory::new(URL, Hooks::new(&log)).unwrap();
    check(noted(&log, around.follow_redirects(anywhere(1))), &log);
}

/// Clients of one factory do not mix their ways up: not the protocols, not the requests.
#[test]
fn t63_clients_that_share_a_factory_go_their_own_ways() {
    let log = Log::default();
    let factory = WebSocketClientFactory::new(URL, Hooks::new(&log)).unwrap().follow_redirects(anywhere(1));
    let shared = Rc::new(std::cell::RefCell::new(factory));
    let reactor = Rc::new(MemoryReactor::new());
    let connectors: Vec<_> = (0..3).map(|_| reactor.connect_tcp("server.example", 80, shared.clone())).collect();
    reactor.settle();
    let accept = |connector| Peer::server(&reactor, reactor.accept(connector));
    // in another order than they were started in, and redirected in yet another
    let servers: Vec<_> = [1, 2, 0].map(|index| (index, accept(&connectors[index]))).into();
    for (index, server) in servers.iter().rev() {
        server.send(moved(&format!("ws://other{index}.example/{index}")));
    }
    let mut arrived = Vec::new();
    for index in [0, 2, 1] {
        assert_eq!(connectors[index].target().0, format!("other{index}.example"));
        let server = accept(&connectors[index]);
        let request = server.accept(&[], &[]);
        arrived.push(server);
        assert_eq!(request.start, format!("GET /{index} HTTP/1.1"));
        assert_eq!(request.header("Host"), Some(&*format!("other{index}.example")));
    }
    assert_eq!((log.count("build"), log.count("made"), log.count("lost")), (3, 3, 0));
    drop(connectors);
    reactor.stop();
    reactor.settle();
    assert_eq!(Rc::strong_count(&shared), 1, "nobody keeps the factory");
}
