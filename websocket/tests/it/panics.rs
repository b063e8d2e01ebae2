//! Callbacks that panic: T55, P278.

use std::cell::RefCell;

use twistor_reactor::CallbackPanicked;
use twistor_websocket::http::Response;
use twistor_websocket::{Options, Resource, WebSocketClosed};

use crate::support::{Client, Event, Pages, Server, close, get, ping, text, upgrade};

fn panicking(when: &'static str) -> Server {
    Server::with(Options::default(), move |mould| {
        mould.acting(move |_, event| {
            if event.to_string().starts_with(when) {
                panic!("on purpose, with a secret");
            }
        })
    })
}

// P278
#[test]
fn t55_a_panic_in_a_callback_ends_its_connection_with_1011_and_no_other() {
    for (when, provoke) in [("text bad", text("bad")), ("ping", ping(""))] {
        let server = panicking(when);
        let (other, peer) = (server.open(), server.open());
        peer.frames(&[text("good"), provoke, text("never delivered")]);
        let (code, reason) = peer.closed_with();
        assert_eq!((code, &*reason), (1011, "internal error"), "what the panic says is not the peer's to know");
        assert!(peer.saw_end() && !peer.saw_reset());
        peer.frame(&text("nor this"));
        peer.frame(&close(1011, ""));
        peer.close();
        server.reactor.settle();
        assert_eq!(server.only_end().1, 1011);
        let closed = server.log.last_reason();
        let closed = closed.value::<WebSocketClosed>().unwrap();
        assert!(closed.cause.check::<CallbackPanicked>(), "{closed}");
        assert_eq!((server.log.count("text good"), server.log.count("text n")), (1, 0));
        other.frame(&text("still served"));
        assert_eq!(server.log.count("text still served"), 1);
        assert_eq!(server.handle.connection_count(), 1);
    }
}

#[test]
fn t55_a_panic_on_opening_ends_that_connection() {
    let server = panicking("made");
    let peer = server.connect();
    peer.send(upgrade("/", &[]));
    assert_eq!(peer.http().status(), 101);
    assert_eq!(peer.closed_with().0, 1011);
    peer.close();
    server.reactor.settle();
    assert_eq!(server.only_end().1, 1011);
}

#[test]
fn t55_a_panic_at_the_end_is_contained() {
    let server = panicking("lost");
    let peer = server.open();
    peer.frame(&close(1000, ""));
    assert_eq!(peer.lines(), ["close 1000"]);
    assert!(peer.saw_end());
    assert_eq!((server.log.count("lost"), server.handle.connection_count(), server.reactor.pending_calls()), (1, 0, 0));
    let server = panicking("close");
    let peer = server.open();
    peer.frame(&close(1000, ""));
    assert!(peer.saw_end());
    assert_eq!(server.log.count("lost"), 1);
}

#[test]
fn t55_a_panic_in_a_panic_is_contained() {
    let server = Server::with(Options::default(), |mould| {
        mould.acting(|_, event| {
            if matches!(event, Event::Message(_) | Event::Lost) {
                panic!("{event}");
            }
        })
    });
    let peer = server.open();
    peer.frame(&text("one"));
    peer.close();
    server.reactor.settle();
    assert_eq!((server.log.count("lost"), server.handle.connection_count()), (1, 0));
}

#[test]
fn t55_a_panic_in_a_clients_callback_ends_it_with_1011() {
    let client = Client::with(Options::default(), |mould| {
        mould.acting(|_, event| {
            if matches!(event, Event::Message(_)) {
                panic!("on purpose");
            }
        })
    });
    client.server.accept(&[], &[text("x")]);
    assert_eq!(client.server.closed_with().0, 1011);
    client.server.close();
    client.reactor.settle();
    assert_eq!(client.log.last_status().code, 1011);
}

// P270
#[test]
fn t55_a_panic_in_the_negotiation_is_answered_500() {
    let server = Server::with(Options::default(), |mould| {
        mould.deciding(|request| {
            assert!(request.path() != "/bad", "on purpose, with a secret");
            twistor_websocket::Accept::default().into()
        })
    });
    let answer = server.refusal_of(upgrade("/bad", &[]));
    assert_eq!(answer.status(), 500);
    assert!(!answer.body.contains("secret"));
    server.open();
    assert_eq!((server.log.take(), server.handle.connection_count()), (vec!["made".to_owned()], 1));
}

#[test]
fn t55_a_panic_in_a_render_is_answered_500_and_the_page_is_there_next_time() {
    let bad = RefCell::new(true);
    let root = Resource::new().render_get(move |_| {
        assert!(!bad.replace(false), "on purpose");
        Response::text("page")
    });
    let pages = Pages::new(root);
    let peer = pages.connect();
    peer.send(get("/") + &get("/"));
    assert_eq!(peer.http().status(), 500);
    assert!(peer.saw_end() && peer.bytes().is_empty());
    let peer = pages.connect();
    peer.send(get("/"));
    assert_eq!(peer.http().body, "page");
}
