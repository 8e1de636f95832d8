//! Lines to a standard stream, without waiting for its reader.
//!
//! A write to a pipe blocks while its reader does not read, and fails once the reader is gone. Neither may reach a request:
//! one thread writes, from a buffer bounded in lines and bytes. A line that finds the buffer full, or that the stream
//! refuses, is dropped and counted; the next line that the stream accepts is followed by a report of how many were.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Lines in the buffer, and bytes of these together: seconds of the most talkative level.
const MAX_LINES: usize = 8_192;
const MAX_BYTES: usize = 4 << 20;
/// How soon a stream is written to again that is full and was set not to block.
const RETRY: Duration = Duration::from_millis(10);

/// A handle on the buffer before one stream.
#[derive(Clone)]
pub(super) struct LineSink(Arc<LineBuffer>);

struct LineBuffer {
    buffer: Mutex<Buffer>,
    filled: Condvar,
    rested: Condvar,
    /// Since the start.
    dropped: Arc<AtomicU64>,
}

#[derive(Default)]
struct Buffer {
    lines: VecDeque<Vec<u8>>,
    /// Of these lines, and of the one that is being written.
    bytes: usize,
    is_writing: bool,
    /// It was full and is not yet half empty. Until then lines are dropped, so that a slow reader gets long stretches of
    /// lines and few reports.
    is_full: bool,
    unreported: u64,
}

impl LineSink {
    /// Starts the thread that writes. `report` is called on it, with the number of lines that were dropped.
    pub(super) fn start(
        name: &str,
        stream: impl Write + Send + 'static,
        report: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(LineBuffer {
            buffer: Mutex::default(),
            filled: Condvar::new(),
            rested: Condvar::new(),
            dropped: Arc::default(),
        });
        let (writer, stream) = (Arc::clone(&shared), LineStream { stream, is_torn: false });
        thread::Builder::new().name(name.to_owned()).spawn(move || writer.write(stream, report))?;
        Ok(Self(shared))
    }

    /// Lines dropped since the start.
    pub(super) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.dropped)
    }

    /// Adds a line, or drops it. Never waits.
    pub(super) fn push(&self, line: Vec<u8>) {
        let mut buffer = self.0.lock();
        let fits = buffer.lines.len() < MAX_LINES && buffer.bytes + line.len() <= MAX_BYTES;
        if fits && !buffer.is_full {
            buffer.bytes += line.len();
            buffer.lines.push_back(line);
            self.0.filled.notify_one();
        } else {
            // A line too long for an empty buffer does not make it full.
            buffer.is_full = buffer.bytes > 0;
            self.0.drop_line(&mut buffer);
        }
    }

    /// Waits until all is written, for this long at most.
    pub(super) fn flush(&self, at_most: Duration) {
        let is_busy = |buffer: &mut Buffer| buffer.is_writing || !buffer.lines.is_empty();
        // Whether the time was enough or not, the process ends.
        drop(self.0.rested.wait_timeout_while(self.0.lock(), at_most, is_busy));
    }
}

impl LineBuffer {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_line(&self, buffer: &mut Buffer) {
        buffer.unreported += 1;
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// The writing thread, for as long as the process lives.
    fn write(&self, mut stream: LineStream<impl Write>, report: impl Fn(u64)) {
        loop {
            let line = self.next();
            let outcome = stream.write(&line);
            if let Some(dropped) = self.wrote(line.len(), &outcome) {
                report(dropped);
            }
            self.lock().is_writing = false;
            self.rested.notify_all();
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut buffer = self.lock();
        loop {
            if let Some(line) = buffer.lines.pop_front() {
                buffer.is_writing = true;
                return line;
            }
            buffer = self.filled.wait(buffer).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Settles the line that was taken. Returns how many dropped lines are to be reported now.
    fn wrote(&self, bytes: usize, outcome: &io::Result<()>) -> Option<u64> {
        let mut buffer = self.lock();
        buffer.bytes -= bytes;
        if outcome.is_err() {
            self.drop_line(&mut buffer);
        }
        buffer.is_full &= buffer.lines.len() > MAX_LINES / 2 || buffer.bytes > MAX_BYTES / 2;
        let is_due = outcome.is_ok() && !buffer.is_full && buffer.unreported > 0;
        is_due.then(|| std::mem::take(&mut buffer.unreported))
    }
}

/// What is written to.
struct LineStream<W> {
    stream: W,
    /// The last line that failed was written in part, so that the next one needs a new line first.
    is_torn: bool,
}

impl<W: Write> LineStream<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.write_all(b"\n")?;
        }
        self.write_all(line)
    }

    fn write_all(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = &rest[count..];
                    self.is_torn = !rest.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A stream that does with each write what the test says: takes so many bytes, or fails.
    struct ScriptedStream {
        answers: Receiver<io::Result<usize>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for ScriptedStream {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Once the test has said all, everything is taken.
            let count = self.answers.recv().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
            self.written.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Scene {
        lines: LineSink,
        answers: Option<SyncSender<io::Result<usize>>>,
        written: Arc<Mutex<Vec<u8>>>,
        reports: Receiver<u64>,
    }

    impl Scene {
        fn new() -> Self {
            let (answers, told) = sync_channel(16);
            let (report, reports) = sync_channel(16);
            let written = Arc::default();
            let stream = ScriptedStream { answers: told, written: Arc::clone(&written) };
            let lines = LineSink::start("log", stream, move |dropped| report.send(dropped).unwrap()).unwrap();
            Self { lines, answers: Some(answers), written, reports }
        }

        fn answer(&self, answer: io::Result<usize>) {
            self.answers.as_ref().unwrap().send(answer).unwrap();
        }

        /// Lets the stream take everything from now on. Returns all that was written.
        fn written(&mut self) -> String {
            self.answers = None;
            self.lines.flush(LONG);
            String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
        }

        fn dropped(&self) -> u64 {
            self.lines.dropped().load(Ordering::Relaxed)
        }
    }

    #[test]
    fn lines_keep_their_order_and_a_flush_waits_for_them() {
        let mut scene = Scene::new();
        let lines: Vec<String> = (0..1_000).map(|number| format!("{number}\n")).collect();
        for line in &lines {
            scene.lines.push(line.clone().into_bytes());
        }
        assert_eq!((scene.written(), scene.dropped()), (lines.concat(), 0));
        assert!(scene.reports.try_recv().is_err(), "nothing was dropped");
    }

    #[test]
    fn a_stream_that_takes_nothing_costs_lines_beyond_the_bounds_and_says_how_many_once() {
        for (line, most) in [("line\n".to_owned(), MAX_LINES), ("x".repeat(1 << 16), MAX_BYTES >> 16)] {
            let mut scene = Scene::new();
            // Neither a push nor a flush waits for the stream.
            for _ in 0..most + 100 {
                scene.lines.push(line.clone().into_bytes());
            }
            scene.lines.flush(Duration::from_millis(20));
            let dropped = scene.dropped();
            assert!((99..=100).contains(&dropped), "one may be taken already: {dropped}");
            let written = scene.written();
            assert_eq!(written.len(), (most + 100 - dropped as usize) * line.len());
            assert_eq!(scene.reports.recv_timeout(LONG), Ok(dropped));
            scene.lines.push(b"once more\n".to_vec());
            assert!(scene.written().ends_with("once more\n"));
            assert!(scene.reports.try_recv().is_err(), "it was said");
        }
    }

    #[test]
    fn lines_that_a_stream_refuses_are_counted_and_reported_after_the_first_it_accepts() {
        let mut scene = Scene::new();
        for kind in [ErrorKind::BrokenPipe, ErrorKind::StorageFull, ErrorKind::Other] {
            scene.answer(Err(kind.into()));
        }
        for line in ["a\n", "b\n", "c\n", "d\n"] {
            scene.lines.push(line.as_bytes().to_vec());
        }
        assert_eq!(scene.written(), "d\n");
        assert_eq!((scene.reports.recv_timeout(LONG), scene.dropped()), (Ok(3), 3));
    }

    #[test]
    fn a_torn_line_leaves_the_next_one_whole() {
        let mut scene = Scene::new();
        for answer in [Ok(2), Err(ErrorKind::StorageFull.into()), Err(ErrorKind::StorageFull.into()), Ok(3)] {
            scene.answer(answer);
        }
        scene.answer(Err(ErrorKind::Interrupted.into()));
        scene.answer(Err(ErrorKind::WouldBlock.into()));
        for line in ["first\n", "second\n", "third\n"] {
            scene.lines.push(line.as_bytes().to_vec());
        }
        assert_eq!(scene.written(), "fi\nthird\n");
        assert_eq!((scene.reports.recv_timeout(LONG), scene.dropped()), (Ok(2), 2));
    }

    #[test]
    fn a_line_longer_than_the_buffer_does_not_stop_those_after_it() {
        let mut scene = Scene::new();
        scene.lines.push(vec![b'x'; MAX_BYTES + 1]);
        scene.lines.push(b"short\n".to_vec());
        assert_eq!((scene.written(), scene.dropped()), ("short\n".to_owned(), 1));
        assert_eq!(scene.reports.recv_timeout(LONG), Ok(1));
    }
}
