//! Autobahn's `examples/twisted/websocket/streaming/streaming_server.py`: computes a running digest of what it is sent,
//! and says it after every MiB. Messages may have any number of frames of any length: nothing of them is kept.
//!
//!     cargo run --example autobahn_streaming_server                   # on ws://127.0.0.1:9000
//!     cargo run --example autobahn_streaming_server -- --port 0       # on a free port, which it prints
//!
//! The original's clients can talk to it. They call the digest SHA-256; here it is FNV-1a, which needs no crate.

use std::error::Error;

use twistor::websocket::{AutobahnFactory, AutobahnProtocol, Options, WebSocket, WebSocketServerFactory};
use twistor::{Reactor, for_protocol};

const BATCH_SIZE: usize = 1 << 20;

#[derive(Default)]
struct StreamingHashServerProtocol {
    digest: Fnv,
    count: u64,
    /// Bytes of the batch that have come.
    received: usize,
}

impl AutobahnProtocol for StreamingHashServerProtocol {
    fn wants_pieces(&self) -> bool {
        true
    }

    fn on_message_begin(&mut self, _socket: &WebSocket, _is_binary: bool) {
        *self = Self::default();
    }

    fn on_message_frame_data(&mut self, socket: &WebSocket, mut payload: &[u8]) {
        // when the data received completes a batch ..
        while let Some((rest_of_batch, later)) = payload.split_at_checked(BATCH_SIZE - self.received) {
            // .. update the digest up to its end, and send it
            self.digest.update(rest_of_batch);
            let digest = format!("{:016x}", self.digest.0);
            socket.send_message(&digest);
            println!("Sent digest for batch {} : {digest}", self.count);

            // .. and advance to the next batch
            self.count += 1;
            self.received = 0;
            payload = later;
        }
        // otherwise we just update the digest for received data
        self.digest.update(payload);
        self.received += payload.len();
    }
}

/// FNV-1a, 64 bits.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn update(&mut self, data: &[u8]) {
        self.0 = data.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let mut port = 9000_u16;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            lexopt::Arg::Long("port") => port = arguments.value()?.to_string_lossy().parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    let reactor = Reactor::new()?;
    let protocol = AutobahnFactory(for_protocol(StreamingHashServerProtocol::default));
    // no message is too long for what is done with it
    let options =
        Options { max_message: usize::MAX, max_frame: usize::MAX, max_fragments: u32::MAX, ..Options::default() };
    let factory = WebSocketServerFactory::with_options(protocol, options);
    let listening = reactor.listen_tcp(format!("127.0.0.1:{port}"), factory)?;
    println!("listening on ws://{}", listening.address());
    reactor.run()?;
    Ok(())
}
