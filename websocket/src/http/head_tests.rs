use std::cell::Cell;

use proptest::prelude::*;

use super::*;

thread_local! {
    static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
    static PARSED: Cell<usize> = const { Cell::new(0) };
}

/// The reader's work, counted: so many bytes were looked at once more.
pub(super) fn looked_at(bytes: usize) {
    LOOKED_AT.set(LOOKED_AT.get() + bytes);
}

/// And so many by the parser.
pub(super) fn parsed(bytes: usize) {
    looked_at(bytes);
    PARSED.set(PARSED.get() + 1);
}

const HEAD: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: x\r\nX-Empty:\r\nX-Two: 1\r\nx-two: 2\r\n\r\n";

fn read(reader: &mut HeadReader, mut input: &[u8]) -> Result<Option<RequestHead>, HeadError> {
    reader.request(&mut input, &HeadLimits::default())
}

/// Feeds byte by byte, and says after how many bytes there was an outcome.
fn drip(input: &[u8], limits: &HeadLimits) -> (usize, Result<Option<RequestHead>, HeadError>) {
    let mut reader = HeadReader::requests();
    for at in 0..input.len() {
        match reader.request(&mut &input[at..=at], limits) {
            Ok(None) => {}
            outcome => return (at + 1, outcome),
        }
    }
    (input.len(), Ok(None))
}

#[test]
fn a_head_is_the_same_in_one_piece_and_in_bytes() {
    let mut input = [HEAD, b"rest"].concat();
    let mut rest = input.as_slice();
    let whole = HeadReader::requests().request(&mut rest, &HeadLimits::default()).unwrap().unwrap();
    assert_eq!(rest, b"rest");
    assert_eq!((whole.method.as_str(), whole.target.as_str(), whole.version), ("GET", "/a?b", Version::HTTP_11));
    assert_eq!(whole.headers["host"], "x");
    assert_eq!(whole.headers["x-empty"], "");
    assert_eq!(whole.headers.get_all("x-two").iter().collect::<Vec<_>>(), ["1", "2"]);
    input.truncate(HEAD.len());
    let (taken, dripped) = drip(&input, &HeadLimits::default());
    assert_eq!(taken, HEAD.len());
    assert_eq!(dripped.unwrap().unwrap().headers, whole.headers);
}

#[test]
fn bare_line_feeds_and_a_leading_empty_line_are_read() {
    let mut reader = HeadReader::requests();
    assert!(read(&mut reader, b"\r\n\r\nGET / HTTP/1.1\nHost: x\n\n").unwrap().is_some());
    assert!(matches!(read(&mut reader, b"\r\n\r\n\r\n"), Err(HeadError::NotHttp { .. })));
}

#[test]
fn what_is_no_method_is_refused_at_its_first_wrong_byte() {
    // T5, T66
    for (input, taken, got) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..], 1, r"\x16"),
        (b" GET / HTTP/1.1", 1, " "),
        (b"G\0T / HTTP/1.1", 2, r"G\x00"),
        (b"hello\r\n", 6, r"hello\r"),
        (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 25, "AAAAAAAAAAAAAAAAAAAAAAAAA"),
        (b"\xff", 1, r"\xff"),
    ] {
        let (at, outcome) = drip(input, &HeadLimits::default());
        assert_eq!(at, taken, "{input:?}");
        assert_eq!(outcome.unwrap_err(), HeadError::NotHttp { got: got.into() });
        assert_eq!(read(&mut HeadReader::requests(), input).unwrap_err(), HeadError::NotHttp { got: got.into() });
    }
}

#[test]
fn what_is_no_http_response_is_refused_at_its_first_wrong_byte() {
    // T62
    for (input, got) in [(&b"SSH-2.0-x\r\n"[..], "S"), (b"HTTP/2 200\r\n", "HTTP/2"), (b"\r\nHTTP/1.1", r"\r")] {
        let outcome = HeadReader::responses().response(&mut &*input, &HeadLimits::default());
        assert_eq!(outcome.unwrap_err(), HeadError::NotHttp { got: got.into() });
    }
}

#[test]
fn every_limit_is_exact_and_enforced_without_a_blank_line() {
    // T3, T4
    let limits = HeadLimits { max_bytes: 200, max_line: 60, max_headers: 8 };
    let line = |length: usize| format!("X: {}\r\n", "a".repeat(length - 5));
    let start = "GET / HTTP/1.1\r\n"; // 16 bytes
    for (input, outcome) in [
        (format!("{start}{}\r\n", line(60)), None),
        (format!("{start}{}\r\n", line(61)), Some(HeadError::FieldTooLong)),
        (format!("{start}{}", "X".repeat(61)), Some(HeadError::FieldTooLong)),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(44)), None),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(45)), Some(HeadError::StartLineTooLong)),
        (format!("GET /{}", "a".repeat(56)), Some(HeadError::StartLineTooLong)),
        (format!("{start}{}\r\n", line(6).repeat(8)), None),
        (format!("{start}{}", line(6).repeat(9)), Some(HeadError::TooManyHeaders)),
        (format!("{start}{}{}\r\n", line(60).repeat(3), ""), None), // 198
        (format!("{start}{}{}\r\n", line(60).repeat(2), line(52)), None),
        (format!("{start}{}{}{}\r\n", line(60).repeat(2), line(52), line(10)), None), // 200
        (format!("{start}{}{}{}\r\n", line(60).repeat(2), line(52), line(11)), Some(HeadError::TooLarge)),
        (format!("{start}{}", "X: a\r\nY".repeat(200)), Some(HeadError::TooManyHeaders)),
    ] {
        let whole = HeadReader::requests().request(&mut input.as_bytes(), &limits);
        assert_eq!(whole.as_ref().err(), outcome.as_ref(), "{input}");
        assert!(whole.is_err() || whole.is_ok_and(|head| head.is_some()), "{input}");
        assert_eq!(drip(input.as_bytes(), &limits).1.err(), outcome, "{input}");
    }
}

#[test]
fn an_endless_header_is_refused_within_the_limit() {
    // T3
    let limits = HeadLimits { max_line: usize::MAX, ..HeadLimits::default() };
    let input = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'A'; 100_000]].concat();
    let (taken, outcome) = drip(&input, &limits);
    assert_eq!((taken, outcome.unwrap_err()), (16 * 1024 + 1, HeadError::TooLarge));
}

#[test]
fn each_byte_of_a_dripping_head_is_scanned_once() {
    let field = format!("X: {}\r\n", "a".repeat(7_000));
    let input = format!("GET / HTTP/1.1\r\n{field}{field}\r\n");
    let mut reader = HeadReader::requests();
    for at in 0..input.len() - 1 {
        assert!(reader.request(&mut &input.as_bytes()[at..=at], &HeadLimits::default()).unwrap().is_none());
        let newlines = input[..=at].matches('\n').count();
        let unfinished = at + 1 - input[..=at].rfind('\n').map_or(0, |newline| newline + 1);
        assert_eq!((reader.lines, reader.line), (newlines, unfinished));
    }
}

/// Bytes looked at, and whole parses, for a head that comes in pieces of this size.
fn work(mut take: impl FnMut(&mut &[u8]) -> bool, head: &[u8], piece: usize) -> (usize, usize) {
    LOOKED_AT.set(0);
    PARSED.set(0);
    let ends = head.chunks(piece).map(|mut input| take(&mut input));
    assert_eq!(ends.filter(|end| *end).count(), 1, "a head of {} bytes, by {piece}", head.len());
    (LOOKED_AT.get(), PARSED.get())
}

#[test]
fn a_dripping_head_costs_no_more_than_a_whole_one() {
    // T5: a reader that looked at the head again for every byte would look at 128 MiB.
    let limits = HeadLimits::default();
    let fields = |start: &str, count: usize| {
        let length = (limits.max_bytes - start.len() - 2) / count - 5;
        format!("{start}{}\r\n", format!("X: {}\r\n", "a".repeat(length)).repeat(count))
    };
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(limits.max_line - 16));
    let short = "GET / HTTP/1.1\r\n";
    for (start, count) in [(short, 2), (short, 100), (&*long, 1), ("HTTP/1.1 200 OK\r\n", 2)] {
        let head = fields(start, count);
        assert!(limits.max_bytes - head.len() < 100, "{}", head.len());
        for piece in [1, 2, 255, head.len()] {
            let (mut requests, mut responses) = (HeadReader::requests(), HeadReader::responses());
            let take = |input: &mut &[u8]| match start.as_bytes() {
                [b'G', ..] => requests.request(input, &limits).unwrap().is_some(),
                _ => responses.response(input, &limits).unwrap().is_some(),
            };
            let (looked_at, parses) = work(take, head.as_bytes(), piece);
            assert_eq!(parses, 1);
            // once for its end and once by the parser; `GET ` or `HTTP/1.` with each piece of the start line
            let most = 2 * head.len() + 8 * MAX_METHOD;
            assert!(looked_at <= most, "{looked_at} > {most}, {start:.20} by {piece}");
        }
    }
}

#[test]
fn nothing_is_kept_between_heads() {
    let mut reader = HeadReader::requests();
    assert!(read(&mut reader, &HEAD[..20]).unwrap().is_none());
    assert!(!reader.is_idle());
    assert!(read(&mut reader, &HEAD[20..]).unwrap().is_some());
    assert_eq!(reader.kept.capacity(), 0);
    assert!(reader.is_idle());
}

proptest! {
    #[test]
    fn random_bytes_never_panic(
        input in proptest::collection::vec(any::<u8>(), 0..300),
        prefix in prop_oneof![Just(""), Just("GET / HTTP/1.1\r\nA: "), Just("HTTP/1.1 200 ")],
        end in prop_oneof![Just(""), Just("\r\n\r\n")],
    ) {
        let input = [prefix.as_bytes(), &input, end.as_bytes()].concat();
        let limits = HeadLimits { max_bytes: 256, max_line: 128, max_headers: 5 };
        let whole = HeadReader::requests().request(&mut input.as_slice(), &limits).map(|head| head.is_some());
        let _ = HeadReader::responses().response(&mut input.as_slice(), &limits);
        prop_assert_eq!(drip(&input, &limits).1.map(|head| head.is_some()), whole);
    }
}
