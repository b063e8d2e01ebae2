//! permessage-deflate: RFC 7692.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use twistor_websocket::sansio::deflate::DeflateOptions;
use twistor_websocket::{Options, Piece};

use crate::support::{
    Client, Event, Peer, Recorder, Server, TEXT, Wire, binary, continuation, frame, heap, ping, text,
};

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate";

/// RFC 7692, 7.2.1.
pub(crate) fn deflated_by(compress: &mut Compress, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 100);
    let status = compress.compress_vec(payload, &mut out, FlushCompress::Sync);
    status.expect("no error");
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

pub(crate) fn deflated(payload: impl AsRef<[u8]>) -> Vec<u8> {
    deflated_by(&mut Compress::new(Compression::default(), false), payload.as_ref())
}

fn compressed(payload: impl AsRef<[u8]>) -> Wire {
    frame(TEXT, deflated(payload)).rsv(4)
}

/// RFC 7692, 7.2.2.
pub(crate) fn inflated(payload: &[u8]) -> Vec<u8> {
    let input = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut out = Vec::with_capacity(1 << 20);
    Decompress::new(false).decompress_vec(&input, &mut out, FlushDecompress::Sync).expect("a stream");
    out
}

pub(crate) fn with(deflate: DeflateOptions, mould: impl FnOnce(Recorder) -> Recorder) -> Server {
    Server::with(Options { compression: Some(deflate), ..Options::default() }, mould)
}

fn echo() -> Server {
    with(DeflateOptions::default(), Recorder::echoing)
}

fn open(server: &Server) -> Peer {
    let peer = server.connect();
    peer.open("/", &[OFFER]);
    peer
}

#[test]
fn messages_come_and_go_compressed() {
    let server = echo();
    let peer = open(&server);
    let words = "to be or not to be ".repeat(20);
    for _ in 0..3 {
        peer.frame(&compressed(&words));
        let got = peer.got();
        assert_eq!((got.len(), got[0].rsv, got[0].opcode), (1, 4, TEXT));
        assert!(got[0].payload.len() < words.len() / 4);
        assert_eq!(inflated(&got[0].payload), words.as_bytes());
    }
    // what is small, or does not get smaller, goes as it is; what comes may be either
    peer.frames(&[text("short"), compressed("short")]);
    assert_eq!(peer.lines(), ["text short", "text short"]);
}

#[test]
fn a_message_can_be_kept_from_compression() {
    let server = with(DeflateOptions::default(), |mould| mould);
    let peer = open(&server);
    server.log.socket(0).send_uncompressed("secret ".repeat(50));
    server.reactor.settle();
    assert_eq!(peer.got()[0].rsv, 0);
}

// P275
#[test]
fn the_offer_is_answered_as_agreed() {
    let usual = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let takeover = DeflateOptions {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        ..DeflateOptions::default()
    };
    let small = DeflateOptions { server_max_window_bits: 10, client_max_window_bits: 11, ..takeover };
    let nine = format!("{usual}; server_max_window_bits=9");
    let cases = [
        (DeflateOptions::default(), "permessage-deflate", Some(usual)),
        (DeflateOptions::default(), "x, permessage-deflate; bad, permessage-deflate", Some(usual)),
        (DeflateOptions::default(), "permessage-deflate; server_max_window_bits=9", Some(&*nine)),
        (DeflateOptions::default(), "x-webkit-deflate-frame", None),
        (takeover, "permessage-deflate", Some("permessage-deflate")),
        (
            takeover,
            "permessage-deflate; server_no_context_takeover",
            Some("permessage-deflate; server_no_context_takeover"),
        ),
        (small, "permessage-deflate", Some("permessage-deflate; server_max_window_bits=10")),
        (
            small,
            "permessage-deflate; client_max_window_bits",
            Some("permessage-deflate; server_max_window_bits=10; client_max_window_bits=11"),
        ),
    ];
    for (options, offer, expected) in cases {
        let server = with(options, |mould| mould);
        let response = server.connect().open("/", &[&format!("Sec-WebSocket-Extensions: {offer}")]);
        assert_eq!(response.header("Sec-WebSocket-Extensions"), expected, "{offer}");
        assert_eq!(server.log.socket(0).compression().is_some(), expected.is_some());
    }
    // off by default
    let response = Server::new().connect().open("/", &[OFFER]);
    assert_eq!(response.header("Sec-WebSocket-Extensions"), None);
}

// P275
#[test]
fn every_window_that_can_be_agreed_on_works() {
    let words: String = (0..2000).map(|number| format!("{} ", number % 300)).collect();
    for bits in 8..=15 {
        for takeover in [false, true] {
            let options = DeflateOptions {
                server_no_context_takeover: !takeover,
                client_no_context_takeover: !takeover,
                ..DeflateOptions::default()
            };
            let server = with(options, Recorder::echoing);
            let peer = server.connect();
            peer.open("/", &[&format!("{OFFER}; server_max_window_bits={bits}; client_max_window_bits={bits}")]);
            let mut all = Decompress::new(false);
            for _ in 0..3 {
                peer.frame(&text(&words));
                let got = peer.got().remove(0);
                if got.rsv == 0 {
                    assert_eq!((bits, &*got.payload), (8, words.as_bytes()), "only 8 bits cannot be compressed with");
                    continue;
                }
                if !takeover {
                    all.reset(false);
                }
                let mut out = Vec::with_capacity(2 * words.len());
                let input = [&got.payload[..], &[0, 0, 0xff, 0xff]].concat();
                all.decompress_vec(&input, &mut out, FlushDecompress::Sync).unwrap();
                assert_eq!(out, words.as_bytes(), "{bits} {takeover}");
            }
        }
    }
}

#[test]
fn a_clients_context_may_span_messages_if_that_was_agreed() {
    let options = DeflateOptions { client_no_context_takeover: false, ..DeflateOptions::default() };
    let server = with(options, |mould| mould);
    let peer = open(&server);
    let mut compress = Compress::new(Compression::default(), false);
    for number in 0..3 {
        let payload = deflated_by(&mut compress, b"the same words again and again, the same words");
        assert!(number == 0 || payload.len() < 12, "{} bytes", payload.len());
        peer.frame(&frame(TEXT, payload).rsv(4));
    }
    assert_eq!(server.log.count("text the same words"), 3);
}

#[test]
fn only_the_first_fragment_is_marked_and_control_frames_pass() {
    let server = echo();
    let peer = open(&server);
    let payload = deflated("fragmented ".repeat(30));
    let (first, second) = payload.split_at(5);
    peer.frames(&[frame(TEXT, first).rsv(4).more(), ping("p"), continuation("").more(), continuation(second)]);
    let got = peer.got();
    assert_eq!(got[0].to_string(), "pong p");
    assert_eq!(inflated(&got[1].payload), "fragmented ".repeat(30).as_bytes());
}

/// RFC 7692, 6.1: compressed first, fragmented then, and marked once.
#[test]
fn a_compressed_message_is_cut_into_fragments_of_which_the_first_is_marked() {
    let options =
        Options { compression: Some(DeflateOptions::default()), auto_fragment: Some(10), ..Options::default() };
    let server = Server::with(options, |mould| mould);
    let peer = open(&server);
    let words = "to be or not to be ".repeat(20);
    server.log.socket(0).send_text(&words);
    server.reactor.settle();
    let got = peer.got();
    assert!(got.len() > 1);
    let marks: Vec<u8> = got.iter().map(|frame| frame.rsv).collect();
    assert_eq!((marks[0], marks[1..].iter().max()), (4, Some(&0)));
    let payload: Vec<u8> = got.into_iter().flat_map(|frame| frame.payload).collect();
    assert_eq!(inflated(&payload), words.as_bytes());
}

// P261
#[test]
fn t23_rsv1_elsewhere_than_on_a_first_frame_is_refused_though_compression_was_agreed() {
    let part = frame(TEXT, &deflated("x")[..1]).rsv(4).more();
    for wires in [vec![part, continuation("x").rsv(4)], vec![ping("").rsv(4)], vec![text("").rsv(2)]] {
        let server = echo();
        let peer = open(&server);
        peer.frames(&wires);
        assert_eq!(peer.closed_with().0, 1002);
    }
}

/// 1 GiB, as small as DEFLATE gets it: the same blocks 64 times.
fn bomb() -> Vec<u8> {
    let blocks = [&deflated(vec![0; 16 << 20])[..], &[0, 0, 0xff, 0xff]].concat().repeat(64);
    blocks[..blocks.len() - 4].into()
}

// P262
#[test]
fn t39_a_deflate_bomb_is_refused_at_the_message_limit() {
    let bomb = bomb();
    assert!(bomb.len() < 1 << 20, "{} bytes: a frame of it would be too large itself", bomb.len());
    let whole = vec![binary(&bomb).rsv(4)];
    let mut nested: Vec<Wire> = bomb.chunks(2000).map(|piece| continuation(piece).more()).collect();
    nested[0] = binary(&bomb[..2000]).rsv(4).more();
    nested.push(continuation("")); // a message is inflated once it is whole
    for wires in [whole, nested] {
        for takeover in [false, true] {
            let options = DeflateOptions { client_no_context_takeover: !takeover, ..DeflateOptions::default() };
            let server = with(options, |mould| mould);
            let peer = open(&server);
            // warm: what an inflater needs for itself is there
            peer.frame(&compressed("warm"));
            let encoded = peer.encode(&wires);
            let peak = heap::peak_of(|| peer.send(&encoded));
            assert!(peak < 4 << 20, "{peak} bytes for a limit of 1 MiB");
            assert_eq!(peer.closed_with().0, 1009, "takeover {takeover}, frames {}", wires.len());
            assert_eq!(server.log.count("binary"), 0);
        }
    }
}

#[test]
fn t39_a_bomb_is_no_better_in_pieces() {
    let server = with(DeflateOptions::default(), Recorder::in_pieces);
    let peer = open(&server);
    let wire = binary(bomb()).rsv(4).masked();
    let peak = heap::peak_of(|| peer.send(&wire));
    assert!(peak < 2 << 20, "{peak}");
    assert_eq!(peer.closed_with().0, 1009);
}

// P262
#[test]
fn the_limit_counts_what_a_message_inflates_to() {
    let options = Options { compression: Some(DeflateOptions::default()), max_message: 1000, ..Options::default() };
    let server = Server::with(options, |mould| mould);
    let peer = open(&server);
    peer.frame(&compressed("x".repeat(1000)));
    assert_eq!(server.log.count("text"), 1);
    peer.frame(&compressed("x".repeat(1001)));
    assert_eq!(peer.closed_with().0, 1009);
}

// P275
#[test]
fn t40_corrupt_streams_are_refused_and_never_loop() {
    let words = deflated("words that are long enough to be cut in two");
    let cut = &words[..words.len() / 2];
    // a back-reference of distance 1 with nothing before it: fixed block, length 3, distance 1
    let corrupt: [&[u8]; 5] = [&[0xff; 10], cut, &[0x07], &[0x03, 0x02], &[0x05, 0x00]];
    for payload in corrupt {
        let server = echo();
        let peer = open(&server);
        peer.frame(&frame(TEXT, payload).rsv(4));
        assert_eq!(peer.closed_with().0, 1007, "{payload:02x?}");
    }
}

// RFC 7692, 7.2.3.6: an empty message is one empty block, or none with a final bit.
#[test]
fn t40_empty_compressed_messages_are_empty_messages() {
    let server = with(DeflateOptions::default(), |mould| mould);
    let peer = open(&server);
    peer.frames(&[frame(TEXT, [0]).rsv(4), frame(TEXT, [2, 0]).rsv(4), compressed("")]);
    assert!(peer.got().is_empty());
    assert_eq!(server.log.take(), ["made", "text", "text", "text"]);
}

// P263
#[test]
fn compressed_text_is_checked_too() {
    let peer = open(&echo());
    peer.frame(&compressed(b"ok \xff"));
    assert_eq!(peer.closed_with().0, 1007);
}

/// A pause in the middle of what a small frame inflates to.
#[test]
fn a_pause_amid_inflated_pieces_goes_on_with_the_resume() {
    let server = with(DeflateOptions::default(), |mould| {
        mould.in_pieces().acting(|socket, event| {
            if let Event::Piece(Piece::Data(_)) = event {
                socket.pause_producing();
            }
        })
    });
    let peer = open(&server);
    peer.frame(&binary(deflated(vec![0; 300_000])).rsv(4));
    for _ in 0..20 {
        server.log.socket(0).resume_producing();
        server.reactor.settle();
    }
    assert_eq!(server.log.count("End"), 1, "{:?}", server.log.take());
}

#[test]
fn a_client_and_a_server_agree() {
    let options = Options { compression: Some(DeflateOptions::default()), ..Options::default() };
    let client = Client::with(options, Recorder::echoing);
    client.server.accept(
        &["Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover"],
        &[],
    );
    let words = "to be or not to be ".repeat(20);
    client.server.frame(&compressed(&words));
    let got = client.server.got();
    assert!(got[0].masked && got[0].rsv == 4);
    assert_eq!(inflated(&got[0].payload), words.as_bytes());
}

/// RFC 7692, 7.2.3.6, has a byte for it, but zlib may make nothing of an empty message.
#[test]
fn an_empty_compressed_payload_is_an_empty_message_and_spoils_no_other() {
    for takeover in [false, true] {
        let options = DeflateOptions { client_no_context_takeover: !takeover, ..DeflateOptions::default() };
        let server = with(options, |mould| mould);
        let peer = open(&server);
        peer.frames(&[text("").rsv(4), compressed("Hello"), text("").rsv(4), text([0]).rsv(4), compressed("Hello")]);
        assert_eq!(server.log.take()[1..], ["text", "text Hello", "text", "text", "text Hello"], "{takeover}");
    }
}
