//! What the server tells of its side at the end, in one line.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How the server and its stuck client did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How far it was ever behind its time.
    pub late: Duration,
    /// The most that was `buffered()` for a client that reads.
    pub most_of_good: usize,
    /// The same for the stuck one.
    pub most_of_stuck: usize,
    /// How many messages to the stuck one were dropped, or superseded.
    pub dropped: u64,
    /// When the stuck client was no longer sent to.
    pub closed: Option<Duration>,
    /// With which code its connection ended, and when.
    pub end: Option<(u16, Duration)>,
}

impl Report {
    /// What became of the stuck client, in words.
    pub fn stuck(&self, sent: u64) -> String {
        match (self.closed, self.end) {
            (_, Some((code, when))) => {
                let (closed, gone) = (self.closed.unwrap_or(when).as_secs_f64(), when.as_secs_f64());
                format!("closed with {code} after {closed:.2} s, gone after {gone:.1} s")
            }
            (Some(closed), None) => format!("closed after {:.2} s", closed.as_secs_f64()),
            (None, None) => format!("kept, {} of {sent} dropped", self.dropped),
        }
    }
}

/// Numbers and spaces; 0 is what did not happen.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |time: Option<Duration>| time.map_or(0, |time| time.as_micros());
        let (code, gone) = self.end.unzip();
        write!(
            f,
            "{} {} {} {} {} {} {}",
            self.late.as_micros(),
            self.most_of_good,
            self.most_of_stuck,
            self.dropped,
            micros(self.closed),
            code.unwrap_or(0),
            micros(gone)
        )
    }
}

impl FromStr for Report {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let numbers: Vec<u64> = line.split(' ').map_while(|number| number.parse().ok()).collect();
        let &[late, most_of_good, most_of_stuck, dropped, closed, code, gone] = &numbers[..] else {
            return Err(format!("expected the seven numbers of a report, got {line:?}"));
        };
        let time = |micros| Some(Duration::from_micros(micros)).filter(|time| !time.is_zero());
        Ok(Self {
            late: Duration::from_micros(late),
            most_of_good: most_of_good as usize,
            most_of_stuck: most_of_stuck as usize,
            dropped,
            closed: time(closed),
            end: time(gone).map(|gone| (code as u16, gone)),
        })
    }
}
