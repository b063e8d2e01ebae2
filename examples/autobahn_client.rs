//! Echoes for the fuzzing server of the Autobahn test suite, case by case (tests/autobahn/README.md).
//!
//!     cargo run --release --example autobahn_client -- ws://127.0.0.1:9001 [--agent twistor]
//!
//! A case is a connection of its own; when it ends the next one begins.

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;

use twistor::websocket::sansio::deflate::DeflateOptions;
use twistor::websocket::{Frame, Options, WebSocket, WebSocketClientFactory, WebSocketProtocol, connect_ws};
use twistor::{Address, BufferLimits, ClientFactory, Connector, Factory, Failure, Reactor};

/// How far the run has come.
struct Run {
    url: String,
    agent: String,
    cases: u32,
    next: u32,
}

impl Run {
    /// The next connection's URL: the number of cases, each case, the report.
    fn advance(&mut self) -> Option<String> {
        let Self { url, agent, cases, next } = self;
        let case = *next;
        *next += 1;
        match case {
            0 => Some(format!("{url}/getCaseCount")),
            _ if case <= *cases => Some(format!("{url}/runCase?case={case}&agent={agent}")),
            _ if case == *cases + 1 => Some(format!("{url}/updateReports?agent={agent}")),
            _ => None,
        }
    }
}

struct Case {
    run: Rc<RefCell<Run>>,
}

impl WebSocketProtocol for Case {
    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        let mut run = self.run.borrow_mut();
        if run.cases == 0 {
            run.cases = frame.decode().parse().unwrap_or(0);
        } else {
            socket.send_message(frame);
        }
    }
}

struct CaseFactory {
    run: Rc<RefCell<Run>>,
}

impl CaseFactory {
    fn connect(run: &Rc<RefCell<Run>>, reactor: &Reactor) -> Result<(), Box<dyn Error>> {
        let Some(url) = run.borrow_mut().advance() else {
            reactor.stop();
            return Ok(());
        };
        let options = Options {
            max_message: 64 << 20,
            max_frame: 64 << 20,
            max_fragments: 1 << 20,
            buffer: BufferLimits { cap: 128 << 20, ..Options::default().buffer },
            compression: Some(DeflateOptions::default()),
            ..Options::default()
        };
        let factory = Self { run: run.clone() };
        connect_ws(reactor, WebSocketClientFactory::with_options(&url, factory, options)?);
        Ok(())
    }

    fn ended(&self, connector: &Connector) {
        if let Err(error) = Self::connect(&self.run, &connector.reactor()) {
            eprintln!("{error}");
            connector.reactor().stop();
        }
    }
}

impl Factory for CaseFactory {
    type Protocol = Case;

    fn build_protocol(&mut self, _peer: &Address) -> Option<Case> {
        Some(Case { run: self.run.clone() })
    }
}

impl ClientFactory for CaseFactory {
    fn client_connection_failed(&mut self, connector: &Connector, reason: &Failure) {
        println!("{reason}");
        connector.reactor().stop();
    }

    fn client_connection_lost(&mut self, connector: &Connector, _reason: &Failure) {
        self.ended(connector);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let (mut url, mut agent) = ("ws://127.0.0.1:9001".to_owned(), "twistor".to_owned());
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Value(value) => url = value.to_string_lossy().trim_end_matches('/').to_owned(),
            lexopt::Arg::Long("agent") => agent = parser.value()?.to_string_lossy().into_owned(),
            other => return Err(other.unexpected().into()),
        }
    }
    let reactor = Reactor::new()?;
    let run = Rc::new(RefCell::new(Run { url, agent, cases: 0, next: 0 }));
    CaseFactory::connect(&run, &reactor)?;
    reactor.run()?;
    Ok(())
}
