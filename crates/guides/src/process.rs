//! The worker process as the server sees it.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::cmsg_space;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::frame;
use crate::protocol::FORK;

/// How long a worker may take until it has read the vocabulary.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// How long it may take to fork a process.
const FORK_TIMEOUT: Duration = Duration::from_secs(2);

/// How grammars are read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The program and arguments that call [`crate::worker::run`].
    pub command: Vec<OsString>,
    /// How long reading one grammar may take.
    pub deadline: Duration,
    /// How many reads that take longer than a moment may go on at once.
    pub slow_reads: usize,
    /// Bytes of address space that one grammar and its answer may take.
    pub memory_bytes: u64,
}

impl Default for Settings {
    /// The bounds; the command is the caller's.
    fn default() -> Self {
        let (command, deadline) = (Vec::new(), Duration::from_secs(2));
        Self { command, deadline, slow_reads: 4, memory_bytes: 128 << 20 }
    }
}

/// A running worker. It ends when this is dropped and the answers it follows are over.
pub(crate) struct Worker {
    control: UnixStream,
    /// Waited for in a thread of its own once the control socket is closed.
    child: Option<Child>,
}

impl Worker {
    /// Starts a worker and gives it the vocabulary.
    pub(crate) fn start(settings: &Settings, start: &[u8]) -> io::Result<Self> {
        let (mut control, theirs) = UnixStream::pair()?;
        let (program, arguments) = settings.command.split_first().ok_or(io::ErrorKind::NotFound)?;
        let mut command = Command::new(program);
        // One arena: each further one would reserve 64 MB of the address space that is limited.
        command.args(arguments).env_clear().env("MALLOC_ARENA_MAX", "1").current_dir("/");
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C in a terminal goes to the server, which drains.
        let child = command.process_group(0).spawn()?;
        // The command holds the other end until here.
        drop(command);
        control.set_read_timeout(Some(START_TIMEOUT))?;
        control.set_write_timeout(Some(START_TIMEOUT))?;
        let mut worker = Self { control: control.try_clone()?, child: Some(child) };
        frame::write(&mut control, start)?;
        let said = frame::read(&mut worker.control)?;
        if said.is_empty() {
            Ok(worker)
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&said).into_owned()))
        }
    }

    /// A socket to a new process that waits for a grammar. Fails where the worker does not fork one: it was killed.
    pub(crate) fn fork(&self) -> io::Result<UnixStream> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let sockets = [theirs.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&sockets));
        sendmsg(&self.control, &[IoSlice::new(&[FORK])], &mut ancillary, SendFlags::NOSIGNAL)?;
        // With our copy open, its end would not be told.
        drop(theirs);
        ours.set_read_timeout(Some(FORK_TIMEOUT))?;
        frame::read(&mut ours)?;
        Ok(ours)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.control.shutdown(std::net::Shutdown::Both);
        let Some(mut child) = self.child.take() else { return };
        // It may follow answers for a while. Where there is no thread to wait for it, its entry stays in the system's
        // table until this process ends.
        let reaper = thread::Builder::new().name("grammar-reaper".to_owned()).stack_size(64 << 10);
        let _ = reaper.spawn(move || child.wait());
    }
}
