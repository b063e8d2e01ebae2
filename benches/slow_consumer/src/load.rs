//! The clients: one thread reads them all and looks at nothing but headers, numbers and times.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use crate::process::now;
use crate::settings::{Policy, Settings};

/// RFC 6455, 5.2: two bytes, and the length in two more.
const HEADER: usize = 4;
/// A header, a number, a time.
const LOOKED_AT: usize = HEADER + 16;
/// FIN, binary.
const MESSAGE: u8 = 0x82;
/// A masked text message, `.`, with a key of zeros.
const DONE: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'.'];

/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the good clients got.
pub struct Received {
    expected: u64,
    size: usize,
    clients: Vec<Client>,
    /// In microseconds, sorted.
    latencies: Vec<u32>,
    took: Duration,
    /// It never reads, but is there.
    _stuck: Option<std::net::TcpStream>,
}

impl Received {
    pub fn lost(&self) -> u64 {
        self.expected * self.clients.len() as u64 - self.latencies.len() as u64
    }

    /// How many were closed before the end.
    pub fn closed(&self) -> usize {
        self.clients.iter().filter(|client| client.closed).count()
    }

    pub fn quantile(&self, share: f64) -> Duration {
        let index = (self.latencies.len() as f64 * share).ceil() as usize;
        Duration::from_micros(self.latencies.get(index.saturating_sub(1)).copied().unwrap_or(0).into())
    }

    /// Bytes a second, of payloads, to all.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 * self.size as f64 / self.took.as_secs_f64()
    }

    pub fn ask_for_report(&self) -> io::Result<()> {
        let open = self.clients.iter().find(|client| !client.closed).ok_or(io::ErrorKind::NotConnected)?;
        (&open.stream).write_all(&DONE)
    }
}

/// Connects, reads until each has got the last message, and tells what came.
pub fn run(settings: &Settings, port: u16) -> Result<Received, Box<dyn Error>> {
    let stuck = match settings.policy {
        Policy::None => None,
        _ => Some(open(port, "/stuck", Some(4096))?),
    };
    let poll = Poll::new()?;
    let mut clients = Vec::with_capacity(settings.clients);
    for index in 0..settings.clients {
        let stream = open(port, "/", None)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
        clients.push(Client::new(stream, settings));
    }
    let expected = settings.messages();
    let latencies = Vec::with_capacity(expected as usize * settings.clients);
    let mut received =
        Received { expected, size: settings.size, clients, latencies, took: Duration::ZERO, _stuck: stuck };
    received.read_all(poll)?;
    received.latencies.sort_unstable();
    Ok(received)
}

impl Received {
    fn read_all(&mut self, mut poll: Poll) -> Result<(), Box<dyn Error>> {
        let (mut events, mut bytes) = (Events::with_capacity(1024), vec![0; 256 * 1024]);
        let mut left = self.clients.len();
        let started = Instant::now();
        while left > 0 {
            poll.poll(&mut events, Some(PATIENCE))?;
            if events.is_empty() {
                return Err("nothing comes any more".into());
            }
            for event in &events {
                let client = &mut self.clients[event.token().0];
                let was_done = client.is_done(self.expected);
                client.read(&mut bytes, &mut self.latencies)?;
                left -= usize::from(!was_done && client.is_done(self.expected));
            }
        }
        self.took = started.elapsed();
        Ok(())
    }
}

/// A client whose handshake is done.
fn open(port: u16, path: &str, receive_buffer: Option<usize>) -> io::Result<std::net::TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(size) = receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    let mut stream = std::net::TcpStream::from(socket);
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )?;
    // one by one: what follows the head is not for here
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        return Err(io::Error::other("the handshake was refused"));
    }
    Ok(stream)
}

struct Client {
    stream: TcpStream,
    size: usize,
    /// The beginning of a message.
    begun: [u8; LOOKED_AT],
    /// How much of the message has come.
    came: usize,
    /// The number of the next message, if none is lost.
    next: u64,
    closed: bool,
}

impl Client {
    fn new(stream: TcpStream, settings: &Settings) -> Self {
        Self { stream, size: settings.size, begun: [0; LOOKED_AT], came: 0, next: 0, closed: false }
    }

    /// Whether nothing more is expected.
    fn is_done(&self, expected: u64) -> bool {
        self.closed || self.next == expected
    }

    fn read(&mut self, bytes: &mut [u8], latencies: &mut Vec<u32>) -> Result<(), Box<dyn Error>> {
        loop {
            match self.stream.read(bytes) {
                Ok(length) => {
                    self.take(&bytes[..length], latencies)?;
                    self.closed |= length == 0;
                    if length < bytes.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.closed = true;
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8], latencies: &mut Vec<u32>) -> Result<(), Box<dyn Error>> {
        let time = now();
        while !bytes.is_empty() && !self.closed {
            let wanted = if self.came < LOOKED_AT { LOOKED_AT } else { HEADER + self.size };
            let (taken, rest) = bytes.split_at(bytes.len().min(wanted - self.came));
            if let Some(begun) = self.begun.get_mut(self.came..self.came + taken.len()) {
                begun.copy_from_slice(taken);
            }
            self.came += taken.len();
            bytes = rest;
            // a Close is shorter than what is looked at
            self.closed |= self.begun[0] != MESSAGE;
            if self.came == HEADER + self.size {
                self.came = 0;
                let (number, sent) = self.message()?;
                self.next = number + 1;
                latencies.push(u32::try_from(time.saturating_sub(sent) / 1000)?);
            }
        }
        Ok(())
    }

    /// The number and the time of the message that has come.
    fn message(&self) -> Result<(u64, u64), Box<dyn Error>> {
        let length = u16::from_be_bytes([self.begun[2], self.begun[3]]);
        let number = u64::from_be_bytes(self.begun[HEADER..HEADER + 8].try_into()?);
        let sent = u64::from_be_bytes(self.begun[HEADER + 8..].try_into()?);
        if usize::from(length) != self.size || number < self.next {
            return Err("a message of another length, or out of order".into());
        }
        Ok((number, sent))
    }
}
