use proptest::prelude::*;

use super::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A handshake by its lines; `-Name` takes a line out, `Name: value` puts one in.
fn handshake(changes: &[&str]) -> Request {
    let mut lines = vec![
        "GET /chat HTTP/1.1".to_owned(),
        "Host: server.example.com".to_owned(),
        "Upgrade: websocket".to_owned(),
        "Connection: Upgrade".to_owned(),
        format!("Sec-WebSocket-Key: {KEY}"),
        "Sec-WebSocket-Version: 13".to_owned(),
    ];
    for change in changes {
        match change.strip_prefix('-') {
            Some(name) => lines.retain(|line| !line.starts_with(name)),
            None if change.contains(" HTTP/") => lines[0] = (*change).into(),
            None => lines.push((*change).into()),
        }
    }
    Request::parse((lines.join("\r\n") + "\r\n\r\n").as_bytes()).unwrap()
}

fn refused(changes: &[&str]) -> (u16, String) {
    let answer = check(&handshake(changes), b"").expect_err(&format!("{changes:?}"));
    let mut out = Vec::new();
    answer.encode(&mut out, false, true);
    let text = String::from_utf8(out).unwrap();
    let connection = text.lines().find_map(|line| line.strip_prefix("Connection: ")).unwrap();
    assert!(connection == "close" || connection == "Upgrade, close", "{text}");
    assert!(text.contains("\r\n\r\nexpected "), "{text}");
    (answer.status_code().as_u16(), text)
}

#[test]
fn the_handshake_of_the_rfc_is_answered_as_there() {
    // P255
    let upgrade =
        check(&handshake(&["Sec-WebSocket-Protocol: chat, superchat", "Origin: http://example.com"]), b"").unwrap();
    assert_eq!(upgrade.key, KEY);
    assert_eq!(upgrade.protocols, ["chat", "superchat"]);
    let mut out = Vec::new();
    response(&upgrade.key, Some("chat"), None, &HeaderMap::new(), &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
}

#[test]
fn lists_tabs_and_odd_case_are_accepted() {
    // T9
    for changes in [
        &["-Connection", "Connection: keep-alive, Upgrade"][..],
        &["-Connection", "Connection: keep-alive", "Connection: upgrade"],
        &["-Connection", "Connection:\tkeep-alive\t,\tuPGRADE\t"],
        &["-Upgrade", "uPgRaDe: WebSocket"],
        &["-Upgrade", "Upgrade: h2c, websocket"],
        &["Content-Length: 0"],
        &["-Sec-WebSocket-Key", "sec-websocket-key:   AAAAAAAAAAAAAAAAAAAAAA==  "],
    ] {
        assert!(check(&handshake(changes), b"").is_ok(), "{changes:?}");
    }
}

#[test]
fn what_is_no_handshake_is_told_what_is_missing() {
    // T6, T7, T8, T11, P259
    for (changes, status, said) in [
        (&["-Upgrade"][..], 426, "plain HTTP"),
        (&["-Upgrade", "Upgrade: websockets"], 426, "plain HTTP"),
        (&["POST /chat HTTP/1.1"], 405, "POST came"),
        (&["GET /chat HTTP/1.0"], 505, "HTTP/1.0 came"),
        (&["-Connection"], 400, "none came"),
        (&["-Connection", "Connection: keep-alive"], 400, "\"keep-alive\" came"),
        (&["-Sec-WebSocket-Key"], 400, "none came"),
        (&["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="], 400, "2 came"),
        (&["-Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"], 400, "AAAA"), // 15 bytes
        (&["-Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="], 400, "AAAA"), // 17 bytes
        (&["-Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAA-=="], 400, "-=="),
        (&["-Sec-WebSocket-Key", "Sec-WebSocket-Key:"], 400, "\"\" came"),
        (&["-Sec-WebSocket-Version"], 426, "none came"),
        (&["-Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"], 426, "8 came"),
        (&["-Sec-WebSocket-Version", "Sec-WebSocket-Version: 013"], 426, "013 came"),
        (&["Sec-WebSocket-Version: 8"], 400, "2 came"),
    ] {
        let (got, text) = refused(changes);
        assert_eq!(got, status, "{text}");
        assert!(text.contains(said), "{text}");
        assert_eq!(status == 426, text.contains("\r\nUpgrade: websocket\r\n"), "{text}");
        assert_eq!(status == 405, text.contains("\r\nAllow: GET\r\n"), "{text}");
        let is_about_version = changes.iter().any(|change| change.contains("Version"));
        assert_eq!(is_about_version, text.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{text}");
    }
    let with_body =
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(check(&Request::parse(with_body).unwrap(), b"").unwrap_err().status_code(), 400);
}

#[test]
fn bytes_before_the_answer_are_refused() {
    // T12, T13
    for early in [&b"GET /admin HTTP/1.1\r\n\r\n"[..], b"\x81\x80\0\0\0\0"] {
        let answer = check(&handshake(&[]), early).unwrap_err();
        assert_eq!(answer.status_code(), 400);
        assert!(answer.closes() && !answer.body().contains(&b'\r'));
    }
}

#[test]
fn subprotocols_are_few_different_tokens() {
    // T16, P267
    for (list, legal) in [
        ("a", true),
        ("a,b ,\tc", true),
        ("a, A", true),
        ("", false),
        ("a,,b", false),
        ("a,", false),
        ("a, a", false),
        ("a b", false),
        ("a;b", false),
        ("\"a\"", false),
        ("\u{e9}", false),
    ] {
        let line = format!("Sec-WebSocket-Protocol: {list}");
        assert_eq!(
            check(&handshake(&[&line]), b"").map_err(|answer| answer.status_code().as_u16()).err(),
            (!legal).then_some(400),
            "{list}"
        );
    }
    assert_eq!(refused(&["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: a"]).0, 400);
    let many = |count: usize| (0..count).map(|n| format!("p{n}")).collect::<Vec<_>>().join(",");
    let line = |count| format!("Sec-WebSocket-Protocol: {}", many(count));
    assert_eq!(check(&handshake(&[&line(64)]), b"").unwrap().protocols.len(), 64);
    assert_eq!(refused(&[&line(65)]).0, 400);
    assert_eq!(refused(&[&line(1000)]).0, 400);
}

#[test]
fn extensions_are_handed_on_as_they_came() {
    // T17: their own syntax is the extension's to judge.
    let upgrade =
        check(&handshake(&["Sec-WebSocket-Extensions: a; b=\"\\\\", "Sec-WebSocket-Extensions: c"]), b"").unwrap();
    assert_eq!(upgrade.extensions, ["a; b=\"\\\\", "c"]);
    assert_eq!(refused(&["Sec-WebSocket-Extensions: \u{e9}"]).0, 400);
}

#[test]
fn the_answer_cannot_be_split_or_contradicted() {
    // T18
    let mut out = Vec::new();
    let (none, mut extra) = (HeaderMap::new(), HeaderMap::new());
    assert!(response(KEY, Some("a\r\nb"), None, &none, &mut out).is_err());
    assert!(response(KEY, Some(""), None, &none, &mut out).is_err());
    assert!(response(KEY, None, Some("a\r\nb: c"), &none, &mut out).is_err());
    extra.insert(header::CONTENT_LENGTH, HeaderValue::from_static("5"));
    assert!(matches!(response(KEY, None, None, &extra, &mut out), Err(InvalidHeader::Reserved(_))));
    assert!(out.is_empty());
    extra.clear();
    extra.append(header::SET_COOKIE, HeaderValue::from_static("a=1"));
    extra.append(header::SET_COOKIE, HeaderValue::from_static("b=2"));
    response(KEY, None, Some("permessage-deflate"), &extra, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let end = "Sec-WebSocket-Extensions: permessage-deflate\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n";
    assert!(text.ends_with(end), "{text}");
}

proptest! {
    #[test]
    fn random_fields_never_panic(value in "[ -~\t\u{80}-\u{ff}]{0,200}", field in 0..5_usize) {
        let names = ["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol", "Origin"];
        let name = names[field];
        let _ = check(&handshake(&[&format!("{name}: {value}")]), b"");
    }
}
