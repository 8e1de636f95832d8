//! Prometheus series: the eight of the existing board under their exact names, and our own. Every label value that
//! is known beforehand exists from the start, at zero.
//!
//! One file a theme: [`board`], [`requests`] (with [`stream`], the clock of one answer), [`engines`], [`weights`],
//! [`connections`], [`process`], each with its table of [`series`]; and [`text`], the two formats. What others count
//! all the time is added to where it happens; what they only know (queues, pages, memory) is looked at when somebody
//! asks. `deploy/prometheus/METRICS.md` lists all.

pub(crate) mod board;
mod connections;
pub(crate) mod engines;
mod process;
mod requests;
mod series;
pub(crate) mod stream;
pub(crate) mod text;
mod weights;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serving::Models;

use crate::lifecycle::Lifecycle;
use crate::options::Options;
use crate::problem::Code;
use crate::statistics::streams::StreamEnd;
use crate::statistics::{Rate, Recent};
use crate::status::Status;
use board::{Board, HttpLabels};
use connections::ConnectionMetrics;
use engines::EngineMetrics;
use process::ProcessMetrics;
use requests::RequestMetrics;
use text::TextFormat;
use weights::WeightMetrics;

/// All series, and the recent figures of `/stats`.
pub(crate) struct Metrics {
    registry: Registry,
    /// One asks at a time: series of what comes and goes are written anew for each.
    asking: Mutex<()>,
    board: Board,
    requests: RequestMetrics,
    engines: EngineMetrics,
    process: ProcessMetrics,
    pub(crate) weights: WeightMetrics,
    pub(crate) connections: ConnectionMetrics,
    /// Tokens generated, lately.
    pub(crate) token_rate: Rate,
    /// Times to first token, lately.
    pub(crate) first_token: Recent,
    /// Times between tokens, lately.
    pub(crate) inter_token: Recent,
}

/// Counts since the service began.
#[derive(Clone, Copy)]
pub(crate) struct Totals {
    /// Generated for callers.
    pub(crate) tokens: u64,
    /// Of admitted requests.
    pub(crate) prompt_tokens: u64,
    pub(crate) refusals: u64,
}

impl Metrics {
    pub(crate) fn new(options: &Options) -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        let board = Board::new(r);
        Self {
            requests: RequestMetrics::new(r, board.tokens.clone(), &options.ignored_fields),
            engines: EngineMetrics::new(r),
            weights: WeightMetrics::new(r),
            connections: ConnectionMetrics::new(r),
            process: ProcessMetrics::new(r, options),
            board,
            registry,
            asking: Mutex::default(),
            token_rate: Rate::new(),
            first_token: Recent::default(),
            inter_token: Recent::default(),
        }
    }

    pub(crate) fn http(&self, labels: HttpLabels, took: Duration) {
        self.board.http(labels, took);
    }

    pub(crate) fn refused(&self, code: Code) {
        self.requests.refused(code);
    }

    pub(crate) fn ignored_fields(&self, fields: &[String]) {
        for field in fields {
            self.requests.ignored_field(field);
        }
    }

    pub(crate) fn stream_began(&self) {
        self.board.active_generations.inc();
    }

    pub(crate) fn stream_ended(&self, end: StreamEnd, took: Duration) {
        self.board.active_generations.dec();
        self.board.generation_seconds.observe(took.as_secs_f64());
        self.requests.ended(end);
    }

    /// Streams by how they ended.
    pub(crate) fn ends(&self) -> serde_json::Map<String, serde_json::Value> {
        self.requests.ends()
    }

    /// Requests that were refused, by code; those that never were are left out.
    pub(crate) fn refused_by_code(&self) -> serde_json::Map<String, serde_json::Value> {
        self.requests.refused_by_code()
    }

    /// What was counted since the service began.
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            tokens: self.board.tokens.get(),
            prompt_tokens: self.requests.prompt_tokens.get(),
            refusals: self.requests.refused_in_all(),
        }
    }

    /// Streams that are open.
    pub(crate) fn active(&self) -> i64 {
        self.board.active_generations.get()
    }

    /// Everything as text.
    pub(crate) fn render(
        &self,
        models: &Models,
        lifecycle: &Lifecycle,
        options: &Options,
        format: TextFormat,
    ) -> String {
        let _turn = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let (engines, workers) = (models.engines(), models.workers());
        self.board.look(&workers);
        self.engines.look(models, &engines);
        self.weights.look(models, &engines);
        let status = Status::now(models, &workers, lifecycle, &options.limits);
        self.process.look(&status, options);
        self.connections.look(&lifecycle.connections);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        format.of(text)
    }
}
