//! The gateway and the workers, as processes.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// Longer than any start takes.
const START: Duration = Duration::from_secs(30);

/// What a program is started with.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
    /// Where what it says goes to.
    pub(crate) logs: PathBuf,
    /// What it says once it is ready.
    pub(crate) ready: &'static str,
}

/// One that runs. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    name: String,
}

/// How one ended that was told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) name: String,
    /// None: by a signal, before it was told to, or not at all.
    pub(crate) code: Option<i32>,
    pub(crate) took: Duration,
    /// The last line that it printed.
    pub(crate) last_word: String,
}

impl Process {
    /// Starts it, and waits until it is ready.
    ///
    /// # Errors
    /// That it does not, and where its log is.
    pub(crate) async fn start(recipe: &Recipe) -> Result<Self, String> {
        let Recipe { name, program, environment, logs, ready } = recipe;
        let log = logs.join(format!("{name}.log"));
        let failed = |error: io::Error| format!("{} does not start: {error}", program.display());
        let mut child = Command::new(program)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(appended(&log).map_err(failed)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let stdout = child.stdout.take().ok_or("a process without standard output")?;
        let (mut lines, heard) = (BufReader::new(stdout).lines(), Arc::clone(&said));
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let process = Self { child, said, name: name.clone() };
        // The log's folder is told at the end; what a report repeats has no paths.
        process
            .says(ready, 0, START)
            .await
            .ok_or_else(|| format!("{name} was not ready in {START:?}: what it says is in {name}.log"))?;
        Ok(process)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it said so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first line from that one on which holds these words, once it is said.
    pub(crate) async fn says(&self, words: &str, from: usize, limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        loop {
            let line = self.said().into_iter().skip(from).find(|line| line.contains(words));
            if line.is_some() || Instant::now() >= deadline {
                return line;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// # Errors
    /// That it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = self.pid().and_then(|pid| pid.try_into().ok()).ok_or("it has ended")?;
        kill(Pid::from_raw(pid), signal).map_err(|error| format!("{}: {error}", self.name))
    }

    /// Pulls the plug.
    ///
    /// # Errors
    /// That it had ended before, which nobody told it to; or the kernel's.
    pub(crate) async fn kill(&mut self) -> Result<(), String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!("{} had ended by itself: {status}", self.name));
        }
        self.child.kill().await.map_err(|error| format!("{}: {error}", self.name))
    }

    /// Tells it to end, and sees how it does.
    pub(crate) async fn end(mut self, limit: Duration) -> Ended {
        let began = Instant::now();
        // One that ended by itself died, whatever its exit code is.
        let runs = matches!(self.child.try_wait(), Ok(None));
        let told = self.signal(Signal::SIGTERM);
        // A moment more, so that what is late is told from what never ends.
        let ended = timeout(limit + Duration::from_secs(10), self.child.wait()).await;
        let took = began.elapsed();
        // Of what it said last, the end of the pipe is not waited for.
        sleep(Duration::from_millis(50)).await;
        let code = match (told, ended) {
            (Ok(()), Ok(Ok(status))) if runs => status.code(),
            _ => None,
        };
        let last_word = self.said().pop().unwrap_or_default();
        Ended { name: self.name, code, took, last_word }
    }
}

fn appended(log: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(log)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn recipe(folder: &Path, script: &str) -> Recipe {
        let program = folder.join("program");
        std::fs::write(&program, format!("#!/bin/sh\necho ready\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (name, logs) = ("program".into(), folder.to_owned());
        Recipe { name, program, environment: Vec::new(), logs, ready: "ready" }
    }

    #[tokio::test]
    async fn who_ends_when_told_has_an_exit_code() {
        let folder = tempfile::tempdir().unwrap();
        let waits = "trap 'echo Stopped.; exit 0' TERM; while :; do sleep 0.02; done";
        let process = Process::start(&recipe(folder.path(), waits)).await.unwrap();
        // Until the trap is set.
        sleep(Duration::from_millis(300)).await;
        let ended = process.end(Duration::from_secs(5)).await;
        assert_eq!((ended.code, &*ended.last_word), (Some(0), "Stopped."));
    }

    #[tokio::test]
    async fn who_ended_by_himself_has_none_however_well_he_did() {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start(&recipe(folder.path(), "exit 0")).await.unwrap();
        sleep(Duration::from_millis(300)).await;
        assert_eq!(process.end(Duration::from_secs(5)).await.code, None);
    }

    #[tokio::test]
    async fn who_ended_by_himself_is_not_killed_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::start(&recipe(folder.path(), "exit 3")).await.unwrap();
        sleep(Duration::from_millis(300)).await;
        let error = process.kill().await.unwrap_err();
        assert_eq!(error, "program had ended by itself: exit status: 3");
        let mut process = Process::start(&recipe(folder.path(), "sleep 60")).await.unwrap();
        process.kill().await.unwrap();
        assert_eq!((process.pid(), process.signal(Signal::SIGCONT).is_err()), (None, true));
    }
}
