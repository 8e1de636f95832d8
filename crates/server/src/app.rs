//! What handlers share, each part extractable alone.

use std::sync::Arc;

use axum::extract::FromRef;
use serving::Models;

use crate::lifecycle::Lifecycle;
use crate::options::Options;
use crate::telemetry::Telemetry;

/// The service. Clones are handles on the same one.
#[derive(Clone)]
pub struct App {
    /// The models in service.
    pub models: Arc<Models>,
    /// Whether requests are taken, and how the service ends.
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// Metrics, spans, history and open streams.
    pub(crate) telemetry: Arc<Telemetry>,
    /// The settings.
    pub options: Arc<Options>,
}

impl App {
    /// A service without a model yet; see [`Models::load_at_start`].
    pub fn new(options: Options) -> Self {
        let telemetry = Arc::new(Telemetry::new(&options));
        let lifecycle = Arc::new(Lifecycle::new(options.limits.connections));
        let models = Models::new(options.models.clone(), Arc::clone(&telemetry) as _);
        Self { models, lifecycle, telemetry, options: Arc::new(options) }
    }

    /// Streams that are open or about to be.
    pub fn open_streams(&self) -> usize {
        // In the order in which a request passes, so that none is missed on its way.
        let arriving = self.lifecycle.arriving();
        arriving + self.telemetry.metrics.active().max(0) as usize
    }

    /// What only a restart repairs, if anything.
    pub fn defect(&self) -> Option<String> {
        if self.models.has_dead_engine() {
            return Some("An engine broke and could not be rebuilt.".to_owned());
        }
        let limit = self.options.limits.dead_after;
        let is_stuck = self.models.stuck_for() > limit;
        is_stuck.then(|| format!("Work is waiting and no step has finished for {} s.", limit.as_secs()))
    }
}

impl FromRef<App> for Arc<Models> {
    fn from_ref(app: &App) -> Self {
        Arc::clone(&app.models)
    }
}

impl FromRef<App> for Arc<Telemetry> {
    fn from_ref(app: &App) -> Self {
        Arc::clone(&app.telemetry)
    }
}

impl FromRef<App> for Arc<Options> {
    fn from_ref(app: &App) -> Self {
        Arc::clone(&app.options)
    }
}
