//! How much a peer can make us do: counted, not timed. What a head that drips in costs is counted where it is read, in
//! `src/http/head_tests.rs`.

use twistor_reactor::testing::MemoryPeer;

use crate::support::{Server, Wire, continuation, text, upgrade};

/// Each is compared with those before it: nothing behind the 64 that are enough may be looked at.
#[test]
fn t16_of_a_thousand_subprotocols_no_more_are_looked_at_than_may_be() {
    let server = Server::new();
    let refused = |names: &[&str]| {
        let answer = server.refusal_of(upgrade("/", &[&format!("Sec-WebSocket-Protocol: {}", names.join(","))]));
        assert_eq!(answer.status(), 400);
        answer.body
    };
    let names: Vec<String> = (0..1000).map(|number| format!("p{number}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    let too_many = "expected at most 64 subprotocols, but more came\n";
    assert_eq!(refused(&names), too_many);
    names[65] = "no token";
    names[66] = "p0";
    assert_eq!(refused(&names), too_many);
    assert_eq!(refused(&names[..66][1..]), "expected tokens in Sec-WebSocket-Protocol, but \"no token\" came\n");
    assert_eq!(
        refused(&[&names[..64], &names[66..67]].concat()),
        "expected different subprotocols, but \"p0\" came twice\n"
    );
}

/// As many as a connection reads at once.
const TURN: usize = 256 * 1024;

/// A million fragments of nothing, of which no message has more than it may: what others say is heard between them.
#[test]
fn t30_a_flood_of_empty_fragments_keeps_nobody_waiting() {
    const FRAGMENTS: usize = 1000;
    const MESSAGES: usize = 1000;
    let server = Server::new();
    let (flooder, other) = (server.open(), server.open());
    let message: Vec<Wire> =
        [vec![text("").more()], vec![continuation("").more(); FRAGMENTS - 2], vec![continuation("")]].concat();
    let message = flooder.encode(&message);
    server.log.take();
    // both before the reactor looks at either
    let wires: [&MemoryPeer; 2] = [&flooder, &other];
    wires[0].send(message.repeat(MESSAGES));
    wires[1].send(other.encode(&[text("hello")]));
    server.reactor.settle();
    let events = server.log.take();
    assert_eq!(events.len(), MESSAGES + 1);
    let before = events.iter().position(|event| event == "text hello").expect("it is heard");
    assert!(before <= TURN / message.len() + 1, "{before} messages of {} bytes first", message.len());
}
