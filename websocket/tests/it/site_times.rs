//! How long a connection of a `Site` may take for what.

use std::time::Duration;

use twistor_reactor::Address;
use twistor_websocket::http::Response;
use twistor_websocket::{Negotiation, Options, Resource, SiteOptions, WebSocketResource};

use crate::site::{pages, tree};
use crate::support::{Log, Pages, Peer, Recorder, Recorders, get, request, upgrade};

#[test]
fn a_request_that_is_not_whole_in_time_is_answered_408() {
    let peer = pages().connect();
    peer.send("GET / HTTP/1.1\r\n");
    peer.wait(9.9);
    assert!(peer.bytes().is_empty());
    peer.wait(0.2);
    assert_eq!(peer.http().status(), 408);
    assert!(peer.saw_end());
    // a later request has its own time, from its first byte
    let peer = pages().connect();
    peer.send(get("/data"));
    peer.wait(30.0);
    peer.send("GET /data HTTP/1.1\r\n");
    peer.wait(9.9);
    assert_eq!(peer.http().status(), 200);
    assert!(peer.bytes().is_empty());
    peer.wait(0.2);
    assert_eq!(peer.http().status(), 408);
    // so has a body
    let peer = pages().connect();
    peer.send(request("POST", "/form", &["Host: x", "Content-Length: 2"]) + "1");
    peer.wait(10.1);
    assert_eq!(peer.http().status(), 408);
}

#[test]
fn a_connection_that_idles_between_requests_is_closed_without_a_word() {
    let peer = pages().connect();
    peer.send(get("/data"));
    assert_eq!(peer.http().status(), 200);
    peer.wait(59.9);
    assert!(!peer.is_over());
    peer.wait(0.2);
    assert!(peer.saw_end() && peer.bytes().is_empty());
}

#[test]
fn the_times_are_options() {
    let options =
        SiteOptions { request_timeout: Some(Duration::from_secs(1)), idle_timeout: None, ..SiteOptions::default() };
    let pages = Pages::with_options(tree(), options);
    let peer = pages.connect();
    peer.send(get("/data"));
    let _ = peer.http();
    peer.wait(1e6);
    assert!(!peer.is_over());
    peer.send("GET");
    peer.wait(1.1);
    assert_eq!(peer.http().status(), 408);
}

/// Each of these requests is whole within a second; that their segments overlap is nobody's fault.
#[test]
fn requests_that_overlap_in_segments_each_have_their_own_time() {
    let peer = pages().connect();
    let asked = get("/data");
    let (first, second) = asked.split_at(10);
    peer.send(first);
    for _ in 0..30 {
        peer.wait(1.0);
        peer.send(second.to_owned() + first);
        assert_eq!(peer.http().status(), 200);
    }
}

/// Once a WebSocket, the site's clocks are off.
#[test]
fn the_site_has_no_say_in_a_websocket() {
    let log = Log::default();
    let options = Options { ping_interval: None, ..Options::default() };
    let websocket = WebSocketResource::with_options(Recorders(Recorder::new(&log)), options);
    let pages = Pages::new(Resource::new().websocket(websocket));
    let peer = pages.connect();
    peer.open("/", &[]);
    peer.wait(1e5);
    assert!(!peer.is_over());
    assert_eq!(pages.reactor.pending_calls(), 0);
}

fn undecided(options: Options, site: SiteOptions) -> Pages {
    let log = Log::default();
    let factory = move |_: &Address| Some(Recorder::new(&log).deciding(|_| Negotiation::Later(never())));
    let websocket = WebSocketResource::with_options(factory, options);
    Pages::with_options(Resource::new().render_get(|_| Response::text("page")).websocket(websocket), site)
}

fn never() -> twistor_reactor::Deferred<Negotiation> {
    // the reactor of the promise is nobody's: it is never kept
    let reactor = Box::leak(Box::new(twistor_reactor::testing::MemoryReactor::new()));
    let (resolver, deferred) = reactor.deferred();
    std::mem::forget(resolver);
    deferred
}

/// `SiteOptions::request_timeout` says that the resource's own timeout bounds what it decides later.
#[test]
fn a_later_decision_is_bounded_by_the_resources_own_timeout() {
    let options = Options { open_handshake_timeout: Some(Duration::from_secs(3)), ..Options::default() };
    let pages = undecided(options, SiteOptions::default());
    let peer = pages.connect();
    peer.send(upgrade("/", &[]));
    peer.wait(2.9);
    assert!(peer.bytes().is_empty());
    peer.wait(0.2);
    assert_eq!(peer.http().status(), 408);
}

/// ... and is not what was left of an idle connection's time.
#[test]
fn a_handshake_on_a_kept_connection_has_its_whole_time() {
    for idle in [0.0, 30.0, 59.0] {
        let pages = undecided(Options::default(), SiteOptions::default());
        let peer = pages.connect();
        peer.send(get("/"));
        assert_eq!(peer.http().status(), 200);
        peer.wait(idle);
        peer.send(upgrade("/", &[]));
        peer.wait(9.9);
        assert!(peer.bytes().is_empty(), "after {idle} s of idling");
        peer.wait(0.2);
        assert_eq!(peer.http().status(), 408, "after {idle} s of idling");
    }
}

/// A page that takes its reader longer than a request may take is still delivered whole.
#[test]
fn a_large_page_reaches_a_slow_reader_whole() {
    let root = Resource::new().render_get(|_| Response::bytes("a/b", vec![0; 1_000_000]).unwrap());
    let peer = Pages::new(root).connect();
    peer.set_room(10_000);
    peer.send(get("/"));
    let mut bytes = 0;
    for _ in 0..120 {
        bytes += peer.bytes().len();
        peer.wait(1.0);
    }
    assert!(bytes >= 1_000_000, "{bytes} came");
}

/// ... and one that nobody reads is given up, however many more are asked for.
#[test]
fn a_page_that_nobody_reads_is_given_up() {
    let root = Resource::new().render_get(|_| Response::bytes("a/b", vec![0; 100_000]).unwrap());
    let pages = Pages::new(root);
    let peer = pages.connect();
    peer.set_room(1000);
    peer.send(get("/").repeat(10));
    for _ in 0..300 {
        peer.wait(1.0);
    }
    assert_eq!(pages.reactor.pending_calls(), 0, "its timers are gone with it");
    assert!(peer.saw_reset());
}

fn page_of(bytes: usize) -> Resource {
    Resource::new().render_get(move |_| Response::bytes("a/b", vec![0; bytes]).expect("a type"))
}

#[test]
fn a_connection_idles_by_the_idle_timeout_after_an_answer_that_had_to_wait_for_its_reader() {
    let peer = Pages::new(page_of(100_000)).connect();
    peer.set_room(20_000);
    peer.send(get("/"));
    assert!(peer.drain().len() > 100_000);
    peer.wait(30.0);
    assert!(!peer.is_over(), "closed after less than 30 s, by the first request's 10 s, not by the 60 s of idling");
    peer.send(get("/"));
    assert!(peer.drain().len() > 100_000);
    peer.wait(59.0);
    assert!(!peer.is_over());
    peer.wait(2.0);
    assert!(peer.saw_end());
    // where a request has no time limit, there was no deadline at all
    let options = SiteOptions { request_timeout: None, ..SiteOptions::default() };
    let peer = Pages::with_options(page_of(100_000), options).connect();
    peer.set_room(20_000);
    peer.send(get("/"));
    assert!(peer.drain().len() > 100_000);
    peer.wait(200.0);
    assert!(peer.saw_end(), "idle for 200 s of 60");
}

/// Takes 20 kB a second, for 100 s.
fn read_slowly(peer: &Peer) -> usize {
    let mut all = 0;
    for _ in 0..100 {
        all += peer.bytes().len();
        peer.wait(1.0);
    }
    all
}

#[test]
fn the_last_answer_is_whole_for_a_slow_reader_as_any_other_is() {
    let pages = Pages::new(page_of(1_000_000));
    let kept = pages.connect();
    kept.set_room(20_000);
    kept.send(get("/"));
    assert_eq!(read_slowly(&kept) / 1000, 1000, "kept alive");
    let closed = pages.connect();
    closed.set_room(20_000);
    closed.send(request("GET", "/", &["Host: x", "Connection: close"]));
    assert_eq!(read_slowly(&closed) / 1000, 1000, "closed behind it");
    assert!(closed.saw_end() && !closed.saw_reset());
    let half_closed = pages.connect();
    half_closed.set_room(20_000);
    half_closed.send(get("/"));
    half_closed.finish();
    assert_eq!(read_slowly(&half_closed) / 1000, 1000, "the client has closed its half");
    // one that takes nothing is cut off by the write timeout all the same
    let stalled = pages.connect();
    stalled.set_room(20_000);
    stalled.send(request("GET", "/", &["Host: x", "Connection: close"]));
    stalled.wait(16.0);
    assert!(stalled.saw_reset());
}
