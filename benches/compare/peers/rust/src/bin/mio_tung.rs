//! mio + tungstenite's WebSocketContext: a slab of connections, edge-triggered, read until WouldBlock,
//! flush once per readiness (broadcast: every touched connection once per loop turn).
//! mio_tung PORT echo|broadcast [READ_BUFFER_KIB]
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

struct Conn {
    s: TcpStream,
    ctx: Option<WebSocketContext>,
    hs: Vec<u8>,
    dirty: bool,
}

fn would(e: &Error) -> bool {
    matches!(e, Error::Io(e) if e.kind() == ErrorKind::WouldBlock)
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let port: u16 = a[1].parse().unwrap();
    let bc = a.get(2).map(|s| s == "broadcast").unwrap_or(false);
    let mut cfg = WebSocketConfig::default();
    if let Some(k) = a.get(3) {
        cfg = cfg.read_buffer_size(k.parse::<usize>().unwrap() << 10)
    }
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(1024);
    let std_l = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    unsafe {
        use std::os::fd::AsRawFd;
        libc::listen(std_l.as_raw_fd(), 4096)
    };
    std_l.set_nonblocking(true).unwrap();
    let mut l = TcpListener::from_std(std_l);
    poll.registry().register(&mut l, Token(usize::MAX - 1), Interest::READABLE).unwrap();
    let mut conns: slab::Slab<Conn> = slab::Slab::new();
    let mut got: Vec<Message> = Vec::new();
    let mut dead: Vec<usize> = Vec::new();
    eprintln!("listening on {port}");
    loop {
        if let Err(e) = poll.poll(&mut events, None) {
            if e.kind() == ErrorKind::Interrupted {
                continue;
            }
            panic!("{e}")
        }
        for ev in events.iter() {
            if ev.token().0 == usize::MAX - 1 {
                while let Ok((mut s, _)) = l.accept() {
                    let _ = s.set_nodelay(true);
                    let e = conns.vacant_entry();
                    poll.registry().register(&mut s, Token(e.key()), Interest::READABLE | Interest::WRITABLE).unwrap();
                    e.insert(Conn { s, ctx: None, hs: Vec::new(), dirty: false });
                }
                continue;
            }
            let id = ev.token().0;
            let Some(c) = conns.get_mut(id) else { continue };
            let mut close = false;
            if ev.is_readable() && c.ctx.is_none() {
                let mut b = [0u8; 4096];
                loop {
                    match c.s.read(&mut b) {
                        Ok(0) => {
                            close = true;
                            break;
                        }
                        Ok(n) => c.hs.extend_from_slice(&b[..n]),
                        Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                        Err(_) => {
                            close = true;
                            break;
                        }
                    }
                    let mut h = [httparse::EMPTY_HEADER; 32];
                    let mut r = httparse::Request::new(&mut h);
                    match r.parse(&c.hs) {
                        Ok(httparse::Status::Complete(n)) => {
                            let Some(k) = r.headers.iter().find(|h| h.name.eq_ignore_ascii_case("sec-websocket-key"))
                            else {
                                close = true;
                                break;
                            };
                            let resp = format!(
                                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
                                derive_accept_key(k.value)
                            );
                            let rest = c.hs.split_off(n);
                            c.hs = Vec::new();
                            if c.s.write_all(resp.as_bytes()).is_err() {
                                close = true;
                                break;
                            }
                            c.ctx = Some(WebSocketContext::from_partially_read(rest, Role::Server, Some(cfg)));
                            break;
                        }
                        Ok(_) => continue,
                        Err(_) => {
                            close = true;
                            break;
                        }
                    }
                }
            }
            if let (Some(ctx), true) = (c.ctx.as_mut(), ev.is_readable()) {
                loop {
                    match ctx.read(&mut c.s) {
                        Ok(m @ (Message::Text(_) | Message::Binary(_))) => {
                            if bc {
                                got.push(m)
                            } else {
                                match ctx.write(&mut c.s, m) {
                                    Ok(()) => {}
                                    Err(e) if would(&e) => {}
                                    Err(_) => {
                                        close = true;
                                        break;
                                    }
                                }
                            }
                        }
                        Ok(_) => {}
                        Err(e) if would(&e) => break,
                        Err(_) => {
                            close = true;
                            break;
                        }
                    }
                }
            }
            if let (Some(ctx), false, false) = (c.ctx.as_mut(), close, bc && !ev.is_writable()) {
                match ctx.flush(&mut c.s) {
                    Ok(()) => {}
                    Err(e) if would(&e) => {}
                    Err(_) => close = true,
                }
            }
            if close {
                poll.registry().deregister(&mut c.s).ok();
                conns.remove(id);
            }
            if bc && !got.is_empty() {
                for m in got.drain(..) {
                    for (_, c) in conns.iter_mut() {
                        if let Some(ctx) = c.ctx.as_mut() {
                            c.dirty = true;
                            let _ = ctx.write(&mut c.s, m.clone());
                        }
                    }
                }
            }
        }
        if bc {
            for (id, c) in conns.iter_mut() {
                if c.dirty {
                    c.dirty = false;
                    match c.ctx.as_mut().unwrap().flush(&mut c.s) {
                        Ok(()) => {}
                        Err(e) if would(&e) => {}
                        Err(_) => dead.push(id),
                    }
                }
            }
            for id in dead.drain(..) {
                let mut c = conns.remove(id);
                poll.registry().deregister(&mut c.s).ok();
            }
        }
    }
}
