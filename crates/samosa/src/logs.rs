//! Logs on standard output: one JSON object a line, or text on a terminal. What `serve` writes to standard error goes through
//! here too. Both streams are written by threads of their own ([`lines`]): a reader that rests or is gone stops nothing.

mod lines;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock;
use crate::settings::Values;
use lines::LineSink;

/// How long the end of the process waits for its last lines to be read.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The streams of a process that serves; without it, they are written as usual.
static STREAMS: OnceLock<LogStreams> = OnceLock::new();

struct LogStreams {
    out: LineSink,
    err: LineSink,
}

/// Starts logging as the settings say.
pub(crate) fn start(values: &Values) -> Result<()> {
    let level = LevelFilter::from_level(values.log_level.get()?);
    let as_text = match values.log_format.get()? {
        LogFormat::Auto => io::stdout().is_terminal(),
        LogFormat::Json => false,
        LogFormat::Text => true,
    };
    let streams = LogStreams::start().context("the streams for logs could not be opened")?;
    let writer = streams.out.clone();
    // Only a second start could fail, and there is none.
    let _ = STREAMS.set(streams);
    std::panic::set_hook(Box::new(say_panic));
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        // They would go to standard error, and panic where it is closed.
        .log_internal_errors(false)
        .with_writer(move || Writing(writer.clone()));
    let _ = if as_text {
        builder.with_target(false).with_ansi(io::stdout().is_terminal()).try_init()
    } else {
        builder.event_format(Json).try_init()
    };
    Ok(())
}

impl LogStreams {
    fn start() -> io::Result<Self> {
        let (out, err) =
            (io::stdout().as_fd().try_clone_to_owned()?, io::stderr().as_fd().try_clone_to_owned()?);
        // At every level: what is missing may have been an error.
        let report = |lines: u64| tracing::error!(lines, "log lines dropped");
        let out = LineSink::start("log", File::from(out), report)?;
        Ok(Self { out, err: LineSink::start("stderr", File::from(err), drop)? })
    }
}

/// A line of the log, which is written as one.
struct Writing(LineSink);

impl io::Write for Writing {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line.to_vec());
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines of the log dropped since the start.
pub(crate) fn dropped() -> Arc<AtomicU64> {
    STREAMS.get().map(|streams| streams.out.dropped()).unwrap_or_default()
}

/// Writes to standard error. Where the process serves, this neither waits nor fails.
pub(crate) fn say(text: String) {
    match STREAMS.get() {
        Some(streams) => streams.err.push(text.into_bytes()),
        // The terminal may be gone, which is no reason to panic.
        None => drop(io::Write::write_all(&mut io::stderr(), text.as_bytes())),
    }
}

/// What the hook of the standard library says, which writes to standard error itself: a full pipe would hold up the thread
/// that panics, and the requests that wait for it.
fn say_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    // Empty unless RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let frames =
        if backtrace.status() == BacktraceStatus::Captured { backtrace.to_string() } else { String::new() };
    say(format!("\nthread '{name}' {panic}\n{frames}"));
}

/// Waits until the last lines are written, for a second at most.
pub(crate) fn flush() {
    let Some(LogStreams { out, err }) = STREAMS.get() else { return };
    let end = clock::now() + LAST_LINES;
    for lines in [out, err] {
        lines.flush(end.saturating_duration_since(clock::now()));
    }
}

/// Flushes when it goes, whether the process ends as it should or by a panic.
pub(crate) struct FlushAtEnd;

impl Drop for FlushAtEnd {
    fn drop(&mut self) {
        flush();
    }
}

/// How lines are written.
#[derive(Clone, Copy)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Json,
    Text,
}

/// The format that the log pipeline reads.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), timestamp.into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.insert("service".to_owned(), "inference".into());
        line.insert("message".to_owned(), "".into());
        event.record(&mut Collect(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

struct Collect<'a>(&'a mut Map<String, Value>);

impl Collect<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.put(field, text);
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}
