use super::*;
use crate::sansio::{
    copy_masked,
    deflate::{Agreed, Contexts, DeflateOptions, Deflater, accept_offer},
    encode_header,
};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
pub(super) const FIN: u8 = 0x80;
pub(super) const RSV1: u8 = 0x40;

/// An event that owns what it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Begin(bool),
    FrameBegin(u64),
    Data(Vec<u8>),
    FrameEnd,
    End,
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.into()),
            Event::Binary(bytes) => Self::Binary(bytes.into()),
            Event::Begin { text } => Self::Begin(text),
            Event::FrameBegin { length } => Self::FrameBegin(length),
            Event::Data(bytes) => Self::Data(bytes.into()),
            Event::FrameEnd => Self::FrameEnd,
            Event::End => Self::End,
            Event::Ping(payload) => Self::Ping(payload.into()),
            Event::Pong(payload) => Self::Pong(payload.into()),
            Event::Close(close) => Self::Close(close.map(|close| (close.code, close.reason.into()))),
        }
    }
}

pub(super) fn text(text: &str) -> Seen {
    Seen::Text(text.into())
}

fn binary(bytes: &[u8]) -> Seen {
    Seen::Binary(bytes.into())
}

/// A client's frame; `first` is its first byte.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; 14];
    let length = encode_header(&mut header, false, false, OpCode::Continuation, payload.len(), Some(KEY));
    header[0] = first;
    let mut frame = header[..length].to_vec();
    copy_masked(&mut frame, payload, KEY);
    frame
}

/// Gives the receiver one input and collects what it finds; adjacent pieces of data become one.
pub(super) fn feed(receiver: &mut Receiver, input: &[u8], seen: &mut Vec<Seen>) -> Result<(), FrameError> {
    let mut bytes = input.to_vec();
    let mut input = bytes.as_mut_slice();
    while let Some(event) = receiver.next(&mut input)? {
        match (seen.last_mut(), Seen::from(event)) {
            (Some(Seen::Data(before)), Seen::Data(piece)) => before.extend(piece),
            (_, event) => seen.push(event),
        }
    }
    assert!(input.is_empty(), "None means that the input is used up");
    Ok(())
}

pub(super) fn server() -> Receiver {
    Receiver::new(Role::Server, Limits::default())
}

/// What a server sees of `wire`, in one piece and byte by byte, which must be the same.
pub(super) fn see_with(receiver: impl Fn() -> Receiver, wire: &[u8]) -> Result<Vec<Seen>, FrameError> {
    let (mut whole, mut singly) = (Vec::new(), Vec::new());
    let result = feed(&mut receiver(), wire, &mut whole);
    let mut one = receiver();
    let result_singly = wire.chunks(1).try_for_each(|byte| feed(&mut one, byte, &mut singly));
    assert_eq!((&whole, result), (&singly, result_singly));
    result.map(|()| whole)
}

fn see(wire: &[u8]) -> Result<Vec<Seen>, FrameError> {
    see_with(server, wire)
}

fn agreed(takeover: bool) -> Agreed {
    let options =
        DeflateOptions { client_no_context_takeover: !takeover, threshold: 0, level: 6, ..DeflateOptions::default() };
    accept_offer(["permessage-deflate"], &options).unwrap().0
}

pub(super) fn inflating(limits: Limits, delivery: Delivery) -> Receiver {
    let mut receiver = Receiver::new(Role::Server, limits);
    receiver.set_inflater(Inflater::new(&agreed(false), Role::Server, &Contexts::of_thread()));
    receiver.set_delivery(delivery);
    receiver
}

pub(super) fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let deflates = Deflater::new(&agreed(true), Role::Client, &Contexts::of_thread()).compress(payload, &mut out);
    if deflates { out } else { b"\0".to_vec() }
}

// RFC 6455, 5.7
#[test]
fn the_examples_of_the_rfc_are_read() {
    let mut seen = Vec::new();
    let mut client = Receiver::new(Role::Client, Limits::default());
    feed(&mut client, b"\x81\x05Hello\x01\x03Hel\x80\x02lo\x89\x05Hello", &mut seen).unwrap();
    assert_eq!(seen, [text("Hello"), text("Hello"), Seen::Ping(b"Hello".into())]);
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(see(masked), Ok(vec![text("Hello"), Seen::Pong(b"Hello".into())]));
}

// P256
#[test]
fn messages_of_every_length_form_arrive_whole() {
    for length in [0, 1, 3, 4, 125, 126, 127, 65535, 65536, 1 << 20] {
        let payload: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        assert_eq!(see(&frame(0x82, &payload)), Ok(vec![binary(&payload)]));
        let letters = "x".repeat(length);
        assert_eq!(see(&frame(0x81, letters.as_bytes())), Ok(vec![text(&letters)]));
    }
}

// T21 to T27, P261
#[test]
fn violations_are_found_in_the_header_alone() {
    use FrameError::*;
    let cases: &[(Role, &[u8], FrameError)] = &[
        (Role::Server, b"\x81\x05", Unmasked),
        (Role::Client, b"\x81\x85", Masked),
        (Role::Server, b"\xc1\x85", ReservedBits(4)),
        (Role::Server, b"\xa1\x85", ReservedBits(2)),
        (Role::Server, b"\x91\x85", ReservedBits(1)),
        (Role::Server, b"\x83\x80", ReservedOpCode(3)),
        (Role::Server, b"\x87\x80", ReservedOpCode(7)),
        (Role::Server, b"\x8b\x80", ReservedOpCode(11)),
        (Role::Server, b"\x8f\x80", ReservedOpCode(15)),
        (Role::Server, b"\x09\x80", FragmentedControl(OpCode::Ping)),
        (Role::Server, b"\x08\x80", FragmentedControl(OpCode::Close)),
        (Role::Server, b"\x8a\xfe", ControlTooLong(OpCode::Pong)),
        (Role::Server, b"\x89\xff", ControlTooLong(OpCode::Ping)),
        (Role::Client, b"\x82\x7e\x00\x7d", LengthNotMinimal(125)),
        (Role::Client, b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff", LengthNotMinimal(65535)),
        (Role::Client, b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", LengthTopBit),
        (Role::Client, b"\x80\x05", NothingToContinue),
        (Role::Client, b"\x00\x05", NothingToContinue),
        (Role::Client, b"\x01\x01a\x81\x05", MessageUnfinished(OpCode::Text)),
        (Role::Client, b"\x01\x01a\x02\x05", MessageUnfinished(OpCode::Binary)),
    ];
    for &(role, wire, error) in cases {
        assert_eq!(see_with(|| Receiver::new(role, Limits::default()), wire), Err(error));
        assert_eq!(error.close_code(), 1002, "{error}");
    }
}

// T25, P257
#[test]
fn control_frames_between_fragments_are_delivered_and_leave_the_message_intact() {
    let longest = [b'p'; 125];
    let wire = [
        frame(1, "gr\u{fc}".as_bytes()),
        frame(0x89, &longest),
        frame(0, "\u{df}".as_bytes()),
        frame(0x8a, b""),
        frame(0x80, b"e"),
    ];
    let expected = vec![Seen::Ping(longest.into()), Seen::Pong(vec![]), text("gr\u{fc}\u{df}e")];
    assert_eq!(see(&wire.concat()), Ok(expected));
}

// T28, T29, P262
#[test]
fn a_declared_length_is_judged_at_once_and_never_reserved() {
    for declared in [1u64 << 62, (1 << 20) + 1] {
        let mut header = b"\x82\xff".to_vec();
        header.extend(declared.to_be_bytes());
        header.extend(KEY);
        let error = FrameError::FrameTooBig { length: declared, limit: 1 << 20 };
        assert_eq!(see(&header), Err(error));
        assert_eq!(error.close_code(), 1009);
    }
    let mut receiver = server();
    let wire = frame(0x82, &[7; 1 << 20]);
    let mut seen = Vec::new();
    feed(&mut receiver, &wire[..14], &mut seen).unwrap();
    assert_eq!(receiver.buffered(), 0);
    for (n, piece) in wire[14..wire.len() - 1].chunks(1000).enumerate() {
        feed(&mut receiver, piece, &mut seen).unwrap();
        assert!(receiver.buffered() <= 2 * 1000 * (n + 1));
    }
    feed(&mut receiver, &wire[wire.len() - 1..], &mut seen).unwrap();
    assert_eq!(seen.len(), 1);
}

// T29
#[test]
fn ten_thousand_receivers_of_the_largest_frame_hold_what_has_come_of_it() {
    let mut receivers: Vec<Receiver> = (0..10_000).map(|_| server()).collect();
    let mut header = b"\x82\xff".to_vec();
    header.extend((1_u64 << 20).to_be_bytes());
    header.extend(KEY);
    let mut held = |wire: &[u8]| {
        let mut feed_and_ask = |receiver: &mut Receiver| {
            feed(receiver, wire, &mut Vec::new()).unwrap();
            receiver.buffered()
        };
        receivers.iter_mut().map(&mut feed_and_ask).sum::<usize>()
    };
    assert_eq!(held(&header), 0);
    let (first, both) = (held(&[0; 100]), held(&[0; 900]));
    assert!(first <= 2 * 100 * 10_000 && both <= 2 * 1000 * 10_000, "{first}, then {both} bytes");
}

// T31, P262
#[test]
fn fragments_count_against_the_message_limit_together() {
    let limits = Limits { max_message: 10, max_frame: 8, max_fragments: 100 };
    let limited = || Receiver::new(Role::Server, limits);
    let fits = [frame(2, b"12345678"), frame(0x80, b"90")].concat();
    assert_eq!(see_with(limited, &fits), Ok(vec![binary(b"1234567890")]));
    let over = [frame(2, b"12345678"), frame(0x80, b"901")[..2].to_vec()].concat();
    let error = see_with(limited, &[&over[..], &KEY].concat()).unwrap_err();
    assert_eq!((error, error.close_code()), (FrameError::MessageTooBig(10), 1009));
    assert_eq!(see_with(limited, &frame(0x82, &[0; 9])), Err(FrameError::FrameTooBig { length: 9, limit: 8 }));
    let message_only = || Receiver::new(Role::Server, Limits { max_message: 8, ..Limits::default() });
    assert_eq!(see_with(message_only, &frame(0x82, &[0; 9])), Err(FrameError::MessageTooBig(8)));
}

// T30, T31
#[test]
fn too_many_fragments_are_refused_even_if_empty() {
    for payload in [&b""[..], b"x"] {
        let mut wire = frame(2, payload);
        for _ in 0..1023 {
            wire.extend(frame(0, payload));
        }
        assert_eq!(see(&wire), Ok(vec![]));
        wire.extend(frame(0x80, payload));
        let error = see(&wire).unwrap_err();
        assert_eq!((error, error.close_code()), (FrameError::TooManyFragments(1024), 1008));
    }
}

// T34, P263: Autobahn 6.4.3 and 6.4.4.
#[test]
fn a_wrong_byte_in_an_unfinished_frame_fails_before_the_rest_arrives() {
    let whole = frame(1, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80\x65\x64\x69\x74\x65\x64");
    let wrong_at = 6 + 12;
    for delivery in [Delivery::Messages, Delivery::Frames] {
        let mut receiver = server();
        receiver.set_delivery(delivery);
        let mut seen = Vec::new();
        assert_eq!(feed(&mut receiver, &whole[..wrong_at], &mut seen), Ok(()));
        let error = feed(&mut receiver, &whole[wrong_at..=wrong_at], &mut seen).unwrap_err();
        assert_eq!((error, error.close_code()), (FrameError::InvalidText, 1007));
    }
}

// T35, P263
#[test]
fn text_that_ends_inside_a_character_fails_with_its_last_frame() {
    let wires = [frame(0x81, b"a\xc3"), [frame(1, b"a\xc3"), frame(0, b""), frame(0x80, b"")].concat()];
    for wire in wires {
        for delivery in [Delivery::Messages, Delivery::Frames] {
            assert_eq!(see_with(|| inflating(Limits::default(), delivery), &wire), Err(FrameError::InvalidText));
        }
    }
    let split = [frame(1, b"\xf0\x9f"), frame(0, b"\x98"), frame(0x80, b"\x80")].concat();
    assert_eq!(see(&split), Ok(vec![text("\u{1f600}")]));
}

// T36, T37, P264
#[test]
fn what_follows_a_close_or_an_error_is_ignored() {
    let wire = [frame(0x81, b"x"), frame(0x88, b"\x03\xe8bye"), frame(0x89, b""), frame(0x88, b""), vec![0xff; 99]];
    assert_eq!(see(&wire.concat()), Ok(vec![text("x"), Seen::Close(Some((1000, "bye".into())))]));
    assert_eq!(see(&frame(0x88, b"")), Ok(vec![Seen::Close(None)]));

    let unfinished = [frame(1, b"unfinished"), vec![0xff; 2]].concat();
    for (wire, error) in [(unfinished, FrameError::ReservedOpCode(15)), (frame(0x81, b"\xff"), FrameError::InvalidText)]
    {
        let mut receiver = server();
        let mut seen = Vec::new();
        assert_eq!(feed(&mut receiver, &wire, &mut seen), Err(error));
        assert_eq!(feed(&mut receiver, &frame(0x81, b"late"), &mut seen), Ok(()));
        assert_eq!((seen, receiver.buffered()), (vec![], 0));
    }
}

// T36
#[test]
fn malformed_closes_have_their_codes() {
    for (payload, error, code) in [
        (&b"\x03"[..], FrameError::ClosePayloadLength, 1002),
        (b"\x03\xed", FrameError::InvalidCloseCode(1005), 1002),
        (b"\x03\xe8\xff", FrameError::InvalidCloseReason, 1007),
    ] {
        assert_eq!(see(&frame(0x88, payload)), Err(error));
        assert_eq!(error.close_code(), code);
    }
}

#[test]
fn a_receiver_between_messages_owns_no_buffer() {
    let mut receiver = inflating(Limits::default(), Delivery::Messages);
    let wires = [
        frame(0x82, &[1; 1000]),
        [frame(1, b"abc"), frame(0x89, b"p"), frame(0x80, b"def")].concat(),
        frame(FIN | RSV1 | 2, &deflated(&[2; 10_000])),
    ];
    for wire in wires {
        for size in [1, 7, wire.len()] {
            let mut seen = Vec::new();
            wire.chunks(size).for_each(|piece| feed(&mut receiver, piece, &mut seen).unwrap());
            assert!(!seen.is_empty());
            assert_eq!((receiver.buffered(), receiver.phase), (0, Phase::Idle));
        }
    }
    assert!(size_of::<Receiver>() <= 160);
}
