//! Write timeout: a connection whose client reads nothing for too long is reset.
//!
//! Without it, a client that stops reading holds the connection, and the stream behind it, without end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::ConnectionState;

/// Whether writing to a connection's client timed out; handlers find it among a request's extensions.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteTimeout(Arc<AtomicBool>);

impl WriteTimeout {
    /// Whether it did.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A socket whose writes fail once one has waited for `timeout`; its [`ConnectionState`] follows what it does.
pub(crate) struct TimedSocket {
    socket: TcpStream,
    timeout: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    timed_out: WriteTimeout,
    state: Arc<ConnectionState>,
}

impl TimedSocket {
    pub(crate) fn new(
        socket: TcpStream,
        timeout: Duration,
        timed_out: WriteTimeout,
        state: Arc<ConnectionState>,
    ) -> Self {
        Self { socket, timeout, waiting: None, timed_out, state }
    }

    /// Passes the outcome of a write on, unless it has been waiting for too long.
    fn watch<T>(&mut self, outcome: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            if self.waiting.take().is_some() {
                self.state.sent();
            }
            return outcome;
        }
        self.state.waits();
        let timeout = self.timeout;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(timeout)));
        std::task::ready!(waiting.as_mut().poll(context));
        self.timed_out.0.store(true, Ordering::Release);
        // What waits in the kernel would hold its memory for minutes more, for a peer who does not want it.
        let _ = self.socket.set_zero_linger();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for TimedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.socket).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.state.received();
        }
        outcome
    }
}

impl AsyncWrite for TimedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.watch(outcome, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(context, parts);
        self.watch(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
