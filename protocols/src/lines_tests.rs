use std::cell::RefCell;
use std::rc::Rc;

use twistor_reactor::testing::{MemoryPeer, MemoryReactor, StringTransport};
use twistor_reactor::{ConnectionDone, for_protocol};

use super::*;

/// What happened, and the handle of the latest connection.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<(Vec<String>, Option<LineTransport>)>>);

impl Log {
    fn add(&self, entry: impl Into<String>) {
        self.0.borrow_mut().0.push(entry.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().0)
    }
}

/// Keeps what it receives, and does what some lines say.
struct Recorder {
    log: Log,
    keeps_long_lines: bool,
}

impl LineOnlyReceiver for Recorder {
    fn connection_made(&mut self, transport: &LineTransport) {
        self.log.add("made");
        self.log.0.borrow_mut().1 = Some(transport.clone());
    }

    fn line_received(&mut self, transport: &LineTransport, line: &[u8]) {
        self.log.add(String::from_utf8_lossy(line));
        match line {
            b"pause" => transport.pause_producing(),
            b"lose" => transport.lose_connection(),
            b"abort" => transport.abort_connection(),
            b"answer" => transport.send_line("answered"),
            _ => {}
        }
    }

    fn line_length_exceeded(&mut self, transport: &LineTransport, start: &[u8]) {
        self.log.add(format!("<{}>", start.len()));
        if !self.keeps_long_lines {
            transport.lose_connection();
        }
    }

    fn connection_lost(&mut self, _: &LineTransport, reason: &Failure) {
        self.log.add(reason.to_string());
    }
}

/// A server in memory that records, and one client of it.
struct Server {
    reactor: MemoryReactor,
    peer: MemoryPeer,
    log: Log,
}

impl Server {
    fn new(options: LineOptions, keeps_long_lines: bool) -> Self {
        let (reactor, log) = (MemoryReactor::new(), Log::default());
        let build = {
            let log = log.clone();
            move || Recorder { log: log.clone(), keeps_long_lines }
        };
        let port = reactor.listen_tcp(7, LineFactory::with_options(for_protocol(build), options)).unwrap();
        let peer = reactor.connect_to(&port);
        assert_eq!(log.take(), ["made"]);
        Self { reactor, peer, log }
    }

    fn send(&self, data: &[u8]) -> Vec<String> {
        self.peer.send(data);
        self.reactor.settle();
        self.log.take()
    }

    fn transport(&self) -> LineTransport {
        self.log.0.borrow().1.clone().unwrap()
    }
}

fn short() -> LineOptions {
    LineOptions { max_length: 5, ..LineOptions::default() }
}

const CLEANLY: &str = "Connection was closed cleanly.";

// P206
#[test]
fn lines_arrive_whole_however_they_are_cut() {
    let stream = b"one\r\n\r\nthree\r\nrest";
    for chunk in 1..=stream.len() {
        let server = Server::new(LineOptions::default(), false);
        server.peer.set_chunk(chunk);
        assert_eq!(server.send(stream), ["one", "", "three"], "{chunk} bytes a read");
        server.peer.finish();
        server.reactor.settle();
        assert_eq!(server.log.take(), [CLEANLY], "an unfinished line is not delivered");
    }
}

// P198, P206
#[test]
fn a_line_that_is_too_long_ends_the_connection_by_default() {
    struct Silent;
    impl LineOnlyReceiver for Silent {
        fn line_received(&mut self, transport: &LineTransport, line: &[u8]) {
            transport.send_line(line);
        }
    }
    for stream in [&b"12345\r\n123456\r\nnext\r\n"[..], b"12345\r\n1234567", b"12345\r\n123456\n\n"] {
        let transport = StringTransport::new();
        let mut lines = Lines::with_options(Silent, short());
        lines.data_received(&transport, stream);
        assert_eq!(transport.value(), b"12345\r\n");
        assert!(transport.disconnecting());
    }
}

// P198: a protocol that stays connected goes on with the next line, and hears of the long one once
#[test]
fn a_line_that_is_too_long_is_skipped_by_a_protocol_that_stays() {
    let server = Server::new(short(), true);
    server.peer.set_chunk(3);
    assert_eq!(server.send(b"1234567890123456789012345\r\n"), ["<6>"]);
    assert_eq!(server.send(b"next\r\n"), ["next"]);
}

// P204, P206
#[test]
fn losing_the_connection_stops_the_lines_of_the_same_segment() {
    let server = Server::new(LineOptions::default(), false);
    assert_eq!(server.send(b"answer\r\nlose\r\nanswer\r\n"), ["answer", "lose", CLEANLY]);
    assert_eq!(server.peer.received(), b"answered\r\n");
    assert!(server.peer.saw_end());

    let server = Server::new(LineOptions::default(), false);
    let events = server.send(b"abort\r\nanswer\r\n");
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(server.peer.saw_reset());
}

// P193
#[test]
fn pausing_in_a_line_holds_the_next_one_back() {
    let server = Server::new(LineOptions::default(), false);
    assert_eq!(server.send(b"one\r\npause\r\ntwo\r\nthr"), ["one", "pause"]);
    assert_eq!(server.send(b"ee\r\n"), [""; 0]);

    let transport = server.transport();
    transport.resume_producing();
    assert_eq!(server.log.take(), [""; 0], "a handle method runs no user code");
    server.reactor.settle();
    assert_eq!(server.log.take(), ["two", "three"]);
}

// P193: each pause of several in one segment counts
#[test]
fn pausing_again_after_resuming_holds_back_again() {
    let server = Server::new(LineOptions::default(), false);
    assert_eq!(server.send(b"pause\r\npause\r\nend\r\n"), ["pause"]);
    for rest in [&["pause"], &["end"]] {
        server.transport().resume_producing();
        server.reactor.settle();
        assert_eq!(server.log.take(), rest);
    }
}

#[test]
fn the_end_is_noticed_while_paused_behind_the_last_line() {
    let server = Server::new(LineOptions::default(), false);
    assert_eq!(server.send(b"pause\r\n"), ["pause"]);
    server.peer.finish();
    server.reactor.settle();
    assert_eq!(server.log.take(), [CLEANLY]);
}

// P207
#[test]
fn send_line_appends_the_delimiter() {
    let options = LineOptions { delimiter: b"\0", ..LineOptions::default() };
    let server = Server::new(options, false);
    assert_eq!(server.send(b"answer\0answer\0"), ["answer", "answer"]);
    assert_eq!(server.peer.received(), b"answered\0answered\0");
}

#[test]
fn the_protocol_is_found_through_its_adapter() {
    let server = Server::new(LineOptions::default(), false);
    let transport = server.transport();
    let handle = transport.protocol::<Recorder>();
    handle.post(|recorder, _| recorder.log.add("posted"));
    server.reactor.settle();
    assert_eq!(server.log.take(), ["posted"]);
}

#[test]
fn clients_speak_lines_too() {
    let (reactor, log) = (MemoryReactor::new(), Log::default());
    let build = {
        let log = log.clone();
        move || Recorder { log: log.clone(), keeps_long_lines: false }
    };
    let connector = reactor.connect_tcp("localhost", 7, LineFactory::new(for_protocol(build)));
    reactor.settle();
    let peer = reactor.accept(&connector);
    peer.send(b"answer\r\n");
    reactor.settle();
    assert_eq!(peer.received(), b"answered\r\n");
    peer.close();
    reactor.settle();
    assert_eq!(log.take(), ["made", "answer", &ConnectionDone::new().to_string()]);
}
