//! An example as a process: started, listened to, ended.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use super::PATIENCE;

/// The process, which is killed when this is dropped.
pub(crate) struct Example {
    child: Child,
    lines: Receiver<String>,
}

impl Example {
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(path(name))
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        let (line, lines) = mpsc::channel();
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|read| line.send(read)));
        Self { child, lines }
    }

    /// Starts a server on a port, and reads where it is from its first line; the port.
    pub(crate) fn serve(name: &str, port: u16) -> (Self, u16) {
        let example = Self::start(name, &["--port", &port.to_string()]);
        let line = example.line();
        let after_colon = line.rsplit_once(':').expect("an address").1;
        let digits: String = after_colon.chars().take_while(char::is_ascii_digit).collect();
        let port = digits.parse().unwrap_or_else(|_| panic!("no port in {line:?}"));
        (example, port)
    }

    /// Runs a program that ends by itself; its standard output.
    pub(crate) fn output(name: &str, arguments: &[&str]) -> String {
        let (status, output) = Self::start(name, arguments).wait();
        assert!(status.success(), "{name}: {status}, after {output:?}");
        output
    }

    /// The next line of its standard output.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the example prints a line")
    }

    /// Its end, and what it printed before.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let mut output = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => output += &(line + "\n"),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the example does not end, after {output:?}"),
            }
        }
        (self.child.wait().expect("it is ours"), output)
    }

    /// Sends SIGTERM, which is to end it as `reactor.stop()` does.
    pub(crate) fn terminate(self) {
        let kill = format!("kill -TERM {}", self.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
        let (status, output) = self.wait();
        assert_eq!(status.code(), Some(0), "after SIGTERM, and {output:?}");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cargo puts tests into `deps`, and the examples beside it.
fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let target = test.ancestors().nth(2).expect("deps, and what it is in");
    let path = target.join("examples").join(name);
    assert!(
        path.exists(),
        "no {path:?}: `cargo test` builds it, `cargo test --test it` needs `cargo build --examples`"
    );
    path
}
