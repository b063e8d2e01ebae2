//! loadgen: a cheap single-threaded WebSocket load generator (raw epoll, Linux only).
//!
//! It builds every frame it will ever send once, before the run (masked, with a fixed non-zero key), and while measuring
//! it only walks frame headers to count messages. Everything it reports is one JSON object on stdout.
//!
//! Scenarios (--scenario):
//!   echo       N connections, K messages in flight on each; the server sends each back
//!   broadcast  N connections, one sender (connection 0), at most W messages outstanding;
//!              the server sends each message to all N, the sender included
//!   chat       N connections; per round every one sends 1 message, all get all N (N*N)
//!   idle       open N connections (concurrency C), settle, read the server's RSS, send one
//!              message on each, read RSS again
//!
//! Every run is bounded: --secs of measuring (or --msgs messages), and --limit seconds in all.
//! Only loopback: the target is always 127.0.0.1 and sources are 127.0.0.1 .. 127.0.0.N.

mod connections;
mod frames;
mod histogram;
mod usage;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use connections::Load;
use frames::{frame, payload};
use histogram::Hist;
use usage::{Snap, foreign, snap, status_kb};

fn main() {
    let a = Args::parse();
    let pid = a.us("pid", 0) as i32;
    let n = a.us("conns", 1);
    let mut load = prepare(&a, n);
    let before = Memory::of(pid);
    let s0 = snap(pid);
    let hs_secs = load.open(n, a.us("conc", 128));
    let s1 = snap(pid);
    if a.s("scenario", "echo") == "idle" {
        idle(&a, &mut load, before, [s0, s1], hs_secs);
    } else {
        measure(&a, &mut load, hs_secs);
    }
}

/// The prebuilt bytes and the settings of a run; no connection is open yet.
fn prepare(a: &Args, n: usize) -> Load {
    let size = a.us("size", 32);
    let kind = a.s("payload", "bin");
    let deflate = a.has("deflate");
    let port = a.us("port", 9001) as u16;

    let body = payload(size, &kind);
    let wire = if deflate {
        let mut c = flate2::Compress::new(flate2::Compression::new(6), false);
        let mut o = Vec::with_capacity(size * 2 + 64);
        c.compress_vec(&body, &mut o, flate2::FlushCompress::Sync).unwrap();
        o.truncate(o.len() - 4); // RFC 7692, 7.2.1: the tail of the sync flush is not sent
        o
    } else {
        body.clone()
    };
    let f = frame(if kind == "bin" { 2 } else { 1 }, &wire, deflate);
    let flen = f.len();
    // long enough for all frames in flight from any offset inside the first, but not absurd
    let reps = (a.us("inflight", 1) + 1).min((8 << 20) / flen + 2);

    let mut request = format!(
        "GET {} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        a.s("path", "/")
    );
    if deflate {
        let offer = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";
        request.push_str(&format!("Sec-WebSocket-Extensions: {}\r\n", a.s("offer", offer)));
    }
    request.push_str("\r\n");

    let start = Instant::now();
    Load {
        ep: unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) },
        conns: Vec::with_capacity(n),
        txbuf: f.repeat(reps),
        flen,
        rbuf: vec![0; 1 << 20],
        start,
        deadline: start + Duration::from_secs_f64(a.num("limit", 120.0)),
        rx_bytes: 0,
        verify: Some(body),
        deflate,
        raw: a.has("raw"),
        request: request.into_bytes(),
        port,
        naddr: if n > 5000 { n / 5000 + 1 } else { 1 }, // one source address has too few ports for more
    }
}

/// The server's resident and anonymous memory in KiB.
struct Memory {
    rss: u64,
    anon: u64,
}

impl Memory {
    fn of(pid: i32) -> Self {
        Self { rss: status_kb(pid, "VmRSS:"), anon: status_kb(pid, "RssAnon:") }
    }
}

/// What open connections cost that say nothing, and again after one message on each.
fn idle(a: &Args, load: &mut Load, before: Memory, [s0, s1]: [Snap; 2], hs_secs: f64) {
    let pid = a.us("pid", 0) as i32;
    let secs = a.num("secs", 2.0);
    let n = load.conns.len();
    let settle = Duration::from_secs_f64(a.num("settle", 1.0));
    let mut evs = events();

    std::thread::sleep(settle);
    let fresh = Memory::of(pid);
    let i0 = snap(pid);
    std::thread::sleep(Duration::from_secs_f64(secs));
    let i1 = snap(pid);

    let (mut got, mut sent) = (0, 0);
    while got < n {
        while sent < n && sent - got < 64 {
            load.send(sent, 1);
            sent += 1;
        }
        let k = load.wait(&mut evs);
        for e in &evs[..k] {
            let i = e.u64 as usize;
            if e.events & libc::EPOLLOUT as u32 != 0 {
                load.flush(i);
            }
            if e.events & libc::EPOLLIN as u32 != 0 {
                got += load.read(i);
            }
        }
        load.check_deadline();
    }
    std::thread::sleep(settle);
    let used = Memory::of(pid);

    let per = |a: u64, b: u64| format!("{:.0}", (a as f64 - b as f64) * 1024.0 / n as f64);
    let us = |ns: u64| format!("{:.2}", ns as f64 / 1e3 / n as f64);
    print_json(&[
        ("conns", n.to_string()),
        ("hs_per_s", format!("{:.0}", n as f64 / hs_secs)),
        ("hs_secs", format!("{hs_secs:.3}")),
        ("hs_cpu_us", us(s1.srv_ns - s0.srv_ns)),
        ("hs_loader_cpu_us", us(s1.self_ns - s0.self_ns)),
        ("hs_foreign", format!("{:.3}", foreign(&s0, &s1))),
        ("rss_base_kb", before.rss.to_string()),
        ("rss_per_conn", per(fresh.rss, before.rss)),
        ("anon_per_conn", per(fresh.anon, before.anon)),
        ("rss_used_per_conn", per(used.rss, before.rss)),
        ("anon_used_per_conn", per(used.anon, before.anon)),
        ("idle_cpu_pct", format!("{:.3}", (i1.srv_ns - i0.srv_ns) as f64 / 1e9 / secs * 100.0)),
    ]);
}

#[derive(PartialEq)]
enum Traffic {
    Echo,
    Broadcast,
    Chat,
}

/// Keeps the messages of an echo, broadcast or chat scenario going for the warm-up and the measured time.
fn measure(a: &Args, load: &mut Load, hs_secs: f64) {
    let pid = a.us("pid", 0) as i32;
    let max_msgs = a.num("msgs", 0.0) as u64;
    let inflight = a.us("inflight", 1);
    let window = a.us("window", 1) as u64;
    let n = load.conns.len();
    let nn = n as u64;
    let traffic = match a.s("scenario", "echo").as_str() {
        "echo" => Traffic::Echo,
        "broadcast" => Traffic::Broadcast,
        "chat" => Traffic::Chat,
        s => die(&format!("unknown scenario {s}")),
    };

    let mut h = Hist::new();
    let mut msgs: u64 = 0; // echoes or deliveries
    let mut sent: u64 = 0;
    let (mut rx0, mut base_msgs) = (0, 0);
    let mut round_rx = 0u64;
    let t_meas = load.now() + (a.num("warmup", 0.5) * 1e9) as u64;
    let t_end = t_meas + (a.num("secs", 2.0) * 1e9) as u64;
    let mut t_b = load.now();
    let mut evs = events();

    match traffic {
        Traffic::Broadcast => {
            load.send(0, window as usize);
            sent = window;
        }
        Traffic::Echo | Traffic::Chat => {
            for i in 0..n {
                let k = if traffic == Traffic::Echo { inflight } else { 1 };
                load.conns[i].t0 = load.now();
                load.send(i, k);
                sent += k as u64;
            }
        }
    }
    // a count of messages is measured from the start, a time after the warm-up
    let mut begin = (max_msgs > 0).then(|| snap(pid));
    loop {
        let k = load.wait(&mut evs);
        let t = load.now();
        if begin.is_none() && t >= t_meas {
            begin = Some(snap(pid));
            rx0 = load.rx_bytes;
            base_msgs = msgs;
            h = Hist::new();
        }
        if if max_msgs > 0 { msgs >= max_msgs } else { t >= t_end } {
            break;
        }
        load.check_deadline();
        for e in &evs[..k] {
            let i = e.u64 as usize;
            if e.events & libc::EPOLLOUT as u32 != 0 {
                load.flush(i);
            }
            if e.events & (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR) as u32 == 0 {
                continue;
            }
            let m = load.read(i);
            if m == 0 {
                continue;
            }
            msgs += m as u64;
            match traffic {
                Traffic::Echo => {
                    if inflight == 1 {
                        let t = load.now();
                        h.add(t - load.conns[i].t0);
                        load.conns[i].t0 = t;
                    }
                    load.send(i, m);
                    sent += m as u64;
                }
                Traffic::Chat => {
                    round_rx += m as u64;
                    if round_rx == nn * nn {
                        round_rx = 0;
                        let t = load.now();
                        h.add(t - t_b);
                        t_b = t;
                        for i in 0..n {
                            load.send(i, 1);
                            sent += 1;
                        }
                    }
                }
                Traffic::Broadcast => {
                    // `window` messages are outstanding, counted by complete deliveries
                    let can = (msgs / nn + window).saturating_sub(sent);
                    if can > 0 {
                        let t = load.now();
                        if window == 1 {
                            h.add(t - t_b);
                            t_b = t;
                        }
                        load.send(0, can as usize);
                        sent += can;
                    }
                }
            }
        }
    }
    let b = begin.unwrap_or_else(|| die("nothing was measured"));
    let e = snap(pid);
    let secs = (e.t - b.t).as_secs_f64();
    let count = msgs - base_msgs;
    let each = |x: u64| x as f64 / count.max(1) as f64;
    let (bytes, cpu, own) = (load.rx_bytes - rx0, e.srv_ns - b.srv_ns, e.self_ns - b.self_ns);
    print_json(&[
        ("msgs", count.to_string()),
        ("secs", format!("{secs:.4}")),
        ("rate", format!("{:.1}", count as f64 / secs)),
        ("mb_s", format!("{:.2}", bytes as f64 / 1e6 / secs)),
        ("rx_bytes_per_msg", format!("{:.2}", each(bytes))),
        ("cpu_ns", format!("{:.1}", each(cpu))),
        ("utime_ticks", (e.srv_ticks.0 - b.srv_ticks.0).to_string()),
        ("stime_ticks", (e.srv_ticks.1 - b.srv_ticks.1).to_string()),
        ("srv_util", format!("{:.3}", cpu as f64 / 1e9 / secs)),
        ("loader_ns", format!("{:.1}", each(own))),
        ("loader_util", format!("{:.3}", own as f64 / 1e9 / secs)),
        ("foreign", format!("{:.3}", foreign(&b, &e))),
        ("steal", format!("{:.3}", (e.sys.1 - b.sys.1) as f64 / 100.0 / secs)),
        ("vcsw", (e.srv_ctx.0 - b.srv_ctx.0).to_string()),
        ("ivcsw", (e.srv_ctx.1 - b.srv_ctx.1).to_string()),
        ("p50", format!("{:.1}", h.q(0.5))),
        ("p99", format!("{:.1}", h.q(0.99))),
        ("p999", format!("{:.1}", h.q(0.999))),
        ("max", format!("{:.1}", h.max as f64 / 1000.0)),
        ("hs_secs", format!("{hs_secs:.3}")),
        ("sent", sent.to_string()),
    ]);
}

fn events() -> Vec<libc::epoll_event> {
    vec![libc::epoll_event { events: 0, u64: 0 }; 1024]
}

/// The report: numbers only, so nothing needs escaping.
fn print_json(fields: &[(&str, String)]) {
    let body: Vec<String> = fields.iter().map(|(key, number)| format!("\"{key}\":{number}")).collect();
    println!("{{{}}}", body.join(","));
}

/// The command line: `--key value` and `--flag`.
struct Args(HashMap<String, String>);

impl Args {
    fn parse() -> Self {
        let mut map = HashMap::new();
        let mut words = std::env::args().skip(1).peekable();
        while let Some(word) = words.next() {
            let key = word.strip_prefix("--").unwrap_or_else(|| die(&format!("bad argument {word}")));
            let value = words.next_if(|next| !next.starts_with("--")).unwrap_or_else(|| "1".into());
            map.insert(key.to_string(), value);
        }
        Self(map)
    }

    fn num(&self, key: &str, default: f64) -> f64 {
        let parse = |s: &String| s.parse().unwrap_or_else(|_| die(&format!("--{key}: not a number")));
        self.0.get(key).map_or(default, parse)
    }

    fn us(&self, key: &str, default: usize) -> usize {
        self.num(key, default as f64) as usize
    }

    fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    fn s(&self, key: &str, default: &str) -> String {
        self.0.get(key).cloned().unwrap_or_else(|| default.into())
    }
}

/// Ends the run: a figure from a run in which anything went wrong is worth nothing.
fn die(s: &str) -> ! {
    eprintln!("loadgen: {s}");
    std::process::exit(2)
}
