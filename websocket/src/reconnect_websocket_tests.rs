//! What it knows of WebSockets: close codes and `Retry-After`.

use tungstenite::handshake::derive_accept_key;
use twistor_reactor::for_protocol;

use super::*;
use crate::client::{WebSocketClientFactory, connect_ws};
use crate::message::Frame;
use crate::protocol::WebSocketProtocol;
use crate::socket::WebSocket;

struct Chat(Rc<Seen>);

impl WebSocketProtocol for Chat {
    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        let log = self.0.clone();
        let text = frame.decode().into_owned();
        // found through what is around it
        socket.protocol::<Self>().post(move |_, _| log.hooks.borrow_mut().push(format!("frame {text}")));
    }
}

/// A WebSocket client with the reconnecting factory inside, in the handshake, and its request.
fn websocket(options: ReconnectOptions) -> (MemoryReactor, Rc<Seen>, MemoryPeer, String) {
    let (factory, seen) = noted(options, || Some(Chat(Rc::default())));
    let reactor = MemoryReactor::new();
    connect_ws(&reactor, WebSocketClientFactory::new("ws://127.0.0.1/", factory).unwrap());
    reactor.settle();
    let peer = reactor.accept(&reactor.connecting()[0]);
    let request = String::from_utf8(peer.received()).unwrap();
    (reactor, seen, peer, request)
}

fn accept_handshake(request: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = derive_accept_key(key.as_bytes());
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    format!("{head}Sec-WebSocket-Accept: {accept}\r\n\r\n")
}

/// The wait after the server's Close with this code.
fn wait_after_close(options: ReconnectOptions, code: u16) -> f64 {
    let (reactor, seen, peer, request) = websocket(options);
    peer.send(accept_handshake(&request));
    peer.send([&[0x88, 2], &code.to_be_bytes()[..]].concat());
    reactor.settle();
    peer.close();
    reactor.settle();
    let [Some(delay)] = seen.delays()[..] else { panic!("no retry after {code}") };
    delay
}

#[test]
fn a_server_that_restarts_or_is_overloaded_is_left_alone_for_five_to_thirty_seconds() {
    for code in [close_code::SERVICE_RESTART, close_code::TRY_AGAIN_LATER] {
        assert_eq!(wait_after_close(exact(), code), 30.0);
        for _ in 0..20 {
            let delay = wait_after_close(ReconnectOptions::default(), code);
            assert!((5.0..=30.0).contains(&delay), "{delay}");
        }
    }
    assert_eq!(wait_after_close(exact(), close_code::GOING_AWAY), 1.0);
}

/// T60, T62: inside the WebSocket factory and around it.
#[test]
fn retry_after_of_a_refused_handshake_is_obeyed_within_reason() {
    for (header, delay) in [("Retry-After: 120\r\n", 121.0), ("Retry-After: 4294967295\r\n", 3601.0), ("", 1.0)] {
        let refusal = format!("HTTP/1.1 503 Service Unavailable\r\n{header}Content-Length: 0\r\n\r\n");
        let (reactor, seen, peer, _) = websocket(exact());
        peer.send(&refusal);
        reactor.settle();
        assert_eq!(seen.delays(), [Some(delay)], "inside, {header}");

        let inner = WebSocketClientFactory::new("ws://a/", for_protocol(|| Chat(Rc::default()))).unwrap();
        let seen = Rc::new(RefCell::new(None));
        let noted = seen.clone();
        let note = move |retry: &Retry| *noted.borrow_mut() = retry.delay;
        let around = ReconnectingClientFactory::with_options(inner, exact()).on_retry(note);
        let reactor = MemoryReactor::new();
        reactor.connect_tcp("127.0.0.1", 80, around);
        reactor.settle();
        let peer = reactor.accept(&reactor.connecting()[0]);
        peer.send(&refusal);
        reactor.settle();
        assert_eq!(*seen.borrow(), Some(Duration::from_secs_f64(delay)), "around, {header}");
    }
}

/// The connection may break before the whole refusal has come.
// P259
#[test]
fn retry_after_of_a_refusal_that_breaks_off_is_obeyed() {
    let (reactor, seen, peer, _) = websocket(exact());
    peer.send("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 120\r\nContent-Length: 9\r\n\r\nbusy");
    reactor.settle();
    assert_eq!(seen.delays(), []);
    peer.reset();
    reactor.settle();
    assert_eq!(seen.delays(), [Some(121.0)]);
}

#[test]
fn the_longest_waits_and_retry_after_together_make_no_panic() {
    let longest = ReconnectOptions { initial_delay: Duration::MAX, max_delay: Duration::MAX, ..exact() };
    let (reactor, seen, peer, _) = websocket(longest);
    peer.send("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
    reactor.settle();
    assert_eq!(seen.delays(), [Some(Duration::MAX.as_secs_f64())]);
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
