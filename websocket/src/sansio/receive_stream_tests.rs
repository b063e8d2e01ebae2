//! Streamed and compressed messages.

use super::{
    tests::{FIN, RSV1, Seen, deflated, feed, frame, inflating, see_with, server, text},
    *,
};

// T23: RFC 7692, 6
#[test]
fn with_compression_rsv1_is_still_wrong_on_continuations_and_control_frames() {
    let first = frame(FIN | RSV1 | 2, &deflated(b"fine"));
    for wrong in [FIN | RSV1 | 9, FIN | RSV1 | 8, 0x20 | FIN | RSV1 | 1, RSV1] {
        let mut wire = first.clone();
        wire.extend(frame(1, b"a").into_iter().chain(frame(wrong, b"")));
        let bits = wrong >> 4 & 7;
        for delivery in [Delivery::Messages, Delivery::Frames] {
            let result = see_with(|| inflating(Limits::default(), delivery), &wire);
            assert_eq!(result, Err(FrameError::ReservedBits(bits)));
        }
    }
}

#[test]
fn streamed_messages_come_frame_by_frame() {
    let wire = [frame(1, b"Hel"), frame(0x89, b"!"), frame(0, b""), frame(0x80, b"lo"), frame(0x82, b"")].concat();
    let streaming = || {
        let mut receiver = server();
        receiver.set_delivery(Delivery::Frames);
        receiver
    };
    let expected = [
        Seen::Begin(true),
        Seen::FrameBegin(3),
        Seen::Data(b"Hel".into()),
        Seen::FrameEnd,
        Seen::Ping(b"!".into()),
        Seen::FrameBegin(0),
        Seen::FrameEnd,
        Seen::FrameBegin(2),
        Seen::Data(b"lo".into()),
        Seen::FrameEnd,
        Seen::End,
        Seen::Begin(false),
        Seen::FrameBegin(0),
        Seen::FrameEnd,
        Seen::End,
    ];
    assert_eq!(see_with(streaming, &wire), Ok(expected.into()));
}

#[test]
fn a_change_of_delivery_waits_for_the_next_message() {
    let mut receiver = server();
    let mut seen = Vec::new();
    feed(&mut receiver, &frame(1, b"a"), &mut seen).unwrap();
    receiver.set_delivery(Delivery::Frames);
    feed(&mut receiver, &[frame(0x80, b"b"), frame(2, b"c")].concat(), &mut seen).unwrap();
    receiver.set_delivery(Delivery::Messages);
    feed(&mut receiver, &[frame(0x80, b"d"), frame(0x81, b"e")].concat(), &mut seen).unwrap();
    assert_eq!(seen[..3], [text("ab"), Seen::Begin(false), Seen::FrameBegin(1)]);
    assert_eq!(seen[seen.len() - 2..], [Seen::End, text("e")]);
}

// T39, P262
#[test]
fn a_deflate_bomb_stops_at_the_limit_in_both_deliveries() {
    let bomb = deflated(&vec![0; 32 << 20]);
    let (head, tail) = bomb.split_at(100);
    for delivery in [Delivery::Messages, Delivery::Frames] {
        for wire in [frame(0xc2, &bomb), [frame(0x42, head), frame(0x80, tail)].concat()] {
            let mut receiver = inflating(Limits::default(), delivery);
            let mut seen = Vec::new();
            let error = feed(&mut receiver, &wire, &mut seen).unwrap_err();
            assert_eq!((error, error.close_code()), (FrameError::InflatedTooBig(1 << 20), 1009));
            assert!(receiver.buffered() <= 1 << 17);
            feed(&mut receiver, b"more", &mut seen).unwrap();
            assert!(receiver.inflater.is_none(), "the inflater is freed");
        }
    }
}

// T40
#[test]
fn corrupt_and_truncated_deflate_is_1007_in_both_deliveries() {
    let fine = deflated(&b"some text, some text, some more text".repeat(100));
    let half = &fine[..fine.len() / 2];
    for delivery in [Delivery::Messages, Delivery::Frames] {
        for payload in [half, b"\x07", b"\xff\xff\xff"] {
            let receiver = || inflating(Limits::default(), delivery);
            let error = see_with(receiver, &frame(0xc2, payload)).unwrap_err();
            assert_eq!((error, error.close_code()), (FrameError::CorruptDeflate, 1007));
        }
        let not_text = see_with(|| inflating(Limits::default(), delivery), &frame(0xc1, &deflated(&[0xff; 100])));
        assert_eq!(not_text, Err(FrameError::InvalidText));
    }
}

#[test]
fn a_streamed_compressed_message_comes_in_chunks_of_bounded_size() {
    let payload: Vec<u8> = (0..900_000u32).map(|n| (n / 1000) as u8).collect();
    let mut receiver = inflating(Limits::default(), Delivery::Frames);
    let mut wire = frame(0xc2, &deflated(&payload));
    let (mut input, mut got) = (wire.as_mut_slice(), Vec::new());
    while let Some(event) = receiver.next(&mut input).unwrap() {
        if let Event::Data(chunk) = event {
            assert!((1..=64 << 10).contains(&chunk.len()));
            got.extend_from_slice(chunk);
        }
    }
    assert_eq!((got == payload, receiver.buffered()), (true, 0));
}
