//! A TCP client that says hello to `echo_server`, prints what comes back, and leaves.
//!
//!     cargo run --example echo_client                  # to port 8007
//!     cargo run --example echo_client -- --port 9000

use std::error::Error;

use twistor::{Address, ClientFactory, Connector, Factory, Failure, Protocol, Reactor, Transport};

/// Once connected, sends a message, then prints the result.
struct EchoClient;

impl Protocol for EchoClient {
    fn connection_made(&mut self, transport: &Transport) {
        transport.write("hello, world!");
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        println!("Server said: {}", String::from_utf8_lossy(data));
        transport.lose_connection();
    }
}

struct EchoFactory;

impl Factory for EchoFactory {
    type Protocol = EchoClient;

    fn build_protocol(&mut self, _peer: &Address) -> Option<EchoClient> {
        Some(EchoClient)
    }
}

impl ClientFactory for EchoFactory {
    fn client_connection_failed(&mut self, connector: &Connector, reason: &Failure) {
        println!("Connection failed: {reason}");
        connector.reactor().stop();
    }

    fn client_connection_lost(&mut self, connector: &Connector, reason: &Failure) {
        println!("Connection lost: {reason}");
        connector.reactor().stop();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let reactor = Reactor::new()?;
    reactor.connect_tcp("localhost", port()?, EchoFactory);
    reactor.run()?;
    Ok(())
}

/// The value of `--port`.
fn port() -> Result<u16, Box<dyn Error>> {
    let mut arguments = lexopt::Parser::from_env();
    let mut port = 8007;
    while let Some(argument) = arguments.next()? {
        match argument {
            lexopt::Arg::Long("port") => port = arguments.value()?.to_string_lossy().parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(port)
}
