//! `Negotiation::Later`: handshakes that another thread decides, while the reactor serves others.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use twistor::websocket::http::{Request, StatusCode};
use twistor::websocket::{
    Accept, Frame, Negotiation, Options, Refusal, WebSocket, WebSocketProtocol, WebSocketServerFactory,
};
use twistor::{Reactor, for_protocol};

use crate::support::{FIN, PATIENCE, Raw, Server, TEXT, bounded, masked};

/// A look-up that waits until the test lets it go on, in a thread that is not the reactor's.
#[derive(Clone)]
struct Register {
    begun: Sender<String>,
    go_on: Arc<Mutex<Receiver<()>>>,
}

impl Register {
    fn find(&self, token: String) -> Option<String> {
        assert_eq!(thread::current().name(), Some("twistor-pool"));
        self.begun.send(token.clone()).expect("the test waits");
        self.go_on.lock().expect("one at a time").recv_timeout(PATIENCE).expect("the test lets it go on");
        match token.as_str() {
            "s3cret" => Some("somebody".to_owned()),
            "crash" => panic!("the look-up of {token:?} crashes, as it is to"),
            _ => None,
        }
    }
}

/// Answers with its client's name.
struct Member {
    reactor: Reactor,
    register: Register,
    name: Rc<OnceCell<String>>,
}

impl WebSocketProtocol for Member {
    fn negotiate(&mut self, request: &Request) -> Negotiation {
        let Some(token) = request.query_value("token") else { return Accept::default().into() };
        let (register, token, name) = (self.register.clone(), token.into_owned(), self.name.clone());
        let found = self.reactor.defer_to_thread(move || register.find(token));
        Negotiation::Later(found.add_callback(move |found| match found {
            Some(found) => {
                name.get_or_init(|| found);
                Accept::default().into()
            }
            None => Refusal::new(StatusCode::FORBIDDEN, "expected a valid token").into(),
        }))
    }

    fn frame_received(&mut self, socket: &WebSocket, frame: Frame<'_>) {
        let name = self.name.get().map_or("nobody", String::as_str);
        socket.send_message(format!("{name}: {}", frame.decode()));
    }
}

/// The server, and the test's hands on its register.
struct Scene {
    server: Server,
    begun: Receiver<String>,
    go_on: Sender<()>,
}

impl Scene {
    fn new(options: Options) -> Self {
        let ((begin, begun), (go_on, gone_on)) = (mpsc::channel(), mpsc::channel());
        let register = Register { begun: begin, go_on: Arc::new(Mutex::new(gone_on)) };
        let server = Server::run(move |reactor| {
            let reactor = reactor.clone();
            let build = move || Member { reactor: reactor.clone(), register: register.clone(), name: Rc::default() };
            WebSocketServerFactory::with_options(for_protocol(build), options)
        });
        Self { server, begun, go_on }
    }

    /// A client whose token is being looked up.
    fn ask(&self, token: &str) -> Raw {
        let mut client = Raw::connect(self.server.address);
        client.upgrade(&format!("/?token={token}"));
        assert_eq!(self.begun.recv_timeout(PATIENCE).as_deref(), Ok(token));
        client
    }

    fn decide(&self) {
        self.go_on.send(()).expect("a look-up waits");
    }

    /// Somebody whose token nobody looks up is served at once.
    fn serves_others(&self) {
        assert_eq!(says(&mut Raw::open(self.server.address, "/"), "hello"), "nobody: hello");
    }
}

/// The answer to a message.
fn says(client: &mut Raw, what: &str) -> String {
    client.send(masked(FIN | TEXT, what));
    String::from_utf8(client.frame().payload).expect("text")
}

// P270
#[test]
fn a_thread_accepts_and_others_are_served_meanwhile() {
    bounded(|| {
        let scene = Scene::new(Options::default());
        let mut client = scene.ask("s3cret");
        client.send(masked(FIN | TEXT, "early"));
        scene.serves_others();
        scene.decide();
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        assert_eq!(String::from_utf8_lossy(&client.frame().payload), "somebody: early");
        assert_eq!(says(&mut client, "late"), "somebody: late");
    });
}

// P270
#[test]
fn a_thread_refuses() {
    bounded(|| {
        let scene = Scene::new(Options::default());
        let client = scene.ask("guess");
        scene.decide();
        assert_eq!(client.last_response(), (403, "expected a valid token\n".to_owned()));
        scene.serves_others();
    });
}

#[test]
fn a_thread_that_panics_is_a_500_and_nobody_elses_matter() {
    bounded(|| {
        let scene = Scene::new(Options::default());
        let client = scene.ask("crash");
        scene.decide();
        assert_eq!(client.last_response().0, 500);
        scene.serves_others();
        // the pool's thread has survived, too
        let mut client = scene.ask("s3cret");
        scene.decide();
        assert!(client.head().starts_with("HTTP/1.1 101 "));
    });
}

// P265
#[test]
fn a_thread_that_decides_too_late_finds_its_client_answered_or_gone() {
    bounded(|| {
        let timeout = Some(Duration::from_millis(200));
        let scene = Scene::new(Options { open_handshake_timeout: timeout, ..Options::default() });
        let client = scene.ask("s3cret");
        assert_eq!(client.last_response().0, 408);
        scene.decide();
        scene.serves_others();
        scene.ask("s3cret").reset();
        scene.decide();
        scene.serves_others();
    });
}
