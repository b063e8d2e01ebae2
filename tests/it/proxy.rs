//! Our client through an HTTP proxy that is not ours, to a server that is not either.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use crate::support::{Event, Ours, bounded, dial, long_text, patient};

/// No resolver knows this name: only the proxy can get there.
const URL: &str = "ws://origin.invalid:4711/path";

/// A tungstenite server that echoes on one connection.
fn echo_server() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = thread::spawn(move || {
        let stream = patient(listener.accept().expect("a client").0);
        let mut server = tungstenite::accept(stream).expect("a handshake");
        while let Ok(message) = server.read() {
            if !message.is_close() {
                server.send(message).expect("sent");
            }
        }
    });
    (address, server)
}

/// A proxy of one client, which lets `me` with the password `s3cret` through to the origin; its place, and the request
/// that it got.
fn proxy(origin: SocketAddr) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let proxy = thread::spawn(move || {
        let mut client = patient(listener.accept().expect("a client").0);
        let request = read_head(&mut client);
        if !request.contains("\r\nProxy-Authorization: Basic bWU6czNjcmV0\r\n") {
            let body = "who are you?";
            let head = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\n";
            write!(client, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("sent");
            return request;
        }
        let server = dial(origin);
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").expect("sent");
        let to_server = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
        let sending = thread::spawn(move || relay(to_server.0, to_server.1));
        relay(server, client);
        sending.join().expect("relayed");
        request
    });
    (address, proxy)
}

/// Byte by byte, so that nothing behind the head is taken.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a request");
        head.extend(byte);
    }
    String::from_utf8(head).expect("ASCII")
}

fn relay(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to); // until either end goes
    let _ = to.shutdown(Shutdown::Write);
}

// T68
#[test]
fn with_the_right_password_the_server_behind_is_reached() {
    bounded(|| {
        let (origin, server) = echo_server();
        let (address, proxy) = proxy(origin);
        let client = Ours::connect_through(format!("http://me:s3cret@{address}"), URL);
        assert_eq!(client.next(), Event::Made);
        for length in [5, 1 << 20] {
            let text = long_text(length);
            let sent = text.clone();
            client.with(move |socket| socket.send_text(&sent));
            assert!(client.next() == Event::Text(text), "{length} bytes");
        }
        client.with(twistor::websocket::WebSocket::close);
        assert_eq!(client.next(), Event::Ended { was_clean: true, code: 1000, reason: String::new() });
        drop(client);
        server.join().expect("served");
        let request = proxy.join().expect("proxied");
        assert!(
            request.starts_with("CONNECT origin.invalid:4711 HTTP/1.1\r\nHost: origin.invalid:4711\r\n"),
            "{request}"
        );
    });
}

// T68
#[test]
fn without_it_the_proxys_answer_is_told() {
    bounded(|| {
        for who in ["", "me:wrong@"] {
            let (address, proxy) = proxy(([127, 0, 0, 1], 0).into());
            let client = Ours::connect_through(format!("http://{who}{address}"), URL);
            let Event::Ended { was_clean: false, code: 1006, .. } = client.next() else { panic!("not refused") };
            let told = "expected the proxy to connect, but 407 Proxy Authentication Required \"who are you?\" came";
            assert_eq!(client.lost(), told);
            assert_eq!(proxy.join().expect("proxied").contains("Proxy-Authorization"), !who.is_empty());
        }
    });
}
