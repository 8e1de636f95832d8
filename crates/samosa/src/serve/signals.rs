//! Signals: which end the process, which reads files again, and which are ignored. By default nearly all of them end it at
//! once, in the middle of every stream.

use anyhow::{Context, Result};
use futures_util::future::join_all;
use rustix::process::Signal;
use server::Ending;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::watch;

use super::supervisor;
use crate::logs;

/// Signals that mean nothing to the service. SIGPIPE is among the ignored too, by the standard library.
const IGNORED: &[(Signal, &str)] = &[
    (Signal::USR1, "SIGUSR1"),
    (Signal::USR2, "SIGUSR2"),
    (Signal::ALARM, "SIGALRM"),
    (Signal::VTALARM, "SIGVTALRM"),
    (Signal::PROF, "SIGPROF"),
    (Signal::IO, "SIGIO"),
    (Signal::XCPU, "SIGXCPU"),
    #[cfg(target_os = "linux")]
    (Signal::POWER, "SIGPWR"),
    #[cfg(target_os = "linux")]
    (Signal::STKFLT, "SIGSTKFLT"),
];

fn listen(signal: Signal, name: &str) -> Result<unix::Signal> {
    unix::signal(SignalKind::from_raw(signal.as_raw())).with_context(|| format!("{name} cannot be watched"))
}

/// SIGHUP, which no longer ends the process from here on.
pub(super) fn hangup() -> Result<unix::Signal> {
    listen(Signal::HUP, "SIGHUP")
}

/// From here on these signals are a line of the log and nothing else.
pub(super) fn ignore() -> Result<impl Future<Output = ()> + Send> {
    // A file that may not grow (`ulimit -f`) is an error of the write then. A line each would raise it again.
    drop(listen(Signal::XFSZ, "SIGXFSZ")?);
    let watched: Vec<_> =
        IGNORED.iter().map(|(signal, name)| Ok((listen(*signal, name)?, *name))).collect::<Result<_>>()?;
    Ok(async move {
        let log = async |(mut signals, name): (unix::Signal, &str)| {
            while signals.recv().await.is_some() {
                tracing::info!(signal = name, "signal ignored");
            }
        };
        join_all(watched.into_iter().map(log)).await;
    })
}

/// The first SIGTERM, SIGINT or SIGQUIT ends as `ending` says, the second at once.
pub(super) fn stop(
    tell: watch::Sender<Option<Ending>>,
    ending: Ending,
) -> Result<impl Future<Output = ()> + Send> {
    let mut terminate = listen(Signal::TERM, "SIGTERM")?;
    let mut interrupt = listen(Signal::INT, "SIGINT")?;
    // As nginx has it; by default it leaves a core behind.
    let mut quit = listen(Signal::QUIT, "SIGQUIT")?;
    Ok(async move {
        let mut once = async || {
            tokio::select! {
                _ = terminate.recv() => Signal::TERM,
                _ = interrupt.recv() => Signal::INT,
                _ = quit.recv() => Signal::QUIT,
            }
        };
        once().await;
        supervisor::stopping();
        tell.send_replace(Some(ending));
        let second = once().await;
        tracing::warn!("stopped at once by a second signal");
        logs::flush();
        // As a shell says of a program that a signal ended.
        std::process::exit(128 + second.as_raw());
    })
}
