//! `ReconnectingClientFactory` and its handle, together with handshakes and redirects.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::Connector;
use twistor_reactor::testing::MemoryReactor;
use twistor_websocket::handshake::RedirectPolicy;
use twistor_websocket::{
    ReconnectOptions, ReconnectingClientFactory, Reconnection, WebSocketClientFactory, connect_ws,
};

use crate::support::{Log, Peer, Recorder, Recorders};

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
