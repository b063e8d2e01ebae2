//! `--check`: whether all came out as it should.

use std::error::Error;
use std::time::Duration;

use crate::load::Received;
use crate::report::Report;
use crate::server::{CAP, HIGH, KEYS};
use crate::settings::{Policy, Settings};

/// A run that is not as it should be is made again, so many in all: other programs on the machine only make them worse.
const TRIES: usize = 3;

/// With a stuck client the others' p99 is at most so many times what it is without, and so much more, as machines are
/// shared.
const TIMES: u32 = 3;
const MORE: Duration = Duration::from_millis(5);

/// What a waiting message takes of the room beside its payload.
const ENTRY: usize = 64;

/// Memory that a run takes now and another time does not: what the allocator keeps, and the kernel counts by the page.
const SLACK: u64 = 4 * 1024 * 1024;

/// What came out of one run.
pub struct Outcome {
    pub policy: Policy,
    pub received: Received,
    /// The server's memory, at its peak.
    pub peak: u64,
    pub report: Report,
}

/// What was looked at, and whether it is good.
type Check = (String, bool);

/// Runs all policies; whether all is good.
pub fn run(
    settings: &Settings,
    run: impl Fn(&Settings) -> Result<Outcome, Box<dyn Error>>,
) -> Result<bool, Box<dyn Error>> {
    let mut checks = Vec::new();
    let mut alone = None;
    for policy in Policy::ALL {
        let settings = settings.with_policy(policy);
        for attempt in 1..=TRIES {
            let outcome = run(&settings)?;
            let found = check(&settings, &outcome, alone.as_ref());
            let good = found.iter().all(|(_, good)| *good);
            if good || attempt == TRIES {
                checks.extend(found);
                alone.get_or_insert(outcome);
                break;
            }
        }
    }
    println!();
    for (text, good) in &checks {
        println!("{} {text}", if *good { "PASS" } else { "FAIL" });
    }
    let passed = checks.iter().filter(|(_, good)| *good).count();
    println!("{passed} passed, {} failed", checks.len() - passed);
    Ok(passed == checks.len())
}

/// `alone` is the outcome without a stuck client, unless this is that.
fn check(settings: &Settings, outcome: &Outcome, alone: Option<&Outcome>) -> Vec<Check> {
    let Outcome { policy, received, report, .. } = outcome;
    let (lost, closed) = (received.lost(), received.closed());
    let mut checks =
        vec![(format!("{lost} messages are lost, {closed} of those who read are closed"), lost + closed as u64 == 0)];
    if let Some(alone) = alone {
        checks.extend([
            queue(settings, report),
            fate(settings, report),
            latency(received, alone),
            memory(settings, outcome, alone),
        ]);
    }
    checks.into_iter().map(|(text, good)| (format!("{}: {text}", policy.name()), good)).collect()
}

/// The stuck client's queue has filled up, and is no longer than it may be.
fn queue(settings: &Settings, report: &Report) -> Check {
    let message = settings.size + ENTRY;
    let (least, most) = match settings.policy {
        // one of each key, behind what is on its way and the one that went over the mark
        Policy::Latest => (HIGH, HIGH + (KEYS as usize + 1) * message),
        _ => (CAP - 2 * message, CAP),
    };
    let queue = report.most_of_stuck;
    (format!("the queue for the stuck client took {queue} bytes, {least} to {most}"), (least..=most).contains(&queue))
}

/// What the policy says has become of the stuck client.
fn fate(settings: &Settings, report: &Report) -> Check {
    let good = match settings.policy {
        Policy::Close => report.end.is_some_and(|(code, _)| code == 1013),
        _ => report.closed.is_none() && report.end.is_none() && report.dropped > 0,
    };
    (format!("the stuck client is {}", report.stuck(settings.messages())), good)
}

fn latency(received: &Received, alone: &Outcome) -> Check {
    let (with, without) = (received.quantile(0.99), alone.received.quantile(0.99));
    let most = without * TIMES + MORE;
    (format!("p99 is {with:?}, of at most {most:?}: {without:?} without the stuck client"), with <= most)
}

/// Beside what a server without a stuck client takes there is the queue of that client, at most the cap. What waits for
/// the others they share, but with `latest`, where each has a copy of its own.
fn memory(settings: &Settings, outcome: &Outcome, alone: &Outcome) -> Check {
    let copies = if settings.policy == Policy::Latest { settings.clients } else { 1 };
    let most = alone.peak + (CAP + copies * outcome.report.most_of_good) as u64 + SLACK;
    (format!("the server's peak is {} bytes, of at most {most}", outcome.peak), outcome.peak <= most)
}
