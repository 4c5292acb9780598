//! The gateway as a process of its own.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use buttress_testkit::example;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Gateway {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) address: SocketAddr,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: String,
}

impl Gateway {
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Self {
        Self::run(Command::new(example("gateway")), variables).await
    }

    /// One that has no more than so many files and connections open at once.
    pub(crate) async fn start_with_files(most: u32, variables: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {most}; exec \"$0\"")).arg(example("gateway"));
        Self::run(shell, variables).await
    }

    async fn run(mut program: Command, variables: &[(&str, &str)]) -> Self {
        let mut child = program
            .envs([("GATEWAY_ADDR", "127.0.0.1:0"), ("RUST_LOG", "error")])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = timeout(LONG, lines.next_line()).await.unwrap().unwrap().expect("it starts");
        let address = first.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        let address = address.expect(&first).parse().unwrap();
        Self { child, lines, address }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(&self.child, signal);
    }

    /// The next line that begins so.
    pub(crate) async fn says(&mut self, beginning: &str) -> String {
        loop {
            let line = timeout(LONG, self.lines.next_line()).await.unwrap().unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended without `{beginning}`"));
            if line.starts_with(beginning) {
                return line;
            }
        }
    }

    /// How it ends where nobody reads what it says any more.
    pub(crate) async fn ended_unread(self, signal: Signal) -> Option<i32> {
        let Self { mut child, lines, .. } = self;
        drop((lines, child.stderr.take()));
        send(&child, signal);
        timeout(LONG, child.wait()).await.expect("it ends").unwrap().code()
    }

    pub(crate) async fn ended(mut self) -> Ended {
        let (mut stdout, mut stderr) = (Vec::new(), String::new());
        let mut errors = self.child.stderr.take().unwrap();
        let all = async {
            let errors = errors.read_to_string(&mut stderr);
            let output = async {
                while let Some(line) = self.lines.next_line().await.unwrap() {
                    stdout.push(line);
                }
            };
            let (read, ()) = tokio::join!(errors, output);
            read.unwrap();
            self.child.wait().await.unwrap().code()
        };
        let code = timeout(LONG, all).await.expect("it ends");
        Ended { code, stdout, stderr }
    }
}

fn send(child: &Child, signal: Signal) {
    let id = child.id().expect("it runs");
    kill(Pid::from_raw(id.try_into().unwrap()), signal).unwrap();
}
