//! An echo server that is counted: `/metrics` is for Prometheus, `/` a WebSocket.
//!
//!     cargo run --example metrics                      # then curl http://localhost:8000/metrics
//!     cargo run --example metrics -- --port 9000       # --port 0 takes a free one
//!
//! The counting is the library's (`Observer`); the text format is `prometheus-client`'s.

use std::error::Error;
use std::rc::Rc;

use twistor::websocket::{Frame, Resource, Site, WebSocket, WebSocketProtocol, WebSocketResource};
use twistor::{Reactor, for_protocol};

mod counting;

use counting::Metrics;

struct Echo;

impl WebSocketProtocol for Echo {
    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        socket.send_message(frame);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let port = port()?;
    let reactor = Reactor::new()?;

    let metrics = Rc::new(Metrics::new());
    let websocket = WebSocketResource::new(for_protocol(|| Echo)).observer(metrics.clone());
    let handle = websocket.handle();
    let exported = metrics.clone();
    let page = Resource::new().render_get(move |_request| exported.render(handle.buffered()));
    let mut root = Resource::new().websocket(websocket);
    root.put_child("metrics", page);

    let listening = reactor.listen_tcp(format!("127.0.0.1:{port}"), Site::new(root).observer(metrics))?;
    println!("http://localhost:{}", listening.address().port().unwrap_or(port));
    reactor.run()?;
    Ok(())
}

/// `--port`.
fn port() -> Result<u16, Box<dyn Error>> {
    let mut port = 8000;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("port") => port = parser.value()?.to_string_lossy().parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(port)
}
