//! What a service manager gives and wants to hear: systemd's listening sockets, readiness, state and watchdog.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use server::App;
use tokio::net::TcpListener;

/// The listening socket that the service manager made, if it made one.
pub(super) fn listener() -> Result<Option<TcpListener>> {
    let mut given = ListenFd::from_env();
    match given.len() {
        0 => return Ok(None),
        1 => {}
        n => bail!("the service manager gave {n} sockets, but one is listened on"),
    }
    let socket = given.take_tcp_listener(0).context("the service manager's socket cannot be listened on")?;
    let Some(socket) = socket else { return Ok(None) };
    socket.set_nonblocking(true)?;
    Ok(Some(TcpListener::from_std(socket)?))
}

/// The server answers.
pub(super) fn ready(app: &App) {
    let model = app.models.current_tag();
    let status = model.map_or_else(|| "no model: see /health".to_owned(), |tag| format!("serving {tag}"));
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// The server finishes what it has.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing open streams")]);
}

fn tell(what: &[NotifyState<'_>]) {
    // Without a service manager nobody listens, which is no error.
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the service manager does not hear");
    }
}

/// Tells the service manager that all is well as often as it wants to hear it, as long as it is.
pub(super) async fn watchdog(app: &App) {
    let Some(every) = sd_notify::watchdog_enabled() else { return };
    let pause = (every / 2).max(Duration::from_millis(10));
    loop {
        if app.defect().is_none() {
            tell(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(pause).await;
    }
}
