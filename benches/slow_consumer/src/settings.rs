//! The command line.

use std::ffi::OsString;
use std::fmt;

use lexopt::{Arg, Parser, ValueExt};

const HELP: &str = "\
slow_consumer [OPTION N]...
  --rate N           messages a second (640)
  --size N           bytes a message (16384)
  --clients N        those who read (100)
  --secs N           how long (20; 2 with --check)
  --policy NAME      of the stuck client: none (there is none), close, drop-newest, drop-oldest, latest; all, one by one
  --write-timeout N  seconds that a peer may take nothing, 0 for ever (0)
  --repeat N         all of it, so many times (1)
  --check            whether the others lose nothing and wait little, and the stuck client meets its policy: fails if not";

/// What becomes of the client that never reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// There is no such client.
    None,
    Close,
    DropNewest,
    DropOldest,
    Latest,
}

impl Policy {
    /// All, first the one to compare the others with.
    pub const ALL: [Self; 5] = [Self::None, Self::Close, Self::DropNewest, Self::DropOldest, Self::Latest];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Close => "close",
            Self::DropNewest => "drop-newest",
            Self::DropOldest => "drop-oldest",
            Self::Latest => "latest",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub serve: bool,
    pub rate: u64,
    pub size: usize,
    pub clients: usize,
    pub secs: u64,
    pub policy: Policy,
    all: bool,
    pub write_timeout: u64,
    pub repeat: u64,
    pub check: bool,
}

impl Settings {
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, lexopt::Error> {
        let mut parser = Parser::from_iter(arguments);
        let mut settings = Self {
            serve: false,
            rate: 640,
            size: 16 * 1024,
            clients: 100,
            secs: 20,
            policy: Policy::None,
            all: true,
            write_timeout: 0,
            repeat: 1,
            check: false,
        };
        let mut secs = None;
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("serve") => settings.serve = true,
                Arg::Long("rate") => settings.rate = parser.value()?.parse()?,
                Arg::Long("size") => settings.size = parser.value()?.parse()?,
                Arg::Long("clients") => settings.clients = parser.value()?.parse()?,
                Arg::Long("secs") => secs = Some(parser.value()?.parse()?),
                Arg::Long("write-timeout") => settings.write_timeout = parser.value()?.parse()?,
                Arg::Long("repeat") => settings.repeat = parser.value()?.parse()?,
                Arg::Long("check") => settings.check = true,
                Arg::Long("policy") => {
                    let name = parser.value()?.string()?;
                    let named = Policy::ALL.into_iter().find(|policy| policy.name() == name);
                    settings.policy = named.ok_or("no such policy")?;
                    settings.all = false;
                }
                Arg::Long("help") => {
                    println!("{HELP}");
                    std::process::exit(0);
                }
                other => return Err(other.unexpected()),
            }
        }
        settings.secs = secs.unwrap_or(if settings.check { 2 } else { 20 });
        if settings.check && !settings.all {
            return Err("--check compares the policies: it takes no --policy".into());
        }
        // a header of one form, and room for the number and the time
        if !(126..65536).contains(&settings.size) || settings.rate == 0 || settings.clients == 0 {
            return Err("the size is 126 to 65535 bytes; the others are not 0".into());
        }
        Ok(settings)
    }

    /// The policies that are to be tried.
    pub fn policies(&self) -> Vec<Policy> {
        if self.all { Policy::ALL.to_vec() } else { vec![self.policy] }
    }

    pub fn with_policy(&self, policy: Policy) -> Self {
        Self { policy, ..self.clone() }
    }

    /// How many messages there are in all.
    pub fn messages(&self) -> u64 {
        self.rate * self.secs
    }

    /// How many connect.
    pub fn connections(&self) -> usize {
        self.clients + usize::from(self.policy != Policy::None)
    }

    /// The arguments of the server's process.
    pub fn for_server(&self) -> Vec<String> {
        let numbers = [
            ("--rate", self.rate),
            ("--size", self.size as u64),
            ("--clients", self.clients as u64),
            ("--secs", self.secs),
            ("--write-timeout", self.write_timeout),
        ];
        let numbers = numbers.into_iter().flat_map(|(name, number)| [name.to_owned(), number.to_string()]);
        numbers.chain(["--serve", "--policy", self.policy.name()].map(str::to_owned)).collect()
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, size, clients, secs, .. } = self;
        let each = (rate * *size as u64) as f64 / 1e6;
        write!(
            f,
            "{clients} clients that read, {rate} messages a second of {size} bytes to each for {secs} s: {each:.2} MB/s "
        )?;
        write!(f, "to each, {:.0} MB/s in all", each * *clients as f64)
    }
}
