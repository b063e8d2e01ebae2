//! What the tests share: the programs under test, peers for them, and the patience of all.

mod example;
mod log;
mod ours;
mod raw;
mod server;

use std::any::Any;
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tungstenite::WebSocket;

pub(crate) use example::Example;
pub(crate) use log::Log;
pub(crate) use ours::{Event, Ours};
pub(crate) use raw::{BINARY, CLOSE, CONTINUATION, FIN, Got, PING, PONG, Raw, TEXT, accept_key, masked, plain};
pub(crate) use server::{Echo, Recorder, Server};

/// How long one thing may take before its test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// How long a test may take.
const WATCHDOG: Duration = Duration::from_secs(20);

/// Runs a test in a thread of its own, and fails when it does not end.
pub(crate) fn bounded<R: Send + 'static>(test: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, outcome) = mpsc::channel();
    let name = thread::current().name().unwrap_or("test").to_owned();
    let run = move || {
        let outcome: Result<R, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(test));
        let _ = done.send(outcome);
    };
    thread::Builder::new().name(name).spawn(run).expect("a thread");
    match outcome.recv_timeout(WATCHDOG).expect("the test ends in time") {
        Ok(value) => value,
        Err(panic) => resume_unwind(panic),
    }
}

/// A connection that waits for nothing too long.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect_timeout(&address, PATIENCE).expect("somebody listens"))
}

pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream
}

/// A foreign client of a WebSocket of ours.
pub(crate) fn tungstenite(address: SocketAddr, path: &str) -> WebSocket<TcpStream> {
    let opened = tungstenite::client(format!("ws://{address}{path}"), dial(address));
    opened.expect("the handshake succeeds").0
}

/// Closes with RST.
pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

/// An address where nobody listens, and nobody else will while this is held.
pub(crate) struct ClosedPort(socket2::Socket);

impl ClosedPort {
    pub(crate) fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        Self(socket)
    }

    pub(crate) fn port(&self) -> u16 {
        let address = self.0.local_addr().ok().and_then(|address| address.as_socket());
        address.expect("an address").port()
    }
}

/// Text that is not the same everywhere, of a length in bytes.
pub(crate) fn long_text(length: usize) -> String {
    (0..length).map(|index| char::from(b'a' + (index % 251 % 26) as u8)).collect()
}
