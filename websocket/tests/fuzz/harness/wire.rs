//! Streams of frames that reach far: built from plans, and seeds.

use twistor_websocket::sansio::{
    MAX_HEADER, OpCode, Role, copy_masked,
    deflate::{Contexts, Deflater},
    encode_header,
};

use super::frames::{BUILT, DEFLATE, TAKEOVER, agreed};

/// How often a built frame's payload is repeated, by the low bits of its shape, ...
const REPEATS: [usize; 8] = [1, 1, 1, 1, 1, 2, 4, 16];
/// ... and when all bits are set but perhaps [`COMPRESSED`]: often enough for a length of 64 bits. Slow, so rare: twice at most.
const LARGE: usize = 300;
const COMPRESSED: u8 = 8;
/// When other frames are longer together, nothing more is built.
const MAX_BUILT: usize = 8 * 1024;

/// Frames from a plan: for each its first byte, its shape, a length and that many bytes.
///
/// The shape says how often to repeat them and whether to deflate, and makes the masking key.
pub fn build(role: Role, plan: &[u8]) -> Vec<u8> {
    let (mut plan, mut wire, mut larges) = (plan, Vec::new(), 0);
    let mut deflater = Deflater::new(&agreed(false), role, &Contexts::of_thread());
    while let [first, shape, length, rest @ ..] = plan {
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        plan = rest;
        let is_large = shape | COMPRESSED == u8::MAX && larges < 2;
        larges += usize::from(is_large);
        let mut payload = payload.repeat(if is_large { LARGE } else { REPEATS[usize::from(shape & 7)] });
        let mut deflated = Vec::new();
        if shape & COMPRESSED != 0 && deflater.compress(&payload, &mut deflated) {
            payload = deflated;
        }
        wire.extend(frame(role, *first, [*shape >> 4, *shape, 0, *length], &payload));
        if wire.len() > MAX_BUILT + larges * LARGE * usize::from(u8::MAX) {
            break;
        }
    }
    wire
}

/// A frame for `role` to receive; `first` is its first byte.
fn frame(role: Role, first: u8, key: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mask = (role == Role::Server).then_some(key);
    let mut header = [0; MAX_HEADER];
    let length = encode_header(&mut header, false, false, OpCode::Continuation, payload.len(), mask);
    header[0] = first;
    let mut frame = header[..length].to_vec();
    copy_masked(&mut frame, payload, mask.unwrap_or_default());
    frame
}

pub fn server_seeds() -> Vec<Vec<u8>> {
    seeds(Role::Server)
}

pub fn client_seeds() -> Vec<Vec<u8>> {
    seeds(Role::Client)
}

fn seeds(role: Role) -> Vec<Vec<u8>> {
    const WIDE: u8 = 0o377;
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let frame = |first, payload: &[u8]| frame(role, first, key, payload);
    let seed = |flags, sizes, frames: &[Vec<u8>]| [vec![flags, sizes, 3, 0, 5], frames.concat()].concat();
    // cut when there is enough of a large message for a used buffer, and then often
    let large = |plans: &[Vec<u8>]| [vec![BUILT, WIDE, 0, 0x50, 50], plans.concat()].concat();
    let text = "Grüße 😀".as_bytes();
    let masked = if role == Role::Server { 0x80 } else { 0 };
    let wide = |length: u64| [&[0x82, masked | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
    let plan = |first: u8, shape: u8, payload: &[u8]| [&[first, shape, payload.len() as u8], payload].concat();
    vec![
        seed(0, WIDE, &[frame(0x81, b"Hello"), frame(0x82, &[7; 200]), frame(0x88, b"\x03\xe8bye")]),
        seed(0, WIDE, &[frame(0x01, &text[..4]), frame(0x89, b"ping"), frame(0x00, b""), frame(0x80, &text[4..])]),
        seed(0, 0o144, &[frame(0x82, &[1; 126]), frame(0x8a, b""), frame(0x02, b"a"), frame(0x81, b"b")]),
        seed(0, WIDE, &[frame(0x81, b"\xed\xa0\x80"), frame(0x81, b"")]),
        // 1006, which is never on the wire
        seed(0, WIDE, &[frame(0x88, b"\x03\xee")]),
        // At and beyond the limits: of messages 125 bytes, of frames 125 bytes, of messages two frames.
        seed(0, 0o372, &[frame(0x82, &[1; 125]), frame(0x82, &[1; 126])]),
        seed(0, 0o327, &[frame(0x81, &[b'a'; 125]), frame(0x81, &[b'a'; 126])]),
        seed(0, 0o372, &[frame(0x02, &[1; 100]), frame(0x80, &[1; 26])]),
        seed(0, 0o177, &[frame(0x01, b""), frame(0x00, b""), frame(0x80, b"")]),
        // Lengths of 64 bits: too small, too large, not a number.
        seed(0, WIDE, &[wide(0xffff)]),
        seed(0, WIDE, &[wide(1 << 62)]),
        seed(0, WIDE, &[wide(1 << 63)]),
        seed(0, WIDE, &[[&[0x82, masked | 126, 0, 125][..], &[0; 4]].concat()]),
        // "Hello", deflated (RFC 7692, 7.2.3.1), and with a final block (7.2.3.4)
        seed(DEFLATE, WIDE, &[frame(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00")]),
        seed(
            DEFLATE | TAKEOVER,
            WIDE,
            &[frame(0x41, b"\xf2\x48\xcd"), frame(0x80, b"\xc9\xc9\x07\x00"), frame(0xc1, b"\xf2\x00\x11\x00\x00")],
        ),
        seed(DEFLATE, WIDE, &[frame(0xc1, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00")]),
        seed(DEFLATE, WIDE, &[frame(0x41, b"\xf2\x48\xcd"), frame(0xc0, b"\xc9\xc9\x07\x00")]),
        seed(DEFLATE, WIDE, &[frame(0xc9, b"ping")]),
        // 2032 final blocks
        seed(BUILT | DEFLATE, WIDE, &[plan(0xc2, 7, &b"\x03\x00".repeat(127))]),
        seed(BUILT, WIDE, &[plan(0x02, 0xf7, &[9; 220]), plan(0x00, 0x36, b"abc"), plan(0x80, 5, text)]),
        large(&[plan(0x02, 0xf7, &[9; 220]), plan(0x89, 0, &[b'x'; 120]), plan(0x80, 0xf7, text), plan(0x81, 0, text)]),
        large(&[plan(0x81, 0xf7, &text.repeat(19)), plan(0x82, 0xf7, &[8; 255]), plan(0x82, 1, b"y")]),
        large(&[plan(0x81, 0xf7, &[b"a".repeat(230), b"\xff".to_vec()].concat())]),
        seed(BUILT, 0o333, &[plan(0x81, 0x34, text), plan(0x88, 0, b"\x0f\xa0because")]),
        seed(BUILT | DEFLATE, WIDE, &[plan(0xc1, 0x0e, text), plan(0x89, 0, b"x"), plan(0xc2, 0xff, &[0; 250])]),
        seed(BUILT | DEFLATE | TAKEOVER, 0o355, &[plan(0x41, 8, text), plan(0x80, 0, b""), plan(0xc2, 0x0f, b"0")]),
    ]
}
