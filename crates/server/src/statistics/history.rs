//! `GET /stats/history`: the last half hour in steps of one second, for charts that begin before somebody looks.
//!
//! A [`Recorder`] makes a row each second for as long as the service is served; who asks gets the rows, the latest last, by
//! column. A machine that slept leaves a gap.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Serialize, Serializer};
use serde_json::Value;
use serving::Models;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use crate::clock;
use crate::fields::{escape, short};
use crate::metrics::engines::Load;
use crate::metrics::{Metrics, Totals};
use crate::problem::{Code, Problem};
use crate::swap_report;

/// From one row to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// What percentiles and the hit rate of a row look back at.
const LOOK_BACK: Duration = Duration::from_secs(10);
/// A tick may be that much early.
const EARLY: Duration = Duration::from_millis(500);
/// The one parameter of the query.
const SINCE: &str = "since";

/// Seconds since 1970 after which rows are asked for.
pub(crate) fn since(query: &str) -> Result<Option<f64>, Problem> {
    let mut since = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name != SINCE {
            let detail =
                format!("There is no parameter \"{}\" here; the one there is is since.", short(name));
            return Err(Problem::new(Code::UnsupportedField, detail).at(format!("/{}", escape(name))));
        }
        let wrong = |detail: String| Err(Problem::new(Code::InvalidValue, detail).at("/since"));
        let Some(seconds) = value.parse().ok().filter(|seconds: &f64| seconds.is_finite()) else {
            let value = short(value);
            return wrong(format!("The parameter since is \"{value}\", but must be seconds since 1970."));
        };
        if since.replace(seconds).is_some() {
            return wrong("The parameter since is given more than once.".to_owned());
        }
    }
    Ok(since)
}

/// The rows of the last half hour, the oldest first.
#[derive(Default)]
pub(crate) struct RecentHistory(Mutex<VecDeque<HistoryRow>>);

impl RecentHistory {
    /// The rows after a time, or all of them, with the swaps of that time.
    pub(crate) fn report(&self, since: Option<f64>, models: &Models) -> HistoryReport {
        HistoryReport {
            interval_s: INTERVAL.as_secs_f64(),
            now: round(clock::unix_of(SystemTime::now())),
            samples: HistoryColumns(self.after(since)),
            swaps: models.swaps().iter().rev().map(swap_report::mark).collect(),
        }
    }

    /// Adds a row, and forgets those that are older than so many seconds, or more than so many.
    pub(crate) fn add(&self, row: HistoryRow, seconds: usize) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the clock was set back, those that it makes younger than this one are worth nothing.
        while rows.back().is_some_and(|last| last.at >= row.at) {
            rows.pop_back();
        }
        rows.push_back(row);
        let oldest = row.at - seconds as f64;
        while rows.len() > seconds || rows.front().is_some_and(|first| first.at <= oldest) {
            rows.pop_front();
        }
    }

    /// A copy of those after a time, or of all: nobody waits for the lock while they are written out.
    fn after(&self, since: Option<f64>) -> Vec<HistoryRow> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = since.map_or(0, |since| rows.partition_point(|row| row.at <= since));
        rows.range(begin..).copied().collect()
    }
}

/// What was counted until an instant.
#[derive(Clone, Copy)]
struct HistoryMark {
    at: Instant,
    totals: Totals,
    /// Tokens looked for in the prefix cache, and those that were found.
    cache: [u64; 2],
}

impl HistoryMark {
    fn now(metrics: &Metrics, models: &Models) -> Self {
        let counts = models.counts().counts;
        let cache = [counts.cache_queries, counts.cache_hits];
        Self { at: clock::now(), totals: metrics.totals(), cache }
    }
}

/// The marks that the next row is compared with: the last one, and those before it until one that is [`LOOK_BACK`] old.
struct Marks {
    last: HistoryMark,
    earlier: VecDeque<HistoryMark>,
}

impl Marks {
    fn new(first: HistoryMark) -> Self {
        Self { last: first, earlier: VecDeque::from([first]) }
    }

    /// Adds one and returns the one before it, and the one that it looks back to.
    fn add(&mut self, mark: HistoryMark) -> [HistoryMark; 2] {
        let before = std::mem::replace(&mut self.last, mark);
        let is_old = |earlier: &HistoryMark| mark.at.duration_since(earlier.at) + EARLY >= LOOK_BACK;
        while self.earlier.get(1).is_some_and(is_old) {
            self.earlier.pop_front();
        }
        let back = self.earlier.front().copied().unwrap_or(before);
        self.earlier.push_back(mark);
        [before, back]
    }
}

/// Makes a row each second. What is counted from its start on is in the first row, however late its turn comes.
pub(crate) struct Recorder {
    marks: Marks,
    ticks: Interval,
}

impl Recorder {
    pub(crate) fn start(metrics: &Metrics, models: &Models) -> Self {
        let marks = Marks::new(HistoryMark::now(metrics, models));
        let mut ticks = interval_at((clock::now() + INTERVAL).into(), INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { marks, ticks }
    }

    /// The row of the next second, at its end.
    pub(crate) async fn next(&mut self, metrics: &Metrics, models: &Models) -> HistoryRow {
        self.ticks.tick().await;
        HistoryRow::now(metrics, models, &mut self.marks)
    }
}

/// A second.
#[derive(Clone, Copy)]
pub(crate) struct HistoryRow {
    /// Its end, in seconds since 1970.
    at: f64,
    tokens_per_second: f64,
    prompt_tokens_per_second: f64,
    refusals_per_second: f64,
    load: Load,
    /// The 50th and the 95th percentile.
    first_token_ms: Option<[f64; 2]>,
    inter_token_ms: Option<[f64; 2]>,
    prefix_hit_rate: Option<f64>,
    resident_bytes: Option<u64>,
}

impl HistoryRow {
    fn now(metrics: &Metrics, models: &Models, marks: &mut Marks) -> Self {
        let mark = HistoryMark::now(metrics, models);
        let [before, back] = marks.add(mark);
        let seconds = mark.at.duration_since(before.at).as_secs_f64();
        let rate = |of: fn(&Totals) -> u64| {
            of(&mark.totals).saturating_sub(of(&before.totals)) as f64 / seconds.max(f64::MIN_POSITIVE)
        };
        let from = mark.at.checked_sub(LOOK_BACK).unwrap_or(back.at);
        let two = |[p50, p95, _]: [f64; 3]| [p50, p95];
        Self {
            at: round(clock::unix_of(SystemTime::now())),
            tokens_per_second: rate(|totals| totals.tokens),
            prompt_tokens_per_second: rate(|totals| totals.prompt_tokens),
            refusals_per_second: rate(|totals| totals.refusals),
            load: Load::now(models),
            first_token_ms: metrics.first_token.percentiles_ms_after(from).map(two),
            inter_token_ms: metrics.inter_token.percentiles_ms_after(from).map(two),
            prefix_hit_rate: hit_rate(back.cache, mark.cache),
            resident_bytes: registry::memory::resident(),
        }
    }
}

/// Tokens found of those looked for between two marks, if any were.
fn hit_rate(before: [u64; 2], now: [u64; 2]) -> Option<f64> {
    let [queries, hits] = [0, 1].map(|i| now[i].saturating_sub(before[i]));
    (queries > 0).then(|| hits as f64 / queries as f64)
}

/// What is answered.
#[derive(Serialize)]
pub(crate) struct HistoryReport {
    interval_s: f64,
    now: f64,
    samples: HistoryColumns,
    swaps: Vec<Value>,
}

/// Rows, written by column.
struct HistoryColumns(Vec<HistoryRow>);

/// A column, and its value in a row.
type Column = (&'static str, fn(&HistoryRow) -> Option<f64>);

const COLUMNS: [Column; 14] = [
    ("at", |row| Some(row.at)),
    ("tokens_per_second", |row| Some(row.tokens_per_second)),
    ("prompt_tokens_per_second", |row| Some(row.prompt_tokens_per_second)),
    ("running", |row| Some(row.load.running as f64)),
    ("queued", |row| Some(row.load.queued as f64)),
    ("first_token_ms_p50", |row| row.first_token_ms.map(|[p50, _]| p50)),
    ("first_token_ms_p95", |row| row.first_token_ms.map(|[_, p95]| p95)),
    ("inter_token_ms_p50", |row| row.inter_token_ms.map(|[p50, _]| p50)),
    ("inter_token_ms_p95", |row| row.inter_token_ms.map(|[_, p95]| p95)),
    ("kv_pages_used", |row| Some(row.load.pages_used as f64)),
    ("kv_pages_total", |row| Some(row.load.pages_total as f64)),
    ("prefix_hit_rate", |row| row.prefix_hit_rate),
    ("refusals_per_second", |row| Some(row.refusals_per_second)),
    ("resident_bytes", |row| row.resident_bytes.map(|bytes| bytes as f64)),
];

impl Serialize for HistoryColumns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(COLUMNS.map(|(name, of)| (name, ColumnValues(&self.0, of))))
    }
}

/// The values of a column.
struct ColumnValues<'a>(&'a [HistoryRow], fn(&HistoryRow) -> Option<f64>);

impl Serialize for ColumnValues<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(rows, of) = *self;
        serializer.collect_seq(rows.iter().map(|row| of(row).map(round)))
    }
}

/// To three places: there are thousands of them.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(at: f64) -> HistoryRow {
        HistoryRow {
            at,
            tokens_per_second: 1.0 / 3.0,
            prompt_tokens_per_second: 0.0,
            refusals_per_second: 0.0,
            load: Load { running: 2, queued: 1, pages_used: 3, pages_total: 9 },
            first_token_ms: Some([1.0, 2.0]),
            inter_token_ms: None,
            prefix_hit_rate: None,
            resident_bytes: Some(1 << 40),
        }
    }

    fn times(history: &RecentHistory, since: Option<f64>) -> Vec<f64> {
        history.after(since).iter().map(|row| row.at).collect()
    }

    #[test]
    fn rows_are_bounded_in_number_and_in_age() {
        let history = RecentHistory::default();
        for at in 0..5_000 {
            history.add(row(f64::from(at) / 2.0), 1_800);
        }
        let all = times(&history, None);
        assert_eq!((all.len(), all[0], all[1_799]), (1_800, 1_600.0, 2_499.5));
        history.add(row(4_000.0), 1_800);
        let all = times(&history, None);
        assert_eq!((all.len(), all[0]), (600, 2_200.5), "after a gap there are fewer");
        history.add(row(9_000.0), 1_800);
        assert_eq!(times(&history, None), [9_000.0]);
    }

    #[test]
    fn rows_at_or_before_a_time_are_left_out() {
        let history = RecentHistory::default();
        assert!(times(&history, Some(0.0)).is_empty());
        for at in [10.0, 11.001, 12.0] {
            history.add(row(at), 1_800);
        }
        for (since, left) in [(-1.0, 3), (9.999, 3), (10.0, 2), (11.0, 2), (11.001, 1), (12.0, 0), (1e300, 0)]
        {
            assert_eq!(times(&history, Some(since)).len(), left, "{since}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_leaves_times_that_only_grow() {
        let history = RecentHistory::default();
        for at in [10.0, 11.0, 12.0, 10.5, 11.5] {
            history.add(row(at), 1_800);
        }
        assert_eq!(times(&history, None), [10.0, 10.5, 11.5]);
    }

    #[test]
    fn columns_are_as_long_as_there_are_rows() {
        let written = serde_json::to_value(HistoryColumns(vec![row(10.0), row(11.0)])).unwrap();
        let columns = written.as_object().unwrap();
        assert_eq!(columns.len(), COLUMNS.len(), "each has a name of its own");
        assert!(columns.values().all(|values| values.as_array().unwrap().len() == 2));
        let twice = |value: Value| Value::from(vec![value.clone(), value]);
        for (name, value) in [
            ("tokens_per_second", 0.333.into()),
            ("queued", 1.0.into()),
            ("first_token_ms_p95", 2.0.into()),
            ("inter_token_ms_p50", Value::Null),
            ("kv_pages_total", 9.0.into()),
            ("prefix_hit_rate", Value::Null),
            ("resident_bytes", (2.0_f64.powi(40)).into()),
        ] {
            assert_eq!(columns[name], twice(value), "{name}");
        }
    }

    #[test]
    fn a_row_is_compared_with_the_one_before_it_and_with_ten_seconds_ago() {
        let begun = clock::now();
        let mark = |ms: u64| HistoryMark {
            at: begun + Duration::from_millis(ms),
            totals: Totals { tokens: ms, prompt_tokens: 0, refusals: 0 },
            cache: [ms, 0],
        };
        let mut marks = Marks::new(mark(0));
        // Ticks that come a little late or early, and then a gap.
        for (ms, before, back) in
            [(1_003, 0, 0), (2_001, 1_003, 0), (9_999, 2_001, 0), (11_002, 9_999, 1_003)]
        {
            let found = marks.add(mark(ms)).map(|mark| mark.totals.tokens);
            assert_eq!(found, [before, back], "{ms}");
        }
        assert_eq!(marks.add(mark(60_000)).map(|mark| mark.totals.tokens), [11_002, 11_002]);
        for second in 61..10_000 {
            marks.add(mark(second * 1_000));
        }
        assert_eq!(marks.earlier.len(), 11, "no more are kept than are looked back to");
    }

    #[test]
    fn a_hit_rate_needs_a_query() {
        assert_eq!(hit_rate([5, 5], [5, 5]), None);
        assert_eq!(hit_rate([10, 2], [20, 5]), Some(0.3));
        assert_eq!(hit_rate([10, 2], [9, 1]), None, "counts never fall, but nobody breaks if they do");
    }

    #[test]
    fn the_query_is_one_number_or_nothing() {
        for (query, found) in [
            ("", None),
            ("&", None),
            ("since=0", Some(0.0)),
            ("since=1795400232.77&", Some(1_795_400_232.77)),
        ] {
            assert_eq!(since(query).unwrap(), found, "{query}");
        }
        for (query, code, param) in [
            ("since", Code::InvalidValue, "/since"),
            ("since=", Code::InvalidValue, "/since"),
            ("since=yesterday", Code::InvalidValue, "/since"),
            ("since=NaN", Code::InvalidValue, "/since"),
            ("since=inf", Code::InvalidValue, "/since"),
            ("since=1e999", Code::InvalidValue, "/since"),
            ("since=1&since=1", Code::InvalidValue, "/since"),
            ("until=5", Code::UnsupportedField, "/until"),
            ("since=1&a/b", Code::UnsupportedField, "/a~1b"),
        ] {
            let problem = since(query).unwrap_err();
            assert_eq!((problem.code, problem.param.as_deref()), (code, Some(param)), "{query}");
        }
        let long = since(&"x".repeat(5_000)).unwrap_err();
        assert!(long.detail.len() < 500 && long.param.unwrap().len() < 500);
    }
}
