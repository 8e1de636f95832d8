//! A new process takes over from a running one, and no connection is refused meanwhile.
//!
//! The running process offers its listening socket on a Unix socket. The new one asks there, gets the listening
//! socket itself and the tag of the model that serves, loads, and when it can answer says so. From then on it alone
//! takes connections; the old process finishes what it has and ends. If the new one fails, the old one just goes on.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use registry::Tag;
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use server::{Ending, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// What the running process says first, with the tag of its model behind it.
const GREETING: &str = "samosa-handover 1 ";
/// Longest thing that is said.
const MAX_WORDS: usize = 256;
/// What the new process says when it can answer.
const READY: u8 = b'R';
/// What the old one says when it takes no more connections.
const GONE: u8 = b'G';
/// How long each side may take for what needs no model.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running process that has given its socket and waits to be relieved.
pub(super) struct Predecessor {
    stream: UnixStream,
    /// The model that serves there.
    pub(super) model: Option<Tag>,
}

/// Asks a running process for its socket. `None` if there is no such process.
pub(super) async fn ask(path: &Path) -> Result<Option<(TcpListener, Predecessor)>> {
    let Ok(stream) = UnixStream::connect(path).await else { return Ok(None) };
    let asked = timeout(PATIENCE, receive(&stream)).await;
    let (words, socket) = asked
        .context("the running process gives no answer")?
        .context("the running process does not give its socket")?;
    let Some(model) = words.strip_prefix(GREETING) else {
        bail!("{} is not the socket of a running samosa", path.display());
    };
    let Some(socket) = socket else { bail!("the running process gave no socket") };
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    Ok(Some((listener, Predecessor { stream, model: Tag::new(model) })))
}

impl Predecessor {
    /// Tells it that it may go, and returns once it takes no more connections.
    pub(super) async fn relieve(mut self) -> Result<()> {
        self.stream.write_all(&[READY]).await.context("the running process has gone")?;
        let gone = timeout(PATIENCE, self.stream.read_u8()).await;
        match gone.context("the running process does not go")? {
            // One that had nothing left to finish may be gone before it could say so.
            Ok(GONE) | Err(_) => Ok(()),
            Ok(other) => bail!("the running process said {other:#04x} instead of going"),
        }
    }
}

/// Offers the listening socket to whoever comes to take over; returns only if the offer cannot be made.
pub(super) async fn offer(
    path: &Path,
    socket: &OwnedFd,
    state: &State,
    tell: &watch::Sender<Option<Ending>>,
) -> Result<()> {
    // What is left there is nobody's: we asked who listens, and took over or had no answer.
    let _ = std::fs::remove_file(path);
    let offers = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    loop {
        let (mut stream, _) = offers.accept().await?;
        if !may_ask(&stream) {
            tracing::warn!("another user's process asked for the listening socket and was turned away");
            continue;
        }
        match give(&mut stream, socket, state).await {
            Ok(()) => {
                super::supervisor::stopping();
                tell.send_replace(Some(Ending::HandOver));
                let _ = stream.write_all(&[GONE]).await;
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "a successor failed; this process goes on");
            }
        }
    }
}

/// Whether the other side is a process of our own user, or of root.
fn may_ask(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|other| other.uid() == ours || other.uid() == 0)
}

/// Gives the socket, and returns once the other side can answer.
async fn give(stream: &mut UnixStream, socket: &OwnedFd, state: &State) -> Result<()> {
    let words = format!("{GREETING}{}", state.current_tag().unwrap_or_default());
    timeout(PATIENCE, send(stream, &words, socket)).await.context("it did not take the socket")??;
    tracing::info!("a successor has the listening socket and loads its model");
    match stream.read_u8().await {
        Ok(READY) => Ok(()),
        _ => bail!("it went before it could answer"),
    }
}

async fn send(stream: &UnixStream, words: &str, socket: &OwnedFd) -> Result<()> {
    let sent = stream.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sockets = [socket.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&sockets));
        let words = [IoSlice::new(words.as_bytes())];
        Ok(sendmsg(stream, &words, &mut control, SendFlags::NOSIGNAL)?)
    });
    // So few bytes are sent as a whole.
    sent.await?;
    Ok(())
}

async fn receive(stream: &UnixStream) -> Result<(String, Option<OwnedFd>)> {
    let received = stream.async_io(Interest::READABLE, || {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut words = [0; MAX_WORDS];
        let received =
            recvmsg(stream, &mut [IoSliceMut::new(&mut words)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let socket = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
            _ => None,
        });
        Ok((words[..received.bytes].to_vec(), socket))
    });
    let (words, socket) = received.await?;
    Ok((String::from_utf8(words).context("it does not speak text")?, socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn relieve_one_that_says(words: &[u8]) -> Result<()> {
        let (ours, mut theirs) = UnixStream::pair()?;
        let words = words.to_owned();
        let goes = async move {
            assert_eq!(theirs.read_u8().await?, READY);
            theirs.write_all(&words).await
        };
        let (relieved, went) = tokio::join!(Predecessor { stream: ours, model: None }.relieve(), goes);
        went?;
        relieved
    }

    #[tokio::test]
    async fn a_process_that_goes_at_once_is_relieved_too() -> Result<()> {
        relieve_one_that_says(&[GONE]).await?;
        relieve_one_that_says(&[]).await?;
        assert!(relieve_one_that_says(b"?").await.is_err());
        Ok(())
    }
}
