//! `ReconnectingClientFactory` and its handle, together with handshakes and redirects.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Connector, for_protocol};
use twistor_websocket::handshake::{Accepted, RedirectPolicy};
use twistor_websocket::{
    Frame, ReconnectOptions, ReconnectingClientFactory, Reconnection, WebSocket, WebSocketClientFactory,
    WebSocketProtocol, connect_ws,
};

use crate::support::{Log, Peer, Recorder, Recorders, text};

fn coming_back(options: ReconnectOptions) -> (Rc<MemoryReactor>, Connector, Reconnection, Rc<Cell<Option<Duration>>>) {
    let delay = Rc::new(Cell::new(None));
    let own = delay.clone();
    let factory = ReconnectingClientFactory::with_options(Recorders(Recorder::new(&Log::default())), options)
        .on_retry(move |retry| own.set(retry.delay));
    let reconnection = factory.handle();
    let factory = WebSocketClientFactory::new("ws://server.example/chat?token=s3cret", factory).expect("a URL");
    let factory = factory.follow_redirects(RedirectPolicy::follow_up_to(1, true));
    let reactor = Rc::new(MemoryReactor::new());
    let connector = connect_ws(&reactor, factory);
    reactor.settle();
    (reactor, connector, reconnection, delay)
}

#[test]
fn a_retry_after_beyond_u32_is_obeyed_as_far_as_allowed() {
    let (reactor, connector, _reconnection, delay) = coming_back(ReconnectOptions::default());
    let server = Peer::server(&reactor, reactor.accept(&connector));
    server.send("HTTP/1.1 503 Busy\r\nRetry-After: 4294967296\r\nContent-Length: 0\r\n\r\n");
    assert!(delay.get().expect("a URL") >= ReconnectOptions::default().max_retry_after, "{:?}", delay.get());
}

#[test]
fn continue_trying_after_stop_trying_in_one_turn() {
    for max_retries in [None, Some(0)] {
        let (reactor, _connector, reconnection, delay) =
            coming_back(ReconnectOptions { max_retries, ..ReconnectOptions::default() });
        reconnection.stop_trying();
        reconnection.continue_trying();
        reactor.settle();
        assert_eq!(reactor.connecting().len(), 1, "{max_retries:?}: {reconnection:?}, {:?}", delay.get());
    }
}

#[test]
fn stop_trying_gives_up_a_redirect_that_is_under_way() {
    let (reactor, connector, reconnection, _) = coming_back(ReconnectOptions::default());
    let server = reactor.accept(&connector);
    server.send("HTTP/1.1 302 Found\r\nLocation: ws://other.example/\r\n\r\n");
    reactor.call_later(Duration::ZERO, move || reconnection.stop_trying());
    reactor.settle();
    assert!(reactor.connecting().is_empty(), "{connector:?}");
}

#[test]
fn stop_trying_gives_up_a_handshake_that_is_under_way() {
    let factory = ReconnectingClientFactory::new(Recorders(Recorder::new(&Log::default())));
    let reconnection = factory.handle();
    let factory = WebSocketClientFactory::new("ws://server.example/", factory).expect("a URL");
    let factory = factory.follow_redirects(RedirectPolicy::follow_up_to(1, true));
    let reactor = Rc::new(MemoryReactor::new());
    let connector = connect_ws(&reactor, factory);
    reactor.settle();
    let server = reactor.accept(&connector);
    reconnection.stop_trying();
    server.send("HTTP/1.1 302 Found\r\nLocation: ws://other.example/\r\n\r\n");
    reactor.settle();
    assert!(reactor.connecting().is_empty(), "a further attempt after stop_trying: {:?}", reactor.connecting());
}

#[derive(Clone, Default)]
struct Once {
    reconnection: Rc<RefCell<Option<Reconnection>>>,
    got: Rc<RefCell<Vec<String>>>,
    in_made: bool,
}

impl WebSocketProtocol for Once {
    fn handshake_accepted(&mut self, _: &WebSocket, _: &Accepted) {
        if !self.in_made {
            self.reconnection.borrow().as_ref().expect("set").stop_trying(); // once is enough
        }
    }
    fn connection_made(&mut self, _: &WebSocket) {
        if self.in_made {
            self.reconnection.borrow().as_ref().expect("set").stop_trying(); // once is enough
        }
    }
    fn frame_received(&mut self, _: &WebSocket, frame: Frame<'_>) {
        self.got.borrow_mut().push(frame.decode().to_string());
    }
}

#[test]
fn stop_trying_once_accepted_keeps_the_connection() {
    for in_made in [true, false] {
        let once = Once { in_made, ..Once::default() };
        let mould = once.clone();
        let factory = ReconnectingClientFactory::new(for_protocol(move || mould.clone()));
        *once.reconnection.borrow_mut() = Some(factory.handle());
        let factory = WebSocketClientFactory::new("ws://server.example/", factory).expect("a URL");
        let reactor = Rc::new(MemoryReactor::new());
        let connector = connect_ws(&reactor, factory);
        reactor.settle();
        let server = Peer::server(&reactor, reactor.accept(&connector));
        server.accept(&[], &[]);
        server.frame(&text("hello"));
        assert_eq!(*once.got.borrow(), ["hello"], "in connection_made: {in_made}, {:?}", once.reconnection);
    }
}

#[test]
fn stop_trying_when_the_protocol_is_built_keeps_the_connection() {
    let once = Once { in_made: true, ..Once::default() };
    let mould = once.clone();
    let factory = ReconnectingClientFactory::new(for_protocol(move || {
        mould.reconnection.borrow().as_ref().expect("set").stop_trying();
        mould.clone()
    }));
    *once.reconnection.borrow_mut() = Some(factory.handle());
    let factory = WebSocketClientFactory::new("ws://server.example/", factory).expect("a URL");
    let reactor = Rc::new(MemoryReactor::new());
    let connector = connect_ws(&reactor, factory);
    reactor.settle();
    let server = Peer::server(&reactor, reactor.accept(&connector));
    server.accept(&[], &[]);
    server.frame(&text("hello"));
    assert_eq!(*once.got.borrow(), ["hello"]);
}

/// Twisted's `stopTrying` in `buildProtocol`: one connection is enough.
#[test]
fn stop_trying_when_a_plain_protocol_is_built_keeps_the_connection() {
    struct Plain(Rc<RefCell<Vec<u8>>>);
    impl twistor_reactor::Protocol for Plain {
        fn data_received(&mut self, _: &twistor_reactor::Transport, data: &[u8]) {
            self.0.borrow_mut().extend_from_slice(data);
        }
    }
    let (got, reconnection) = (Rc::<RefCell<Vec<u8>>>::default(), Rc::<RefCell<Option<Reconnection>>>::default());
    let (mine, handle) = (got.clone(), reconnection.clone());
    let factory = ReconnectingClientFactory::new(for_protocol(move || {
        handle.borrow().as_ref().expect("set").stop_trying();
        Plain(mine.clone())
    }));
    *reconnection.borrow_mut() = Some(factory.handle());
    let reactor = MemoryReactor::new();
    let connector = reactor.connect_tcp("server.example", 1, factory);
    reactor.settle();
    reactor.accept(&connector).send("hello");
    reactor.settle();
    assert_eq!(*got.borrow(), b"hello");
}
