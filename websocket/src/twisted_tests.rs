use std::cell::RefCell;
use std::rc::Rc;

use twistor_reactor::testing::{Pump, pump};
use twistor_reactor::{ConnectionDone, for_protocol};

use super::*;
use crate::client::WebSocketClientFactory;
use crate::closed::WebSocketClosed;
use crate::lobby::address;
use crate::server::WebSocketServerFactory;

type Log = Rc<RefCell<Vec<String>>>;

/// Notes what it is told; the server answers in kind.
struct Peer {
    name: &'static str,
    log: Log,
}

impl Peer {
    fn note(&self, what: impl std::fmt::Display) {
        self.log.borrow_mut().push(format!("{} {what}", self.name));
    }
}

impl TwistedProtocol for Peer {
    fn negotiation_started(&mut self, transport: &WebSocket) {
        self.note("started");
        transport.send_text_message(&format!("from {}", self.name));
    }

    fn negotiation_finished(&mut self, _: &WebSocket) {
        self.note("finished");
    }

    fn text_message_received(&mut self, transport: &WebSocket, message: &str) {
        self.note(format_args!("text {message}"));
        if self.name == "server" {
            transport.send_bytes_message(message.as_bytes());
            transport.ping(b"alive?").unwrap();
            transport.lose_connection(4001, "enough").unwrap();
        }
    }

    fn bytes_message_received(&mut self, _: &WebSocket, data: &[u8]) {
        self.note(format_args!("bytes {data:?}"));
    }

    fn pong_received(&mut self, _: &WebSocket, payload: &[u8]) {
        self.note(format_args!("pong {}", payload.escape_ascii()));
    }

    fn connection_lost(&mut self, _: &WebSocket, reason: &Failure) {
        let code = reason.value::<WebSocketClosed>().unwrap().status.code;
        self.note(format_args!("lost {code}, done: {}", reason.check::<ConnectionDone>()));
    }
}

fn join(log: &Log) -> Pump {
    let factory = |name| {
        let log = log.clone();
        TwistedFactory(for_protocol(move || Peer { name, log: log.clone() }))
    };
    let mut server = WebSocketServerFactory::new(factory("server"));
    let mut client = WebSocketClientFactory::new("ws://a/", factory("client")).unwrap();
    let peer = address();
    pump(server.build_protocol(&peer).unwrap(), client.build_protocol(&peer).unwrap())
}

/// P257, P258: and what Twisted's own implementation loses, arrives: what is written in negotiation_started.
#[test]
fn callbacks_come_in_twisteds_order_at_both_ends() {
    let log = Log::default();
    join(&log).flush();
    let (server, client): (Vec<_>, Vec<_>) = log.take().into_iter().partition(|line| line.starts_with("server"));
    let own = |lines: &[&str], name: &str| lines.iter().map(|line| format!("{name} {line}")).collect::<Vec<_>>();
    let want = ["started", "finished", "text from client", "pong alive?", "lost 4001, done: true"];
    // the pong is read while the server awaits the client's Close
    assert_eq!(server, own(&want, "server"));
    let bytes = format!("bytes {:?}", b"from client");
    assert_eq!(client, own(&["started", "finished", "text from server", &bytes, "lost 4001, done: true"], "client"));
}

struct Paused(Log);

impl Producer for Paused {
    fn pause_producing(&mut self) {
        self.0.borrow_mut().push("pause".into());
    }
    fn resume_producing(&mut self) {
        self.0.borrow_mut().push("resume".into());
    }
    fn stop_producing(&mut self) {
        self.0.borrow_mut().push("stop".into());
    }
}

/// P260
#[test]
fn an_attached_producer_is_paused_and_resumed_with_the_output() {
    let lobby = crate::lobby::Lobby::new();
    let (peer, socket) = lobby.client();
    let log = Log::default();
    socket.attach_producer(Paused(log.clone())).unwrap();
    assert!(socket.attach_producer(Paused(log.clone())).is_err());
    peer.set_room(0);
    socket.send_bytes_message(&[0; 100_000]);
    lobby.reactor.settle();
    assert_eq!(log.take(), ["pause"]);
    peer.set_room(usize::MAX);
    lobby.reactor.settle();
    assert_eq!(log.take(), ["resume"]);
    socket.detach_producer();
    socket.attach_producer(Paused(log.clone())).unwrap();
}
