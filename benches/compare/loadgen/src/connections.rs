//! The sockets: opened, shaken hands with, written from one prebuilt buffer, read into another.

use std::time::Instant;

use crate::die;
use crate::frames::{Walker, check};

/// One connection; everything it sends is the prebuilt buffer over and over.
pub struct Conn {
    pub fd: i32,
    pub state: u8, // 0 connecting, 1 handshake, 2 open
    pub w: Walker,
    pub out_off: usize,  // where in the prebuilt buffer the next byte to send is
    pub out_left: usize, // bytes still to send
    pub want_out: bool,
    pub t0: u64,
    pub rx: u64, // data messages got (broadcast: deliveries)
    pub hs: Vec<u8>,
}

/// All connections, and what they share.
pub struct Load {
    pub ep: i32,
    pub conns: Vec<Conn>,
    pub txbuf: Vec<u8>,
    pub flen: usize,
    pub rbuf: Vec<u8>,
    pub start: Instant,
    pub deadline: Instant,
    pub rx_bytes: u64,
    pub verify: Option<Vec<u8>>, // the expected payload of the first response of each connection
    pub deflate: bool,
    pub raw: bool,
    pub request: Vec<u8>,
    pub port: u16,
    pub naddr: usize,
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

impl Load {
    #[inline]
    pub fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn connect(&mut self, i: usize) {
        unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                die(&format!("socket: {}", std::io::Error::last_os_error()))
            }
            let one: i32 = 1;
            let set = |lvl, o, v: &i32| libc::setsockopt(fd, lvl, o, v as *const i32 as *const _, 4);
            set(libc::IPPROTO_TCP, libc::TCP_NODELAY, &one);
            let lg = libc::linger { l_onoff: 1, l_linger: 0 }; // close with RST: leaves no TIME_WAIT
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                &lg as *const _ as *const _,
                std::mem::size_of_val(&lg) as u32,
            );
            if self.naddr > 1 {
                set(libc::IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &one);
                let mut a: libc::sockaddr_in = std::mem::zeroed();
                a.sin_family = libc::AF_INET as u16;
                a.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1 + (i % self.naddr) as u8]);
                libc::bind(fd, &a as *const _ as *const _, 16);
            }
            let mut a: libc::sockaddr_in = std::mem::zeroed();
            a.sin_family = libc::AF_INET as u16;
            a.sin_port = self.port.to_be();
            a.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
            let r = libc::connect(fd, &a as *const _ as *const _, 16);
            if r < 0 && errno() != libc::EINPROGRESS {
                die(&format!("connect: {}", std::io::Error::last_os_error()))
            }
            let mut ev = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLOUT) as u32, u64: i as u64 };
            libc::epoll_ctl(self.ep, libc::EPOLL_CTL_ADD, fd, &mut ev);
            self.conns.push(Conn {
                fd,
                state: 0,
                w: Walker::default(),
                out_off: 0,
                out_left: 0,
                want_out: true,
                t0: 0,
                rx: 0,
                hs: vec![],
            });
        }
    }

    fn arm(&mut self, i: usize, out: bool) {
        let c = &mut self.conns[i];
        if c.want_out != out {
            c.want_out = out;
            let mut ev = libc::epoll_event {
                events: (libc::EPOLLIN | if out { libc::EPOLLOUT } else { 0 }) as u32,
                u64: i as u64,
            };
            unsafe { libc::epoll_ctl(self.ep, libc::EPOLL_CTL_MOD, c.fd, &mut ev) };
        }
    }

    /// Opens connections up to `n`, at most `conc` in the handshake at once; returns the seconds taken.
    pub fn open(&mut self, n: usize, conc: usize) -> f64 {
        let t = Instant::now();
        let mut done = self.conns.len();
        let mut evs: Vec<libc::epoll_event> = vec![unsafe { std::mem::zeroed() }; 1024];
        while done < n {
            while self.conns.len() < n && self.conns.len() - done < conc {
                let i = self.conns.len();
                self.connect(i)
            }
            let k = self.wait(&mut evs);
            for e in &evs[..k] {
                let i = e.u64 as usize;
                let ev = e.events;
                let c = &mut self.conns[i];
                if c.state == 2 {
                    if ev & libc::EPOLLIN as u32 != 0 {
                        self.drain_ctl(i)
                    }
                    continue;
                }
                if ev & (libc::EPOLLERR | libc::EPOLLHUP) as u32 != 0 {
                    die(&format!("connection {i} failed in the handshake ({ev:#x})"))
                }
                if c.state == 0 && ev & libc::EPOLLOUT as u32 != 0 {
                    if self.raw {
                        c.state = 2;
                        done += 1;
                        self.arm(i, false);
                        continue;
                    }
                    let r = unsafe {
                        libc::send(c.fd, self.request.as_ptr() as *const _, self.request.len(), libc::MSG_NOSIGNAL)
                    };
                    if r != self.request.len() as isize {
                        die("short handshake send")
                    }
                    c.state = 1;
                    self.arm(i, false);
                } else if c.state == 1 && ev & libc::EPOLLIN as u32 != 0 {
                    let r = unsafe { libc::recv(c.fd, self.rbuf.as_mut_ptr() as *mut _, 65536, 0) };
                    if r <= 0 {
                        die(&format!("handshake: connection {i} closed by the server"))
                    }
                    c.hs.extend_from_slice(&self.rbuf[..r as usize]);
                    if let Some(p) = c.hs.windows(4).position(|w| w == b"\r\n\r\n") {
                        let head = String::from_utf8_lossy(&c.hs[..p]).to_string();
                        if !head.starts_with("HTTP/1.1 101") || !head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
                            die(&format!("bad handshake response:\n{head}"))
                        }
                        if i == 0 && self.deflate {
                            if !head.to_lowercase().contains("permessage-deflate") {
                                die(&format!("permessage-deflate not accepted:\n{head}"))
                            }
                            eprintln!(
                                "deflate response: {}",
                                head.lines().find(|l| l.to_lowercase().contains("permessage-deflate")).unwrap()
                            );
                        }
                        let rest = c.hs.split_off(p + 4);
                        c.hs = vec![];
                        c.w.feed(&rest);
                        c.state = 2;
                        done += 1;
                    }
                }
            }
        }
        t.elapsed().as_secs_f64()
    }

    fn drain_ctl(&mut self, i: usize) {
        let c = &mut self.conns[i];
        let r = unsafe { libc::recv(c.fd, self.rbuf.as_mut_ptr() as *mut _, self.rbuf.len(), 0) };
        if r == 0 || (r < 0 && errno() != libc::EAGAIN) {
            die(&format!("connection {i} closed by the server"))
        }
        if r > 0 {
            c.w.feed(&self.rbuf[..r as usize]);
        }
    }

    #[inline]
    pub fn wait(&mut self, evs: &mut [libc::epoll_event]) -> usize {
        let k = unsafe { libc::epoll_wait(self.ep, evs.as_mut_ptr(), evs.len() as i32, 1000) };
        if k < 0 && errno() != libc::EINTR {
            die("epoll_wait")
        }
        if k <= 0 && Instant::now() > self.deadline {
            die("time limit reached")
        }
        k.max(0) as usize
    }

    /// Every loop of a run asks this, so that it ends also when events never stop coming.
    pub fn check_deadline(&self) {
        if Instant::now() > self.deadline {
            die("time limit reached")
        }
    }

    /// Queues `k` more frames on connection i and sends what the socket takes.
    #[inline]
    pub fn send(&mut self, i: usize, k: usize) {
        self.conns[i].out_left += k * self.flen;
        self.flush(i)
    }

    #[inline]
    pub fn flush(&mut self, i: usize) {
        let flen = self.flen;
        let c = &mut self.conns[i];
        while c.out_left > 0 {
            let n = c.out_left.min(self.txbuf.len() - c.out_off);
            let r = unsafe { libc::send(c.fd, self.txbuf.as_ptr().add(c.out_off) as *const _, n, libc::MSG_NOSIGNAL) };
            if r < 0 {
                if errno() == libc::EAGAIN {
                    return self.arm(i, true);
                }
                die(&format!("send on {i}: {}", std::io::Error::last_os_error()))
            }
            c.out_left -= r as usize;
            c.out_off = (c.out_off + r as usize) % flen;
            if (r as usize) < n {
                return self.arm(i, true);
            }
        }
        if c.want_out {
            self.arm(i, false)
        }
    }

    /// Reads once from connection i; returns the number of data messages that ended.
    #[inline]
    pub fn read(&mut self, i: usize) -> usize {
        let c = &mut self.conns[i];
        let r = unsafe { libc::recv(c.fd, self.rbuf.as_mut_ptr() as *mut _, self.rbuf.len(), 0) };
        if r <= 0 {
            if r < 0 && errno() == libc::EAGAIN {
                return 0;
            }
            die(&format!("connection {i} closed by the server ({r}, {})", std::io::Error::last_os_error()))
        }
        self.rx_bytes += r as u64;
        if self.verify.is_some() && c.rx == 0 {
            c.hs.extend_from_slice(&self.rbuf[..r as usize]);
        }
        let k = c.w.feed(&self.rbuf[..r as usize]);
        if k > 0 && c.rx == 0 {
            if let Some(want) = &self.verify {
                check(&c.hs, want, self.deflate, i);
                c.hs = vec![];
            }
        }
        c.rx += k as u64;
        k
    }
}
