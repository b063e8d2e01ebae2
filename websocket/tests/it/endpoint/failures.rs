//! How a connection's Deferred fails; always it does, or gives a WebSocket.

use std::time::Duration;

use twistor_reactor::{
    Address, CallbackPanicked, ClientFactory, ConnectError, ConnectOptions, ConnectionDone, ConnectionLost,
    ConnectionRefusedError, Connector, Factory, Failure, ResolverDropped, TimeoutError, UserError,
};
use twistor_websocket::handshake::{HandshakeError, RedirectPolicy};
use twistor_websocket::{LimitExceeded, WebSocketClientFactory, WhenConnected, connect_ws};

use super::World;
use crate::support::{Recorder, Recorders};

/// Why there is no WebSocket, of which protocol and factory heard as ever.
fn told(world: &World) -> Failure {
    let told = world.log.take();
    let [_, lost, client_lost, _, failed] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&**lost, &**failed), ("lost", "failed"), "{told:?}");
    assert!(client_lost.starts_with("client lost: "), "{told:?}");
    assert_eq!(world.reactor.pending_calls(), 0);
    world.failure()
}

#[test]
fn no_tcp_connection_is_a_failure_with_its_reason() {
    let world = World::new();
    world.connect(Recorders(world.recorder()));
    let connector = world.reactor.connecting().remove(0);
    assert_eq!(connector.destination(), ("server.example", 80));
    world.reactor.refuse(&connector, Failure::new(ConnectionRefusedError::new()));
    let told = ["start factory", "client failed: Connection was refused by other side.", "stop factory", "failed"];
    assert_eq!(world.log.take(), told);
    assert!(world.failure().check::<ConnectionRefusedError>());
}

#[test]
fn the_time_to_connect_is_the_endpoints() {
    let mut world = World::new();
    let options = ConnectOptions { timeout: Some(Duration::from_secs(3)), ..ConnectOptions::default() };
    world.endpoint = world.endpoint.connect_options(options);
    world.connect(Recorders(world.recorder()));
    world.wait(2.9);
    assert!(world.outcomes.borrow().is_empty());
    world.wait(0.2);
    assert!(world.failure().check::<TimeoutError>());
}

// P259, P270: ConnectionRejected.response
#[test]
fn t62_a_refusal_is_a_failure_with_the_response_in_it() {
    let world = World::new();
    let server = world.server();
    server.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\nX-Why: because\r\n\r\nnot ");
    assert!(world.outcomes.borrow().is_empty(), "its body is not whole");
    server.send("you");
    let failure = told(&world);
    let Some(HandshakeError::Status(response)) = failure.value() else { panic!("{failure}") };
    assert_eq!((response.status.as_u16(), &*response.body), (403, &b"not you"[..]));
    assert_eq!(response.headers["x-why"], "because");
}

#[test]
fn t62_a_wrong_answer_is_a_failure() {
    let world = World::new();
    let server = world.server();
    server.accept(&["Sec-WebSocket-Protocol: unasked"], &[]);
    assert!(matches!(told(&world).value(), Some(HandshakeError::UnrequestedProtocol { .. })));
    assert!(server.is_over());
}

// P265, P271
#[test]
fn a_server_that_does_not_answer_is_a_failure_in_time() {
    let world = World::new();
    let server = world.server();
    server.wait(9.9);
    assert!(world.outcomes.borrow().is_empty());
    server.wait(0.2);
    assert_eq!(told(&world).value(), Some(&LimitExceeded::OpenTimeout));
    assert!(server.saw_reset());
}

// P277
#[test]
fn a_drop_amid_the_handshake_is_a_failure() {
    for reset in [false, true] {
        let world = World::new();
        let server = world.server();
        server.send("HTTP/1.1 101 Swi");
        if reset {
            server.reset();
        } else {
            server.close();
        }
        world.reactor.settle();
        let failure = told(&world);
        assert!(failure.check::<ConnectionDone>() != reset && failure.check::<ConnectionLost>() == reset);
    }
}

/// Builds what it is told to, and gives its attempt up at once if it is told to.
struct Odd {
    build: fn() -> Option<Recorder>,
    gives_up: bool,
}

impl Factory for Odd {
    type Protocol = Recorder;
    fn build_protocol(&mut self, _: &Address) -> Option<Recorder> {
        (self.build)()
    }
}

impl ClientFactory for Odd {
    fn started_connecting(&mut self, connector: &Connector) {
        if self.gives_up {
            connector.disconnect();
        }
    }
}

// P097
#[test]
fn it_never_waits_for_ever() {
    let world = World::new();
    world.connect(Odd { build: || None, gives_up: false });
    let _ = world.arrive();
    assert!(world.failure().check::<ConnectionDone>(), "the factory builds nothing");

    world.connect(Odd { build: || panic!("on purpose"), gives_up: false });
    let _ = world.arrive();
    assert!(world.failure().check::<CallbackPanicked>());

    world.connect(Odd { build: || None, gives_up: true });
    assert!(world.failure().check::<UserError>());

    world.connect(Recorders(world.recorder()));
    let connector = world.reactor.connecting().remove(0);
    let server = world.arrive();
    connector.disconnect();
    world.reactor.settle();
    assert!(world.failure().check::<ConnectionDone>(), "given up amid the handshake");
    assert!(server.is_over());

    let (factory, connected) = WhenConnected::new(&world.reactor, Recorders(world.recorder()));
    drop(factory);
    world.note(connected);
    assert!(world.failure().check::<ResolverDropped>(), "nobody connects");

    world.connect(Recorders(world.recorder()));
    world.reactor.stop();
    world.reactor.settle();
    assert!(world.failure().check::<ConnectError>(), "the reactor stops");
}

// P278
#[test]
fn t55_a_panic_in_connection_made_is_a_failure() {
    for callback in ["accepted", "made"] {
        let world = World::new();
        let recorder = world.recorder().acting(move |_, event| {
            assert!(!event.to_string().starts_with(callback), "on purpose");
        });
        world.connect(Recorders(recorder));
        let server = world.arrive();
        server.accept(&[], &[]);
        assert_eq!(server.closed_with().0, 1011);
        server.close();
        world.reactor.settle();
        assert!(world.failure().check::<CallbackPanicked>(), "{callback}");
        assert_eq!(world.log.count("lost"), 1);
    }
}

#[test]
fn a_redirect_to_where_nobody_answers_is_a_failure() {
    let world = World::new();
    let (factory, connected) = WhenConnected::new(&world.reactor, Recorders(world.recorder()));
    let factory = WebSocketClientFactory::new("ws://server.example", factory).expect("a URL");
    let connector = connect_ws(&world.reactor, factory.follow_redirects(RedirectPolicy::follow_up_to(1, true)));
    world.note(connected);
    world.arrive().send("HTTP/1.1 302 Found\r\nLocation: ws://other.example/\r\nContent-Length: 0\r\n\r\n");
    world.reactor.refuse(&connector, Failure::new(ConnectionRefusedError::new()));
    assert!(told(&world).check::<ConnectionRefusedError>());
}
