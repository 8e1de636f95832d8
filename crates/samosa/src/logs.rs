//! Logs on standard output: one JSON object a line, or text on a terminal.

use std::fmt::Write as _;
use std::io::IsTerminal;

use anyhow::Result;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::settings::Values;

/// Starts logging as the settings say.
pub(crate) fn start(values: &Values) -> Result<()> {
    let (level, as_text) = chosen(values)?;
    let builder = tracing_subscriber::fmt().with_max_level(level);
    // Only a second start could fail, and there is none.
    let _ = if as_text {
        builder.with_target(false).with_ansi(std::io::stdout().is_terminal()).try_init()
    } else {
        builder.event_format(Json).try_init()
    };
    Ok(())
}

/// The level, and whether lines are text rather than JSON.
pub(crate) fn chosen(values: &Values) -> Result<(LevelFilter, bool)> {
    let levels = [
        ("error", Level::ERROR),
        ("critical", Level::ERROR),
        ("warn", Level::WARN),
        ("warning", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let level = LevelFilter::from_level(values.choice("log_level", &levels)?);
    let on_terminal = std::io::stdout().is_terminal();
    let as_text = values.choice("log_format", &[("auto", on_terminal), ("json", false), ("text", true)])?;
    Ok((level, as_text))
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
