//! Pages beside WebSockets: `Site` and `Resource`.

use std::cell::Cell;
use std::rc::Rc;

use http::{Method, StatusCode};
use twistor_websocket::http::{Request, Response};
use twistor_websocket::{Resource, SiteOptions, WebSocketResource};

use crate::support::{Log, Pages, Peer, Recorder, Recorders, get, request, text, upgrade};

pub(crate) fn pages() -> Pages {
    Pages::new(tree())
}

pub(crate) fn tree() -> Resource {
    let mut root = Resource::new().render_get(|_| Response::html("<h1>root</h1>"));
    let mut nested = Resource::new();
    nested.put_child("deep", Resource::new().render_get(|request| Response::text(request.path())));
    nested.put_child("leaf", Resource::new().leaf().render_get(|request| Response::text(request.path())));
    root.put_child("nested", nested);
    root.put_child(
        "form",
        Resource::new().render_post(|request| Response::bytes("a/b", request.body().to_vec()).expect("a content type")),
    );
    root.put_child("data", Resource::new().data("image/png", &b"png"[..]).expect("a content type"));
    root.put_child("slash here", Resource::new().render_get(|_| Response::text("decoded")));
    root
}

fn answer(peer: &Peer, asked: impl AsRef<[u8]>) -> (u16, String) {
    peer.send(asked);
    let answer = peer.http();
    (answer.status(), answer.body)
}

#[test]
fn pages_are_found_by_their_path() {
    let peer = pages().connect();
    let expected = [
        ("/", 200, "<h1>root</h1>"),
        ("/?query", 200, "<h1>root</h1>"),
        ("/nested/deep", 200, "/nested/deep"),
        ("/nested/deep/", 200, "/nested/deep/"),
        ("/nested/leaf/and/below", 200, "/nested/leaf/and/below"),
        ("/data", 200, "png"),
        ("/slash%20here", 200, "decoded"),
        ("/nested", 404, "there is nothing here\n"),
        ("/nested/deep/er", 404, "there is nothing here\n"),
        ("/missing", 404, "there is nothing here\n"),
        ("/nested%2fdeep", 404, "there is nothing here\n"),
        ("/nested/../data", 404, "there is nothing here\n"),
    ];
    for (path, status, body) in expected {
        assert_eq!(answer(&peer, get(path)), (status, body.to_owned()), "{path}");
    }
}

#[test]
fn head_gets_the_head_of_get() {
    let pages = pages();
    let peer = pages.connect();
    let host = &["Host: x"];
    peer.send(request("HEAD", "/data", host));
    let head = peer.http_without_body();
    assert_eq!((head.status(), head.header("Content-Length")), (200, Some("3")));
    peer.send(request("HEAD", "/missing", host));
    assert_eq!(peer.http_without_body().status(), 404);
    peer.send(request("HEAD", "/form", host));
    assert_eq!(peer.http_without_body().status(), 405);
    // and the connection is still in step
    assert_eq!(answer(&peer, get("/data")), (200, "png".into()));
}

#[test]
fn another_method_is_answered_405_with_those_allowed() {
    let root = Resource::new().render_get(|_| Response::text("")).render(Method::PUT, |_| Response::text("put"));
    let peer = Pages::new(root).connect();
    peer.send(request("DELETE", "/", &["Host: x"]));
    let refused = peer.http();
    assert_eq!((refused.status(), refused.header("Allow")), (405, Some("GET, PUT, HEAD")));
    assert_eq!(answer(&peer, request("PUT", "/", &["Host: x"])), (200, "put".into()));
}

#[test]
fn a_connection_is_kept_or_closed_as_the_request_wishes() {
    let pages = pages();
    let kept = pages.connect();
    for _ in 0..3 {
        kept.send(get("/data"));
        assert_eq!(kept.http().header("Connection"), Some("keep-alive"));
    }
    assert!(!kept.is_over());
    let closed = pages.connect();
    closed.send(request("GET", "/data", &["Host: x", "Connection: close"]) + &get("/"));
    assert_eq!(closed.http().header("Connection"), Some("close"));
    assert!(closed.saw_end() && closed.bytes().is_empty());
    let old = pages.connect();
    old.send("GET /data HTTP/1.0\r\n\r\n");
    assert_eq!(old.http().status(), 200);
    assert!(old.saw_end());
    let old_but_kept = pages.connect();
    old_but_kept.send("GET /data HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(old_but_kept.http().header("Connection"), Some("keep-alive"));
    assert!(!old_but_kept.is_over());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let pages = pages();
    let asked: String = (0..50).map(|number| get(&format!("/nested/leaf/{number}"))).collect();
    for chunk in [1, 100, usize::MAX] {
        let peer = pages.connect();
        peer.set_chunk(chunk);
        peer.send(&asked);
        for number in 0..50 {
            assert_eq!(peer.http().body, format!("/nested/leaf/{number}"));
        }
        assert!(peer.bytes().is_empty());
    }
}

#[test]
fn pipelined_requests_of_a_peer_that_does_not_read_wait_for_it() {
    let rendered = Rc::new(Cell::new(0));
    let count = rendered.clone();
    let root = Resource::new().render_get(move |_| {
        count.set(count.get() + 1);
        Response::bytes("a/b", vec![0; 10_000]).unwrap()
    });
    let peer = Pages::new(root).connect();
    peer.set_room(0);
    peer.send(get("/").repeat(100));
    assert!(rendered.get() < 10, "{} rendered for nobody", rendered.get());
    peer.set_room(usize::MAX);
    peer.settle();
    for _ in 0..100 {
        assert_eq!(peer.http().body.len(), 10_000);
    }
}

#[test]
fn a_body_comes_whole_to_its_render() {
    let peer = pages().connect();
    let head = request("POST", "/form", &["Host: x", "Content-Length: 11"]);
    peer.send(head.clone() + "hello");
    assert!(peer.bytes().is_empty());
    peer.send(" world".to_owned() + &get("/data"));
    assert_eq!(peer.http().body, "hello world");
    assert_eq!(peer.http().body, "png");
    assert_eq!(answer(&peer, head + "hello world"), (200, "hello world".into()));
}

#[test]
fn bodies_beyond_the_limit_or_without_a_length_are_refused() {
    let cases = [
        ("Content-Length: 65537", 413),
        ("Content-Length: 18446744073709551616", 413),
        ("Content-Length: -1", 400),
        ("Transfer-Encoding: chunked", 411),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked", 400),
        ("Content-Length: 1\r\nContent-Length: 2", 400),
    ];
    for (line, status) in cases {
        let peer = pages().connect();
        peer.send(request("POST", "/form", &["Host: x", line]));
        assert_eq!(peer.http().status(), status, "{line}");
        assert!(peer.saw_end());
    }
    let peer = pages().connect();
    let mut most = request("POST", "/form", &["Host: x", "Content-Length: 65536"]);
    most.extend(['x'; 65536]);
    assert_eq!(answer(&peer, most).1.len(), 65536);
}

#[test]
fn a_client_that_waits_to_continue_is_told_to() {
    let peer = pages().connect();
    peer.send(request("POST", "/form", &["Host: x", "Content-Length: 2", "Expect: 100-continue"]));
    assert_eq!(peer.http().status(), 100);
    peer.send("ok");
    assert_eq!(peer.http().body, "ok");
}

fn recording() -> (Log, WebSocketResource) {
    let log = Log::default();
    let resource = WebSocketResource::new(Recorders(Recorder::new(&log).echoing()));
    (log, resource)
}

#[test]
fn a_page_and_a_websocket_share_a_resource() {
    let (log, websocket) = recording();
    let root = Resource::new().render_get(|_| Response::text("page")).websocket(websocket);
    let pages = Pages::new(root);
    let peer = pages.connect();
    assert_eq!(answer(&peer, get("/")), (200, "page".into()));
    // on the same connection
    peer.open("/", &[]);
    peer.frame(&text("hello"));
    assert_eq!(peer.lines(), ["text hello"]);
    assert_eq!(log.count("made"), 1);
    // any other Upgrade is ignored (RFC 9110, 7.8)
    let peer = pages.connect();
    let other = request("GET", "/", &["Host: x", "Connection: Upgrade", "Upgrade: h2c"]);
    assert_eq!(answer(&peer, other), (200, "page".into()));
}

// P259
#[test]
fn a_websocket_alone_tells_a_plain_request_to_upgrade() {
    let (log, websocket) = recording();
    let mut root = Resource::new();
    root.put_child("ws", Resource::new().websocket(websocket));
    let pages = Pages::new(root);
    let peer = pages.connect();
    peer.send(get("/ws"));
    let answer = peer.http();
    assert_eq!((answer.status(), answer.header("Upgrade")), (426, Some("websocket")));
    // where there is none, an upgrade is no reason for one
    let peer = pages.connect();
    peer.send(upgrade("/elsewhere", &[]));
    assert_eq!(peer.http().status(), 404);
    let peer = pages.connect();
    peer.send(upgrade("/ws/below", &[]));
    assert_eq!(peer.http().status(), 404);
    pages.connect().open("/ws", &[]);
    assert_eq!(log.count("made"), 1);
}

#[test]
fn an_upgrade_where_only_a_page_is_gets_the_page() {
    let pages = pages();
    let peer = pages.connect();
    assert_eq!(answer(&peer, upgrade("/data", &[])), (200, "png".into()));
    assert!(!peer.is_over());
}

#[test]
fn several_websockets_of_a_site_are_apart() {
    let ((a_log, a), (b_log, b)) = (recording(), recording());
    let (a_handle, b_handle) = (a.handle(), b.handle());
    let mut root = Resource::new();
    root.put_child("a", Resource::new().websocket(a));
    root.put_child("b", Resource::new().websocket(b));
    let pages = Pages::new(root);
    let (one, _two, _three) = (pages.connect(), pages.connect(), pages.connect());
    one.open("/a", &[]);
    _two.open("/b", &[]);
    _three.open("/b", &[]);
    assert_eq!((a_handle.connection_count(), b_handle.connection_count()), (1, 2));
    assert_eq!((a_log.count("made"), b_log.count("made")), (1, 2));
    assert_eq!((a_log.count("start"), b_log.count("start")), (1, 1));
}

#[test]
fn an_error_page_is_what_the_application_makes_it() {
    let root = Resource::new().render_get(|_| Response::error(StatusCode::GONE, "it was here"));
    let peer = Pages::new(root).connect();
    assert_eq!(answer(&peer, get("/")), (410, "it was here\n".into()));
    assert!(peer.saw_end());
}

// T2
#[test]
fn requests_in_progress_are_limited_for_each_address_and_idle_connections_are_not_counted() {
    let options = SiteOptions { max_requests_per_address: Some(2), ..SiteOptions::default() };
    let pages = Pages::with_options(Resource::new().render_get(|_| Response::text("page")), options);
    let idle = pages.connect();
    idle.send(get("/"));
    assert_eq!(idle.http().status(), 200);
    let (slow, silent) = (pages.connect(), pages.connect());
    slow.send("GET / HT");
    let third = pages.connect();
    assert_eq!(third.http().status(), 503);
    idle.send(get("/"));
    assert_eq!(idle.http().status(), 200, "whole at once: never in progress");
    idle.send("GET / HT");
    assert_eq!(idle.http().status(), 503);
    slow.send("TP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(slow.http().status(), 200);
    let fourth = pages.connect();
    fourth.send(get("/"));
    assert_eq!(fourth.http().status(), 200);
    drop(silent);
}

#[test]
fn head_can_be_rendered_by_itself() {
    let head = |_: &Request| Response::new(StatusCode::NO_CONTENT);
    let alone = Resource::new().render(Method::HEAD, head);
    let beside = Resource::new().render_get(|_| Response::text("page")).render(Method::HEAD, head);
    for root in [alone, beside] {
        let peer = Pages::new(root).connect();
        peer.send(request("HEAD", "/", &["Host: x"]));
        assert_eq!(peer.http_without_body().status(), 204);
        peer.send(request("PUT", "/", &["Host: x"]));
        let allow = peer.http().header("Allow").unwrap().to_owned();
        assert_eq!(allow.matches("HEAD").count(), 1, "{allow}");
    }
}
