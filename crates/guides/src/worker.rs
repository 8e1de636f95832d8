//! The worker process: it holds the library with one model's tokens, and forks a process for each grammar that comes.
//!
//! The worker itself never sees a grammar, so it cannot be harmed by one. A forked process has limits of its own, reads
//! one grammar, follows its answers, and ends when the server closes its socket: a thread beside the reading watches for
//! that, so that a reading ends at once when the server stops waiting for it.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use fork::Fork;
use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Resource, Rlimit, WaitOptions, getrlimit, setrlimit, wait};

use crate::follow::{Followed, Lost, Next};
use crate::form::Form;
use crate::frame::{self, Fields};
use crate::protocol::{FORK, LOST, READ, REFUSED, Start};
use crate::read::Library;

/// How far below others the priority of a worker is, so that answers that ask for no form go first; and how much further
/// below it grammars are read, which takes longer than following them.
const NICE: i32 = 10;
const NICE_READING: i32 = 9;
/// Bytes of the stack on which a grammar is read and followed: the library calls itself for definitions within
/// definitions, and takes up to 10 kB for each.
const STACK: usize = 64 << 20;
/// Seconds of CPU time for following one grammar's answers, once it is read.
const FOLLOWING_SECONDS: u64 = 600;
/// How often processes that have ended are looked for.
const REAP: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Signals that are the server's business: it closes the sockets when its streams are over.
const IGNORED: [i32; 3] =
    [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP];

/// Works for the server at the other end of `control` until that is closed. The caller has no other thread.
pub fn run(control: OwnedFd) -> io::Result<()> {
    let mut control = UnixStream::from(control);
    for signal in IGNORED {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    rustix::process::nice(NICE)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    let start = Start::read(&frame::read(&mut control)?).ok_or(io::ErrorKind::InvalidData)?;
    let (memory_bytes, cpu_seconds) = (start.memory_bytes, start.cpu_seconds);
    let library = match Library::new(start.vocabulary, start.end) {
        Ok(library) => library,
        Err(refusal) => return frame::write(&mut control, refusal.0.as_bytes()),
    };
    let used_bytes = used_bytes()?;
    frame::write(&mut control, b"")?;
    let mut running = 0;
    loop {
        let has_more = readable(&control, (running > 0).then_some(REAP))?;
        running -= reap(WaitOptions::NOHANG);
        if !has_more {
            continue;
        }
        let Some(answers) = receive(&control)? else { break };
        match fork::fork()? {
            Fork::Child => {
                drop(control);
                // An error here means that the server has gone.
                let limits = ForkLimits { memory_bytes: used_bytes + memory_bytes, cpu_seconds };
                let _ = follow(UnixStream::from(answers), &library, &limits);
                std::process::exit(0);
            }
            Fork::Parent(_) => running += 1,
        }
    }
    reap(WaitOptions::empty());
    Ok(())
}

/// The address space that this process has: what grammars may take comes on top.
fn used_bytes() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    Ok(pages.ok_or(io::ErrorKind::InvalidData)? * rustix::param::page_size() as u64)
}

/// The socket of the next grammar; `None` once the server has closed its end.
fn receive(control: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = loop {
        match recvmsg(control, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    let socket = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    match socket {
        Some(socket) => Ok(Some(socket)),
        None if received.bytes == 0 => Ok(None),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Waits until there is something to read or the time is over.
fn readable(stream: &UnixStream, at_most: Option<Timespec>) -> io::Result<bool> {
    match poll(&mut [PollFd::new(stream, PollFlags::IN)], at_most.as_ref()) {
        Ok(n) => Ok(n > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Lets the system forget processes that have ended. Returns how many.
fn reap(options: WaitOptions) -> usize {
    let mut ended = 0;
    loop {
        match wait(options) {
            Ok(Some(_)) => ended += 1,
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return ended,
        }
    }
}

/// What a forked process may take.
struct ForkLimits {
    /// Bytes of address space, its stack apart.
    memory_bytes: u64,
    /// Seconds of CPU time to read a grammar.
    cpu_seconds: u32,
}

/// The life of a forked process.
fn follow(mut stream: UnixStream, library: &Library, limits: &ForkLimits) -> io::Result<()> {
    limit(Resource::As, limits.memory_bytes + STACK as u64)?;
    limit_softly(Resource::Cpu, u64::from(limits.cpu_seconds))?;
    // The server waits for this, to tell a worker that was killed from a grammar that kills its process.
    frame::write(&mut stream, b"")?;
    let watched = stream.try_clone()?;
    thread::Builder::new().name("hang-up".to_owned()).spawn(move || end_at_hang_up(&watched))?;
    let form = Form::read(&frame::read(&mut stream)?).ok_or(io::ErrorKind::InvalidData)?;
    let read = on_large_stack(|| {
        // Of this thread alone.
        let _ = rustix::process::nice(NICE_READING);
        library.read(&form)
    })?;
    match read {
        Ok(followed) => {
            limit_softly(Resource::Cpu, FOLLOWING_SECONDS)?;
            frame::write(&mut stream, &[READ])?;
            on_large_stack(|| answer(&mut stream, followed))?
        }
        Err(refusal) => frame::write(&mut stream, &[&[REFUSED], refusal.0.as_bytes()].concat()),
    }
}

/// Ends the process when the server closes its end of the socket.
fn end_at_hang_up(stream: &UnixStream) -> ! {
    loop {
        // What comes is for another thread.
        let mut watched = [PollFd::new(stream, PollFlags::RDHUP)];
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) if watched[0].revents().is_empty() => {}
            _ => std::process::exit(0),
        }
    }
}

/// Does some work on a stack that is large enough for the library.
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("grammar".to_owned()).stack_size(STACK);
        let done = worker.spawn_scoped(scope, work)?.join();
        done.map_err(|_| io::Error::other("the library panicked"))
    })
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
}

/// A limit that the process may raise again.
fn limit_softly(resource: Resource, most: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(most), ..getrlimit(resource) })?)
}

/// Follows the answers of a grammar until the server closes its socket.
fn answer(stream: &mut UnixStream, followed: Followed) -> io::Result<()> {
    let mut answers = BTreeMap::from([(0, followed)]);
    loop {
        let reply = reply(&frame::read(stream)?, &mut answers).ok_or(io::ErrorKind::InvalidData)?;
        if !reply.is_empty() {
            frame::write(stream, &reply)?;
        }
    }
}

/// Does what the server asks of an answer. A fork has no reply.
fn reply(payload: &[u8], answers: &mut BTreeMap<u32, Followed>) -> Option<Vec<u8>> {
    let (&kind, rest) = payload.split_first()?;
    let mut fields = Fields(rest);
    let number = fields.number()?;
    if kind == FORK {
        let copy = answers.get(&number)?.fork();
        answers.insert(fields.number()?, copy);
        return Some(Vec::new());
    }
    let (accepted, draft) = (fields.list()?, fields.list()?);
    let followed = answers.get_mut(&number)?;
    let mut reply = Vec::new();
    frame::push(&mut reply, number);
    match next(followed, &accepted, &draft) {
        Ok(Next { sets, forced }) => {
            for set in frame::push_count(&mut reply, &sets) {
                frame::push_list(&mut reply, set);
            }
            frame::push_list(&mut reply, &forced);
        }
        Err(Lost) => frame::push(&mut reply, LOST),
    }
    Some(reply)
}

fn next(followed: &mut Followed, accepted: &[u32], draft: &[u32]) -> Result<Next, Lost> {
    accepted.iter().try_for_each(|&token| followed.accept(token))?;
    followed.next(draft)
}
