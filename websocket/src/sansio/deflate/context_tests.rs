use super::*;

const LIMIT: usize = 1 << 20;

fn agreed(takeover: bool, bits: u8) -> Agreed {
    Agreed {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: !takeover,
        server_max_window_bits: bits,
        client_max_window_bits: bits,
        level: 6,
        threshold: 0,
    }
}

fn pair(takeover: bool, bits: u8) -> (Deflater, Inflater) {
    let (agreed, contexts) = (agreed(takeover, bits), Contexts::new());
    (Deflater::new(&agreed, Role::Client, &contexts), Inflater::new(&agreed, Role::Server, &contexts))
}

fn deflate(deflater: &mut Deflater, payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    deflater.compress(payload, &mut out).then_some(out)
}

/// Does not repeat, so does not shrink.
fn noise(length: usize) -> Vec<u8> {
    let mut x = 1u32;
    let next = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    (0..length).map(next).collect()
}

// RFC 7692, 7.2.3.1 to 7.2.3.6
#[test]
fn the_examples_of_the_rfc_are_read() {
    let examples: [(&[u8], &[u8]); 6] = [
        (b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"Hello"),
        (b"\x00\x05\x00\xfa\xffHello\x00", b"Hello"),    // no compression
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"), // a final block
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00", b"Hello"),     // the same, the last block left out
        (b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b"Hello"), // two blocks
        (b"\x00", b""),
    ];
    for takeover in [false, true] {
        for (payload, expected) in examples {
            let (_, mut inflater) = pair(takeover, 15);
            assert_eq!(inflater.inflate(payload, LIMIT).as_deref(), Ok(expected), "{payload:x?}");
        }
    }
    let (mut deflater, mut inflater) = pair(true, 15);
    assert_eq!(deflate(&mut deflater, b"Hello").as_deref(), Some(&b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..]));
    let again = deflate(&mut deflater, b"Hello").unwrap();
    assert!(again.len() <= 5, "the window was kept: {again:x?}");
    assert_eq!(inflater.inflate(b"\xf2\x48\xcd\xc9\xc9\x07\x00", LIMIT).as_deref(), Ok(&b"Hello"[..]));
    assert_eq!(inflater.inflate(b"\xf2\x00\x11\x00\x00", LIMIT).as_deref(), Ok(&b"Hello"[..]));
}

// P275
#[test]
fn messages_come_back_with_every_window_and_takeover() {
    for takeover in [false, true] {
        for bits in 8..=15 {
            let (mut deflater, mut inflater) = pair(takeover, bits);
            for n in 0..20usize {
                let message = format!("{{\"n\":{n},\"text\":\"{}\"}}", "abc def ".repeat(n * n * n)).into_bytes();
                let Some(payload) = deflate(&mut deflater, &message) else {
                    assert!(message.len() < 30 || bits == 8 && message.len() > 256, "{} bytes", message.len());
                    continue;
                };
                assert_eq!(inflater.inflate(&payload, LIMIT).as_ref(), Ok(&message), "bits {bits}, message {n}");
            }
        }
    }
}

// T17: RFC 7692, 7.1.2.1 with a limit that zlib does not keep.
#[test]
fn a_peer_with_a_window_of_256_bytes_never_gets_a_reference_beyond_it() {
    let (mut deflater, _) = pair(true, 8);
    let half = noise(128);
    assert_eq!(deflate(&mut deflater, &[&*half, b"x", &half].concat()), None, "257 bytes go out as they are");
    let once = deflate(&mut deflater, &[&half[..], &half].concat()).unwrap();
    let twice = deflate(&mut deflater, &[&half[..], &half].concat()).unwrap();
    assert_eq!(once, twice, "nothing refers to the message before");
}

#[test]
fn messages_that_do_not_shrink_go_out_as_they_are() {
    let (mut deflater, _) = pair(false, 15);
    let mut out = b"kept".to_vec();
    assert!(!deflater.compress(&noise(1000), &mut out));
    assert!(!deflater.compress(b"", &mut out));
    assert_eq!(out, b"kept");
    let mut deflater = Deflater::new(&Agreed { threshold: 100, ..agreed(false, 15) }, Role::Server, &Contexts::new());
    assert!(!deflater.compress(&[b'a'; 99], &mut out));
    assert!(deflater.compress(&[b'a'; 100], &mut out));
}

#[test]
fn with_takeover_even_what_does_not_shrink_is_sent_compressed_for_later_messages_refer_to_it() {
    let (mut deflater, mut inflater) = pair(true, 15);
    let message = noise(70_000);
    for _ in 0..3 {
        let payload = deflate(&mut deflater, &message).unwrap();
        assert_eq!(inflater.inflate(&payload, LIMIT).as_ref(), Ok(&message));
    }
}

// T39, P262
#[test]
fn a_bomb_stops_at_the_limit_with_no_more_memory_than_that() {
    for takeover in [false, true] {
        let (mut deflater, mut inflater) = pair(takeover, 15);
        let bomb = deflate(&mut deflater, &vec![0; 16 << 20]).unwrap();
        assert!(bomb.len() < 1 << 16);
        for limit in [0, 1, 1000, LIMIT] {
            assert_eq!(inflater.inflate(&bomb, limit), Err(InflateError::TooBig));
            assert!(inflater.context.is_none(), "the context is freed");
        }
        let fits = deflate(&mut pair(takeover, 15).0, &[0; 1000]).unwrap();
        assert_eq!(inflater.inflate(&fits, 999), Err(InflateError::TooBig));
        let inflated = inflater.inflate(&fits, 1000).unwrap();
        assert!(inflated.len() == 1000 && inflated.capacity() <= 1001);
    }
}

// T40
#[test]
fn corrupt_and_truncated_messages_are_errors_and_never_loop() {
    let (mut deflater, _) = pair(false, 15);
    let message = b"a message that is long enough, a message that is long enough to refer back".repeat(20);
    let payload = deflate(&mut deflater, &message).unwrap();
    for end in 0..payload.len() {
        let (_, mut inflater) = pair(false, 15);
        let inflated = inflater.inflate(&payload[..end], LIMIT);
        assert!(inflated.as_deref().is_ok_and(<[u8]>::is_empty) && end == 0 || inflated.is_err(), "cut at {end}");
    }
    let far_back = b"\x02\x80\x00"; // a fixed block whose first symbol is a match
    for corrupt in [&b"\x07"[..], b"\xff\xff\xff\xff", b"\x00\x01\x02\x03\x04", far_back] {
        for takeover in [false, true] {
            let (_, mut inflater) = pair(takeover, 15);
            assert_eq!(inflater.inflate(corrupt, LIMIT), Err(InflateError::Corrupt), "{corrupt:x?}");
        }
    }
    for seed in 0..2000 {
        let (_, mut inflater) = pair(seed % 2 == 0, 15);
        let _ = inflater.inflate(&noise(2000 + seed)[seed..], LIMIT);
    }
}

#[test]
fn a_flood_of_final_blocks_is_corrupt() {
    let empty_final = b"\x03\x00";
    let (_, mut inflater) = pair(false, 15);
    assert_eq!(inflater.inflate(&empty_final.repeat(MAX_STREAMS as usize), LIMIT), Ok(Vec::new()));
    assert_eq!(inflater.inflate(&empty_final.repeat(MAX_STREAMS as usize + 2), LIMIT), Err(InflateError::Corrupt));
}

#[test]
fn connections_without_takeover_own_no_context_between_messages() {
    let (agreed, contexts) = (agreed(false, 15), Contexts::new());
    let mut ends: Vec<_> = (0..100)
        .map(|_| (Deflater::new(&agreed, Role::Server, &contexts), Inflater::new(&agreed, Role::Client, &contexts)))
        .collect();
    for (deflater, inflater) in &mut ends {
        let payload = deflate(deflater, &[b'a'; 1000]).unwrap();
        assert_eq!(inflater.inflate(&payload, LIMIT).as_deref(), Ok(&[b'a'; 1000][..]));
        assert!(deflater.context.is_none() && inflater.context.is_none());
    }
    assert_eq!((contexts.0.deflate.borrow().len(), contexts.0.inflate.borrow().len()), (1, 1));
}
