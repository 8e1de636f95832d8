//! Processes that end with the value that stands for them, servers among them, and waiting with a bound.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::{http, isa, shell};

/// How often is looked whether something has come about.
const POLL: Duration = Duration::from_millis(10);
/// Until a server answers.
const START: Duration = Duration::from_secs(30);

/// The time.
pub(crate) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "waiting for processes is a matter of time")]
    Instant::now()
}

/// Waits until something is so.
pub(crate) fn wait(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) -> anyhow::Result<Duration> {
    let begun = now();
    while !is_so() {
        if begun.elapsed() > limit {
            bail!("waited {} s in vain: {what}", limit.as_secs());
        }
        std::thread::sleep(POLL);
    }
    Ok(begun.elapsed())
}

/// A process that is killed when this goes.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program that writes to a file.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("{name} does not start"))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) -> anyhow::Result<()> {
        shell::output("kill", &["-TERM", &self.child.id().to_string()]).map(drop)
    }

    /// Its end, within a limit.
    pub(crate) fn ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let mut status = None;
        wait("a process that was told to stop", limit, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })
        .with_context(|| self.said())?;
        status.context("a process has no status")
    }

    /// What it wrote last.
    pub(crate) fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

/// A server of ours that is killed when this goes.
pub(crate) struct ServerProcess {
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
}

impl ServerProcess {
    /// Starts one with these settings and nothing of the caller's but the instruction set, and waits until it is ready.
    pub(crate) fn start(
        binary: &Path,
        home: &Path,
        log: &Path,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        Self::start_at(http::free_address()?, binary, home, log, settings)
    }

    /// The same on a port that is known.
    pub(crate) fn start_at(
        address: SocketAddr,
        binary: &Path,
        home: &Path,
        log: &Path,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(binary);
        command.arg("serve").env_clear().current_dir(home).env(isa::VARIABLE, isa::chosen());
        command.env("PORT", address.port().to_string()).envs(settings.iter().copied());
        let mut process = Process::start(&mut command, log)?;
        let is_ready = || http::get(address, "/readyz").is_ok_and(|reply| reply.status == 200);
        let mut status = None;
        wait("a server to be ready", START, || {
            status = process.child.try_wait().ok().flatten();
            status.is_some() || is_ready()
        })
        .with_context(|| process.said())?;
        match status {
            None => Ok(Self { address, process }),
            Some(status) => bail!("the server ended with {status}:\n{}", process.said()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
