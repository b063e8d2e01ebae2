//! The server: broadcasts at a steady rate once everybody is here, and tells at the end how it went.

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::time::{Duration, Instant};

use twistor::websocket::{
    Accept, Frame, Negotiation, Options, Overflow, PreparedMessage, Room, WebSocket, WebSocketProtocol,
    WebSocketServerFactory, http::Request,
};
use twistor::{Address, Failure, Reactor};

use crate::process::now;
use crate::settings::{Policy, Settings};

/// Keys of the `latest` policy: prices of so many goods, say.
const KEYS: u64 = 16;

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
    let options = Options { overflow, write_timeout, ping_interval: None, ..Options::default() };
    let port = reactor.listen_tcp("127.0.0.1:0", WebSocketServerFactory::with_options(build, options))?;
    println!("{}", port.address().port().ok_or("no port")?);
    reactor.run()?;
    Ok(())
}

struct Broadcast {
    settings: Settings,
    room: Room,
    stuck: Option<WebSocket>,
    /// When the stuck client was no longer sent to.
    closed: Option<Duration>,
    /// With which code its connection ended, and when.
    end: Option<(u16, Duration)>,
    connected: usize,
    started: Instant,
    sent: u64,
    payload: Vec<u8>,
    /// How far it was ever behind its time.
    late: Duration,
    most_of_good: usize,
    most_of_stuck: usize,
}

impl Broadcast {
    fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            room: Room::new(),
            stuck: None,
            closed: None,
            end: None,
            connected: 0,
            started: Instant::now(),
            sent: 0,
            payload: vec![b'x'; settings.size],
            late: Duration::ZERO,
            most_of_good: 0,
            most_of_stuck: 0,
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
            self.late = self.late.max(late);
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
        self.most_of_good = good.map(WebSocket::buffered).max().unwrap_or(0).max(self.most_of_good);
        if self.stuck.as_ref().is_some_and(|stuck| !stuck.is_open()) {
            self.closed.get_or_insert(self.started.elapsed());
        }
        self.most_of_stuck = self.stuck.as_ref().map_or(0, WebSocket::buffered).max(self.most_of_stuck);
    }

    /// The last columns of a row.
    fn report(&self) -> String {
        let stuck = match (&self.stuck, self.closed, &self.end) {
            (None, ..) => "-".to_owned(),
            (Some(_), _, Some((code, when))) => {
                let closed = self.closed.unwrap_or(*when);
                format!(
                    "closed with {code} after {:.2} s, gone after {:.1} s",
                    closed.as_secs_f64(),
                    when.as_secs_f64()
                )
            }
            (Some(_), Some(closed), None) => format!("closed after {:.2} s", closed.as_secs_f64()),
            (Some(socket), None, None) => format!("kept, {} of {} dropped", socket.dropped(), self.sent),
        };
        let late = self.late.as_secs_f64() * 1e3;
        let [good, bad] = [self.most_of_good, self.most_of_stuck].map(|bytes| bytes.div_ceil(1024));
        format!("{late:.1} | {good} | {bad} | {stuck}")
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

    /// The load generator has got everything.
    fn frame_received(&mut self, socket: &WebSocket, _: Frame<'_>) {
        println!("{}", self.broadcast.borrow().report());
        socket.reactor().stop();
    }

    fn connection_lost(&mut self, socket: &WebSocket, _: &Failure) {
        let Some(status) = socket.close_status().filter(|_| self.is_stuck) else { return };
        let mut broadcast = self.broadcast.borrow_mut();
        let when = broadcast.started.elapsed();
        broadcast.end.get_or_insert((status.code, when));
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
