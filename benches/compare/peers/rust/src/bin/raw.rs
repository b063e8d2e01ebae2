//! RAW LIMIT: no WebSocket at all. Level-triggered epoll, one 512 KiB buffer, one recv per readiness,
//! one send. raw PORT echo|broadcast|permsg
//!   echo       writes back what it read
//!   broadcast  collects what it read in one epoll_wait's turn, then one write per client (perfect batching)
//!   permsg     one write per client per WebSocket frame (it walks the headers): the minimum without batching
use std::os::fd::*;

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let port: u16 = a[1].parse().unwrap();
    let mode = a.get(2).map(|s| s.as_str()).unwrap_or("echo");
    let (bc, per) = (mode != "echo", mode == "permsg");
    let l = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    unsafe { libc::listen(l.as_raw_fd(), 4096) };
    l.set_nonblocking(true).unwrap();
    eprintln!("listening on {port}");
    let lfd = l.as_raw_fd();
    let ep = unsafe { libc::epoll_create1(0) };
    let add = |fd: i32, ev: i32, op: i32| unsafe {
        let mut e = libc::epoll_event { events: ev as u32, u64: fd as u64 };
        libc::epoll_ctl(ep, op, fd, &mut e);
    };
    add(lfd, libc::EPOLLIN, libc::EPOLL_CTL_ADD);
    let mut buf = vec![0u8; 512 << 10];
    let mut out: Vec<Vec<u8>> = Vec::new(); // by fd: what the socket did not take
    let mut all: Vec<i32> = Vec::new();
    let mut turn: Vec<u8> = Vec::new();
    let mut evs: Vec<libc::epoll_event> = vec![unsafe { std::mem::zeroed() }; 1024];
    #[inline]
    fn send(fd: i32, b: &[u8], out: &mut Vec<Vec<u8>>, arm: &dyn Fn(i32, i32, i32)) {
        let q = &mut out[fd as usize];
        let mut n = 0;
        if q.is_empty() {
            let r = unsafe { libc::send(fd, b.as_ptr() as *const _, b.len(), libc::MSG_NOSIGNAL) };
            n = r.max(0) as usize;
            if n < b.len() {
                arm(fd, libc::EPOLLIN | libc::EPOLLOUT, libc::EPOLL_CTL_MOD)
            }
        }
        if n < b.len() {
            q.extend_from_slice(&b[n..])
        }
    }
    loop {
        let n = unsafe { libc::epoll_wait(ep, evs.as_mut_ptr(), 1024, -1) };
        for i in 0..n.max(0) as usize {
            let fd = evs[i].u64 as i32;
            let ev = evs[i].events as i32;
            if fd == lfd {
                loop {
                    let c = unsafe {
                        libc::accept4(
                            lfd,
                            std::ptr::null_mut(),
                            std::ptr::null_mut(),
                            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                        )
                    };
                    if c < 0 {
                        break;
                    }
                    let one = 1i32;
                    unsafe {
                        libc::setsockopt(c, libc::IPPROTO_TCP, libc::TCP_NODELAY, &one as *const _ as *const _, 4)
                    };
                    if out.len() <= c as usize {
                        out.resize_with(c as usize + 1, Vec::new)
                    }
                    all.push(c);
                    add(c, libc::EPOLLIN, libc::EPOLL_CTL_ADD);
                }
                continue;
            }
            if ev & libc::EPOLLOUT != 0 {
                let q = &mut out[fd as usize];
                let r = unsafe { libc::send(fd, q.as_ptr() as *const _, q.len(), libc::MSG_NOSIGNAL) };
                if r > 0 {
                    q.drain(..r as usize);
                }
                if q.is_empty() {
                    add(fd, libc::EPOLLIN, libc::EPOLL_CTL_MOD)
                }
            }
            if ev & (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR) == 0 {
                continue;
            }
            let r = unsafe { libc::recv(fd, buf.as_mut_ptr() as *mut _, buf.len(), 0) };
            if r <= 0 {
                if r < 0 && std::io::Error::last_os_error().kind() == std::io::ErrorKind::WouldBlock {
                    continue;
                }
                all.retain(|x| *x != fd);
                out[fd as usize] = Vec::new();
                unsafe { libc::close(fd) };
                continue;
            }
            let b = &buf[..r as usize];
            if !bc {
                send(fd, b, &mut out, &add)
            } else if !per {
                turn.extend_from_slice(b)
            } else {
                let mut p = 0;
                while p < b.len() {
                    // whole frames assumed: this mode is for small messages only
                    let l = (b[p + 1] & 127) as usize;
                    let e = (p + if l == 126 { 8 + u16::from_be_bytes([b[p + 2], b[p + 3]]) as usize } else { 6 + l })
                        .min(b.len());
                    for c in &all {
                        send(*c, &b[p..e], &mut out, &add)
                    }
                    p = e;
                }
            }
        }
        if !turn.is_empty() {
            for c in &all {
                send(*c, &turn, &mut out, &add)
            }
            turn.clear();
        }
    }
}
