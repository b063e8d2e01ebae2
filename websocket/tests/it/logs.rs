//! What the library logs of its peers: escaped, and no louder than `debug`.

use std::cell::RefCell;

use log::{Level, LevelFilter, Log, Metadata, Record};
use twistor_websocket::handshake::HandshakeError;

use crate::support::{Client, Server, close, request, text, upgrade};

thread_local! {
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

struct Keeping;

impl Log for Keeping {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &Record<'_>) {
        let line = (record.level(), record.args().to_string());
        let _ = LINES.try_with(|lines| lines.borrow_mut().push(line));
    }
    fn flush(&self) {}
}

const EVIL: &str = "\u{1b}[31mred\u{7}\r\n2026-01-01 ERROR all is lost";

fn logged(f: impl FnOnce()) -> Vec<(Level, String)> {
    // other tests run beside this one: theirs are other threads' lines
    let _ = log::set_logger(&Keeping);
    log::set_max_level(LevelFilter::Trace);
    LINES.take();
    f();
    let lines = LINES.take();
    assert!(!lines.is_empty());
    lines
}

fn assert_harmless(lines: &[(Level, String)]) {
    // what the port itself says is not a peer's doing
    for (level, line) in lines.iter().filter(|(_, line)| !line.starts_with("starting on")) {
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(*level >= Level::Debug, "a peer makes noise: {level} {line}");
        assert!(line.len() < 1000, "{line}");
    }
}

#[test]
fn t71_what_peers_write_is_escaped_and_quiet() {
    let lines = logged(|| {
        let server = Server::new();
        let peer = server.open();
        peer.frame(&close(4000, EVIL));
        assert_eq!(server.only_end().2, EVIL, "the application gets it as it came");
        let peer = server.open();
        peer.frame(&text(b"\xff"));
        let peer = server.connect();
        peer.send(upgrade("/\u{1b}[31m", &["X: \u{1b}"]));
        let peer = server.connect();
        peer.send(request("\u{1b}[31m", "/", &["Host: x"]));
        server.wait(20.0);
        let client = Client::open();
        client.server.frame(&close(4000, EVIL));
        client.server.close();
        client.reactor.settle();
    });
    assert_harmless(&lines);
}

/// The reason that an application is likely to log, too.
#[test]
fn t71_the_text_of_a_reason_is_escaped() {
    let server = Server::new();
    let peer = server.open();
    peer.frame(&close(4000, EVIL));
    let shown = server.log.last_reason().to_string();
    assert!(!shown.contains(char::is_control) && shown.contains("all is lost"), "{shown:?}");

    let client = Client::new();
    client
        .server
        .send("HTTP/1.1 403 No\r\nContent-Length: 45\r\n\r\n\u{1b}[31mred\u{7}\r\n2026-01-01 ERROR all is lost......");
    client.server.close();
    client.reactor.settle();
    assert!(client.log.last_reason().check::<HandshakeError>());
    let shown = client.log.last_reason().to_string();
    assert!(!shown.contains(char::is_control), "{shown:?}");
}

/// Heads with cookies and payloads are nobody's to log.
#[test]
fn t71_secrets_are_not_logged() {
    let lines = logged(|| {
        let server = Server::echo();
        let peer = server.connect();
        peer.open("/?token=hush", &["Cookie: hush", "Authorization: hush"]);
        peer.frame(&text("hush"));
        server.refusal_of(request("GET", "/?hush", &["Cookie: hush"]));
        peer.close();
        server.reactor.settle();
    });
    assert!(lines.iter().all(|(_, line)| !line.contains("hush")), "{lines:?}");
}
