//! Limits for each address, from several of them: 127.0.0.2 is as much this machine as 127.0.0.1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::mpsc;

use twistor::websocket::http::Response;
use twistor::websocket::{Options, Resource, Site, SiteOptions, WebSocketServerFactory};
use twistor::{Factory, Protocol, Reactor, for_protocol};

use crate::support::{Echo, PATIENCE, Raw, Server, bounded, patient};

/// A server, and two addresses to come from.
struct Scene {
    port: u16,
    from: IpAddr,
    elsewhere: IpAddr,
    _server: Server,
}

impl Scene {
    /// In IPv4, and in IPv6 where there is that: a port for both, of which the other address is mapped.
    fn play<F>(build: fn() -> F, test: fn(&Self))
    where
        F: Factory<Protocol: Protocol>,
    {
        bounded(move || {
            test(&Self::new("127.0.0.1:0", Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 2).into(), build));
            if TcpListener::bind("[::1]:0").is_ok() {
                test(&Self::new("[::]:0", Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into(), build));
            }
        });
    }

    fn new<F>(listen: &'static str, from: IpAddr, elsewhere: IpAddr, build: fn() -> F) -> Self
    where
        F: Factory<Protocol: Protocol>,
    {
        let (listening, port) = mpsc::channel();
        let server = Server::run(move |reactor: &Reactor| {
            let port = reactor.listen_tcp(listen, build()).map_err(|error| error.to_string()).expect("a free port");
            listening.send(port.address().port().expect("a TCP port")).expect("the test waits");
            build() // where the server of most tests is, and nobody comes
        });
        let port = port.recv_timeout(PATIENCE).expect("it listens");
        Self { port, from, elsewhere, _server: server }
    }

    fn connect(&self, from: IpAddr) -> Raw {
        let to: IpAddr = if from.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { from };
        let (to, from) = (SocketAddr::from((to, self.port)), SocketAddr::from((from, 0)));
        let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.bind(&from.into()).expect("an address of this machine");
        socket.connect_timeout(&to.into(), PATIENCE).expect("somebody listens");
        Raw::from(patient(socket.into()))
    }

    /// A WebSocket, or the head of the refusal.
    fn open(&self, from: IpAddr) -> Result<Raw, String> {
        let mut peer = self.connect(from);
        peer.upgrade("/");
        let head = peer.head();
        if head.starts_with("HTTP/1.1 101 ") { Ok(peer) } else { Err(head) }
    }

    /// The same, when the server has noticed that somebody left.
    fn open_at_last(&self, from: IpAddr) -> Raw {
        std::iter::repeat_with(|| self.open(from)).find_map(Result::ok).expect("in time")
    }
}

fn assert_busy(head: &str) {
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: "), "{head}");
}

fn websockets(most: usize) -> WebSocketServerFactory {
    let options = Options { max_connections_per_address: Some(most), ..Options::default() };
    WebSocketServerFactory::with_options(for_protocol(|| Echo), options)
}

// T60
#[test]
fn open_websockets_are_limited_for_each_address() {
    Scene::play(
        || websockets(2),
        |scene| {
            let first = scene.open(scene.from).expect("one");
            let _second = scene.open(scene.from).expect("two");
            assert_busy(&scene.open(scene.from).err().expect("there are as many as may be"));
            let _other = scene.open(scene.elsewhere).expect("one of another address");
            let _another = scene.open(scene.elsewhere).expect("two of another address");
            assert_busy(&scene.open(scene.elsewhere).err().expect("there are as many as may be"));
            first.reset();
            let _first = scene.open_at_last(scene.from);
            assert_busy(&scene.open(scene.from).err().expect("one has left"));
        },
    );
}

/// Those in a handshake that does not go on, before a request says that they want a WebSocket.
fn assert_handshakes_are_limited(scene: &Scene) {
    let silent = scene.connect(scene.from);
    assert_busy(&scene.connect(scene.from).head());
    let _other = scene.connect(scene.elsewhere);
    assert_busy(&scene.connect(scene.elsewhere).head());
    silent.reset();
    scene.open_at_last(scene.from);
}

// T2, T60
#[test]
fn handshakes_are_limited_for_each_address() {
    Scene::play(|| websockets(1), assert_handshakes_are_limited);
}

// T60
#[test]
fn requests_to_a_site_are_limited_for_each_address() {
    let site = || {
        let root = Resource::new().render_get(|_| Response::text("a page"));
        let root = root.websocket(twistor::websocket::WebSocketResource::new(for_protocol(|| Echo)));
        Site::with_options(root, SiteOptions { max_requests_per_address: Some(1), ..SiteOptions::default() })
    };
    Scene::play(site, assert_handshakes_are_limited);
}
