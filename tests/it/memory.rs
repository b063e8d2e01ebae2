//! What a connection costs, idle, and with a frame under way. The exact figures are in docs/benchmarks.md; this is the
//! alarm.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use crate::support::{BINARY, Example, FIN, Got, Raw, TEXT, bounded, masked};

const CONNECTIONS: usize = 10_000;

/// An idle one. An optimized server takes less than half of it.
const MOST_PER_CONNECTION: usize = 2048;

/// What the server takes by default.
const LARGEST_FRAME: u64 = 64 << 20;

/// How much of such a frame comes.
const PART: usize = 1000;

/// What a buffer grows to, at the most, for what has come.
const MOST_PER_PART: usize = 2 * PART;

/// What does not depend on how many there are, where a low limit of open files makes them few.
const SLACK: usize = 256 * 1024;

/// Open files of other tests, and of both processes.
const OTHER_FILES: usize = 512;

fn proc(process: u32, file: &str, line: &str) -> Vec<usize> {
    let text = std::fs::read_to_string(format!("/proc/{process}/{file}")).expect("it runs");
    let words = text.lines().find_map(|text| text.strip_prefix(line)).expect("Linux says so").split_whitespace();
    words.map_while(|word| if word == "unlimited" { Some(usize::MAX) } else { word.parse().ok() }).collect()
}

/// Bytes of anonymous memory that a process has in RAM.
fn resident(process: u32) -> usize {
    proc(process, "status", "RssAnon:")[0] * 1024
}

/// How many files a process may have open, after asking for as many as are needed. Where util-linux is missing it stays
/// at what it is.
fn file_limit(process: u32) -> usize {
    let limits = || proc(process, "limits", "Max open files");
    let (soft, wanted) = (limits()[0], limits()[1].min(CONNECTIONS + OTHER_FILES));
    if soft < wanted {
        let _ = Command::new("prlimit").args(["--pid", &process.to_string(), &format!("--nofile={wanted}:")]).status();
    }
    limits()[0]
}

fn expect_echo(client: &mut Raw) {
    assert_eq!(client.frame(), Got { first: FIN | TEXT, payload: b"hello".into() });
}

fn connect(address: SocketAddr) -> Raw {
    let mut client = Raw::open(address, "/");
    client.send(masked(FIN | TEXT, "hello"));
    expect_echo(&mut client);
    client
}

// T29
#[test]
fn ten_thousand_connections_cost_two_kilobytes_each_and_what_they_send_of_the_largest_frame() {
    bounded(|| {
        let (server, port) = Example::serve("ws_echo_server", 0);
        let files = file_limit(server.id()).min(file_limit(std::process::id()));
        let count = CONNECTIONS.min(files.saturating_sub(OTHER_FILES));
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let first = connect(address);
        let before = resident(server.id());
        let mut clients: Vec<Raw> = (0..count).map(|_| connect(address)).collect();
        let after = resident(server.id());
        let idle = after.saturating_sub(before);
        println!("{} bytes of anonymous memory for each of {count} idle connections", idle / count.max(1));
        assert!(idle <= count * MOST_PER_CONNECTION + SLACK, "{idle} bytes for {count}");

        // the echo of what comes in one segment with it tells that it has come
        let mut wire = masked(FIN | TEXT, "hello");
        wire.extend([FIN | BINARY, 0xff]);
        wire.extend(LARGEST_FRAME.to_be_bytes());
        wire.extend([0; 4 + PART]);
        clients.iter_mut().for_each(|client| client.send(&wire));
        clients.iter_mut().for_each(expect_echo);
        let parts = resident(server.id()).saturating_sub(after);
        println!("{} more for {PART} bytes of a frame", parts / count.max(1));
        assert!(parts <= count * MOST_PER_PART + SLACK, "{parts} bytes for {count} parts");

        // no port is left in TIME_WAIT
        clients.into_iter().chain([first]).for_each(Raw::reset);
        server.terminate();
    });
}
