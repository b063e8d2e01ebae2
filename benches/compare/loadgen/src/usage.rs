//! What a process and the machine have used, as /proc tells.

use std::time::Instant;

/// CPU nanoseconds used by every thread of PID (schedstat: exact, not tick-sampled).
fn proc_cpu_ns(pid: i32) -> u64 {
    let mut sum = 0;
    if let Ok(rd) = std::fs::read_dir(format!("/proc/{pid}/task")) {
        for e in rd.flatten() {
            if let Ok(s) = std::fs::read_to_string(e.path().join("schedstat")) {
                sum += s.split_whitespace().next().and_then(|x| x.parse::<u64>().ok()).unwrap_or(0);
            }
        }
    }
    sum
}

/// (utime, stime) in clock ticks.
fn proc_ticks(pid: i32) -> (u64, u64) {
    let s = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = s.rsplit(')').next().unwrap_or("");
    let f: Vec<&str> = rest.split_whitespace().collect();
    let g = |i: usize| f.get(i).and_then(|x| x.parse().ok()).unwrap_or(0);
    (g(11), g(12))
}

/// (voluntary, involuntary) context switches of the main thread.
fn proc_ctxt(pid: i32) -> (u64, u64) {
    (status_kb(pid, "voluntary_ctxt_switches:"), status_kb(pid, "nonvoluntary_ctxt_switches:"))
}

pub fn status_kb(pid: i32, key: &str) -> u64 {
    let s = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    s.lines()
        .find(|l| l.starts_with(key))
        .and_then(|l| l.split_whitespace().nth(1))
        .and_then(|x| x.parse().ok())
        .unwrap_or(0)
}

/// Busy ticks (everything but idle and iowait) and stolen ticks over all CPUs.
fn system_ticks() -> (u64, u64) {
    let s = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let f: Vec<u64> =
        s.lines().next().unwrap_or("").split_whitespace().skip(1).map(|x| x.parse().unwrap_or(0)).collect();
    let g = |i: usize| f.get(i).copied().unwrap_or(0);
    (g(0) + g(1) + g(2) + g(5) + g(6) + g(7), g(7))
}

fn self_cpu_ns() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// What the server, this process and the machine had used at one moment.
#[derive(Clone, Copy)]
pub struct Snap {
    pub t: Instant,
    pub srv_ns: u64,
    pub srv_ticks: (u64, u64),
    pub srv_ctx: (u64, u64),
    pub self_ns: u64,
    pub sys: (u64, u64),
}

pub fn snap(pid: i32) -> Snap {
    Snap {
        t: Instant::now(),
        srv_ns: proc_cpu_ns(pid),
        srv_ticks: proc_ticks(pid),
        srv_ctx: proc_ctxt(pid),
        self_ns: self_cpu_ns(),
        sys: system_ticks(),
    }
}

/// CPUs' worth of work done by processes that are neither the server nor this loader.
pub fn foreign(b: &Snap, e: &Snap) -> f64 {
    let el = (e.t - b.t).as_secs_f64();
    let sys = (e.sys.0 - b.sys.0) as f64 / 100.0;
    let ours = (e.srv_ns - b.srv_ns + e.self_ns - b.self_ns) as f64 / 1e9;
    ((sys - ours) / el).max(0.0)
}
