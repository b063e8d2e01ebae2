use super::*;

fn request(host: &str, fields: &str) -> Request {
    Request::parse(format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").as_bytes()).unwrap()
}

fn from(host: &str, origin: &str) -> Request {
    request(host, &format!("Origin: {origin}\r\n"))
}

#[test]
fn same_origin_is_the_same_host_and_port() {
    // T14, P268
    for (host, origin, allowed) in [
        ("chat.example", "https://chat.example", true),
        ("chat.example", "http://chat.example", true),
        ("Chat.Example", "https://CHAT.example", true),
        ("chat.example:443", "https://chat.example", true),
        ("chat.example", "https://chat.example:443", true),
        ("chat.example:80", "https://chat.example", false),
        ("chat.example:8080", "http://chat.example:8080", true),
        ("chat.example:8080", "http://chat.example:8081", false),
        ("chat.example", "http://chat.example:8080", false),
        ("[::1]:9000", "http://[0:0:0:0:0:0:0:1]:9000", true),
        ("[::1]:9000", "http://[::2]:9000", false),
        ("chat.example", "http://evil", false),
        ("chat.example", "http://chat.example.evil", false),
        ("chat.example", "http://evil/chat.example", false),
        ("chat.example", "http://chat.example@evil", false),
        ("chat.example", "http://user@chat.example", false),
        ("chat.example", "http://chat.example/", false),
        ("chat.example", "http://chat.example:99999", false),
        ("chat.example", "http://chat.example http://evil", false),
        ("chat.example", "chat.example", false),
        ("chat.example", "null", false),
        ("chat.example", "file://", false),
        ("chat.example", "", false),
        ("chat.example", "\u{e9}", false),
    ] {
        assert_eq!(OriginPolicy::default().check(&from(host, origin)), allowed, "{host} {origin}");
        assert!(OriginPolicy::Any.check(&from(host, origin)));
    }
}

#[test]
fn a_request_without_an_origin_is_no_browsers() {
    // T14
    let list = OriginPolicy::list(["https://a"]).unwrap();
    for policy in [OriginPolicy::SameOrigin, OriginPolicy::Any, list] {
        assert!(policy.check(&request("a", "")), "{policy:?}");
    }
}

#[test]
fn two_origins_are_none() {
    let request = request("a", "Origin: http://a\r\nOrigin: http://evil\r\n");
    assert!(!OriginPolicy::SameOrigin.check(&request));
    assert!(!OriginPolicy::list(["http://a", "http://evil"]).unwrap().check(&request));
    assert!(OriginPolicy::Any.check(&request));
}

#[test]
fn a_list_compares_scheme_host_and_port() {
    // P268
    let policy =
        OriginPolicy::list(["https://a.example", "http://localhost:8080", "https://*.b.example", "http://[::1]"]);
    let policy = policy.unwrap();
    for (origin, allowed) in [
        ("https://a.example", true),
        ("HTTPS://A.example:443", true),
        ("http://a.example", false),
        ("https://a.example:444", false),
        ("https://x.a.example", false),
        ("http://localhost:8080", true),
        ("http://localhost", false),
        ("https://x.b.example", true),
        ("https://x.y.b.example", true),
        ("https://b.example", false),
        ("https://.b.example", false),
        ("https://xb.example", false),
        ("https://x.b.example.evil", false),
        ("http://[::1]:80", true),
        ("null", false),
        ("https://server", false),
    ] {
        assert_eq!(policy.check(&from("server", origin)), allowed, "{origin}");
    }
}

#[test]
fn null_passes_only_where_it_is_allowed() {
    // T14, P268
    let OriginPolicy::List { origins, .. } = OriginPolicy::list(["http://a"]).unwrap() else { panic!() };
    let policy = OriginPolicy::List { origins, allow_null: true };
    assert!(policy.check(&from("a", "null")) && policy.check(&from("a", "file://")));
    assert!(!policy.check(&from("a", "")));
}

#[test]
fn what_is_no_origin_cannot_be_listed() {
    for text in [
        "",
        "*",
        "null",
        "example.com",
        "https://a/",
        "https://a?b",
        "https://*",
        "https://a.*",
        "https://*.*.a",
        "://a",
    ] {
        assert!(OriginPolicy::list([text]).is_err(), "{text}");
    }
    assert_eq!("HTTPS://[0::1]:80".parse::<Origin>().unwrap().to_string(), "https://[::1]:80");
}

#[test]
fn a_refusal_names_the_origin() {
    let answer = OriginPolicy::refusal(&from("a", "http://evil"));
    assert_eq!(answer.status_code(), 403);
    assert!(answer.closes() && String::from_utf8_lossy(answer.body()).contains("\"http://evil\" came"));
}
