//! Reading grammars, as the server sees it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::Guide;
use sha2::{Digest, Sha256};
use tokenizer::Tokenizer;

use crate::error::{Error, GrammarRefusal};
use crate::form::Form;
use crate::frame;
use crate::process::{Settings, Worker};
use crate::protocol::{READ, Start};
use crate::remote::Remote;

/// Refused grammars that are remembered.
const REMEMBERED: usize = 1000;
/// How long a process may take to end once its socket is closed.
const END: Duration = Duration::from_secs(5);
/// How long a read takes at most if it is to hold up others. What takes longer goes on beside them.
const QUICK: Duration = Duration::from_millis(250);
/// How often a longer read looks whether it may go on beside others.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// A timeout of a socket must not be zero.
const LEAST_WAIT: Duration = Duration::from_millis(1);
/// How long it is remembered that a grammar could not be read in time: the machine may have been busy.
const TOO_SLOW: Duration = Duration::from_mins(1);

/// Reads grammars for the answers of one model. The worker process starts with the first of them.
pub struct Grammars {
    settings: Settings,
    tokenizer: Arc<Tokenizer>,
    /// The token that ends an answer.
    end: u32,
    worker: Mutex<Option<Arc<Worker>>>,
    refused: Mutex<Refused>,
    /// Reads that go on beside others.
    slow: AtomicUsize,
}

impl Grammars {
    /// Takes a model's tokens, and the one that ends an answer.
    pub fn new(tokenizer: Arc<Tokenizer>, end: u32, settings: Settings) -> Self {
        Self {
            settings,
            tokenizer,
            end,
            worker: Mutex::default(),
            refused: Mutex::default(),
            slow: AtomicUsize::new(0),
        }
    }

    /// Reads a grammar, and returns once it can be followed or its process has ended. Blocks for at most the deadline,
    /// and for what starting and ending processes takes. `turn` is dropped when the next may be read: at the end, or once
    /// this has taken longer than [`QUICK`] and is one of at most `Settings::slow_reads` that go on beside others.
    pub fn read(&self, form: &Form, turn: impl Sized) -> Result<Box<dyn Guide>, Error> {
        let request = form.write().map_err(|GrammarRefusal(why)| Error::Refused(why))?;
        let hash = Sha256::digest(&request).into();
        if let Some(why) = self.refused().find(&hash) {
            return Err(Error::Refused(why));
        }
        let mut stream = self.fork()?;
        stream.set_write_timeout(Some(self.settings.deadline))?;
        frame::write(&mut stream, &request)?;
        let end = now() + self.settings.deadline;
        let mut read = read_within(&mut stream, QUICK.min(self.settings.deadline));
        let (mut turn, mut slow) = (Some(turn), None);
        while read.as_ref().is_err_and(is_timeout) && now() < end {
            slow = slow.or_else(|| SlowRead::begin(&self.slow, self.settings.slow_reads));
            turn = turn.filter(|_| slow.is_none());
            read = read_within(
                &mut stream,
                end.saturating_duration_since(now()).clamp(LEAST_WAIT, LONGEST_WAIT),
            );
        }
        self.outcome(stream, hash, read)
    }

    /// What came of a read.
    fn outcome(
        &self,
        mut stream: UnixStream,
        hash: [u8; 32],
        read: io::Result<Vec<u8>>,
    ) -> Result<Box<dyn Guide>, Error> {
        match read {
            Ok(said) if said == [READ] => Ok(Box::new(Remote::new(stream)?)),
            Ok(said) => {
                let why = String::from_utf8_lossy(said.get(1..).unwrap_or_default()).into_owned();
                self.refused().add(hash, &why, None);
                Err(Error::Refused(why))
            }
            Err(error) if is_timeout(&error) => {
                end(&mut stream);
                let error = Error::TooSlow(self.settings.deadline);
                self.refused().add(hash, &error.to_string(), Some(now() + TOO_SLOW));
                Err(error)
            }
            Err(_) => {
                let error = Error::TooLarge(self.settings.memory_bytes);
                self.refused().add(hash, &error.to_string(), None);
                Err(error)
            }
        }
    }

    /// A process for one grammar. A worker that has gone is replaced once.
    fn fork(&self) -> io::Result<UnixStream> {
        let mut current = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(stream)) = current.as_ref().map(|worker| worker.fork()) {
            return Ok(stream);
        }
        *current = None;
        let worker = Arc::new(Worker::start(&self.settings, &self.start().write())?);
        let stream = worker.fork()?;
        *current = Some(worker);
        Ok(stream)
    }

    /// What a worker is given first.
    fn start(&self) -> Start {
        Start {
            memory_bytes: self.settings.memory_bytes,
            cpu_seconds: self.settings.deadline.as_secs_f64().ceil().max(1.0) as u32,
            end: self.end,
            vocabulary: self.tokenizer.vocabulary(),
        }
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A read that goes on beside others; one fewer when it goes.
struct SlowRead<'a>(&'a AtomicUsize);

impl<'a> SlowRead<'a> {
    /// `None` if there are as many as may be.
    fn begin(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let more = |count: usize| (count < most).then_some(count + 1);
        count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Self(count))
    }
}

impl Drop for SlowRead<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a process says of its grammar, if it says it in time.
fn read_within(stream: &mut UnixStream, time: Duration) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(time))?;
    frame::read(stream)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "how long a refusal is remembered is no part of an answer")]
    Instant::now()
}

/// Closes a process' socket and waits until the process is gone, so that no more of them run than are waited for.
fn end(stream: &mut UnixStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(END));
    // The end of the stream comes when the process does.
    let _ = stream.read_to_end(&mut Vec::new());
}

/// What was refused lately, by the hash of the grammar; the oldest is forgotten first.
#[derive(Default)]
struct Refused {
    /// Why, and until when if not for good.
    why: HashMap<[u8; 32], (String, Option<Instant>)>,
    order: VecDeque<[u8; 32]>,
}

impl Refused {
    fn find(&self, hash: &[u8; 32]) -> Option<String> {
        let (why, until) = self.why.get(hash)?;
        until.is_none_or(|until| now() < until).then(|| why.clone())
    }

    fn add(&mut self, hash: [u8; 32], why: &str, until: Option<Instant>) {
        if self.why.insert(hash, (why.to_owned(), until)).is_none() {
            self.order.push_back(hash);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.why.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_refusals_are_remembered_and_no_more() {
        let mut refused = Refused::default();
        let hash = |i: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&i.to_le_bytes());
            hash
        };
        for i in 0..=REMEMBERED {
            refused.add(hash(i), "why", None);
        }
        assert_eq!((refused.find(&hash(0)), refused.find(&hash(1))), (None, Some("why".to_owned())));
        assert_eq!((refused.why.len(), refused.order.len()), (REMEMBERED, REMEMBERED));
        refused.add(hash(1), "why", Some(now()));
        assert_eq!(refused.find(&hash(1)), None);
    }
}
