//! slow_consumer: what a client that never reads does to those who do.
//!
//! A server (this program again, as a process of its own) broadcasts messages at a steady rate to many clients, and to one
//! that never reads; a load generator reads what the good ones get. `--help` tells the options.

mod check;
mod load;
mod process;
mod report;
mod server;
mod settings;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};

use check::Outcome;
use process::Usage;
use report::Report;
use settings::{Policy, Settings};

const COLUMNS: [&str; 14] = [
    "stuck client",
    "lost",
    "closed",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "max ms",
    "MB/s in all",
    "CPU s, server + load + others",
    "RSS MB",
    "late ms",
    "good queue KiB",
    "stuck queue KiB",
    "the stuck client",
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let settings = Settings::from_arguments(std::env::args_os())?;
    if settings.serve {
        server::serve(&settings)?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{settings}\n");
    println!("| {} |", COLUMNS.join(" | "));
    println!("|{}", "---|".repeat(COLUMNS.len()));
    if settings.check {
        let good = check::run(&settings, run)?;
        return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    for _ in 0..settings.repeat {
        for policy in settings.policies() {
            run(&settings.with_policy(policy))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One server, one broadcast, one row.
fn run(settings: &Settings) -> Result<Outcome, Box<dyn Error>> {
    let mut server = Server::start(settings)?;
    let port = server.next_line()?.parse()?;
    let (ours, all) = (Usage::of(std::process::id())?, process::cpu_of_all()?);
    let received = load::run(settings, port)?;
    let (load, server_usage) = (Usage::of(std::process::id())?.cpu - ours.cpu, Usage::of(server.child.id())?);
    let others = (process::cpu_of_all()? - all).saturating_sub(load + server_usage.cpu);
    received.ask_for_report()?;
    let report: Report = server.next_line()?.parse()?;
    server.child.wait()?;

    let at = |share| format!("{:.2}", received.quantile(share).as_secs_f64() * 1e3);
    let seconds = [server_usage.cpu, load, others].map(|cpu| format!("{:.1}", cpu.as_secs_f64()));
    let stuck = if settings.policy == Policy::None { "-".to_owned() } else { report.stuck(settings.messages()) };
    let row = [
        settings.policy.name().to_owned(),
        received.lost().to_string(),
        received.closed().to_string(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        format!("{:.0}", received.rate() / 1e6),
        seconds.join(" + "),
        format!("{:.1}", server_usage.peak as f64 / 1e6),
        format!("{:.1}", report.late.as_secs_f64() * 1e3),
        report.most_of_good.div_ceil(1024).to_string(),
        report.most_of_stuck.div_ceil(1024).to_string(),
        stuck,
    ];
    println!("| {} |", row.join(" | "));
    Ok(Outcome { policy: settings.policy, received, peak: server_usage.peak, report })
}

/// The server's process, which does not outlive this.
struct Server {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Server {
    fn start(settings: &Settings) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(settings.for_server()).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        Ok(Self { child, out: BufReader::new(out) })
    }

    fn next_line(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        if self.out.read_line(&mut line)? == 0 {
            return Err("the server has ended".into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
