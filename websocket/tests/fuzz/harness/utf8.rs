//! Text that comes in pieces.

use twistor_websocket::sansio::{
    Delivery, Event, FrameError, Limits, MAX_HEADER, OpCode, Receiver, Role,
    deflate::{Agreed, Contexts, Inflater},
    encode_header,
};

use super::input::choices;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const TEXT: u8 = 1;

/// Up to this length, text is cut at every place, else at one.
const CUT_EVERYWHERE: usize = 100;

/// A text is judged as `std` judges it, however it comes, and as soon as can be.
pub fn utf8(data: &[u8]) {
    let ([low, high], text) = choices(data);
    let expected = std::str::from_utf8(text).map_err(|_| FrameError::InvalidText);
    let place = usize::from(u16::from_le_bytes([low, high])) % (text.len() + 1);
    let places = if text.len() <= CUT_EVERYWHERE { 0..=text.len() } else { place..=place };

    assert_eq!(frames(Delivery::Messages, &[text]).as_deref(), expected.as_deref());
    assert_eq!(frames(Delivery::Frames, &[text]).as_deref(), expected.as_deref());
    for place in places {
        let (first, second) = text.split_at(place);
        assert_eq!(frames(Delivery::Messages, &[first, second]).as_deref(), expected.as_deref(), "cut at {place}");
        assert_eq!(frames(Delivery::Frames, &[first, second]).as_deref(), expected.as_deref(), "cut at {place}");
        assert_eq!(frames(Delivery::Frames, &[first, b"", second]).as_deref(), expected.as_deref());
    }
    assert_eq!(inflated(text, place).as_deref(), expected.as_deref());
    for delivery in [Delivery::Messages, Delivery::Frames] {
        assert_eq!(first_wrong(delivery, text), first_wrong_by_std(text), "{delivery:?}");
    }
    close_reason(&text[..text.len().min(123)]);
}

/// What a client makes of a text message in these fragments.
fn frames(delivery: Delivery, fragments: &[&[u8]]) -> Result<String, FrameError> {
    let mut receiver = receiver(delivery);
    let (mut text, mut ended) = (Vec::new(), false);
    for (count, fragment) in fragments.iter().enumerate() {
        let fin = if count + 1 == fragments.len() { FIN } else { 0 };
        let opcode = if count == 0 { TEXT } else { 0 };
        feed(&mut receiver, &mut frame(fin | opcode, fragment), &mut text, &mut ended)?;
    }
    assert!(ended, "a whole message is told, or is wrong");
    Ok(String::from_utf8(text).expect("valid text is valid"))
}

/// The same of a compressed one; the text is in stored blocks, so that any comes out as it is.
fn inflated(text: &[u8], place: usize) -> Result<String, FrameError> {
    let agreed = Agreed {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
        level: 1,
        threshold: 0,
    };
    let mut receiver = receiver(Delivery::Frames);
    receiver.set_inflater(Inflater::new(&agreed, Role::Client, &Contexts::of_thread()));
    let mut payload = Vec::new();
    for block in text.chunks(0xffff) {
        let length = block.len() as u16;
        payload.extend([&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes(), block].concat());
    }
    payload.push(0);
    let (first, second) = payload.split_at(place);
    let (mut text, mut ended) = (Vec::new(), false);
    feed(&mut receiver, &mut frame(RSV1 | TEXT, first), &mut text, &mut ended)?;
    feed(&mut receiver, &mut frame(FIN, second), &mut text, &mut ended)?;
    assert!(ended, "a whole message is told, or is wrong");
    Ok(String::from_utf8(text).expect("valid text is valid"))
}

/// T34: the place of the byte with which a text that goes on is refused.
fn first_wrong(delivery: Delivery, text: &[u8]) -> Option<usize> {
    let mut receiver = receiver(delivery);
    let mut header = [0; MAX_HEADER];
    let used = encode_header(&mut header, true, false, OpCode::Text, text.len() + 9, None);
    let (mut seen, mut ended) = (Vec::new(), false);
    feed(&mut receiver, &mut header[..used], &mut seen, &mut ended).expect("a good header");
    text.iter().position(|&byte| feed(&mut receiver, &mut [byte], &mut seen, &mut ended).is_err())
}

/// That of the first prefix that nothing can make right.
fn first_wrong_by_std(text: &[u8]) -> Option<usize> {
    let valid = std::str::from_utf8(text).err()?.valid_up_to();
    let hopeless = |end: &usize| std::str::from_utf8(&text[valid..*end]).is_err_and(|e| e.error_len().is_some());
    (valid + 1..=text.len()).find(hopeless).map(|end| end - 1)
}

/// T35: the reason of a Close is text, too.
fn close_reason(reason: &[u8]) {
    let mut wire = frame(FIN | 8, &[b"\x03\xe8", reason].concat());
    let mut receiver = receiver(Delivery::Messages);
    let mut input = wire.as_mut_slice();
    match (receiver.next(&mut input), std::str::from_utf8(reason)) {
        (Ok(Some(Event::Close(Some(close)))), Ok(reason)) => assert_eq!((close.code, close.reason), (1000, reason)),
        (Err(FrameError::InvalidCloseReason), Err(_)) => {}
        (seen, expected) => panic!("{seen:?} {expected:?}"),
    }
}

fn receiver(delivery: Delivery) -> Receiver {
    let mut receiver = Receiver::new(Role::Client, Limits::default());
    receiver.set_delivery(delivery);
    receiver
}

/// A server's frame; `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; MAX_HEADER];
    let used = encode_header(&mut header, false, false, OpCode::Continuation, payload.len(), None);
    header[0] = first;
    [&header[..used], payload].concat()
}

fn feed(receiver: &mut Receiver, mut input: &mut [u8], text: &mut Vec<u8>, ended: &mut bool) -> Result<(), FrameError> {
    while let Some(event) = receiver.next(&mut input)? {
        match event {
            Event::Text(piece) => {
                text.extend_from_slice(piece.as_bytes());
                *ended = true;
            }
            Event::Data(piece) => text.extend_from_slice(piece),
            Event::End => *ended = true,
            _ => {}
        }
    }
    Ok(())
}

pub fn seeds() -> Vec<Vec<u8>> {
    let long = "Καλημέρα κόσμε, こんにちは世界, 😀. ".repeat(9);
    let texts: [&[u8]; 12] = [
        b"ascii",
        "aé\u{7ff}\u{800}世\u{d7ff}\u{e000}\u{ffff}\u{10000}😀\u{10ffff}z".as_bytes(),
        long.as_bytes(),
        b"\x80",
        b"\xc0\xaf",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xed\xa0\x80\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xce\xce",
        b"\xf0\x9f\x98a",
        b"ok \xf0\x9f\x98",
    ];
    texts.iter().map(|text| [&[3, 0], *text].concat()).collect()
}
