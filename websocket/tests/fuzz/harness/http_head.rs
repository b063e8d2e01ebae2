//! Requests, as a server's connection receives them, and the handshake on top of them.

use twistor_websocket::{
    handshake::{
        ClientRequest, HostPolicy, OriginPolicy, ResponseReader, Upgrade, WsUrl, check, is_upgrade, not_an_upgrade,
        response,
    },
    http::{Connection, HeadLimits, HeaderMap, Limits, Method, Request, Response, Version},
    sansio::deflate::{DeflateOptions, accept_offer},
};

use super::input::{Cut, assert_printable, choices};

/// Empty lines before a request, in bytes.
const MAX_LEADING_BLANK: usize = 4;

/// Everything a request says.
#[derive(Debug, PartialEq)]
struct Parts {
    method: Method,
    path: String,
    query: Option<String>,
    version: Version,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// What a server makes of the bytes before a connection is a WebSocket.
pub fn http_head(data: &[u8]) {
    let ([sizes, low, high, length], stream) = choices(data);
    let limits = limits(sizes);
    let (requests, refusal) = read(&limits, stream, Cut::Nowhere);
    let said: Vec<Parts> = requests.iter().map(Parts::of).collect();
    // T50: the outcome does not depend on how the stream arrives.
    for cut in [Cut::EveryByte, Cut::At(u16::from_le_bytes([low, high]), length)] {
        let (requests, cut_refusal) = read(&limits, stream, cut);
        let cut_said: Vec<Parts> = requests.iter().map(Parts::of).collect();
        assert_eq!((&cut_said, &cut_refusal), (&said, &refusal), "{cut:?}");
    }
    if let Some(first) = said.first() {
        // The target is read as it stands, not cut short at what a path cannot have.
        assert!(stream.trim_ascii_start().starts_with(first.request_line().as_bytes()));
    }
    if let Some(refusal) = refusal {
        assert!(refusal.closes());
        assert_sound(&refusal);
    }
    for request in &requests {
        assert!(request.headers().len() <= limits.head.max_headers && request.body().len() <= limits.max_body);
        assert_rereads(request);
        use_everything(request);
        upgrade(request);
    }
}

fn limits(sizes: u8) -> Limits {
    let choose = |from: u8, sizes: [usize; 4]| sizes[usize::from(from & 3)];
    let mut limits = Limits::default();
    limits.head.max_bytes = choose(sizes, [16 * 1024, 64, 256, 1024]);
    limits.head.max_line = choose(sizes >> 2, [8 * 1024, 64, 128, 512]);
    limits.head.max_headers = choose(sizes >> 4, [100, 1, 5, 33]);
    limits.max_body = choose(sizes >> 6, [64 * 1024, 0, 5, 100]);
    limits
}

fn read(limits: &Limits, stream: &[u8], cut: Cut) -> (Vec<Request>, Option<Response>) {
    let mut connection = Connection::new(None, limits.clone());
    let (mut requests, mut refusal): (Vec<Request>, _) = (Vec::new(), None);
    let mut waiting = 0;
    for piece in cut.pieces(stream) {
        let mut input = piece;
        loop {
            let closed = refusal.is_some() || requests.last().is_some_and(|request| !request.keep_alive());
            let before = input.len();
            let outcome = connection.feed(&mut input);
            waiting += before - input.len();
            match outcome {
                Ok(Some(_)) | Err(_) if closed => panic!("something after the end"),
                Ok(Some(request)) => {
                    requests.push(request);
                    waiting = 0;
                }
                Err(answer) => refusal = Some(answer),
                Ok(None) => {
                    assert!(input.is_empty(), "None means that the input is used up");
                    // T3: what is kept is bounded.
                    let most = MAX_LEADING_BLANK + limits.head.max_bytes + limits.max_body;
                    assert!(closed || waiting <= most, "{waiting} bytes are kept");
                    assert!(!connection.is_idle() || waiting <= MAX_LEADING_BLANK);
                    let interim = connection.interim();
                    assert!(interim.is_none() || !closed && connection.interim().is_none());
                    break;
                }
            }
        }
    }
    (requests, refusal)
}

impl Parts {
    fn of(request: &Request) -> Self {
        Self {
            method: request.method().clone(),
            path: request.path().into(),
            query: request.query().map(Into::into),
            version: request.version(),
            headers: request.headers().clone(),
            body: request.body().into(),
        }
    }

    fn request_line(&self) -> String {
        let Self { method, path, query, version, .. } = self;
        let query = query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{method} {path}{query} {version:?}")
    }
}

/// Written down again, it is the same request. The text is not longer than the peer's, so within the limits.
fn assert_rereads(request: &Request) {
    let parts = Parts::of(request);
    let mut text = format!("{}\n", parts.request_line()).into_bytes();
    for (name, value) in &parts.headers {
        text.extend([name.as_str().as_bytes(), b":", value.as_bytes(), b"\n"].concat());
    }
    text.push(b'\n');
    text.extend_from_slice(&parts.body);
    let again = Request::parse(&text).map(|request| Parts::of(&request));
    assert_eq!(again, Ok(parts), "{}", text.escape_ascii());
}

/// Calls what looks into a request.
fn use_everything(request: &Request) {
    assert!(request.path().starts_with('/'));
    assert_eq!(request.path_segments().count(), request.path().matches('/').count());
    let pairs = request.query_pairs().count();
    assert!(pairs <= request.query().unwrap_or_default().len());
    for (name, _) in request.query_pairs() {
        assert!(request.query_value(&name).is_some());
    }
    request.cookie("a");
    for hops in 0..3 {
        request.forwarded_for(hops);
    }
    // RFC 9112, 3.2
    assert!(request.host().is_some() || request.version() == Version::HTTP_10);
    let hosts = HostPolicy::list(["a", "[::1]:80"]).expect("hosts");
    if !hosts.check(request) {
        assert_sound(&HostPolicy::refusal(request));
    }
    for policy in [OriginPolicy::SameOrigin, OriginPolicy::list(["http://a", "https://*.b:8443"]).expect("origins")] {
        if !policy.check(request) {
            assert_sound(&OriginPolicy::refusal(request));
        }
    }
}

/// Does what a server does with every request: asks whether it is a handshake, and answers.
fn upgrade(request: &Request) {
    let early = check(request, b"early");
    match check(request, b"") {
        Err(refusal) => {
            assert_sound(&refusal);
            assert!(early.is_err());
            assert!(is_upgrade(request) || refusal == not_an_upgrade());
        }
        Ok(upgrade) => {
            // T13
            assert_sound(&early.expect_err("early bytes are refused"));
            accept(&upgrade);
        }
    }
}

/// The 101 is one that our client, had it sent this request, is content with.
fn accept(upgrade: &Upgrade) {
    assert!(upgrade.protocols.len() <= 64);
    assert!(upgrade.key.len() == 24 && upgrade.key.ends_with("=="), "16 bytes in base64");
    let deflate = accept_offer(upgrade.extensions.iter().map(String::as_str), &DeflateOptions::default());
    let (protocol, extensions) = (upgrade.protocols.last(), deflate.as_ref().map(|(_, response)| response.as_str()));
    let mut out = Vec::new();
    response(&upgrade.key, protocol.map(String::as_str), extensions, &HeaderMap::new(), &mut out).expect("a response");

    let mut client = ClientRequest::new(WsUrl::parse("ws://a").expect("a URL"));
    for protocol in &upgrade.protocols {
        client = client.protocol(protocol).expect("a token");
    }
    if extensions.is_some() {
        client = client.extensions(&upgrade.extensions.join(", ")).expect("extensions");
    }
    let mut input = &out[..];
    let head = ResponseReader::new(HeadLimits::default()).read(&mut input).expect("a head").expect("a whole head");
    assert!(input.is_empty());
    let accepted = client.check_response(&upgrade.key, head, b"").expect("our own answer");
    assert_eq!(accepted.protocol.as_ref(), protocol);
    assert_eq!(accepted.extensions.as_deref(), extensions);
}

/// T18, T71: an answer is one answer, whatever of the peer's it quotes.
fn assert_sound(answer: &Response) {
    let mut out = Vec::new();
    answer.encode(&mut out, false, true);
    let mut input = &out[..];
    let head = ResponseReader::new(HeadLimits::default()).read(&mut input).expect("a head").expect("a whole head");
    assert_eq!((head.status, input), (answer.status_code(), answer.body()));
    let text = std::str::from_utf8(input).expect("UTF-8");
    assert_printable(text.strip_suffix('\n').expect("a line"));
    assert!(text.len() < 400);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let requests: [&[u8]; 13] = [
        b"GET /chat?room=1 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: http://a\r\n\
          Sec-WebSocket-Protocol: chat, superchat\r\n\
          Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x; y=\"a,b\"\r\n\r\n",
        b"POST /form HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhelloGET / HTTP/1.1\r\nHost: b\r\n\r\n",
        b"\r\nGET /a/%2f/../b?x=1&y=%20+&&= HTTP/1.0\nConnection: keep-alive\nCookie: a=1; b=2\n\nGET / HTTP/1.0\n\n",
        b"GET / HTTP/1.1\r\nHost: [::1]:8080\r\nX-Forwarded-For: 1.2.3.4, [::1]:80\r\nConnection: close\r\n\r\nGET /",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: c2hvcnQhIQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ];
    let seed = |request: &&[u8]| [&[0, 30, 0, 7][..], request].concat();
    let mut seeds: Vec<_> = requests.iter().map(seed).collect();
    seeds.push([&[0b01_01_01_01, 9, 0, 0][..], requests[0]].concat());
    let handshake = String::from_utf8_lossy(requests[0]);
    let many: Vec<String> = (0..65).map(|number| format!("p{number}")).collect();
    for (from, to) in [
        ("chat, superchat", &*many.join(",")),
        ("Origin: http://a", "Origin: https://c.b:8443"),
        ("Origin: http://a", "Transfer-Encoding: chunked"),
    ] {
        seeds.push([&[0, 30, 0, 7][..], handshake.replace(from, to).as_bytes()].concat());
    }
    // exactly as many fields as are allowed, and one more
    for fields in [5, 6] {
        let head = ["GET / HTTP/1.1\r\nHost: a\r\n", &"A: b\r\n".repeat(fields - 1), "\r\n"].concat();
        seeds.push([&[0b00_10_00_00, 9, 0, 0][..], head.as_bytes()].concat());
    }
    seeds.push([&[0b11_11_10_10, 9, 0, 0][..], requests[1]].concat());
    seeds
}
