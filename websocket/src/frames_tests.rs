use std::cell::RefCell;
use std::rc::Rc;

use twistor_reactor::for_protocol;
use twistor_reactor::testing::{MemoryPeer, MemoryReactor};

use super::*;
use crate::lobby::{Lobby, masked, shake_hands};
use crate::options::Options;
use crate::server::WebSocketServerFactory;

type Log = Rc<RefCell<Vec<(OpCode, Vec<u8>, bool)>>>;

struct Noting(Log);

impl FrameReceiver for Noting {
    fn frame_received(&mut self, _: &WebSocket, opcode: OpCode, data: &[u8], fin: bool) {
        self.0.borrow_mut().push((opcode, data.to_vec(), fin));
    }
}

fn serve(options: Options) -> (MemoryReactor, MemoryPeer, Log) {
    let log = Log::default();
    let build = log.clone();
    let factory = FramesFactory(for_protocol(move || Noting(build.clone())));
    let reactor = MemoryReactor::new();
    let port = reactor.listen_tcp(80, WebSocketServerFactory::with_options(factory, options)).unwrap();
    let peer = shake_hands(&reactor, &port);
    (reactor, peer, log)
}

fn frame(opcode: OpCode, data: &[u8], fin: bool) -> (OpCode, Vec<u8>, bool) {
    (opcode, data.to_vec(), fin)
}

use OpCode::{Binary, Close, Continuation, Ping, Pong, Text};

/// P256, P257: frames as they were sent, however they are cut on their way.
#[test]
fn every_frame_comes_once_in_order_with_its_fin() {
    let sent = [
        frame(Text, b"whole", true),
        frame(Ping, b"ping", true),
        frame(Binary, b"a", false),
        frame(Pong, b"", true),
        frame(Continuation, b"", false),
        frame(Continuation, &[7; 10_000], true),
        frame(Text, b"", true),
        frame(Text, "\u{e9}".as_bytes().split_at(1).0, false),
        frame(Continuation, "\u{e9}".as_bytes().split_at(1).1, true),
        frame(Close, b"\x03\xe8bye", true),
    ];
    for chunk in [1, 2, 3, 1000, usize::MAX] {
        let (reactor, peer, log) = serve(Options::default());
        peer.set_chunk(chunk);
        for (opcode, data, fin) in &sent {
            peer.send(masked(*opcode, data, *fin));
        }
        reactor.settle();
        assert_eq!(*log.borrow(), sent, "chunks of {chunk}");
        let got = peer.received();
        // pings and the Close are answered without the receiver's help
        assert!(got.starts_with(b"\x8a\x04ping\x88") && got[8..].starts_with(b"\x03\xe8"), "{got:02x?}");
    }
}

#[test]
fn a_fragment_does_not_wait_for_the_next_one() {
    let (reactor, peer, log) = serve(Options::default());
    peer.send(masked(Text, b"first", false));
    reactor.settle();
    assert_eq!(log.take(), [frame(Text, b"first", false)]);
    peer.send(masked(Continuation, b"last", true));
    reactor.settle();
    assert_eq!(log.take(), [frame(Continuation, b"last", true)]);
}

/// P262, T28
#[test]
fn frames_are_bounded_as_messages_are() {
    let (reactor, peer, log) = serve(Options { max_frame: 1000, ..Options::default() });
    peer.send(&masked(Binary, &[0; 1001], true)[..8]);
    reactor.settle();
    assert_eq!(log.take(), []);
    let close = peer.received();
    assert_eq!((close[0], &close[2..4]), (0x88, &1009_u16.to_be_bytes()[..]));
}

#[test]
fn a_close_without_a_code_is_an_empty_frame() {
    let (reactor, peer, log) = serve(Options::default());
    peer.send(masked(Close, b"", true));
    reactor.settle();
    assert_eq!(log.take(), [frame(Close, b"", true)]);
    assert_eq!(close_frame(b"\x03"), (1005, ""));
    assert_eq!(close_frame(b"\x03\xe9\xff"), (1001, ""));
}

#[test]
fn frames_are_sent_as_given() {
    let lobby = Lobby::new();
    let (peer, transport) = lobby.client();
    for (opcode, data, fin) in [
        (Text, "one", true),
        (Binary, "two", false),
        (Ping, "between", true),
        (Continuation, "three", false),
        (Continuation, "", true),
        (Close, "\u{4}\u{5}bye", true),
    ] {
        let sent = transport.send_frame(opcode, data.as_bytes(), fin);
        let code = InvalidCloseCode(0x0405);
        assert_eq!(sent, if opcode == Close { Err(FrameMisuse::CloseCode(code)) } else { Ok(()) });
    }
    transport.send_frame(Close, b"\x03\xe9bye", true).unwrap();
    transport.send_frame(Text, b"too late", true).unwrap();
    lobby.reactor.settle();
    let want: [&[u8]; 6] =
        [b"\x81\x03one", b"\x02\x03two", b"\x89\x07between", b"\x00\x05three", b"\x80\x00", b"\x88\x05\x03\xe9bye"];
    assert_eq!(peer.received(), want.concat());
}

#[test]
fn frames_that_may_not_be_sent_are_refused_and_change_nothing() {
    let lobby = Lobby::new();
    let (peer, transport) = lobby.client();
    let refused = |opcode, data: &[u8], fin| transport.send_frame(opcode, data, fin).unwrap_err();
    assert_eq!(refused(Ping, b"", false), FrameMisuse::FragmentedControl(Ping));
    assert_eq!(refused(Pong, &[0; 126], true), FrameMisuse::ControlTooLong(ControlTooLong { length: 126 }));
    assert_eq!(refused(Continuation, b"", true), FrameMisuse::OutOfOrder(MessageUnfinished::NotBegun));
    transport.send_frame(Text, b"a", false).unwrap();
    assert_eq!(refused(Binary, b"", true), FrameMisuse::OutOfOrder(MessageUnfinished::AlreadyBegun));
    transport.send_frame(Continuation, b"b", true).unwrap();
    lobby.reactor.settle();
    assert_eq!(peer.received(), b"\x01\x01a\x80\x01b");
    assert_eq!(refused(Ping, b"", false).to_string(), "expected a ping frame with fin, got one without");
}

/// T41
#[test]
fn a_peer_that_does_not_read_frames_is_left_before_memory_grows() {
    let lobby = Lobby::new();
    let (peer, transport) = lobby.client();
    peer.set_room(0);
    for _ in 0..100 {
        transport.send_frame(Binary, &[0; 100_000], true).unwrap();
    }
    assert!(!transport.is_open());
    assert!(transport.buffered() <= transport.options().buffer.cap + 100_000, "{}", transport.buffered());
}
