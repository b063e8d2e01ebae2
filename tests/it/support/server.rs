//! A server under test, in a thread of its own.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use twistor::websocket::{CloseStatus, Frame, WebSocket, WebSocketProtocol};
use twistor::{Factory, Failure, Protocol, Reactor, ReactorHandle};

use super::{Log, PATIENCE};

/// A reactor that listens on a free port of 127.0.0.1 until this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    handle: ReactorHandle,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves what `build` makes in the reactor's thread.
    pub(crate) fn run<F>(build: impl FnOnce(&Reactor) -> F + Send + 'static) -> Self
    where
        F: Factory<Protocol: Protocol>,
    {
        let (started, start) = mpsc::channel();
        let thread = thread::spawn(move || {
            let reactor = Reactor::new().expect("a poller");
            reactor.set_signal_handlers(false);
            let port = reactor.listen_tcp("127.0.0.1:0", build(&reactor)).map_err(|error| error.to_string());
            let address = port.expect("a free port").address().socket_addr().expect("a TCP address");
            started.send((address, reactor.handle())).expect("the test waits");
            reactor.run().expect("the loop runs");
        });
        let (address, handle) = start.recv_timeout(PATIENCE).expect("the server starts");
        Self { address, handle, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.handle.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the reactor's thread panicked");
    }
}

/// Sends back what comes.
pub(crate) struct Echo;

impl WebSocketProtocol for Echo {
    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        socket.send_message(frame);
    }
}

/// Writes down what happens, and sends messages back, except `ping` and `close CODE REASON`, which it does.
pub(crate) struct Recorder(pub(crate) Log);

impl WebSocketProtocol for Recorder {
    fn connection_made(&mut self, _: &WebSocket) {
        self.0.add("made");
    }

    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        self.0.add(format_args!("message of {}", frame.as_bytes().len()));
        match frame {
            Frame::Text("ping") => socket.ping(b"from twistor").expect("a short payload"),
            Frame::Text(text) if text.starts_with("close ") => {
                let mut words = text.splitn(3, ' ').skip(1);
                let code = words.next().and_then(|code| code.parse().ok()).expect("a code");
                socket.lose_connection(code, words.next().unwrap_or("")).expect("a code that may be sent");
            }
            _ => socket.send_message(frame),
        }
    }

    fn ping_received(&mut self, _: &WebSocket, payload: &[u8]) {
        self.0.add(format_args!("ping {}", payload.escape_ascii()));
    }

    fn pong_received(&mut self, _: &WebSocket, payload: &[u8]) {
        self.0.add(format_args!("pong {}", payload.escape_ascii()));
    }

    fn connection_lost(&mut self, socket: &WebSocket, reason: &Failure) {
        let CloseStatus { was_clean, code, reason: text, .. } = socket.close_status().expect("it has ended");
        let how = if was_clean { "cleanly" } else { "uncleanly" };
        assert!(reason.check::<twistor::websocket::WebSocketClosed>());
        self.0.add(format!("lost {how} {code} {text}").trim_end());
    }
}
