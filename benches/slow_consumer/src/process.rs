//! What a process has used, as /proc tells.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// CPU time, user and system, of all threads.
    pub cpu: Duration,
    /// The most memory that was ever resident, in bytes.
    pub peak: u64,
}

impl Usage {
    pub fn of(process: u32) -> io::Result<Self> {
        let schedule = fs::read_to_string(format!("/proc/{process}/schedstat"))?;
        let cpu = schedule.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok());
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak: Option<u64> = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
        Ok(Self { cpu: Duration::from_nanos(cpu.unwrap_or(0)), peak: peak.unwrap_or(0) * 1024 })
    }
}

/// CPU time of everything that runs on this machine, hypervisor included, in hundredths of a second.
pub fn cpu_of_all() -> io::Result<Duration> {
    let ticks = fs::read_to_string("/proc/stat")?;
    let first = ticks.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first.split_whitespace().skip(1).map_while(|ticks| ticks.parse().ok()).collect();
    // proc(5): user, nice, system, idle, iowait, irq, softirq, steal
    let busy = ticks.iter().take(8).sum::<u64>() - ticks.iter().skip(3).take(2).sum::<u64>();
    Ok(Duration::from_millis(busy * 10))
}

/// Nanoseconds by the clock that both processes have.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
