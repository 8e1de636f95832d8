//! An answer that is followed in a process of its own, as the engine sees it.
//!
//! The sets of a step are asked for before its forward pass and collected after it, so that they are computed meanwhile.
//! What is not there by then is waited for only briefly, and less each time: other answers of the step go on, and this
//! one takes part again once its sets have come.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::{Allowed, Guide, TokenSet};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::frame::{self, Fields};
use crate::protocol::{FORK, LOST, SETS};

/// The longest wait for sets after a forward pass, and the least that is doubled after sets that came in time.
const MOST_PATIENCE: Duration = Duration::from_millis(1);
const LEAST_PATIENCE: Duration = Duration::from_micros(20);
/// How long sets may take in all.
const DEADLINE: Duration = Duration::from_secs(5);

/// One answer of a grammar.
pub(crate) struct Remote {
    connection: Arc<Mutex<Connection>>,
    /// The number of the answer in its process.
    number: u32,
    /// Tokens that its process does not know of yet.
    accepted: Vec<u32>,
    /// Tokens that must come next, as far as its process has said.
    forced: Vec<u32>,
    asked: Option<Instant>,
    patience: Duration,
    lost: bool,
}

/// The socket to a process, for all answers that it follows.
struct Connection {
    stream: UnixStream,
    /// Bytes that came, of frames that are not whole.
    buffer: Vec<u8>,
    /// Replies by the number of their answer.
    replies: BTreeMap<u32, Vec<u8>>,
    /// Answers there were.
    answers: u32,
}

impl Remote {
    /// The first answer of a grammar that was read.
    pub(crate) fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        let connection = Connection { stream, buffer: Vec::new(), replies: BTreeMap::new(), answers: 1 };
        Ok(Self::of(Arc::new(Mutex::new(connection)), 0))
    }

    fn of(connection: Arc<Mutex<Connection>>, number: u32) -> Self {
        Self {
            connection,
            number,
            accepted: Vec::new(),
            forced: Vec::new(),
            asked: None,
            patience: MOST_PATIENCE,
            lost: false,
        }
    }

    /// The reply to what was asked, waited for as long as given.
    fn reply(&mut self, patience: Duration) -> Option<Allowed> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let received = connection.receive(self.number, patience);
        drop(connection);
        match received {
            Ok(Some(reply)) => match next(&reply) {
                Some((sets, forced)) => {
                    self.forced = forced;
                    Some(Allowed::Sets(sets))
                }
                None => Some(Allowed::Unknown),
            },
            Ok(None) => None,
            Err(_) => Some(Allowed::Unknown),
        }
    }

    fn send(&mut self, payload: &[u8]) {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // So little has room in a socket whose other end reads. A frame in part would be worse than none.
        self.lost |= frame::write(&mut connection.stream, payload).is_err();
    }
}

impl Guide for Remote {
    fn forced(&self) -> &[u32] {
        &self.forced
    }

    fn prepare(&mut self, draft: &[u32]) {
        if self.lost || self.asked.is_some() {
            return;
        }
        let mut payload = vec![SETS];
        frame::push(&mut payload, self.number);
        frame::push_list(&mut payload, &std::mem::take(&mut self.accepted));
        frame::push_list(&mut payload, draft);
        self.asked = Some(now());
        self.send(&payload);
    }

    fn is_ready(&mut self) -> bool {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let overdue = self.asked.is_none_or(|asked| asked.elapsed() > DEADLINE);
        self.lost || overdue || connection.has_reply(self.number)
    }

    fn allowed(&mut self) -> Allowed {
        let Some(asked) = self.asked.filter(|_| !self.lost) else { return Allowed::Unknown };
        match self.reply(self.patience) {
            Some(allowed) => {
                self.asked = None;
                self.patience = (self.patience * 2).clamp(LEAST_PATIENCE, MOST_PATIENCE);
                allowed
            }
            None if asked.elapsed() > DEADLINE => Allowed::Unknown,
            None => {
                self.patience /= 8;
                Allowed::NotYet
            }
        }
    }

    fn accept(&mut self, token: u32) {
        if self.forced.first() == Some(&token) {
            self.forced.remove(0);
        } else {
            self.forced.clear();
        }
        self.accepted.push(token);
    }

    fn fork(&self) -> Box<dyn Guide> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let number = connection.answers;
        connection.answers += 1;
        drop(connection);
        let mut copy = Self::of(Arc::clone(&self.connection), number);
        copy.accepted.clone_from(&self.accepted);
        copy.forced.clone_from(&self.forced);
        copy.lost = self.lost;
        let mut payload = vec![FORK];
        frame::push(&mut payload, self.number);
        frame::push(&mut payload, number);
        copy.send(&payload);
        Box::new(copy)
    }
}

impl Connection {
    /// The reply for an answer, once it is there or the time is over.
    fn receive(&mut self, number: u32, patience: Duration) -> std::io::Result<Option<Vec<u8>>> {
        let begun = now();
        loop {
            self.read()?;
            if let Some(reply) = self.replies.remove(&number) {
                return Ok(Some(reply));
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            let left = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.stream, PollFlags::IN)], Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether there is a reply, or will never be one.
    fn has_reply(&mut self, number: u32) -> bool {
        self.read().is_err() || self.replies.contains_key(&number)
    }

    /// Takes what has come.
    fn read(&mut self) -> std::io::Result<()> {
        let mut bytes = [0; 16 << 10];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.buffer.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        while let Some(reply) = frame::take(&mut self.buffer) {
            if let Some(number) = Fields(&reply).number() {
                self.replies.insert(number, reply);
            }
        }
        Ok(())
    }
}

/// The sets and the forced tokens of a reply; `None` where the answer cannot be followed any further.
fn next(reply: &[u8]) -> Option<(Vec<TokenSet>, Vec<u32>)> {
    let mut fields = Fields(reply);
    let (_, n) = (fields.number()?, fields.number()?);
    if n == LOST {
        return None;
    }
    let sets = (0..n).map(|_| Some(TokenSet::from_words(fields.list()?))).collect::<Option<_>>()?;
    Some((sets, fields.list()?))
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "how long a process is waited for is no part of an answer")]
    Instant::now()
}
