//! A reactor is a value: several at once, one a thread, and each as often as one likes.

use std::sync::{Arc, Barrier};
use std::thread;

use tungstenite::Message;
use twistor::websocket::{Frame, WebSocket, WebSocketProtocol, WebSocketServerFactory};
use twistor::{Reactor, for_protocol};

use crate::support::{Echo, Event, Ours, Server, bounded, tungstenite};

/// Answers with its own name.
struct Named(&'static str);

impl WebSocketProtocol for Named {
    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        socket.send_message(format!("{} heard {}", self.0, frame.decode()));
    }
}

#[test]
fn reactors_in_two_threads_serve_at_once() {
    bounded(|| {
        let both = Arc::new(Barrier::new(2));
        let conversations = ["one", "two"].map(|name| {
            let both = both.clone();
            thread::spawn(move || {
                let server = Server::run(move |_| WebSocketServerFactory::new(for_protocol(move || Named(name))));
                let client = Ours::connect(&format!("ws://{}/", server.address));
                assert_eq!(client.next(), Event::Made);
                both.wait(); // two servers and two clients run
                for index in 0..100 {
                    client.with(move |socket| socket.send_message(index.to_string()));
                    assert_eq!(client.text(), format!("{name} heard {index}"));
                }
                both.wait();
            })
        });
        for conversation in conversations {
            conversation.join().expect("it was undisturbed");
        }
    });
}

#[test]
fn a_reactor_serves_again_after_it_was_stopped() {
    bounded(|| {
        let reactor = Reactor::new().expect("a poller");
        reactor.set_signal_handlers(false);
        for round in 1..=3 {
            let listening = reactor.listen_tcp("127.0.0.1:0", WebSocketServerFactory::new(for_protocol(|| Echo)));
            let address = listening.map_err(|error| error.to_string()).expect("a port").address().socket_addr();
            let (handle, address) = (reactor.handle(), address.expect("a TCP address"));
            let peer = thread::spawn(move || {
                let mut client = tungstenite(address, "/");
                client.send(Message::text("again")).expect("sent");
                let echo = client.read().expect("an echo");
                handle.stop().expect("the reactor is there");
                // the stop ends the connection, and the port
                while client.read().is_ok() {}
                echo
            });
            reactor.run().expect("the loop runs");
            assert_eq!(peer.join().expect("served"), Message::text("again"), "round {round}");
        }
    });
}
