//! What a protocol has to say before its handshake, and when it is over: `connecting`, `when_closed`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Address, ClientFactory, Connector, for_protocol};
use twistor_websocket::handshake::{ClientRequest, RedirectPolicy};
use twistor_websocket::{
    AutobahnFactory, AutobahnProtocol, Frame, ReconnectingClientFactory, WebSocket, WebSocketClientFactory,
    WebSocketProtocol, WhenConnected, connect_ws,
};

use crate::support::{Peer, Server, close};

/// Has a new ticket for each attempt.
struct Ticketed(Rc<Cell<u32>>);

impl WebSocketProtocol for Ticketed {
    fn connecting(&mut self, peer: &Address, request: &ClientRequest) -> Option<ClientRequest> {
        self.0.set(self.0.get() + 1);
        let ticket = format!("{} for {}, port {:?}", self.0.get(), request.url().host, peer.port());
        request.clone().header("X-Ticket", &ticket).ok()
    }
    fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {}
}

struct Dialect(Ticketed);

impl AutobahnProtocol for Dialect {
    fn on_connecting(&mut self, peer: &Address, request: &ClientRequest) -> Option<ClientRequest> {
        self.0.connecting(peer, request)
    }
}

fn client<F>(factory: F) -> (Rc<MemoryReactor>, Connector)
where
    F: ClientFactory<Protocol: WebSocketProtocol>,
{
    let reactor = Rc::new(MemoryReactor::new());
    let factory = WebSocketClientFactory::new("ws://a.example/x", factory).expect("a URL");
    let connector = connect_ws(&reactor, factory.follow_redirects(RedirectPolicy::follow_up_to(1, true)));
    reactor.settle();
    (reactor, connector)
}

#[test]
fn each_attempt_may_have_a_request_of_its_own() {
    let count = Rc::new(Cell::new(0));
    let build = count.clone();
    let factory = for_protocol(move || Ticketed(build.clone()));
    let (reactor, connector) = client(ReconnectingClientFactory::new(factory));
    for attempt in 1..=2 {
        let server = Peer::server(&reactor, reactor.accept(&connector));
        let request = server.accept(&[], &[]);
        assert_eq!(request.header("X-Ticket"), Some(&*format!("{attempt} for a.example, port Some(80)")));
        server.frame(&close(1000, ""));
        server.close();
        reactor.advance(Duration::from_secs(1));
    }
}

#[test]
fn a_redirected_attempt_is_asked_again_and_adapters_pass_it_on() {
    let count = Rc::new(Cell::new(0));
    let build = count.clone();
    let factory = AutobahnFactory(for_protocol(move || Dialect(Ticketed(build.clone()))));
    let reactor = MemoryReactor::new();
    let (factory, _connected) = WhenConnected::new(&reactor, factory);
    let (reactor, connector) = client(factory);
    let first = Peer::server(&reactor, reactor.accept(&connector));
    assert_eq!(first.http().header("X-Ticket"), Some("1 for a.example, port Some(80)"));
    first.send("HTTP/1.1 302 Found\r\nLocation: ws://b.example:81/\r\n\r\n");
    let second = Peer::server(&reactor, reactor.accept(&connector));
    let request = second.accept(&[], &[]);
    assert_eq!(request.header("X-Ticket"), Some("2 for b.example, port Some(81)"));
}

#[test]
fn when_closed_tells_everybody_how_it_ended() {
    let server = Server::new();
    let peer = server.open();
    let socket = server.log.socket(0);
    let told = Rc::new(RefCell::new(Vec::new()));
    let ask = || {
        let told = told.clone();
        drop(socket.when_closed().add_callback(move |status| told.borrow_mut().push((status.was_clean, status.code))));
        server.reactor.settle();
    };
    ask();
    ask();
    assert!(told.borrow().is_empty());
    peer.frame(&close(4000, "bye"));
    assert_eq!(told.take(), [(true, 4000); 2]);
    ask();
    assert_eq!(told.take(), [(true, 4000)], "it is over");
}
