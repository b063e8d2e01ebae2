//! A client of ours, in a thread of its own, that tells what happens to it.

use std::cell::RefCell;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use twistor::websocket::{
    CloseStatus, Frame, Options, WebSocket, WebSocketClientFactory, WebSocketProtocol, connect_ws,
};
use twistor::{Address, ClientFactory, Connector, Factory, Failure, Reactor, ReactorHandle};

use super::PATIENCE;

/// A callback of the protocol or its factory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Made,
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Ended {
        was_clean: bool,
        code: u16,
        reason: String,
    },
    /// The factory's `client_connection_failed`.
    Failed(String),
    /// The factory's `client_connection_lost`, the last of all.
    Lost(String),
}

thread_local! {
    /// The connection of the reactor that runs in this thread.
    static SOCKET: RefCell<Option<WebSocket>> = const { RefCell::new(None) };
}

/// The client. Its reactor stops when its connection has ended, and when this is dropped.
pub(crate) struct Ours {
    events: Receiver<Event>,
    handle: ReactorHandle,
    thread: Option<JoinHandle<()>>,
}

impl Ours {
    pub(crate) fn connect(url: &str) -> Self {
        Self::connect_with(url, Options::default())
    }

    pub(crate) fn connect_with(url: &str, options: Options) -> Self {
        Self::start(url, options, None)
    }

    pub(crate) fn connect_through(proxy: String, url: &str) -> Self {
        Self::start(url, Options::default(), Some(proxy))
    }

    fn start(url: &str, options: Options, proxy: Option<String>) -> Self {
        let (url, (event, events), (started, start)) = (url.to_owned(), mpsc::channel(), mpsc::channel());
        let thread = thread::spawn(move || {
            let reactor = Reactor::new().expect("a poller");
            reactor.set_signal_handlers(false);
            let mut factory = WebSocketClientFactory::with_options(&url, Reports(event), options).expect("a ws: URL");
            if let Some(proxy) = proxy {
                factory = factory.proxy(&proxy).expect("a proxy's URL");
            }
            connect_ws(&reactor, factory);
            started.send(reactor.handle()).expect("the test waits");
            reactor.run().expect("the loop runs");
        });
        let handle = start.recv_timeout(PATIENCE).expect("the client starts");
        Self { events, handle, thread: Some(thread) }
    }

    /// The next callback.
    pub(crate) fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("something happens")
    }

    /// The text of the next callback, which is a text message's.
    pub(crate) fn text(&self) -> String {
        match self.next() {
            Event::Text(text) => text,
            other => panic!("expected text, got {other:?}"),
        }
    }

    /// Why the connection or the handshake failed: the factory's last word.
    pub(crate) fn lost(&self) -> String {
        match self.events.iter().last() {
            Some(Event::Lost(reason) | Event::Failed(reason)) => reason,
            other => panic!("expected an end, got {other:?}"),
        }
    }

    /// Calls `f` with the open connection, in its thread.
    pub(crate) fn with(&self, f: impl FnOnce(&WebSocket) + Send + 'static) {
        let call = |_: &Reactor| SOCKET.with_borrow(|socket| f(socket.as_ref().expect("the handshake is done")));
        self.handle.call_from_thread(call).expect("the reactor runs");
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = self.handle.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the reactor's thread panicked");
    }
}

/// The protocol, and its factory.
#[derive(Clone)]
struct Reports(Sender<Event>);

impl Reports {
    fn add(&self, event: Event) {
        let _ = self.0.send(event); // the test may have seen enough
    }
}

impl WebSocketProtocol for Reports {
    fn connection_made(&mut self, socket: &WebSocket) {
        SOCKET.set(Some(socket.clone()));
        self.add(Event::Made);
    }

    fn frame_received(&mut self, _: &WebSocket, frame: Frame<'_>) {
        self.add(match frame {
            Frame::Text(text) => Event::Text(text.to_owned()),
            Frame::Binary(bytes) => Event::Binary(bytes.to_owned()),
        });
    }

    fn ping_received(&mut self, _: &WebSocket, payload: &[u8]) {
        self.add(Event::Ping(payload.to_owned()));
    }

    fn pong_received(&mut self, _: &WebSocket, payload: &[u8]) {
        self.add(Event::Pong(payload.to_owned()));
    }

    fn connection_lost(&mut self, socket: &WebSocket, _: &Failure) {
        let CloseStatus { was_clean, code, reason, .. } = socket.close_status().expect("it has ended");
        SOCKET.set(None);
        self.add(Event::Ended { was_clean, code, reason });
    }
}

impl Factory for Reports {
    type Protocol = Self;

    fn build_protocol(&mut self, _: &Address) -> Option<Self> {
        Some(self.clone())
    }
}

impl ClientFactory for Reports {
    fn client_connection_failed(&mut self, connector: &Connector, reason: &Failure) {
        self.add(Event::Failed(reason.get_error_message()));
        connector.reactor().stop();
    }

    fn client_connection_lost(&mut self, connector: &Connector, reason: &Failure) {
        self.add(Event::Lost(reason.get_error_message()));
        connector.reactor().stop();
    }
}
