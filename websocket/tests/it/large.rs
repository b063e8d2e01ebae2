//! Large messages, which are read to where they are collected, and sent from there.

use std::collections::VecDeque;

use twistor_websocket::Options;

use crate::support::{Event, Peer, Recorder, Server, binary, continuation, text};

/// Takes no more than the default, so that a MiB fits with its header.
const MIB: usize = 1 << 20;

fn patterned(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 + n / 251 + seed) as u8).collect()
}

/// Sends `wires` in turns, cut into pieces of `cut` bytes, so that the server has all of them in its hands at once.
fn in_turns(peers: &[Peer], wires: Vec<Vec<u8>>, cut: usize) {
    let mut left: VecDeque<_> = wires.into_iter().zip(peers).map(|(wire, peer)| (peer, VecDeque::from(wire))).collect();
    while let Some((peer, mut wire)) = left.pop_front() {
        peer.send(wire.drain(..cut.min(wire.len())).collect::<Vec<u8>>());
        if !wire.is_empty() {
            left.push_back((peer, wire));
        }
    }
}

#[test]
fn interleaved_large_messages_come_back_unchanged_to_their_own_senders() {
    for cut in [20_000, 65_536, 300_000, 3 * MIB] {
        let server = Server::echo();
        let peers: Vec<Peer> = (0..5).map(|_| server.open()).collect();
        for round in 0..3 {
            let payloads: Vec<_> = (0..5).map(|seed| patterned(MIB - seed * 70_000, seed + round)).collect();
            in_turns(&peers, payloads.iter().map(|payload| binary(payload).masked()).collect(), cut);
            for (peer, payload) in peers.iter().zip(&payloads) {
                let got = peer.got();
                assert!(got.len() == 1 && got[0].payload == *payload, "cut {cut}, round {round}");
            }
        }
    }
}

#[test]
fn what_the_socket_does_not_take_of_a_large_echo_follows_and_the_next_message_does_not_disturb_it() {
    let server = Server::echo();
    let peer = server.open();
    let payloads = [patterned(300_000, 1), patterned(500_000, 2), patterned(80_000, 3)];
    for (room, payload) in [1, 100_000, 0].into_iter().zip(&payloads) {
        peer.set_room(room);
        in_turns(std::slice::from_ref(&peer), vec![binary(payload).masked()], 50_000);
    }
    peer.set_room(usize::MAX);
    server.reactor.settle();
    let got = peer.got();
    assert_eq!(got.len(), 3);
    for (got, payload) in got.iter().zip(&payloads) {
        assert!(got.payload == *payload);
    }
}

#[test]
fn fragments_texts_and_small_messages_mix_with_large_ones() {
    let server = Server::echo();
    let peer = server.open();
    let (large, words) = (patterned(200_000, 5), "grüße ".repeat(30_000));
    let wire = [
        text("before").masked(),
        binary(&large[..90_000]).more().masked(),
        continuation(&large[90_000..90_001]).more().masked(),
        continuation(&large[90_001..]).masked(),
        text("between").masked(),
        text(&words).masked(),
        binary(b"after").masked(),
    ]
    .concat();
    for cut in [17_001, 70_000, wire.len()] {
        in_turns(std::slice::from_ref(&peer), vec![wire.clone()], cut);
        let got: Vec<Vec<u8>> = peer.got().into_iter().map(|frame| frame.payload).collect();
        let expected: [&[u8]; 5] = [b"before", &large, b"between", words.as_bytes(), b"after"];
        assert!(got == expected, "cut {cut}");
    }
}

#[test]
fn a_part_of_a_large_message_may_be_sent_to_others() {
    let server = Server::with(Options::default(), |mould: Recorder| {
        mould.acting(|socket, event| {
            if let Event::Message(frame) = event {
                socket.send_binary(&frame.as_bytes()[100..100_100]);
                socket.send_binary(frame.as_bytes());
            }
        })
    });
    let peer = server.open();
    let payload = patterned(200_000, 8);
    peer.set_room(10);
    in_turns(std::slice::from_ref(&peer), vec![binary(&payload).masked()], 60_000);
    peer.set_room(usize::MAX);
    server.reactor.settle();
    let got = peer.got();
    assert!(got.len() == 2 && got[0].payload == payload[100..100_100] && got[1].payload == payload);
}

#[test]
fn a_pause_in_the_middle_of_a_large_message_loses_nothing() {
    let server = Server::echo();
    let peer = server.open();
    let payload = patterned(400_000, 9);
    let wire = binary(&payload).masked();
    let socket = server.log.socket(0);
    let (first, rest) = wire.split_at(100_000);
    peer.send(first);
    socket.pause_producing();
    peer.send(rest);
    assert!(peer.got().is_empty());
    socket.resume_producing();
    server.reactor.settle();
    let got = peer.got();
    assert!(got.len() == 1 && got[0].payload == payload);
    // the end in the middle of one
    peer.send(first);
    peer.finish();
    server.reactor.settle();
    assert_eq!(server.only_end().1, 1006);
}

#[test]
fn a_large_message_that_passes_the_limit_in_its_last_fragment_is_refused() {
    let server = Server::with(Options { max_message: 200_000, ..Options::default() }, Recorder::echoing);
    let peer = server.open();
    in_turns(std::slice::from_ref(&peer), vec![binary(patterned(150_000, 1)).more().masked()], 40_000);
    peer.send(continuation(patterned(50_001, 1)).masked());
    assert_eq!(peer.closed_with().0, 1009);
}
