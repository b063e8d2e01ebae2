//! What is dropped is counted once, and what ended a WebSocket is told.

use std::time::Duration;

use twistor_reactor::BufferLimits;
use twistor_websocket::{Options, Overflow};

use crate::support::Server;

#[test]
fn a_silent_peer_is_still_one_whose_output_was_too_much() {
    let buffer = BufferLimits { high: 4096, low: 1024, cap: 16 * 1024 };
    let options = Options {
        ping_interval: Some(Duration::from_secs(1)),
        ping_timeout: Duration::from_secs(1),
        buffer,
        overflow: Overflow::Close,
        ..Options::default()
    };
    let server = Server::with(options, |mould| mould);
    let peer = server.open();
    peer.set_room(0);
    peer.wait(1.5); // pinged at 1 s
    let socket = server.log.socket(0);
    (0..100).for_each(|_| socket.send_binary(&[3; 500]));
    assert!(!socket.is_open(), "it has overflowed");
    peer.wait(10.0);
    let status = server.log.last_status();
    assert_eq!(status.code, 1013);
    assert!(!status.reason.contains("ping timeout"), "{status:?}");
}

#[test]
fn whatever_is_dropped_is_counted_once() {
    for seed in 0..1500_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let overflow = if random(2) == 0 { Overflow::DropOldest } else { Overflow::DropNewest };
        let auto_fragment = if random(3) == 0 { Some(300) } else { None };
        let options = Options {
            buffer: BufferLimits { high: 1024, low: 256, cap: 4096 },
            overflow,
            auto_fragment,
            ping_interval: None,
            write_timeout: None,
            ..Options::default()
        };
        let server = Server::with(options, |mould| mould);
        let peer = server.open();
        let socket = server.log.socket(0);
        let (mut offered, mut begun, mut all) = (0, false, Vec::new());
        for _ in 0..60 {
            let size = random(900) as usize;
            match random(10) {
                0..=2 => {
                    socket.send_binary(&vec![1; size]);
                    offered += 1;
                }
                3 | 4 => {
                    socket.send_latest(random(3), &vec![2; size][..]);
                    offered += 1;
                }
                5 if !begun => {
                    socket.begin_message(true).unwrap();
                    begun = true;
                }
                5 | 6 if begun => socket.send_piece(&vec![3; size / 3]).unwrap(),
                7 if begun => {
                    socket.end_message(&vec![3; size / 3]).unwrap();
                    begun = false;
                    offered += 1;
                }
                8 => peer.set_room(random(2000) as usize),
                9 => {
                    peer.set_room(usize::MAX);
                    server.reactor.settle();
                    all.extend(peer.got());
                }
                _ => server.reactor.settle(),
            }
            if !socket.is_open() {
                break;
            }
        }
        if !socket.is_open() {
            continue;
        }
        if begun {
            socket.end_message(b"").unwrap();
            offered += 1;
        }
        peer.set_room(usize::MAX);
        for _ in 0..5 {
            server.reactor.settle();
            all.extend(peer.got());
        }
        if !socket.is_open() {
            continue;
        }
        let mut open = false;
        let mut received = 0;
        for got in &all {
            match got.opcode {
                0 => assert!(open, "{seed}: a continuation of nothing"),
                1 | 2 => assert!(!open, "{seed}: a message in a message"),
                _ => continue,
            }
            open = !got.fin;
            received += u64::from(got.fin);
        }
        assert_eq!(received + socket.dropped(), offered, "{seed} {overflow:?} {auto_fragment:?}");
    }
}
