//! Not a library: the least that a WebSocket server on mio can do, which is the floor for a real one.
//!   * mio's edge-triggered epoll, one registration per connection (readable|writable), 1024 events per turn
//!   * one shared 512 KiB read buffer; a short read means "drained" (no second recv that would say EAGAIN)
//!   * frames parsed and unmasked in place, handed out as slices; UTF-8 by simdutf8
//!   * replies collected in one shared cork buffer, one send per readiness
//!   * a frame too big for the buffer: its own exactly sized Vec, filled by readv straight from the socket; replied by writev
//!   * broadcast: framed once, collected per loop turn, one send per client per turn, no cap
//! mio_min PORT echo|broadcast
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};

const RB: usize = 512 << 10;

struct Big {
    buf: Vec<u8>,
    need: usize,
    key: [u8; 4],
    op: u8,
    unmasked: usize,
}

struct Conn {
    s: TcpStream,
    open: bool,
    part: Vec<u8>,
    big: Option<Box<Big>>,
    out: Vec<u8>,
    off: usize,
}

#[inline]
fn unmask(b: &mut [u8], key: [u8; 4]) {
    let k = u32::from_ne_bytes(key);
    let k8 = (k as u64) << 32 | k as u64;
    let mut c = b.chunks_exact_mut(8);
    for x in &mut c {
        let v = u64::from_ne_bytes((&*x).try_into().unwrap()) ^ k8;
        x.copy_from_slice(&v.to_ne_bytes())
    }
    for (i, x) in c.into_remainder().iter_mut().enumerate() {
        *x ^= key[i & 3]
    }
}

#[inline]
fn head(out: &mut Vec<u8>, op: u8, n: usize) {
    if n < 126 {
        out.extend_from_slice(&[0x80 | op, n as u8])
    } else if n < 65536 {
        let l = (n as u16).to_be_bytes();
        out.extend_from_slice(&[0x80 | op, 126, l[0], l[1]])
    } else {
        out.extend_from_slice(&[0x80 | op, 127]);
        out.extend_from_slice(&(n as u64).to_be_bytes())
    }
}

/// Sends `b`, or queues what the socket does not take (edge-triggered: the writable event will come).
fn send(c: &mut Conn, b: &[u8]) -> bool {
    let mut n = 0;
    if c.out.is_empty() {
        while n < b.len() {
            match c.s.write(&b[n..]) {
                Ok(k) => {
                    n += k;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
    }
    if n < b.len() {
        c.out.extend_from_slice(&b[n..])
    }
    true
}

fn flush(c: &mut Conn) -> bool {
    while c.off < c.out.len() {
        match c.s.write(&c.out[c.off..]) {
            Ok(k) => c.off += k,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
    }
    c.off = 0;
    c.out = Vec::new();
    true
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let port: u16 = a[1].parse().unwrap();
    let bc = a.get(2).map(|s| s == "broadcast").unwrap_or(false);
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(1024);
    let sl = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    unsafe {
        use std::os::fd::AsRawFd;
        libc::listen(sl.as_raw_fd(), 4096)
    };
    sl.set_nonblocking(true).unwrap();
    let mut l = TcpListener::from_std(sl);
    poll.registry().register(&mut l, Token(usize::MAX - 1), Interest::READABLE).unwrap();
    let mut conns: slab::Slab<Conn> = slab::Slab::new();
    let mut rb = vec![0u8; RB + 64];
    let mut cork: Vec<u8> = Vec::with_capacity(64 << 10);
    let mut turn: Vec<u8> = Vec::new();
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
                    e.insert(Conn { s, open: false, part: Vec::new(), big: None, out: Vec::new(), off: 0 });
                }
                continue;
            }
            let id = ev.token().0;
            let Some(c) = conns.get_mut(id) else { continue };
            let mut ok = true;
            if ev.is_writable() && !c.out.is_empty() {
                ok = flush(c)
            }
            if ok && ev.is_readable() {
                ok = readable(c, &mut rb, if bc { &mut turn } else { &mut cork }, bc)
            }
            if !ok {
                let mut c = conns.remove(id);
                poll.registry().deregister(&mut c.s).ok();
            }
        }
        if bc && !turn.is_empty() {
            for (_, c) in conns.iter_mut() {
                if c.open {
                    send(c, &turn);
                }
            }
            turn.clear();
        }
    }
}

fn readable(c: &mut Conn, rb: &mut [u8], out: &mut Vec<u8>, bc: bool) -> bool {
    loop {
        let have;
        let full;
        if let Some(b) = c.big.as_mut() {
            // the rest of a big message goes straight into its buffer, what follows it into the shared one
            let at = b.buf.len();
            let want = b.need - at;
            let spare = unsafe { std::slice::from_raw_parts_mut(b.buf.as_mut_ptr().add(at), want) };
            let n = match c.s.read_vectored(&mut [IoSliceMut::new(spare), IoSliceMut::new(&mut rb[..RB])]) {
                Ok(0) => return false,
                Ok(n) => n,
                Err(e) => return e.kind() == ErrorKind::WouldBlock,
            };
            unsafe { b.buf.set_len(at + n.min(want)) };
            // unmask what came while it is in the cache, in whole words of the key
            let upto = if b.buf.len() == b.need { b.need } else { b.buf.len() & !7 };
            let from = b.unmasked;
            unmask(&mut b.buf[from..upto], b.key);
            b.unmasked = upto;
            full = n == want + RB;
            have = n.saturating_sub(want);
            if n < want {
                return true;
            }
            let b = *c.big.take().unwrap();
            if b.op == 1 && simdutf8::basic::from_utf8(&b.buf).is_err() {
                return false;
            }
            if !out.is_empty() && !bc {
                if !send(c, out) {
                    return false;
                }
                out.clear()
            }
            if bc {
                head(out, b.op, b.need);
                out.extend_from_slice(&b.buf)
            } else {
                let mut h = Vec::with_capacity(10);
                head(&mut h, b.op, b.need);
                let mut sent = 0;
                if c.out.is_empty() {
                    match c.s.write_vectored(&[IoSlice::new(&h), IoSlice::new(&b.buf)]) {
                        Ok(k) => sent = k,
                        Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                        Err(_) => return false,
                    }
                }
                if sent < h.len() {
                    c.out.extend_from_slice(&h[sent..]);
                    sent = h.len()
                }
                if sent < h.len() + b.need {
                    if c.out.is_empty() {
                        c.off = sent - h.len();
                        c.out = b.buf
                    }
                    // kept as it is: no copy
                    else {
                        c.out.extend_from_slice(&b.buf[sent - h.len()..])
                    }
                }
            }
        } else {
            let p = c.part.len();
            if p > 0 {
                rb[..p].copy_from_slice(&c.part);
                c.part.clear()
            }
            let n = match c.s.read(&mut rb[p..RB]) {
                Ok(0) => return false,
                Ok(n) => n,
                Err(e) => {
                    if p > 0 {
                        c.part.extend_from_slice(&rb[..p])
                    }
                    return e.kind() == ErrorKind::WouldBlock;
                }
            };
            full = n == RB - p;
            have = p + n;
        }
        let mut i = 0;
        if !c.open {
            let Some(e) = rb[..have].windows(4).position(|w| w == b"\r\n\r\n") else {
                c.part.extend_from_slice(&rb[..have]);
                return true;
            };
            let mut h = [httparse::EMPTY_HEADER; 32];
            let mut r = httparse::Request::new(&mut h);
            if r.parse(&rb[..e + 4]).is_err() {
                return false;
            }
            let Some(k) = r.headers.iter().find(|h| h.name.eq_ignore_ascii_case("sec-websocket-key")) else {
                return false;
            };
            let resp = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
                tungstenite::handshake::derive_accept_key(k.value)
            );
            if !send(c, resp.as_bytes()) {
                return false;
            }
            c.open = true;
            i = e + 4;
        }
        while have - i >= 2 {
            let (b0, b1) = (rb[i], rb[i + 1]);
            let mut n = (b1 & 127) as usize;
            let mut h = 6;
            if n == 126 {
                if have - i < 4 {
                    break;
                }
                n = u16::from_be_bytes([rb[i + 2], rb[i + 3]]) as usize;
                h = 8
            } else if n == 127 {
                if have - i < 10 {
                    break;
                }
                n = u64::from_be_bytes(rb[i + 2..i + 10].try_into().unwrap()) as usize;
                h = 14
            }
            if b1 & 128 == 0 || b0 & 0xf0 != 0x80 || n > 64 << 20 {
                return false;
            } // no fragments, no extensions here
            if have - i < h {
                break;
            }
            let key: [u8; 4] = rb[i + h - 4..i + h].try_into().unwrap();
            let op = b0 & 15;
            if have - i < h + n {
                if n < 64 << 10 {
                    break;
                }
                let mut v = Vec::with_capacity(n);
                v.extend_from_slice(&rb[i + h..have]);
                let upto = v.len() & !7;
                unmask(&mut v[..upto], key);
                c.big = Some(Box::new(Big { buf: v, need: n, key, op, unmasked: upto }));
                i = have;
                break;
            }
            let p = &mut rb[i + h..i + h + n];
            unmask(p, key);
            i += h + n;
            match op {
                1 | 2 => {
                    if op == 1 && simdutf8::basic::from_utf8(p).is_err() {
                        return false;
                    }
                    head(out, op, n);
                    out.extend_from_slice(p);
                    if !bc && out.len() >= 64 << 10 {
                        if !send(c, out) {
                            return false;
                        }
                        out.clear()
                    }
                }
                9 => {
                    let mut v = vec![];
                    head(&mut v, 10, n);
                    v.extend_from_slice(p);
                    if !send(c, &v) {
                        return false;
                    }
                }
                10 => {}
                _ => return false,
            }
        }
        if i < have {
            c.part.extend_from_slice(&rb[i..have])
        } else if c.part.capacity() > 0 {
            c.part = Vec::new()
        }
        if !bc && !out.is_empty() {
            if !send(c, out) {
                return false;
            }
            out.clear()
        }
        if !full {
            return true;
        }
    }
}
