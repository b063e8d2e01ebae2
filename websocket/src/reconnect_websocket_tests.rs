//! What it knows of WebSockets: close codes and `Retry-After`.

use tungstenite::handshake::derive_accept_key;
use twistor_reactor::for_protocol;

use super::*;
use crate::client::{WebSocketClientFactory, connect_ws};
use crate::closed::close_code;
use crate::handshake::RedirectPolicy;
use crate::message::Frame;
use crate::protocol::WebSocketProtocol;
use crate::socket::WebSocket;
use crate::wrapping::WrappingFactory;

struct Chat(Rc<Seen>);

impl WebSocketProtocol for Chat {
    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        let log = self.0.clone();
        let text = frame.decode().into_owned();
        // found through what is around it
        socket.protocol::<Self>().post(move |_, _| log.hooks.borrow_mut().push(format!("frame {text}")));
    }
}

/// Where the reconnecting factory is.
#[derive(Debug, Clone, Copy)]
enum Nesting {
    Inside,
    Around,
}

use Nesting::{Around, Inside};

const BOTH: [Nesting; 2] = [Inside, Around];

/// A WebSocket client that comes back.
struct Client {
    reactor: MemoryReactor,
    seen: Rc<Seen>,
}

impl Client {
    fn new(nesting: Nesting, options: ReconnectOptions) -> Self {
        Self::custom(nesting, options, RedirectPolicy::default())
    }

    fn custom(nesting: Nesting, options: ReconnectOptions, policy: RedirectPolicy) -> Self {
        let (reactor, seen) = (MemoryReactor::new(), Rc::new(Seen::default()));
        let chat = for_protocol(|| Chat(Rc::default()));
        let url = "ws://127.0.0.1/";
        match nesting {
            Inside => {
                let factory = WebSocketClientFactory::new(url, watched(chat, options, &seen)).unwrap();
                connect_ws(&reactor, factory.follow_redirects(policy));
            }
            Around => {
                let factory = WebSocketClientFactory::new(url, chat).unwrap().follow_redirects(policy);
                reactor.connect_tcp("127.0.0.1", 80, watched(factory, options, &seen));
            }
        }
        reactor.settle();
        Self { reactor, seen }
    }

    fn accept(&self) -> MemoryPeer {
        self.reactor.accept(&self.reactor.connecting()[0])
    }

    fn answer(&self, peer: &MemoryPeer, answer: impl AsRef<[u8]>) {
        peer.send(answer);
        self.reactor.settle();
    }

    /// The server shakes hands, and then sends a Close with this code; the wait after it.
    fn wait_after_close(&self, peer: &MemoryPeer, code: u16) -> f64 {
        let request = String::from_utf8(peer.received()).unwrap();
        self.answer(peer, accept_handshake(&request));
        self.answer(peer, [&[0x88, 2], &code.to_be_bytes()[..]].concat());
        peer.close();
        self.reactor.settle();
        let [Some(delay)] = self.seen.delays()[..] else { panic!("no retry after {code}") };
        delay
    }
}

fn accept_handshake(request: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = derive_accept_key(key.as_bytes());
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    format!("{head}Sec-WebSocket-Accept: {accept}\r\n\r\n")
}

fn wait_after_close(nesting: Nesting, options: ReconnectOptions, code: u16) -> f64 {
    let client = Client::new(nesting, options);
    client.wait_after_close(&client.accept(), code)
}

#[test]
fn a_server_that_restarts_or_is_overloaded_is_left_alone_for_five_to_thirty_seconds() {
    for nesting in BOTH {
        for code in [close_code::SERVICE_RESTART, close_code::TRY_AGAIN_LATER] {
            assert_eq!(wait_after_close(nesting, exact(), code), 30.0, "{nesting:?}, {code}");
            for _ in 0..20 {
                let delay = wait_after_close(nesting, ReconnectOptions::default(), code);
                assert!((5.0..=30.0).contains(&delay), "{nesting:?}: {delay}");
            }
        }
        assert_eq!(wait_after_close(nesting, exact(), close_code::GOING_AWAY), 1.0, "{nesting:?}");
    }
}

/// The protocol goes where it is redirected to, without what was built around it.
#[test]
fn a_server_that_was_redirected_to_is_heeded_as_well() {
    for nesting in BOTH {
        let client = Client::custom(nesting, exact(), RedirectPolicy::follow_up_to(1, true));
        let first = client.accept();
        client.answer(&first, "HTTP/1.1 302 Found\r\nLocation: ws://b/\r\n\r\n");
        assert_eq!(client.wait_after_close(&client.accept(), close_code::SERVICE_RESTART), 30.0, "{nesting:?}");

        client.reactor.advance(Duration::from_secs(30));
        let first = client.accept();
        client.answer(&first, "HTTP/1.1 302 Found\r\nLocation: ws://b/\r\n\r\n");
        let second = client.accept();
        client.answer(&second, "HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nContent-Length: 9\r\n\r\nbusy");
        second.reset();
        client.reactor.settle();
        assert_eq!(client.seen.delays(), [Some(122.0)], "{nesting:?}");
    }
}

#[test]
fn a_server_that_restarts_is_left_alone_by_a_wrapped_protocol() {
    let (reactor, seen) = (MemoryReactor::new(), Rc::new(Seen::default()));
    let inner = WebSocketClientFactory::new("ws://127.0.0.1/", WrappingFactory::new(for_protocol(|| Plain))).unwrap();
    reactor.connect_tcp("127.0.0.1", 80, watched(inner, exact(), &seen));
    reactor.settle();
    let client = Client { reactor, seen };
    assert_eq!(client.wait_after_close(&client.accept(), close_code::SERVICE_RESTART), 30.0);
}

/// T60, T62, P259: also when the connection breaks before the whole refusal has come.
#[test]
fn retry_after_of_a_refused_handshake_is_obeyed_within_reason() {
    for (header, delay) in [("Retry-After: 120\r\n", 121.0), ("Retry-After: 4294967295\r\n", 3601.0), ("", 1.0)] {
        for (nesting, cut) in [(Inside, false), (Inside, true), (Around, false), (Around, true)] {
            let client = Client::new(nesting, exact());
            let peer = client.accept();
            client.answer(&peer, format!("HTTP/1.1 503 Busy\r\n{header}Content-Length: 9\r\n\r\nbusy"));
            assert_eq!(client.seen.delays(), [], "its body is to come");
            if cut {
                peer.reset();
                client.reactor.settle();
            } else {
                client.answer(&peer, ", sorry");
            }
            assert_eq!(client.seen.delays(), [Some(delay)], "{nesting:?}, cut: {cut}, {header}");
        }
    }
}

/// A server that takes connections and refuses handshakes is not hammered, even by those for whom any connection is
/// stable.
#[test]
fn a_refused_handshake_was_no_connection() {
    for nesting in BOTH {
        let client = Client::new(nesting, ReconnectOptions { stable_after: Duration::ZERO, ..exact() });
        for delay in [1.0, 2.0, 4.0] {
            client.answer(&client.accept(), "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(client.seen.delays(), [Some(delay)], "{nesting:?}");
            client.reactor.advance(Duration::from_secs_f64(delay));
        }
        assert_eq!(client.wait_after_close(&client.accept(), close_code::GOING_AWAY), 1.0, "{nesting:?}");
    }
}

#[test]
fn the_longest_waits_and_retry_after_together_make_no_panic() {
    let longest = ReconnectOptions { initial_delay: Duration::MAX, max_delay: Duration::MAX, ..exact() };
    let client = Client::new(Inside, longest);
    let refusal = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    client.answer(&client.accept(), refusal);
    assert_eq!(client.seen.delays(), [Some(Duration::MAX.as_secs_f64())]);
}

/// P168
#[test]
fn messages_pass_through_in_both_places() {
    let log = Rc::new(Seen::default());
    let chats: [Rc<Seen>; 2] = [log.clone(), log.clone()];
    let [inside, around] = chats.map(|log| for_protocol(move || Chat(log.clone())));
    let reactor = MemoryReactor::new();
    connect_ws(
        &reactor,
        WebSocketClientFactory::new("ws://127.0.0.1/", ReconnectingClientFactory::new(inside)).unwrap(),
    );
    let around = ReconnectingClientFactory::new(WebSocketClientFactory::new("ws://127.0.0.1/", around).unwrap());
    reactor.connect_tcp("127.0.0.1", 80, around);
    reactor.settle();
    for connector in reactor.connecting() {
        let peer = reactor.accept(&connector);
        peer.send(accept_handshake(&String::from_utf8(peer.received()).unwrap()));
        peer.send([0x81, 2, b'h', b'i']);
        reactor.settle();
    }
    assert_eq!(*log.hooks.borrow(), ["frame hi", "frame hi"]);
}
