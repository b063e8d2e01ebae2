//! The answer to a client's handshake.

use twistor_websocket::{
    handshake::{ClientRequest, HandshakeError, ProxyConnect, Rejection, ResponseReader, WsUrl},
    http::{HeadLimits, ResponseHead},
    sansio::deflate::{DeflateOptions, OfferError, check_response, offer},
};

use super::{
    input::{Cut, assert_printable, choices},
    url::assert_redirects_safely,
};

/// The key of RFC 6455, 1.3, ...
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// ... and what accepts it.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const PROTOCOLS: [&str; 2] = ["chat", "superchat"];

/// Interim responses before the answer, and the answer.
const MAX_HEADS: usize = 9;

/// What a client makes of what a server answers.
pub fn client_response(data: &[u8]) {
    let ([sizes, low, high, length], stream) = choices(data);
    let limits = limits(sizes);
    let outcome = read(&limits, stream, Cut::Nowhere);
    // T50: the outcome does not depend on how the stream arrives. Neither a head nor an error can be compared.
    let shown = format!("{outcome:?}");
    for cut in [Cut::EveryByte, Cut::At(u16::from_le_bytes([low, high]), length)] {
        assert_eq!(format!("{:?}", read(&limits, stream, cut)), shown, "{cut:?}");
    }
    match outcome {
        Err(error) => assert_sound(&error),
        Ok(None) => {}
        Ok(Some((head, rest))) => {
            connect(head.clone(), &rest);
            handshake(head, &rest);
        }
    }
}

fn limits(sizes: u8) -> HeadLimits {
    let choose = |from: u8, sizes: [usize; 4]| sizes[usize::from(from & 3)];
    HeadLimits {
        max_bytes: choose(sizes, [16 * 1024, 64, 256, 1024]),
        max_line: choose(sizes >> 2, [8 * 1024, 64, 128, 512]),
        max_headers: choose(sizes >> 4, [100, 1, 5, 33]),
    }
}

/// The head and what follows it.
type Answer = (ResponseHead, Vec<u8>);

fn read(limits: &HeadLimits, stream: &[u8], cut: Cut) -> Result<Option<Answer>, HandshakeError> {
    let mut reader = ResponseReader::new(limits.clone());
    let mut fed = 0;
    for piece in cut.pieces(stream) {
        let mut input = piece;
        fed += piece.len();
        if let Some(head) = reader.read(&mut input)? {
            assert!(head.headers.len() <= limits.max_headers);
            let (heads, rest) = stream.split_at(fed - input.len());
            let lines = heads.split_inclusive(|&byte| byte == b'\n');
            assert!(lines.filter(|line| matches!(line, [b'\n'] | [b'\r', b'\n'])).count() <= MAX_HEADS);
            return Ok(Some((head, rest.to_vec())));
        }
        assert!(input.is_empty(), "None means that the input is used up");
        // T62: an endless head ends.
        assert!(fed <= MAX_HEADS * limits.max_bytes);
    }
    Ok(None)
}

fn handshake(head: ResponseHead, rest: &[u8]) {
    let options = DeflateOptions::default();
    let mut request = ClientRequest::new(WsUrl::parse("ws://me:pw@a/x").expect("a URL"));
    for protocol in PROTOCOLS {
        request = request.protocol(protocol).expect("a token");
    }
    let request = request.extensions(&offer(&options)).expect("extensions");
    assert_same_body(rest, |rest| match request.check_response(KEY, head.clone(), rest) {
        Err(HandshakeError::Status(rejection)) => Some(*rejection),
        _ => None,
    });
    let headers = head.headers.clone();
    match request.check_response(KEY, head, rest) {
        Ok(accepted) => {
            assert!(headers.get("sec-websocket-accept").is_some_and(|accept| accept == ACCEPT));
            assert!(accepted.protocol.is_none_or(|protocol| PROTOCOLS.contains(&&*protocol)));
            if let Some(Err(error)) = accepted.extensions.map(|value| check_response(&value, &options)) {
                assert_ne!(error, OfferError::UnrequestedExtension);
                assert_printable(&error.to_string());
            }
            assert_eq!(headers, accepted.headers);
        }
        Err(error) => {
            if let HandshakeError::Redirect { location, .. } = &error {
                assert_redirects_safely(location);
            }
            assert_sound(&error);
        }
    }
}

/// The same as the answer of a proxy.
fn connect(head: ResponseHead, rest: &[u8]) {
    let success = head.status.is_success();
    let proxy = ProxyConnect::new(&WsUrl::parse("ws://a").expect("a URL"), None);
    assert_same_body(rest, |rest| match proxy.check(head.clone(), rest) {
        Err(HandshakeError::Proxy(rejection)) => Some(*rejection),
        _ => None,
    });
    let checked = proxy.check(head, rest);
    assert_eq!(checked.is_ok(), success);
    if let Err(error) = checked {
        assert_sound(&error);
    }
}

/// T50: a refusal has the same body, and it ends at the same place, however it arrives. Chunks hold what they say.
fn assert_same_body(rest: &[u8], refusal: impl Fn(&[u8]) -> Option<Rejection>) {
    let (Some(mut whole), Some(mut pieces)) = (refusal(rest), refusal(&[])) else { return };
    let over = pieces.feed(&[]) || rest.iter().any(|byte| pieces.feed(std::slice::from_ref(byte)));
    assert_eq!((whole.feed(&[]), &whole.body), (over, &pieces.body));
    // RFC 9112, 6.3: these have none
    let has_body = !whole.status.is_informational() && !matches!(whole.status.as_u16(), 204 | 304);
    if has_body && whole.headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        let wanted = unchunked(rest);
        assert!(wanted.is_none_or(|wanted| whole.body == wanted[..wanted.len().min(16 * 1024)]));
    }
}

/// What well-formed chunks hold, by a plain reader of RFC 9112, 7.1; `None` where it is not sure.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").filter(|&end| end < 100)?;
        let size = std::str::from_utf8(&rest[..end]).ok()?;
        let digits = (1..=6).contains(&size.len()) && size.bytes().all(|digit| digit.is_ascii_hexdigit());
        let size = usize::from_str_radix(size, 16).ok().filter(|_| digits)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest[end + 2..].get(..size)?);
        rest = rest[end + 2 + size..].strip_prefix(b"\r\n")?;
    }
}

/// T71: what is shown of the peer's text is escaped and cut; what is kept of a body is bounded.
fn assert_sound(error: &HandshakeError) {
    let shown = error.to_string();
    assert_printable(&shown);
    assert!(shown.len() < 500, "{shown}");
    if let HandshakeError::Status(rejection) | HandshakeError::Proxy(rejection) = error {
        let mut rejection = rejection.clone();
        for _ in 0..5 {
            rejection.feed(&[b'x'; 4096]);
        }
        assert!(rejection.body.len() <= 16 * 1024);
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let responses = [
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: chat\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; server_max_window_bits=10\r\n\r\n\
             \u{1}\u{5}Hello"
        ),
        format!(
            "HTTP/1.1 101 \r\nUpgrade: WebSocket\r\nConnection: close, upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\
             Sec-WebSocket-Extensions: x-webkit-deflate-frame\r\n\r\n"
        ),
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
         HTTP/1.1 301 Moved Permanently\r\nLocation: wss://b:81/c?d#e\r\n\r\n"
            .into(),
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: ../x\r\n\r\n".into(),
        "HTTP/1.0 503 Service Unavailable\r\nRetry-After: 120\r\nContent-Length: 5\r\n\r\nsorry, later".into(),
        "HTTP/1.1 200 \r\n\r\n".into(),
        "HTTP/1.1 407 Proxy Authentication Required\nProxy-Authenticate: Basic\n\nwho?".into(),
        "HTTP/1.1 403 \r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nsorry\r\n3\r\n, n\r\n0\r\nX: y\r\n\r\nmore".into(),
        "HTTP/1.1 401 \r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n".into(),
        "HTTP/1.1 502 \r\nTransfer-Encoding: gzip, Chunked\r\n\r\nfffff\nno\r\n".into(),
        "HTTP/2 200\r\n\r\n".into(),
        "SSH-2.0-OpenSSH".into(),
    ];
    let interim = |count| "HTTP/1.1 102 \r\n\r\n".repeat(count) + "HTTP/1.1 200 \r\n\r\n";
    let responses = [&responses[..], &[interim(8), interim(9)]].concat();
    let seed = |response: &String| [&[0, 30, 0, 7][..], response.as_bytes()].concat();
    let mut seeds: Vec<_> = responses.iter().map(seed).collect();
    seeds.push([&[0b10_11_10, 9, 0, 1][..], responses[2].as_bytes()].concat());
    seeds
}
