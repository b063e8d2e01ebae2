use proptest::prelude::*;

use super::super::{RedirectPolicy, ResponseReader};
use super::*;
use crate::http::{HeadLimits, Request};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

fn client(url: &str) -> ClientRequest {
    ClientRequest::new(WsUrl::parse(url).unwrap())
}

fn sent(request: &ClientRequest) -> String {
    let mut out = Vec::new();
    request.encode(KEY, &mut out);
    String::from_utf8(out).unwrap()
}

/// What becomes of an answer that comes in pieces of `size` bytes, and what is left of the last piece.
fn answered<'a>(request: &ClientRequest, answer: &'a str, size: usize) -> (Result<Accepted, HandshakeError>, &'a [u8]) {
    let mut reader = ResponseReader::new(HeadLimits::default());
    for mut piece in answer.as_bytes().chunks(size) {
        match reader.read(&mut piece) {
            Ok(None) => assert!(piece.is_empty()),
            Ok(Some(head)) => return (request.check_response(KEY, head, piece), piece),
            Err(error) => return (Err(error), piece),
        }
    }
    panic!("no outcome for {answer}");
}

fn failed(request: &ClientRequest, answer: &str) -> HandshakeError {
    answered(request, answer, usize::MAX).0.expect_err(answer)
}

#[test]
fn the_request_is_that_of_the_rfc_and_a_server_accepts_it() {
    // P255, P267
    let request = client("ws://server.example.com/chat?x=1").origin("http://example.com").unwrap();
    let request = request.protocol("chat").unwrap().protocol("superchat").unwrap().protocol("chat").unwrap();
    let request = request.extensions("permessage-deflate; client_max_window_bits").unwrap();
    let text = sent(&request);
    assert_eq!(
        text,
        "GET /chat?x=1 HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: chat, superchat\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nOrigin: http://example.com\r\n\r\n"
    );
    let upgrade = super::super::check(&Request::parse(text.as_bytes()).unwrap(), b"").unwrap();
    let mut answer = Vec::new();
    super::super::response(&upgrade.key, Some("superchat"), None, &HeaderMap::new(), &mut answer).unwrap();
    let (accepted, _) = answered(&request, std::str::from_utf8(&answer).unwrap(), 7);
    assert_eq!(accepted.unwrap().protocol.as_deref(), Some("superchat"));
}

#[test]
fn user_and_password_of_the_url_are_sent() {
    let request = client("ws://Aladdin:open%20sesame@a:81/");
    assert!(sent(&request).contains("\r\nHost: a:81\r\n"));
    assert!(sent(&request).contains("\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"));
    let request = request.header("authorization", "Bearer x").unwrap().header("Host", "b").unwrap();
    let text = sent(&request);
    assert!(text.contains("\r\nAuthorization: Bearer x\r\n") && !text.contains("Basic"), "{text}");
    assert!(text.contains("\r\nHost: b\r\n") && !text.contains("Host: a"), "{text}");
}

#[test]
fn what_cannot_be_sent_is_refused_at_construction() {
    // T18
    for name in ["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol", "Content-Length"] {
        assert!(matches!(client("ws://a").header(name, "x"), Err(InvalidHeader::Reserved(_))), "{name}");
    }
    assert!(client("ws://a").header("X", "a\r\nb").is_err());
    assert!(client("ws://a").origin("a\nb").is_err());
    assert!(client("ws://a").protocol("a b").is_err());
    assert!(client("ws://a").protocol("").is_err());
    assert!(client("ws://a").extensions("a\r\nb").is_err());
}

#[test]
fn a_good_answer_is_accepted_and_the_frames_behind_it_stay() {
    // T9, T62, P276
    let answer = format!("{GOOD}\r\n\u{1}early");
    for size in [1, 2, 3, 50, 1000] {
        let (accepted, rest) = answered(&client("ws://a"), &answer, size);
        assert!(accepted.is_ok());
        assert!("\u{1}early".as_bytes().starts_with(rest), "{rest:?}");
    }
    assert_eq!(answered(&client("ws://a"), &answer, usize::MAX).1, b"\x01early");
    let odd = GOOD
        .replace("Connection: Upgrade", "connection:\tupgrade , keep-alive")
        .replace(": websocket", ":  WebSocket ");
    assert!(answered(&client("ws://a"), &format!("{odd}\r\n"), 9).0.is_ok());
}

#[test]
fn interim_responses_are_skipped_up_to_eight() {
    // T62
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    assert!(answered(&client("ws://a"), &format!("{}{GOOD}\r\n", hint.repeat(4)), 5).0.is_ok());
    let error = failed(&client("ws://a"), &format!("{}{GOOD}\r\n", hint.repeat(5)));
    assert!(matches!(error, HandshakeError::TooManyInterim { limit: 8 }), "{error}");
}

#[test]
fn every_wrong_answer_is_told_precisely() {
    // T62, T71, P267
    let request = client("ws://a").protocol("chat").unwrap().extensions("x-a; p=1, x-a, x-b").unwrap();
    for (answer, said) in [
        ("SSH-2.0-OpenSSH\r\n".into(), "expected an HTTP/1.1 response, but \"S\" came"),
        (
            "HTTP/1.1 101\r\n: x\r\n\r\n".into(),
            "malformed response head: invalid header name, white space before a colon, or a folded line",
        ),
        ("HTTP/1.1 099 x\r\n\r\n".into(), "malformed response head: invalid status code"),
        (
            format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(9000)),
            "expected at most 8192 bytes of a response head or its line, but more came",
        ),
        (format!("HTTP/1.1 200 OK\r\n{}", "X: a\r\n".repeat(101)), "expected at most 100 header fields, but more came"),
        (GOOD.replace("1.1", "1.0"), "expected an upgrade in HTTP/1.1, but it came in HTTP/1.0"),
        (GOOD.replace("Upgrade: websocket\r\n", ""), "expected \"websocket\" in the Upgrade header, but none came"),
        (GOOD.replace(": websocket", ": h2c\x1b[1m"), "malformed response head: control character in a header value"),
        (
            GOOD.replace(": websocket", ": websocket, h2c"),
            "expected \"websocket\" in the Upgrade header, but \"websocket, h2c\" came",
        ),
        (
            GOOD.replace(": Upgrade", ": close\u{e9}"),
            "expected \"Upgrade\" in the Connection header, but \"close\\xc3\\xa9\" came",
        ),
        (
            GOOD.replace("xOo=", "xOp="),
            "expected \"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\" in the Sec-WebSocket-Accept header, \
             but \"s3pPLMBiTxaQ9kYGzzhZRbK+xOp=\" came",
        ),
        (
            GOOD.replace("Accept", "Except"),
            "expected \"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\" in the Sec-WebSocket-Accept header, but none came",
        ),
        (
            format!("{GOOD}Sec-WebSocket-Protocol: Chat\r\n"),
            "expected one of the offered subprotocols, but \"Chat\" came",
        ),
        (
            format!("{GOOD}Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat\r\n"),
            "expected one of the offered subprotocols, but \"chat, chat\" came",
        ),
        (
            format!("{GOOD}Sec-WebSocket-Extensions: x-c; p\r\n"),
            "expected offered extensions, each once, but \"x-c; p\" came",
        ),
        (
            format!("{GOOD}Sec-WebSocket-Extensions: x-b, x-b\r\n"),
            "expected offered extensions, each once, but \"x-b\" came",
        ),
        (format!("{GOOD}Sec-WebSocket-Extensions:\r\n"), "expected offered extensions, each once, but \"\" came"),
        ("HTTP/1.1 200 OK\r\n\r\nhello\n".into(), "expected 101 Switching Protocols, but 200 OK \"hello\\n\" came"),
        ("HTTP/1.1 401 Unauthorized\r\n\r\n".into(), "expected 101 Switching Protocols, but 401 Unauthorized came"),
        (
            "HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n".into(),
            "expected 101 Switching Protocols, but 301 Moved Permanently to \"/x\" came",
        ),
        ("HTTP/1.1 301 Moved\r\n\r\n".into(), "expected 101 Switching Protocols, but 301 Moved Permanently came"),
    ] {
        let end = if answer.contains("\r\n\r\n") { "" } else { "\r\n" };
        assert_eq!(failed(&request, &format!("{answer}{end}")).to_string(), said, "{answer}");
    }
    let answer = format!("{GOOD}Sec-WebSocket-Extensions: x-b\r\nSec-WebSocket-Extensions: x-a;p=2\r\n\r\n");
    let (accepted, _) = answered(&request, &answer, 99);
    assert_eq!(accepted.unwrap().extensions.as_deref(), Some("x-b, x-a;p=2"));
}

#[test]
fn a_refusal_brings_its_headers_body_and_retry_after() {
    // T62, P259, P270
    let answer = "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nX-Why: load\r\nContent-Length: 10\r\n\r\ntoo bu";
    let HandshakeError::Status(mut rejection) = failed(&client("ws://a"), answer) else { panic!() };
    assert_eq!(rejection.status, 503);
    assert_eq!(rejection.headers["x-why"], "load");
    assert_eq!(rejection.retry_after, Some(std::time::Duration::from_secs(7)));
    assert_eq!(rejection.body, b"too bu");
    assert!(!rejection.feed(b"sy"));
    assert!(rejection.feed(b"!!HTTP/1.1 200"));
    assert_eq!(rejection.body, b"too busy!!");

    let date = "HTTP/1.1 503 Busy\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\n";
    let HandshakeError::Status(mut rejection) = failed(&client("ws://a"), date) else { panic!() };
    assert_eq!(rejection.retry_after, None);
    assert!(rejection.feed(&[b'x'; 100_000]));
    assert_eq!(rejection.body.len(), 16 * 1024);

    for (at, expected) in [("23:59:00", Some(59)), ("23:59:59", Some(0)), ("24:00:00", None)] {
        let answer = format!("HTTP/1.1 503 Busy\r\nDate: Fri, 31 Dec 1999 {at} GMT\r\n{}", &date[19..]);
        let HandshakeError::Status(rejection) = failed(&client("ws://a"), &answer) else { panic!() };
        assert_eq!(rejection.retry_after, expected.map(std::time::Duration::from_secs), "{at}");
    }
}

fn refusal(answer: &str, size: usize) -> (Vec<u8>, bool) {
    let (head, body) = answer.split_at(answer.find("\r\n\r\n").unwrap() + 4);
    let HandshakeError::Status(mut rejection) = failed(&client("ws://a"), head) else { panic!("{answer}") };
    let whole = body.as_bytes().chunks(size).fold(rejection.feed(b""), |_, piece| rejection.feed(piece));
    (rejection.body, whole)
}

/// RFC 9112, 6.3 and 7.1. A client that did not know where it ends would wait for its whole time.
#[test]
fn a_refusals_body_ends_where_its_framing_says() {
    // T62, P259
    for (answer, body, whole) in [
        ("403 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbe\r\n\r\n5;x=y\r\ncause\r\n0\r\n", "be\r\ncause", true),
        ("403 No\r\nTransfer-Encoding: chunked\r\n\r\n00a\r\nbecause it!\r\n", "because it", true),
        ("403 No\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 1\r\n\r\n3\r\nwhy\r\n", "why", false),
        ("403 No\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nwhy", "why", false),
        ("403 No\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nwhy", "", true),
        ("403 No\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nwhy", "", true),
        ("403 No\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\nwhy", "why", false),
        ("403 No\r\n\r\nwhy", "why", false),
        ("403 No\r\nContent-Length: 2\r\n\r\nwhy", "wh", true),
        ("204 None\r\n\r\nwhy", "", true),
        ("304 Same\r\nContent-Length: 9\r\n\r\nwhy", "", true),
        ("304 Same\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwhy", "", true),
    ] {
        for size in 1..answer.len() {
            let (came, is_whole) = refusal(&format!("HTTP/1.1 {answer}"), size);
            assert_eq!((String::from_utf8_lossy(&came).as_ref(), is_whole), (body, whole), "{answer:?} in {size}s");
        }
    }
    let chunked = "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (body, whole) = refusal(&format!("{chunked}{}", "3\r\nwhy\r\n".repeat(10_000)), 1000);
    assert_eq!((body.len(), whole), (16 * 1024, true));
    for size in [1, 1000] {
        let (body, whole) = refusal(&format!("{chunked}{}", "3".repeat(1000)), size);
        assert_eq!((body.len(), whole), (0, true), "no line is that long");
    }
}

#[test]
fn credentials_do_not_follow_to_another_origin() {
    // T63
    let request = client("ws://me:pw@a/x").header("Cookie", "id=1").unwrap().header("X-Room", "1").unwrap();
    let policy = RedirectPolicy::follow_up_to(3, true);
    let near = request.clone().redirected(policy.follow(0, request.url(), "/y").unwrap());
    assert!(sent(&near).starts_with("GET /y ") && sent(&near).contains("Cookie") && sent(&near).contains("Basic"));
    let request = request.header("Authorization", "Bearer x").unwrap().header("Host", "vhost").unwrap();
    let far = request.clone().redirected(policy.follow(0, request.url(), "ws://b/y").unwrap());
    let text = sent(&far);
    assert!(text.contains("Host: b\r\n") && text.contains("X-Room"), "{text}");
    assert!(!text.contains("Cookie") && !text.contains("Authorization"), "{text}");
}

#[test]
fn credentials_are_not_in_a_debug_line() {
    // T71
    let request = client("ws://me:hush@a/x").header("Authorization", "Bearer hush").unwrap();
    let request = request.header("Cookie", "id=hush").unwrap().header("Proxy-Authorization", "hush").unwrap();
    let shown = format!("{request:?}");
    assert!(!shown.contains("hush") && shown.contains("cookie"), "{shown}");
    assert!(sent(&request).contains("Cookie: id=hush\r\n"));
}

proptest! {
    #[test]
    fn random_answers_never_panic(
        fields in "([A-Za-z-]{1,9}:[ -~]{0,9}\r\n){0,5}",
        code in 90..600_u16,
        body in "\\PC{0,9}",
    ) {
        let answer = format!("HTTP/1.1 {code} x\r\n{fields}\r\n{body}HTTP/1.1 200 x\r\n\r\nno HTTP");
        let _ = answered(&client("ws://a"), &answer, usize::MAX);
    }
}
