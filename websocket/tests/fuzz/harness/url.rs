//! URLs, from a user or from a peer that redirects, and the request that a client makes of them.

use twistor_reactor::for_protocol;
use twistor_websocket::{
    Frame, WebSocket, WebSocketClientFactory, WebSocketProtocol,
    handshake::{ClientRequest, ProxyConnect, WsUrl, redirect_target},
    http::{Connection, Limits},
};

use super::client_response::KEY;

/// A text is no URL, or one that makes a single good request.
pub fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert_redirects_safely(text);
    assert_proxy(text);
    let url = match WsUrl::parse(text) {
        Ok(url) => url,
        // T71; a letter is shown as it is.
        Err(error) => return assert!(!error.to_string().contains(char::is_control), "{error:?}"),
    };
    assert!(url.port != 0 && !url.host.is_empty() && url.resource.starts_with('/'));
    let mut shown = WsUrl::parse(&url.to_string()).expect("what is shown is a URL");
    assert_eq!(shown.userinfo, None, "no password in a log");
    assert!(shown.same_origin(&url));
    shown.userinfo = url.userinfo.clone();
    assert_eq!(shown, url);
    assert_one_request(&ClientRequest::new(url));
}

/// A proxy's URL leads somewhere, or is refused; what tells of it has no password.
fn assert_proxy(text: &str) {
    struct Nobody;
    impl WebSocketProtocol for Nobody {
        fn frame_received(&mut self, _: &WebSocket, _: Frame<'_>) {}
    }
    let factory = WebSocketClientFactory::new("ws://a", for_protocol(|| Nobody)).expect("a URL");
    match factory.proxy(text) {
        Ok(factory) => {
            let (host, port) = factory.destination();
            assert!(!host.is_empty() && port != 0 && text.to_ascii_lowercase().starts_with("http://"));
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
    }
}

/// Where a server sends us with `location`, and what we then send.
pub fn assert_redirects_safely(location: &str) {
    for base in ["ws://me:pw@a:81/x/y?q", "wss://[::1]/"] {
        let base = WsUrl::parse(base).expect("a URL");
        let Ok(redirect) = redirect_target(&base, location) else { continue };
        // T63
        assert!(redirect.url.secure || !base.secure, "never out of TLS");
        assert_eq!(redirect.strip_credentials, !redirect.url.same_origin(&base));
        let kept = base.userinfo.clone().filter(|_| !redirect.strip_credentials);
        assert_eq!(redirect.url.userinfo, kept, "not the server's invention");
        let request = ClientRequest::new(base).header("Cookie", "a=b").expect("a header");
        let stripped = redirect.strip_credentials;
        let headers = assert_one_request(&request.redirected(redirect));
        assert_eq!(headers.contains_key("cookie"), !stripped);
    }
}

/// T18: our own server reads what we send as one request, for the same resource and host, with nothing behind it.
fn assert_one_request(client: &ClientRequest) -> twistor_websocket::http::HeaderMap {
    let mut limits = Limits::default();
    (limits.head.max_bytes, limits.head.max_line) = (1 << 20, 1 << 20);
    let mut out = Vec::new();
    client.encode(KEY, &mut out);
    let mut input = &out[..];
    let request = Connection::new(None, limits.clone()).feed(&mut input);
    let request = request.expect("a good request").expect("a whole request");
    assert!(input.is_empty(), "one request");
    let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
    assert_eq!(format!("{}{query}", request.path()), client.url().resource);
    assert_eq!(request.host(), Some(&*client.url().host_header()));

    // The target of a CONNECT is no path, so no request that this server reads; its lines can be counted.
    out.clear();
    ProxyConnect::new(client.url(), None).encode(&mut out);
    assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 3);
    assert!(!out.iter().any(|byte| matches!(byte, 0..=9 | 11..=12 | 14..=31 | 127..)));
    request.headers().clone()
}

pub fn seeds() -> Vec<Vec<u8>> {
    [
        "ws://a",
        "wss://me:s%40crt@[::1]:9000/ws?room=1",
        "ws://EXAMPLE.com:80?x=/y",
        "ws://127.0.0.1:65535/%00/../a;b=c",
        "https://a/",
        "http://me:s%40crt@[::1]:3128/",
        "http:b",
        "//evil:pw@b/z",
        "?r=1#top",
        "../z?u=http://b",
        "ws://a/\"<>\\^`{|}",
        "ws://[0:0::1%25eth0]/",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
