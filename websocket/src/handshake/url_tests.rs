use proptest::prelude::*;

use super::*;

#[test]
fn urls_are_taken_apart() {
    // P272: Autobahn's TestParseWsUrl and more
    for (text, secure, host, port, resource) in [
        ("ws://localhost", false, "localhost", 80, "/"),
        ("ws://localhost:80", false, "localhost", 80, "/"),
        ("wss://localhost", true, "localhost", 443, "/"),
        ("wss://localhost:443", true, "localhost", 443, "/"),
        ("wss://localhost/ws", true, "localhost", 443, "/ws"),
        ("wss://localhost/ws?foo=bar", true, "localhost", 443, "/ws?foo=bar"),
        ("wss://localhost/ws?foo=bar&moo=23&moo=44", true, "localhost", 443, "/ws?foo=bar&moo=23&moo=44"),
        ("WS://LocalHost:", false, "localhost", 80, "/"),
        ("ws://a?b=/c@d", false, "a", 80, "/?b=/c@d"),
        ("ws://a/@b:c", false, "a", 80, "/@b:c"),
        ("ws://127.0.0.1:9000/%20", false, "127.0.0.1", 9000, "/%20"),
        ("wss://[2001:DB8::1]:1/", true, "2001:db8::1", 1, "/"),
        ("ws://[0:0:0:0:0:0:0:1]", false, "::1", 80, "/"),
    ] {
        let url = WsUrl::parse(text).unwrap();
        let parts = (url.secure, url.host.as_str(), url.port, url.resource.as_str());
        assert_eq!(parts, (secure, host, port, resource), "{text}");
        assert_eq!(WsUrl::parse(&url.to_string()).unwrap(), url, "{text}");
    }
}

#[test]
fn a_bad_url_is_told_what_is_wrong() {
    // P272
    for (text, error) in [
        ("http://localhost", UrlError::Scheme("http".into())),
        ("https://localhost", UrlError::Scheme("https".into())),
        ("http://localhost#frag1", UrlError::Scheme("http".into())),
        ("localhost", UrlError::Scheme("localhost".into())),
        ("", UrlError::Scheme(String::new())),
        ("ws:/a", UrlError::Scheme("ws".into())),
        ("ws://", UrlError::MissingHost),
        ("wss://", UrlError::MissingHost),
        ("ws:///path", UrlError::MissingHost),
        ("ws://:80", UrlError::MissingHost),
        ("ws://user@", UrlError::MissingHost),
        ("ws://a#", UrlError::Fragment),
        ("ws://a/b?c#d", UrlError::Fragment),
        ("ws://a:0", UrlError::Port("0".into())),
        ("ws://a:65536", UrlError::Port("65536".into())),
        ("ws://a:b", UrlError::Port("b".into())),
        ("ws://a:-1", UrlError::Port("-1".into())),
        ("ws://::1", UrlError::Host("::1".into())),
        ("ws://[::1", UrlError::Host("[::1".into())),
        ("ws://a\\b", UrlError::Host("a\\\\b".into())),
        ("ws://a/b c", UrlError::Character(' ')),
        ("ws://a/\r\nX: y", UrlError::Character('\r')),
        ("ws://b\u{fc}cher.example", UrlError::Character('\u{fc}')),
        ("ws://a/<b>", UrlError::Resource("/<b>".into())),
        ("ws://%ff@a", UrlError::UserInfo),
        ("ws://a%3Ab:c@a", UrlError::UserInfo),
    ] {
        assert_eq!(WsUrl::parse(text).unwrap_err(), error, "{text}");
        assert!(error.to_string().starts_with("invalid URL: "));
    }
}

#[test]
fn urls_are_put_together() {
    // P272: Autobahn's TestCreateWsUrl; the port is left out where it is the scheme's
    let params = [("foo", "bar"), ("moo", "23")];
    for (secure, host, port, path, params, text) in [
        (false, "localhost", None, "", &[][..], "ws://localhost/"),
        (false, "localhost", Some(8090), "/", &[], "ws://localhost:8090/"),
        (false, "localhost", None, "ws", &[], "ws://localhost/ws"),
        (false, "localhost", None, "/ws", &[], "ws://localhost/ws"),
        (false, "localhost", None, "/ws/foobar", &[], "ws://localhost/ws/foobar"),
        (true, "localhost", None, "", &[], "wss://localhost/"),
        (true, "localhost", Some(443), "", &[], "wss://localhost/"),
        (true, "localhost", Some(80), "", &[], "wss://localhost:80/"),
        (true, "localhost", Some(9090), "ws", &params[..1], "wss://localhost:9090/ws?foo=bar"),
        (true, "localhost", Some(9090), "ws", &params, "wss://localhost:9090/ws?foo=bar&moo=23"),
        (false, "62.146.25.34", None, "ws", &[], "ws://62.146.25.34/ws"),
        (false, "subsub1.sub1.something.com", None, "ws", &[], "ws://subsub1.sub1.something.com/ws"),
        (false, "::1", None, "ws", &[], "ws://[::1]/ws"),
        (false, "[0:0:0:0:0:0:0:1]", Some(81), "ws", &[], "ws://[::1]:81/ws"),
        (false, "a", None, "/\u{e9} ?#", &[("k y", "&=")], "ws://a/%C3%A9%20%3F%23?k+y=%26%3D"),
    ] {
        assert_eq!(WsUrl::create(secure, host, port, path, params).unwrap().to_string(), text);
    }
    assert_eq!(WsUrl::create(false, "a:80", None, "", &[]), Err(UrlError::Host("[a:80]".into())));
    assert_eq!(WsUrl::create(false, "", None, "", &[]), Err(UrlError::MissingHost));
    assert_eq!(WsUrl::create(false, "a", Some(0), "", &[]), Err(UrlError::Port("0".into())));
}

#[test]
fn user_and_password_are_decoded_and_not_shown() {
    for (text, userinfo) in [
        ("ws://a", None),
        ("ws://@a", None),
        ("ws://me@a", Some(("me", ""))),
        ("ws://me:s3cret@a", Some(("me", "s3cret"))),
        ("ws://m%40e:s3cret%3A%C3%A9:@a", Some(("m@e", "s3cret:\u{e9}:"))),
    ] {
        let url = WsUrl::parse(text).unwrap();
        assert_eq!(
            url.userinfo.as_ref().map(|(user, password)| (user.as_str(), password.as_str())),
            userinfo,
            "{text}"
        );
        assert!(!format!("{url} {url:?}").contains("s3cret"));
    }
}

#[test]
fn a_host_has_at_most_255_bytes() {
    // it goes to the resolver, and into lines of the log
    for length in [255, 256, 5000] {
        let host = "a".repeat(length);
        let expected = if length == 255 { Ok(host.clone()) } else { Err(UrlError::HostTooLong(length)) };
        let parsed = WsUrl::parse(&format!("ws://{host}:81/"));
        assert_eq!(parsed.map(|url| url.host), expected);
        assert_eq!(WsUrl::create(false, &host, None, "", &[]).map(|url| url.host), expected);
        assert_eq!(WsUrl::parse_proxy(&format!("http://{host}")).map(|url| url.host), expected);
        let redirected = super::super::redirect_target(&WsUrl::parse("ws://a").unwrap(), &format!("//{host}"));
        assert_eq!(redirected.is_ok(), length == 255);
    }
    let error = WsUrl::parse(&format!("ws://{}", "a".repeat(256))).unwrap_err();
    assert_eq!(error.to_string(), "invalid URL: expected a host of at most 255 bytes, got one of 256");
}

#[test]
fn the_url_of_a_proxy_is_a_place_and_who_is_known_there() {
    let me = |password: &str| Some(("me".to_owned(), password.to_owned()));
    for (text, host, port, userinfo) in [
        ("http://proxy.example", "proxy.example", 80, None),
        ("HTTP://Proxy.Example:3128/", "proxy.example", 3128, None),
        ("http://me:s3cret@[::1]:8080", "::1", 8080, me("s3cret")),
        ("http://me:s%2Fc%40t@127.0.0.1", "127.0.0.1", 80, me("s/c@t")),
    ] {
        let url = WsUrl::parse_proxy(text).unwrap();
        assert_eq!((url.host.as_str(), url.port, url.userinfo), (host, port, userinfo), "{text}");
    }
    for (text, error) in [
        ("https://a", UrlError::ProxyScheme("https".into())),
        ("ws://a", UrlError::ProxyScheme("ws".into())),
        ("socks5://a", UrlError::ProxyScheme("socks5".into())),
        ("proxy.example:3128", UrlError::ProxyScheme("proxy.example".into())),
        ("me:s3cret@proxy.example:3128", UrlError::ProxyScheme("me".into())),
        ("", UrlError::ProxyScheme(String::new())),
        ("http://a/x", UrlError::ProxyPath),
        ("http://a?x", UrlError::ProxyPath),
        ("http://me:12/s3cret@a", UrlError::ProxyPath),
        ("http://", UrlError::MissingHost),
        ("http://a:0", UrlError::Port("0".into())),
        ("http://a b", UrlError::Character(' ')),
        ("http://a#b", UrlError::Fragment),
        ("http://a%3Ab:c@a", UrlError::UserInfo),
    ] {
        let got = WsUrl::parse_proxy(text).unwrap_err();
        assert_eq!(got, error, "{text}");
        assert!(!got.to_string().contains("s3cret"), "{got}");
    }
}

#[test]
fn the_host_header_omits_the_default_port_only() {
    for (text, header) in [
        ("ws://a:80", "a"),
        ("ws://a:443", "a:443"),
        ("wss://a:443", "a"),
        ("wss://a:80", "a:80"),
        ("wss://[::1]:8443", "[::1]:8443"),
        ("ws://[::1]", "[::1]"),
    ] {
        assert_eq!(WsUrl::parse(text).unwrap().host_header(), header);
    }
}

proptest! {
    #[test]
    fn random_urls_never_panic_and_parsed_ones_can_be_sent(
        text in "wss?://[ -~]{0,40}|\\PC{0,40}|ws://[a-z:@\\[\\]?#/%0-9]{0,20}"
    ) {
        if let Ok(url) = WsUrl::parse(&text) {
            prop_assert!(url.resource.starts_with('/') && url.resource.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert!(url.port != 0 && !url.host.is_empty());
            let _ = super::super::redirect_target(&url, &text);
        }
    }
}
