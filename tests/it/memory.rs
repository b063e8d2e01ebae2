//! What an idle connection costs. The exact figures are in docs/benchmarks.md; this is the alarm.

use std::net::{Ipv4Addr, TcpStream};

use tungstenite::{Message, WebSocket};

use crate::support::{Example, bounded, tungstenite};

const CONNECTIONS: usize = 2000;

/// An optimized server takes less than half of it.
const MOST_PER_CONNECTION: usize = 2048;

/// Bytes of anonymous memory that a process has in RAM.
fn resident(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux says so since 4.5");
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}

fn connect(port: u16) -> WebSocket<TcpStream> {
    let mut client = tungstenite((Ipv4Addr::LOCALHOST, port).into(), "/");
    client.send(Message::text("hello")).expect("sent");
    assert_eq!(client.read().expect("an echo"), Message::text("hello"));
    client
}

// T29
#[test]
fn an_idle_connection_costs_at_most_two_kilobytes() {
    bounded(|| {
        let (server, port) = Example::serve("ws_echo_server", 0);
        let first = connect(port);
        let before = resident(server.id());
        // tungstenite keeps 128 KiB for each of its connections: of these, only the sockets are kept
        let others: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(port).into_inner()).collect();
        let each = (resident(server.id()) - before) / CONNECTIONS;
        assert!(each <= MOST_PER_CONNECTION, "{each} bytes for each connection");
        println!("{each} bytes of anonymous memory for each idle connection");
        drop((first, others));
        server.terminate();
    });
}
