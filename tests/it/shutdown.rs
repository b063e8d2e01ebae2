//! The end of a server, by SIGTERM and SIGINT, as the chats take them, or by `stop`: everybody is told, waited for
//! within bounds, and the process ends.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use twistor::websocket::http::Request;
use twistor::websocket::{Frame, Negotiation, WebSocket, WebSocketProtocol, WebSocketServerFactory};
use twistor::{Phase, Reactor, ReactorHandle, Resolver, SystemEvent, for_protocol};

use crate::support::{BINARY, CLOSE, Example, FIN, PATIENCE, Raw, Server, bounded, masked};

/// The chats, and where their WebSockets are.
const CHATS: [(&str, &str); 2] = [("chat_server", "/"), ("chat_rooms", "/room/tea")];

/// How long the examples wait for the answers to their Closes.
const GRACE: Duration = Duration::from_secs(3);

const GOING_AWAY: &[u8] = b"\x03\xe9the server is shutting down";

fn serve(name: &str) -> (Example, SocketAddr) {
    let (server, port) = Example::serve(name, 0);
    (server, (Ipv4Addr::LOCALHOST, port).into())
}

fn signal(server: &Example, name: &str) {
    let kill = format!("kill -{name} {}", server.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
}

/// Reads up to the Close of a server that goes.
fn told_to_go(client: &mut Raw) {
    let close = std::iter::repeat_with(|| client.frame()).find(|frame| frame.first == FIN | CLOSE);
    assert_eq!(close.map(|frame| frame.payload), Some(GOING_AWAY.to_vec()));
}

fn answer(mut client: Raw) {
    client.send(masked(FIN | CLOSE, &GOING_AWAY[..2]));
    client.end();
}

// P011, P018, T53
#[test]
fn everybody_is_told_to_go_and_the_process_ends_when_all_have_answered() {
    bounded(|| {
        for ((name, path), interrupt) in CHATS.into_iter().zip(["TERM", "INT"]) {
            let (server, address) = serve(name);
            let mut clients = [(); 2].map(|()| Raw::open(address, path));
            let begin = Instant::now();
            signal(&server, interrupt);
            clients.iter_mut().for_each(told_to_go);
            clients.into_iter().for_each(answer);
            let (status, output) = server.wait();
            assert_eq!(status.code(), Some(0), "{name}, after {output:?}");
            assert!(begin.elapsed() < GRACE, "{name} waits for nobody: {:?}", begin.elapsed());
        }
    });
}

// P018, T69
#[test]
fn while_it_waits_it_serves_who_is_there_and_nobody_new() {
    bounded(|| {
        let (server, address) = serve("chat_server");
        let (mut leaves, mut stays) = (Raw::open(address, "/"), Raw::open(address, "/"));
        let mut visitor = Raw::connect(address);
        let visit = "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        visitor.send(visit);
        assert!(visitor.head().starts_with("HTTP/1.1 200 "));
        signal(&server, "TERM");
        told_to_go(&mut leaves);
        told_to_go(&mut stays);

        // the port is closed in the turn after the one that told the clients
        let refused = |error: std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
        while !TcpStream::connect(address).is_err_and(refused) {}
        visitor.send(visit);
        assert!(visitor.head().starts_with("HTTP/1.1 200 "));
        visitor.upgrade("/");
        assert!(visitor.head().starts_with("HTTP/1.1 503 "));

        answer(leaves);
        answer(stays);
        assert_eq!(server.wait().0.code(), Some(0));
    });
}

// T69
#[test]
fn who_never_answers_is_cut_off_at_the_deadline() {
    bounded(|| {
        let (server, address) = serve("chat_server");
        let (mut answers, mut silent) = (Raw::open(address, "/"), Raw::open(address, "/"));
        let begin = Instant::now();
        signal(&server, "TERM");
        told_to_go(&mut silent);
        told_to_go(&mut answers);
        answer(answers);
        assert!(silent.ends_by_reset());
        let (status, output) = server.wait();
        assert_eq!(status.code(), Some(0), "after {output:?}");
        let took = begin.elapsed();
        assert!(took >= GRACE && took < GRACE + Duration::from_secs(2), "{took:?}");
    });
}

// T53
#[test]
fn a_second_signal_ends_the_process_at_once() {
    bounded(|| {
        let (server, address) = serve("chat_server");
        let mut client = Raw::open(address, "/");
        let begin = Instant::now();
        signal(&server, "TERM");
        told_to_go(&mut client);
        signal(&server, "TERM");
        let (status, _) = server.wait();
        assert_eq!(status.code(), Some(128 + 15));
        assert!(begin.elapsed() < GRACE, "it waited");
    });
}

/// Asks the application, which never answers.
struct Undecided {
    reactor: Reactor,
    asked: Sender<()>,
    promise: Option<Resolver<Negotiation>>,
}

impl WebSocketProtocol for Undecided {
    fn negotiate(&mut self, _: &Request) -> Negotiation {
        let (resolver, deferred) = self.reactor.deferred();
        self.promise = Some(resolver);
        self.asked.send(()).expect("the test waits");
        Negotiation::Later(deferred)
    }

    fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {}
}

/// A server of these alone, which says goodbye when it is stopped.
struct Leaving {
    server: Server,
    reactor: ReactorHandle,
    asked: Receiver<()>,
}

impl Leaving {
    fn new() -> Self {
        let ((give, handle), (ask, asked)) = (mpsc::channel(), mpsc::channel());
        let server = Server::run(move |reactor| {
            give.send(reactor.handle()).expect("the test waits");
            let own = reactor.clone();
            let build = move || Undecided { reactor: own.clone(), asked: ask.clone(), promise: None };
            let factory = WebSocketServerFactory::new(for_protocol(build));
            let everybody = factory.handle();
            reactor.add_system_event_trigger(Phase::Before, SystemEvent::Shutdown, move |reactor| {
                everybody.shutdown(reactor, GRACE, Duration::ZERO)
            });
            factory
        });
        Self { server, reactor: handle.recv_timeout(PATIENCE).expect("it starts"), asked }
    }

    /// A client whose handshake waits for the application.
    fn undecided(&self) -> Raw {
        let mut client = Raw::connect(self.server.address);
        client.upgrade("/");
        self.asked.recv_timeout(PATIENCE).expect("the application is asked");
        client
    }

    fn stop(&self) {
        self.reactor.stop().expect("it runs");
    }
}

// T69
#[test]
fn handshakes_under_way_read_their_503_before_the_server_is_gone() {
    bounded(|| {
        let leaving = Leaving::new();
        let mut half = Raw::connect(leaving.server.address);
        half.send("GET / HTTP/1.1\r\nHost: loc");
        let silent = Raw::connect(leaving.server.address);
        // who came later is served already
        let undecided = leaving.undecided();
        let begin = Instant::now();
        leaving.stop();
        for client in [half, silent, undecided] {
            assert_eq!(client.last_response(), (503, "the server is shutting down\n".into()));
        }
        drop(leaving);
        assert!(begin.elapsed() < GRACE, "it waits for nobody: {:?}", begin.elapsed());
    });
}

/// Closing at once would reset a connection that is sent to: its client fails in the middle of a write, and may never
/// read why.
// T69
#[test]
fn a_client_that_sends_early_ends_its_frame_before_it_reads_the_503() {
    bounded(|| {
        let leaving = Leaving::new();
        let client = leaving.undecided();
        // more than all buffers on the way hold
        let early = masked(FIN | BINARY, vec![0; 16 << 20]);
        let mut stream = client.stream().try_clone().expect("a descriptor");
        let writer = thread::spawn(move || stream.write_all(&early).map_err(|error| error.kind()));
        leaving.stop();
        assert_eq!(writer.join().expect("no panic"), Ok(()));
        assert_eq!(client.last_response(), (503, "the server is shutting down\n".into()));
    });
}
