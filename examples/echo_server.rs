//! A TCP echo server, Twisted's first example: everything that comes goes back.
//!
//!     cargo run --example echo_server                 # on port 8007
//!     cargo run --example echo_server -- --port 0     # on a free one, which it prints
//!
//! Try it with `cargo run --example echo_client`, or with telnet.

use std::error::Error;

use twistor::{Protocol, Reactor, Transport, for_protocol};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let reactor = Reactor::new()?;
    let port = reactor.listen_tcp(("127.0.0.1".parse::<std::net::IpAddr>()?, port()?), for_protocol(|| Echo))?;
    println!("echo server on {}", port.address());
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
