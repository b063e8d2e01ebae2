//! What peers do wrong ends their own connection, with an answer that says why, and nobody else's.

mod client;
mod frames;
mod panics;
mod peers;
mod requests;

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tungstenite::Message;
use twistor::for_protocol;
use twistor::websocket::{Options, Resource, Site, SiteOptions, WebSocketResource, http::Response};

use crate::support::{Echo, Log, Raw, Recorder, Server, bounded, tungstenite};

/// A server, and a witness whose WebSocket echoes all the while.
struct Scene<'a> {
    server: &'a Server,
    /// What happens to the WebSockets at `/tested`.
    log: Log,
}

impl Scene<'_> {
    /// Plays a test before the witness.
    fn play(act: impl FnOnce(&Scene<'_>) + Send + 'static) {
        Self::play_with(Options::default(), SiteOptions::default(), act);
    }

    /// With options for the WebSockets at `/tested` and for the site.
    fn play_with(options: Options, site: SiteOptions, act: impl FnOnce(&Scene<'_>) + Send + 'static) {
        let log = Log::default();
        let recorded = log.clone();
        let tested = move || {
            let recorders = for_protocol(move || Recorder(recorded.clone()));
            Resource::new().websocket(WebSocketResource::with_options(recorders, options))
        };
        Self::play_on(site, tested, |server| act(&Scene { server, log }));
    }

    /// With anything at `/tested`, beside the witness's WebSocket and a page at `/`.
    fn play_on(
        site: SiteOptions,
        tested: impl FnOnce() -> Resource + Send + 'static,
        act: impl FnOnce(&Server) + Send + 'static,
    ) {
        bounded(move || {
            let server = Server::run(move |_| {
                let mut root =
                    Resource::new().render_get(|_| Response::text("page\n")).websocket(for_protocol(|| Echo));
                root.put_child("tested", tested());
                Site::with_options(root, site)
            });
            let witness = Witness::begin(&server);
            act(&server);
            witness.end();
        });
    }

    fn connect(&self) -> Raw {
        Raw::connect(self.server.address)
    }

    /// A client of `/tested`, its handshake done.
    fn open(&self) -> Raw {
        Raw::open(self.server.address, "/tested")
    }
}

/// A client whose messages come back, one after the other.
struct Witness {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Witness {
    fn begin(server: &Server) -> Self {
        let mut client = tungstenite(server.address, "/");
        let mut echo = move |number: u32| {
            client.send(Message::text(number.to_string())).expect("the witness is not disturbed");
            assert_eq!(client.read().expect("the witness is not disturbed"), Message::text(number.to_string()));
        };
        echo(0);
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut number = 1;
            while stopped.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
                echo(number);
                number += 1;
            }
            echo(number);
        });
        Self { stop, thread }
    }

    fn end(self) {
        let _ = self.stop.send(());
        self.thread.join().expect("the witness was not disturbed");
    }
}
