//! The server: broadcasts at a steady rate once everybody is here, and tells at the end how it went.

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::time::{Duration, Instant};

use twistor::websocket::{
    Accept, Frame, Negotiation, Options, Overflow, PreparedMessage, Room, WebSocket, WebSocketProtocol,
    WebSocketServerFactory, http::Request,
};
use twistor::{Address, BufferLimits, Failure, Reactor};

use crate::process::now;
use crate::report::Report;
use crate::settings::{Policy, Settings};

/// Keys of the `latest` policy: prices of so many goods, say.
pub const KEYS: u64 = 16;

/// The library's defaults.
pub const HIGH: usize = 64 * 1024;
pub const CAP: usize = 1024 * 1024;

/// The most messages of one turn: what is behind its time goes on in the next, after the sockets were served.
const BURST: u64 = 4;

/// How often is looked whether it is time.
const TICK: Duration = Duration::from_millis(1);

pub fn serve(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let reactor = Reactor::new()?;
    let broadcast = Rc::new(RefCell::new(Broadcast::new(settings)));
    let write_timeout = Some(Duration::from_secs(settings.write_timeout)).filter(|timeout| !timeout.is_zero());
    let overflow = match settings.policy {
        Policy::DropNewest => Overflow::DropNewest,
        Policy::DropOldest => Overflow::DropOldest,
        Policy::None | Policy::Close | Policy::Latest => Overflow::Close,
    };
    let build = move |_: &Address| Some(Client { broadcast: broadcast.clone(), is_stuck: false });
    // pings: the load generator answers none
    let buffer = BufferLimits { high: HIGH, cap: CAP, ..Options::default().buffer };
    let options = Options { overflow, write_timeout, buffer, ping_interval: None, ..Options::default() };
    let port = reactor.listen_tcp("127.0.0.1:0", WebSocketServerFactory::with_options(build, options))?;
    println!("{}", port.address().port().ok_or("no port")?);
    reactor.run()?;
    Ok(())
}

struct Broadcast {
    settings: Settings,
    room: Room,
    stuck: Option<WebSocket>,
    report: Report,
    /// The load generator has got everything, and the report is wanted.
    asked: bool,
    connected: usize,
    started: Instant,
    sent: u64,
    payload: Vec<u8>,
}

impl Broadcast {
    fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            room: Room::new(),
            stuck: None,
            report: Report::default(),
            asked: false,
            connected: 0,
            started: Instant::now(),
            sent: 0,
            payload: vec![b'x'; settings.size],
        }
    }

    /// Sends what is due; when to go on, if there is more.
    fn go_on(&mut self) -> Option<Duration> {
        for _ in 0..BURST {
            if self.sent == self.settings.messages() {
                return None;
            }
            let due = Duration::from_nanos(self.sent * 1_000_000_000 / self.settings.rate);
            let Some(late) = self.started.elapsed().checked_sub(due) else { return Some(TICK) };
            self.report.late = self.report.late.max(late);
            self.send();
        }
        Some(Duration::ZERO)
    }

    fn send(&mut self) {
        self.payload[..8].copy_from_slice(&self.sent.to_be_bytes());
        self.payload[8..16].copy_from_slice(&now().to_be_bytes());
        let members = self.room.members();
        if self.settings.policy == Policy::Latest {
            let key = self.sent % KEYS;
            members.iter().for_each(|member| member.send_latest(key, &self.payload[..]));
        } else {
            self.room.broadcast_prepared(&PreparedMessage::new(&self.payload[..]), None);
        }
        self.sent += 1;
        let good = members.iter().filter(|member| self.stuck.as_ref() != Some(member));
        let report = &mut self.report;
        report.most_of_good = good.map(WebSocket::buffered).max().unwrap_or(0).max(report.most_of_good);
        let Some(stuck) = &self.stuck else { return };
        report.most_of_stuck = report.most_of_stuck.max(stuck.buffered());
        report.dropped = stuck.dropped();
        if !stuck.is_open() {
            report.closed.get_or_insert(self.started.elapsed());
        }
    }

    /// Tells how it went, once that is wanted and, if the stuck client was closed, known.
    fn tell(&mut self, reactor: &Reactor) {
        if self.asked && (self.report.closed.is_none() || self.report.end.is_some()) {
            self.asked = false;
            println!("{}", self.report);
            reactor.stop();
        }
    }
}

struct Client {
    broadcast: Rc<RefCell<Broadcast>>,
    is_stuck: bool,
}

impl WebSocketProtocol for Client {
    fn negotiate(&mut self, request: &Request) -> Negotiation {
        self.is_stuck = request.path() == "/stuck";
        Accept::default().into()
    }

    fn connection_made(&mut self, socket: &WebSocket) {
        let mut broadcast = self.broadcast.borrow_mut();
        broadcast.room.join(socket);
        if self.is_stuck {
            broadcast.stuck = Some(socket.clone());
        }
        broadcast.connected += 1;
        if broadcast.connected == broadcast.settings.connections() {
            broadcast.started = Instant::now();
            tick(self.broadcast.clone(), socket.reactor(), TICK);
        }
    }

    fn frame_received(&mut self, socket: &WebSocket, _: Frame<'_>) {
        let mut broadcast = self.broadcast.borrow_mut();
        broadcast.asked = true;
        broadcast.tell(&socket.reactor());
    }

    fn connection_lost(&mut self, socket: &WebSocket, _: &Failure) {
        let Some(status) = socket.close_status().filter(|_| self.is_stuck) else { return };
        let mut broadcast = self.broadcast.borrow_mut();
        let when = broadcast.started.elapsed();
        broadcast.report.end.get_or_insert((status.code, when));
        broadcast.tell(&socket.reactor());
    }
}

fn tick(broadcast: Rc<RefCell<Broadcast>>, reactor: Reactor, delay: Duration) {
    reactor.clone().call_later(delay, move || {
        let next = broadcast.borrow_mut().go_on();
        if let Some(delay) = next {
            tick(broadcast, reactor, delay);
        }
    });
}
