//! Processes that end with the value that stands for them, and waiting with a bound.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::shell;

/// How often is looked whether something has come about.
const POLL: Duration = Duration::from_millis(10);

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

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
