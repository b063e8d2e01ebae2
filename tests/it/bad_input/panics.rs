//! A panic in a callback is Twisted's exception: it ends the connection whose callback it was.

use twistor::websocket::http::{Request, Response};
use twistor::websocket::{
    Accept, Frame, Negotiation, Resource, SiteOptions, WebSocket, WebSocketProtocol, WebSocketResource,
};
use twistor::{Address, Failure, for_protocol};

use super::Scene;
use crate::support::{CLOSE, FIN, Log, PING, PONG, Raw, Server, TEXT, masked};

/// Panics in the callback that the request's path names.
struct Panicky {
    callback: String,
    log: Log,
}

impl Panicky {
    fn on(&self, callback: &str) {
        match callback {
            "connection_lost" => self.log.add(format_args!("lost {}", self.callback)),
            "output_high" => self.log.add(format_args!("high {}", self.callback)),
            _ => {}
        }
        assert!(callback != self.callback, "the test's panic in {callback}");
    }
}

impl WebSocketProtocol for Panicky {
    fn negotiate(&mut self, request: &Request) -> Negotiation {
        self.callback = request.path_segments().nth(2).expect("/tested/panicky/CALLBACK").into_owned();
        self.on("negotiate");
        Accept::default().into()
    }

    fn connection_made(&mut self, _: &WebSocket) {
        self.on("connection_made");
    }

    fn frame_received(&mut self, socket: &WebSocket, _: Frame<'_>) {
        self.on("frame_received");
        socket.send_message(vec![7; 64 << 20]); // more than the kernel's buffers take
    }

    fn ping_received(&mut self, _: &WebSocket, _: &[u8]) {
        self.on("ping_received");
    }

    fn pong_received(&mut self, _: &WebSocket, _: &[u8]) {
        self.on("pong_received");
    }

    fn output_high(&mut self, _: &WebSocket) {
        self.on("output_high");
    }

    fn output_drained(&mut self, _: &WebSocket) {
        self.on("output_drained");
    }

    fn close_received(&mut self, _: &WebSocket, _: u16, _: &str) {
        self.on("close_received");
    }

    fn connection_lost(&mut self, _: &WebSocket, _: &Failure) {
        self.on("connection_lost");
    }
}

/// Plays a test on a site whose `/tested` panics.
fn play(act: impl FnOnce(&Server, &Log) + Send + 'static) {
    let log = Log::default();
    let recorded = log.clone();
    let tested = move || {
        let panicky = for_protocol(move || Panicky { callback: String::new(), log: recorded.clone() });
        let mut unbuilt = Resource::new().leaf();
        unbuilt = unbuilt.websocket(|_: &Address| -> Option<Panicky> { panic!("the test's panic in build_protocol") });
        let mut tested = Resource::new().leaf().websocket(WebSocketResource::new(panicky));
        tested = tested.render_get(|_| -> Response { panic!("the test's panic in render_get") });
        let mut both = Resource::new();
        both.put_child("unbuilt", unbuilt).put_child("panicky", tested);
        both
    };
    Scene::play_on(SiteOptions::default(), tested, move |server| act(server, &log));
}

// T55
#[test]
fn panics_before_the_websocket_is_open_are_answered_with_500() {
    play(|server, log| {
        for path in ["/tested/unbuilt", "/tested/panicky/negotiate"] {
            let mut peer = Raw::connect(server.address);
            peer.upgrade(path);
            assert_eq!(peer.last_response().0, 500, "{path}");
        }
        let mut peer = Raw::connect(server.address);
        peer.send("GET /tested/panicky/page HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let (status, body) = peer.last_response();
        assert_eq!(status, 500);
        assert!(!body.contains("the test's panic"), "what a panic says is not the peer's business: {body}");
        assert_eq!(log.entries(), [""; 0]);
    });
}

// T55
#[test]
fn panics_in_callbacks_close_with_1011_and_connection_lost_still_comes() {
    play(|server, log| {
        let cases = [
            ("connection_made", vec![]),
            ("frame_received", masked(FIN | TEXT, "hello")),
            ("ping_received", masked(FIN | PING, "hello")),
            ("pong_received", masked(FIN | PONG, "hello")),
            ("output_high", masked(FIN | TEXT, "hello")),
            ("output_drained", masked(FIN | TEXT, "hello")),
        ];
        for (callback, bytes) in cases {
            let mut peer = Raw::open(server.address, &format!("/tested/panicky/{callback}"));
            peer.send_in_vain(bytes);
            if callback.starts_with("output") {
                // one that reads at once may take everything before the output is ever high
                log.wait_for(&format!("high {callback}"));
            }
            let (code, reason) = peer.close();
            assert_eq!((code, &*reason), (1011, "internal error"), "{callback}");
            log.wait_for(&format!("lost {callback}"));
        }
        assert_eq!(log.count("lost"), 6, "once each");
    });
}

// T55
#[test]
fn panics_while_the_websocket_ends_do_not_keep_it_from_ending() {
    play(|server, log| {
        for callback in ["close_received", "connection_lost"] {
            let mut peer = Raw::open(server.address, &format!("/tested/panicky/{callback}"));
            peer.send(masked(FIN | CLOSE, 1000_u16.to_be_bytes()));
            assert_eq!(peer.close().0, 1000, "{callback}");
            log.wait_for(&format!("lost {callback}"));
        }
        let peer = Raw::open(server.address, "/tested/panicky/connection_lost");
        peer.reset();
        log.wait_for_nth(2, "lost connection_lost");
        assert_eq!(log.count("lost"), 3, "once each");
    });
}
