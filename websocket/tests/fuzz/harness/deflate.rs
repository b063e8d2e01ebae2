//! Compression and decompression of whole messages.

use twistor_websocket::sansio::{
    Delivery, Event, FrameError, Limits, MAX_HEADER, OpCode, Receiver, Role,
    deflate::{Agreed, Contexts, Deflater, InflateError, Inflater},
    encode_header,
};

use super::input::choices;

const LIMITS: [usize; 8] = [0, 1, 100, 1000, 1023, 1024, 70_000, 300_000];
const REPEATS: [usize; 4] = [1, 3, 20, 100];

/// "Hello" (RFC 7692, 7.2.3.1)
const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";

/// No more: each is inflated again after those before it.
const MAX_MESSAGES: usize = 8;

/// Arbitrary bytes inflated, or messages deflated and inflated again.
pub fn deflate(data: &[u8]) {
    let ([flags, bits, limit, length], rest) = choices(data);
    let agreed = Agreed {
        server_no_context_takeover: flags & 1 != 0,
        client_no_context_takeover: flags & 2 != 0,
        server_max_window_bits: 8 + (bits & 7),
        client_max_window_bits: 8 + (bits >> 3 & 7),
        level: limit >> 3,
        threshold: usize::from(flags >> 4),
    };
    let least = rest.len().div_ceil(MAX_MESSAGES).max(1);
    let messages: Vec<&[u8]> = rest.chunks(usize::from(length).max(least)).collect();
    let role = if flags & 4 != 0 { Role::Client } else { Role::Server };
    if flags & 8 != 0 {
        return round_trip(&agreed, role, &messages, REPEATS[usize::from(bits >> 6)]);
    }
    let limit = LIMITS[usize::from(limit & 7)];
    inflate_all(&agreed, role, &messages, limit);
    assert_contexts_are_clean(&agreed);
}

fn inflate_all(agreed: &Agreed, role: Role, messages: &[&[u8]], limit: usize) {
    let contexts = Contexts::of_thread();
    let mut inflater = Inflater::new(agreed, role, &contexts);
    for (count, message) in messages.iter().enumerate() {
        let inflated = inflater.inflate(message, limit);
        // T39: neither more than the limit comes out nor is more held, but the byte that gives it away.
        if let Ok(bytes) = &inflated {
            assert!(bytes.len() <= limit && bytes.capacity() <= limit + 1);
        }
        for chunk in [usize::MAX, 1, 7] {
            // Of several things that are wrong with it, any may be told.
            let streamed = stream(agreed, role, &messages[..=count], limit, chunk);
            assert_eq!(streamed.ok(), inflated.clone().ok(), "in pieces of {chunk}");
        }
        let Ok(bytes) = inflated else {
            if agreed.server_no_context_takeover && agreed.client_no_context_takeover {
                assert_eq!(inflater.inflate(HELLO, 5).as_deref(), Ok(&b"Hello"[..]), "what was wrong is forgotten");
            }
            return;
        };
        assert_limit_is_exact(agreed, role, &messages[..=count], bytes);
    }
}

/// The last message, delivered as it comes, in frames and inputs of `chunk` bytes. The ones before are good.
fn stream(agreed: &Agreed, role: Role, messages: &[&[u8]], limit: usize, chunk: usize) -> Result<Vec<u8>, FrameError> {
    let mut receiver =
        Receiver::new(role, Limits { max_message: usize::MAX, max_frame: usize::MAX, max_fragments: u32::MAX });
    receiver.set_inflater(Inflater::new(agreed, role, &Contexts::of_thread()));
    receiver.set_delivery(Delivery::Frames);
    let mut data = Vec::new();
    for message in messages {
        data.clear();
        let mut chunks = message.chunks(chunk.min(message.len()).max(1)).peekable();
        let mut first = 0x42;
        while let Some(piece) = chunks.next() {
            let mut header = [0; MAX_HEADER];
            let mask = (role == Role::Server).then_some([0; 4]);
            let used = encode_header(&mut header, false, false, OpCode::Continuation, piece.len(), mask);
            header[0] = first | if chunks.peek().is_none() { 0x80 } else { 0 };
            first = 0;
            let mut frame = [&header[..used], piece].concat();
            let mut input = frame.as_mut_slice();
            while let Some(event) = receiver.next(&mut input)? {
                if let Event::Data(piece) = event {
                    assert!(!piece.is_empty() && piece.len() <= 64 * 1024);
                    data.extend_from_slice(piece);
                }
                if data.len() > limit {
                    return Err(FrameError::InflatedTooBig(limit));
                }
            }
        }
    }
    Ok(data)
}

/// A message of `bytes` is within a limit of that many, and of one less it is not.
fn assert_limit_is_exact(agreed: &Agreed, role: Role, messages: &[&[u8]], bytes: Vec<u8>) {
    let length = bytes.len();
    let Some((last, before)) = messages.split_last() else { return };
    let again = |limit| {
        let mut inflater = Inflater::new(agreed, role, &Contexts::of_thread());
        for message in before {
            inflater.inflate(message, usize::MAX).expect("it could be inflated before");
        }
        inflater.inflate(last, limit)
    };
    assert_eq!(again(length), Ok(bytes));
    if length > 0 {
        assert_eq!(again(length - 1), Err(InflateError::TooBig));
    }
}

/// What a peer sent has no effect on the next connection that borrows its decompressor.
fn assert_contexts_are_clean(agreed: &Agreed) {
    let mut inflater = Inflater::new(&without_takeover(agreed), Role::Server, &Contexts::of_thread());
    assert_eq!(inflater.inflate(HELLO, 5).as_deref(), Ok(&b"Hello"[..]));
}

fn without_takeover(agreed: &Agreed) -> Agreed {
    Agreed { server_no_context_takeover: true, client_no_context_takeover: true, ..*agreed }
}

/// What one side compresses the other inflates, message after message, with all parameters there are.
fn round_trip(agreed: &Agreed, role: Role, messages: &[&[u8]], repeat: usize) {
    let contexts = Contexts::of_thread();
    let (peer, bits, no_takeover) = match role {
        Role::Server => (Role::Client, agreed.server_max_window_bits, agreed.server_no_context_takeover),
        Role::Client => (Role::Server, agreed.client_max_window_bits, agreed.client_no_context_takeover),
    };
    let mut deflater = Deflater::new(agreed, role, &contexts);
    let mut inflater = Inflater::new(agreed, peer, &contexts);
    for message in messages {
        let message = message.repeat(repeat);
        let mut out = b"before".to_vec();
        if !deflater.compress(&message, &mut out) {
            assert_eq!(out, b"before", "nothing was appended");
            continue;
        }
        assert!(message.len() >= agreed.threshold);
        let deflated = out.strip_prefix(b"before").expect("what was there");
        assert!(deflated.len() < message.len() || !no_takeover);
        if no_takeover || bits == 8 {
            // No reference reaches behind the beginning of the message, ...
            let mut other = Inflater::new(&without_takeover(agreed), peer, &contexts);
            assert_eq!(other.inflate(deflated, message.len()).as_ref(), Ok(&message));
        }
        // ... and none further back than the smallest window, which zlib does not have.
        assert!(bits > 8 || message.len() <= 256);
        assert_eq!(inflater.inflate(deflated, message.len()), Ok(message));
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    // RFC 7692, 7.2.3.1 to 7.2.3.5: "Hello", not compressed, with a final block, and in two blocks. Then many zeros, nothing,
    // and a text.
    let inputs: [&[u8]; 7] = [
        HELLO,
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        b"\xec\xc1\x01\x01\x00\x00\x00\x80\x90\xfe\xaf\xee\x08\x0a",
        b"\x00",
        b"Hello, hello, hello, hello! The same again: hello, hello.",
    ];
    let takeover: [u8; 17] = *b"\xf2\x48\xcd\xc9\xc9\x07\0\0\0\xff\xff\0\0\0\0\xff\xff";
    let mut seeds: Vec<Vec<u8>> = vec![[&[0, 0, 7, 1][..], &takeover, &takeover].concat()];
    for (flags, bits) in [(3, 0x79), (0, 0x79), (0b1011, 0xb9), (0b1000, 0x72), (0b1111_1100, 0x79), (0b1000, 0x40)] {
        seeds.extend(inputs.iter().map(|input| [&[flags, bits, 0x37, 255][..], input].concat()));
    }
    seeds
}
