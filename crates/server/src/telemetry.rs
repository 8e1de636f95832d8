//! What is measured of the service: metrics, spans, the last half hour, open streams.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fetch::DownloadProgress;
use serving::transaction::{SwapOutcome, SwapPhase};
use serving::{Models, SwapObserver, SwapStatus};

use crate::clock;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::statistics::history::{RecentHistory, Recorder};
use crate::statistics::streams::OpenStreams;
use crate::swap_report;
use crate::trace::Collector;

pub(crate) struct Telemetry {
    pub(crate) metrics: Metrics,
    pub(crate) streams: OpenStreams,
    pub(crate) history: RecentHistory,
    /// Where spans go, if anywhere.
    pub(crate) spans: Option<Arc<dyn Collector>>,
    pub(crate) started: Instant,
    /// The same in seconds since 1970.
    pub(crate) started_unix: u64,
}

impl Telemetry {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            metrics: Metrics::new(options),
            streams: OpenStreams::default(),
            history: RecentHistory::default(),
            spans: options.spans.clone(),
            started: clock::now(),
            started_unix: clock::unix(),
        }
    }

    /// Adds a row to the history each second, for ever; it forgets those that are older than so many seconds.
    pub(crate) fn record_history(
        self: Arc<Self>,
        models: Arc<Models>,
        seconds: usize,
    ) -> impl Future<Output = ()> + Send {
        let mut recorder = Recorder::start(&self.metrics, &models);
        async move {
            loop {
                let row = recorder.next(&self.metrics, &models).await;
                self.history.add(row, seconds);
            }
        }
    }
}

impl SwapObserver for Telemetry {
    fn began(&self) {
        self.metrics.weights.swap_began();
    }

    fn settled(&self, outcome: SwapOutcome) {
        self.metrics.weights.swap_settled(outcome);
    }

    fn phase_ended(&self, phase: SwapPhase, took: Duration) {
        self.metrics.weights.phase(phase, took);
    }

    fn download_began(&self, progress: &DownloadProgress) {
        self.metrics.weights.download_began(progress);
    }

    fn download_ended(&self) {
        self.metrics.weights.download_ended();
    }

    fn ended(&self, record: &SwapStatus) {
        if let Some(spans) = &self.spans {
            for span in swap_report::spans(record) {
                spans.collect(span);
            }
        }
    }
}
