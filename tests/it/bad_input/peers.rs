//! Peers that vanish, and peers that do not read.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tungstenite::Message;
use twistor::Failure;
use twistor::for_protocol;
use twistor::websocket::{Frame, Options, Resource, SiteOptions, WebSocket, WebSocketProtocol, WebSocketResource};

use super::Scene;
use crate::support::{FIN, Log, PING, Raw, TEXT, masked, tungstenite};

// T46, T47
#[test]
fn peers_that_vanish_end_their_websocket_with_1006() {
    Scene::play(|scene| {
        let frame = masked(FIN | TEXT, "a message, of which the end may be missing");
        for (index, sent) in [0, 1, 20].into_iter().enumerate() {
            let mut peer = scene.open();
            peer.send(&frame[..sent]);
            peer.reset();
            let lost = scene.log.wait_for_nth(2 * index + 1, "lost");
            assert!(lost.starts_with("lost uncleanly 1006 ") && lost.contains("non-clean fashion"), "{lost}");

            let mut peer = scene.open();
            peer.send(&frame[..sent]);
            drop(peer);
            let lost = scene.log.wait_for_nth(2 * index + 2, "lost");
            assert!(lost.starts_with("lost uncleanly 1006 ") && lost.contains("peer dropped the TCP"), "{lost}");
        }
        assert_eq!((scene.log.count("made"), scene.log.count("lost"), scene.log.count("message")), (6, 6, 0));
    });
}

// T48
#[test]
fn a_peer_that_falls_silent_is_pinged_and_dropped() {
    let short = Duration::from_millis(100);
    let options = Options { ping_interval: Some(short), ping_timeout: short, ..Options::default() };
    Scene::play_with(options, SiteOptions::default(), |scene| {
        let mut peer = scene.open();
        assert_eq!(peer.frame().first, FIN | PING);
        assert!(peer.ends_by_reset(), "there is nobody to say goodbye to");
        let lost = scene.log.wait_for("lost");
        assert!(lost.starts_with("lost uncleanly 1006 WebSocket ping timeout"), "{lost}");
    });
}

/// Sends each message to everybody, and writes down the most that waits for one of them.
struct Broadcast {
    everybody: Rc<RefCell<Vec<WebSocket>>>,
    log: Log,
}

impl WebSocketProtocol for Broadcast {
    fn connection_made(&mut self, socket: &WebSocket) {
        self.everybody.borrow_mut().push(socket.clone());
        self.log.add("made");
    }

    fn frame_received(&mut self, _: &WebSocket, frame: Frame<'_>) {
        for socket in self.everybody.borrow().iter().filter(|socket| socket.is_open()) {
            socket.send_message(frame);
            if socket.buffered() > CAP + MESSAGE {
                self.log.add(format_args!("{} bytes wait", socket.buffered()));
            }
            if !socket.is_open() {
                self.log.add("overflow");
            }
        }
    }

    fn connection_lost(&mut self, socket: &WebSocket, _: &Failure) {
        self.everybody.borrow_mut().retain(|other| other != socket);
        let code = socket.close_status().map(|status| status.code);
        self.log.add(format_args!("lost {}", code.unwrap_or_default()));
    }
}

const MESSAGE: usize = 32 * 1024;
const CAP: usize = 256 * 1024;

// T41
#[test]
fn a_peer_that_does_not_read_is_closed_with_1013_and_holds_up_nobody() {
    let log = Log::default();
    let recorded = log.clone();
    let broadcast = move || {
        let everybody = Rc::default();
        let build = move || Broadcast { everybody: Rc::clone(&everybody), log: recorded.clone() };
        let mut options = Options::default();
        options.buffer.cap = CAP;
        Resource::new().websocket(WebSocketResource::with_options(for_protocol(build), options))
    };
    Scene::play_on(SiteOptions::default(), broadcast, move |server| {
        // both have ended their handshake, and one of them reads no more
        let lazy = Raw::open(server.address, "/tested");
        let mut busy = tungstenite(server.address, "/tested");
        log.wait_for_nth(2, "made");
        let message = Message::binary(vec![7; MESSAGE]);
        let mut broadcasts = 0;
        while log.count("overflow") == 0 {
            busy.send(message.clone()).expect("sent");
            assert_eq!(busy.read().expect("its own message"), message);
            broadcasts += 1;
            // the kernel's buffers take some megabytes before ours begin to fill
            assert!(broadcasts * MESSAGE < 100 << 20, "an output without a limit");
        }
        assert_eq!(log.count("lost"), 0, "it is left time to read");
        // now it reads: what was on its way, and then why it ends
        assert_eq!(lazy.close(), (1013, "the peer does not keep up with the output".into()));
        assert_eq!(log.wait_for("lost"), "lost 1013");
        busy.send(message.clone()).expect("sent");
        assert_eq!(busy.read().expect("its own message"), message);
        assert_eq!(log.entries(), ["made", "made", "overflow", "lost 1013"]);
    });
}

// T41, T42
#[test]
fn a_peer_that_never_reads_again_is_gone_after_the_write_timeout() {
    let mut options = Options { write_timeout: Some(Duration::from_millis(300)), ..Options::default() };
    options.buffer.cap = 64 << 20;
    Scene::play_with(options, SiteOptions::default(), |scene| {
        let mut peer = scene.open();
        // more than the kernel's buffers take, and less than the cap
        let message = masked(FIN | TEXT, vec![b'a'; 1 << 20]);
        (0..40).for_each(|_| peer.send_in_vain(&message));
        let lost = scene.log.wait_for("lost");
        assert!(lost.starts_with("lost uncleanly 1006 "), "{lost}");
    });
}
