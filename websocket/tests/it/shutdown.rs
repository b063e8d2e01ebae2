//! The end of a server: `ServerHandle::shutdown`.

mod handshakes;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use twistor_reactor::{Failure, for_protocol};
use twistor_websocket::{
    Frame, LimitExceeded, Options, WebSocket, WebSocketClosed, WebSocketProtocol, WebSocketServerFactory,
};

use crate::support::{Peer, Server, close, frame, text};

struct Silent;

impl WebSocketProtocol for Silent {
    fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {}
}

type Outcome = Rc<RefCell<Option<Result<Vec<WebSocket>, Failure>>>>;

fn shut_down(server: &Server, deadline: u64, stagger: u64) -> Outcome {
    let outcome = Outcome::default();
    let slot = outcome.clone();
    let seconds = Duration::from_secs;
    let done = server.handle.shutdown(&server.reactor, seconds(deadline), seconds(stagger));
    drop(done.add_both(move |result| *slot.borrow_mut() = Some(result)));
    server.reactor.settle();
    outcome
}

fn stragglers(outcome: &Outcome) -> Option<Vec<WebSocket>> {
    outcome.borrow().as_ref().map(|result| result.clone().expect("no failure"))
}

fn patient(deadline: Option<u64>) -> Server {
    let close_handshake_timeout = deadline.map(Duration::from_secs);
    Server::with(Options { close_handshake_timeout, ping_interval: None, ..Options::default() }, |mould| mould)
}

#[test]
fn everybody_is_told_1001_and_the_deferred_fires_when_all_are_gone() {
    let server = Server::new();
    let peers: Vec<Peer> = (0..3).map(|_| server.open()).collect();
    let outcome = shut_down(&server, 10, 0);
    for peer in &peers {
        assert_eq!(peer.lines(), ["close 1001 the server is shutting down"]);
        assert_eq!(stragglers(&outcome), None);
        peer.frame(&close(1001, ""));
    }
    assert_eq!(stragglers(&outcome), Some(vec![]));
    assert_eq!((server.log.count("lost"), server.reactor.pending_calls()), (3, 0));
}

#[test]
fn its_ports_stop_listening_whether_or_not_one_has_already() {
    let server = Server::new();
    let peer = server.open();
    let listen = |number: u16| {
        let port = server.reactor.listen_tcp(number, WebSocketServerFactory::new(for_protocol(|| Silent)));
        port.expect("a port in memory")
    };
    let ports = [listen(81), listen(82), listen(83)];
    drop(ports[0].stop_listening());
    let handle = server.handle.clone().with_port(ports[0].clone()).with_port(ports[1].clone());
    drop(handle.shutdown(&server.reactor, Duration::from_secs(1), Duration::ZERO));
    server.reactor.settle();
    assert_eq!(ports.map(|port| port.listening()), [false, false, true], "the third was not given");
    assert_eq!(peer.lines(), ["close 1001 the server is shutting down"]);
}

#[test]
fn a_server_without_connections_is_down_at_once() {
    let outcome = shut_down(&Server::new(), 10, 0);
    assert_eq!(stragglers(&outcome), Some(vec![]));
}

#[test]
fn what_is_queued_goes_before_the_close() {
    let server = Server::new();
    let peer = server.open();
    peer.set_room(0);
    let socket = server.log.socket(0);
    (0..5).for_each(|_| socket.send_binary(&[0; 50_000]));
    shut_down(&server, 10, 0);
    peer.set_room(usize::MAX);
    server.reactor.settle();
    let lines = peer.lines();
    assert_eq!((lines.len(), lines.last().map(String::as_str)), (6, Some("close 1001 the server is shutting down")));
}

#[test]
fn whoever_has_not_left_at_the_deadline_is_cut_off_and_reported() {
    let server = patient(None);
    let (good, bad) = (server.open(), server.open());
    let stubborn = server.log.socket(1);
    let outcome = shut_down(&server, 3, 0);
    good.frame(&close(1001, ""));
    server.wait(2.9);
    assert_eq!(stragglers(&outcome), None);
    server.wait(0.2);
    assert!(bad.saw_reset());
    assert_eq!(stragglers(&outcome), Some(vec![stubborn]));
    assert_eq!(server.log.count("lost"), 2);
}

#[test]
fn closes_are_staggered_over_the_time_that_is_given() {
    let server = patient(None);
    let peers: Vec<Peer> = (0..4).map(|_| server.open()).collect();
    let outcome = shut_down(&server, 100, 8);
    let told = || peers.iter().filter(|peer| !peer.got().is_empty()).count();
    for second in 0..8 {
        let now = told();
        assert_eq!(now, usize::from(second % 2 == 0), "in second {second}");
        // those that were not told yet work on
        server.wait(1.0);
    }
    for peer in &peers {
        peer.frame(&close(1001, ""));
    }
    assert_eq!(stragglers(&outcome), Some(vec![]));
}

#[test]
fn a_second_shutdown_is_told_of_the_end_as_well_as_the_first() {
    let server = Server::new();
    let peer = server.open();
    let outcomes = [shut_down(&server, 10, 0), shut_down(&server, 10, 0)];
    peer.frame(&close(1001, ""));
    for outcome in &outcomes {
        assert!(matches!(&*outcome.borrow(), Some(Ok(late)) if late.is_empty()), "{:?}", outcome.borrow());
    }
}

#[test]
fn messages_of_the_closing_are_not_delivered_and_others_are() {
    let server = patient(None);
    let (first, second) = (server.open(), server.open());
    shut_down(&server, 100, 10);
    first.frame(&text("told already"));
    second.frame(&text("not told yet"));
    assert_eq!((server.log.count("text told already"), server.log.count("text not told yet")), (0, 1));
}

#[test]
fn whoever_does_not_answer_the_close_is_reported_before_the_deadline_too() {
    let server = patient(Some(2));
    let (good, _silent) = (server.open(), server.open());
    let stubborn = server.log.socket(1);
    let outcome = shut_down(&server, 30, 0);
    good.frame(&close(1001, ""));
    server.wait(2.1);
    assert_eq!(stragglers(&outcome), Some(vec![stubborn.clone()]));
    let status = stubborn.close_status().expect("it is over");
    assert_eq!((status.was_clean, status.sent), (false, Some(1001)));
}

#[test]
fn a_stagger_ends_with_the_deadline() {
    let server = patient(None);
    let peers: Vec<Peer> = (0..4).map(|_| server.open()).collect();
    shut_down(&server, 4, 1000);
    server.wait(3.5);
    assert!(peers.iter().all(|peer| peer.lines() == ["close 1001 the server is shutting down"]));
}

// T69
#[test]
fn many_with_full_queues_who_take_nothing_are_cut_off_at_the_deadline() {
    let server =
        Server::with(Options { write_timeout: None, ping_interval: None, ..Options::default() }, |mould| mould);
    let peers: Vec<Peer> = (0..100).map(|_| server.open()).collect();
    for (index, peer) in peers.iter().enumerate() {
        peer.set_room(0);
        (0..5).for_each(|_| server.log.socket(index).send_binary(&[0; 50_000]));
    }
    let outcome = shut_down(&server, 3, 2);
    server.wait(2.9);
    assert_eq!(stragglers(&outcome), None);
    server.wait(0.2);
    assert_eq!(stragglers(&outcome).map(|late| late.len()), Some(100));
    assert_eq!((server.log.count("lost"), server.handle.connection_count()), (100, 0));
    assert!(peers.iter().all(|peer| peer.saw_reset()));
}

#[test]
fn who_is_cut_off_is_reported_once() {
    let server = Server::with(Options { ping_interval: None, ..Options::default() }, |mould| mould);
    let _peer = server.open();
    let outcome = shut_down(&server, 5, 0); // as close_handshake_timeout by default
    server.wait(6.0);
    assert_eq!(stragglers(&outcome).map(|late| late.len()), Some(1));
}

#[test]
fn who_is_cut_off_by_a_second_shutdown_is_reported_by_the_first_too() {
    let options = Options { ping_interval: None, close_handshake_timeout: None, ..Options::default() };
    let server = Server::with(options, |mould| mould);
    let _peer = server.open();
    let patient = shut_down(&server, 30, 0);
    let hasty = shut_down(&server, 1, 0);
    server.wait(2.0);
    let socket = Some(vec![server.log.socket(0)]);
    assert_eq!((stragglers(&patient), stragglers(&hasty)), (socket.clone(), socket));
}

#[test]
fn what_ended_a_websocket_stays_its_cause_where_a_shutdown_cuts_it_off() {
    let options = Options { ping_interval: None, ..Options::default() };
    let server = Server::with(options, |mould| mould);
    let peer = server.open();
    peer.frame(&frame(3, "no such opcode"));
    let _ = peer.lines();
    drop(server.handle.shutdown(&server.reactor, Duration::from_secs(1), Duration::ZERO));
    server.wait(1.5);
    let reason = server.log.last_reason();
    let end = reason.value::<WebSocketClosed>().unwrap();
    assert!(!end.cause.check::<LimitExceeded>(), "{} / {}", end.status, end.cause);
}

#[test]
fn a_clean_close_stays_clean_where_a_shutdown_cuts_it_off() {
    let options = Options { ping_interval: None, ..Options::default() };
    let server = Server::with(options, |mould| mould);
    let peer = server.open();
    peer.set_room(0);
    server.log.socket(0).send_binary(&[0; 1000]);
    peer.frame(&close(1000, "bye"));
    drop(server.handle.shutdown(&server.reactor, Duration::from_secs(1), Duration::ZERO));
    server.wait(1.5);
    let status = server.log.last_status();
    assert!(status.was_clean, "{status}");
}

#[test]
fn a_shutdown_that_is_over_leaves_no_timer() {
    let server = Server::new();
    let peers = [server.open(), server.open()];
    let gone = server.handle.shutdown(&server.reactor, Duration::from_secs(60), Duration::from_secs(40));
    drop(gone);
    peers.iter().for_each(|peer| peer.frame(&close(1000, "")));
    server.wait(6.0);
    assert_eq!(server.handle.connection_count(), 0);
    assert_eq!(server.reactor.pending_calls(), 0);
}
