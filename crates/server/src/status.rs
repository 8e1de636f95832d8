//! How the service is, in one word: for `/health`, `/readyz` and the metrics.

use serving::Models;
use serving::models::WorkerState;

use crate::lifecycle::Lifecycle;
use crate::limits::Limits;

/// Every status there is.
pub(crate) const STATUSES: [&str; 5] = ["ok", "loading", "degraded", "stalled", "draining"];

/// How the service is.
pub(crate) struct Status {
    /// One of [`STATUSES`].
    pub(crate) word: &'static str,
    /// Whether requests should come here.
    pub(crate) is_ready: bool,
    pub(crate) reason: Option<String>,
}

impl Status {
    /// How it is now; `workers` are those of the model in service.
    pub(crate) fn now(
        models: &Models,
        workers: &[WorkerState],
        lifecycle: &Lifecycle,
        limits: &Limits,
    ) -> Self {
        let is_stalled = workers.iter().any(|worker| worker.snapshot.stuck_for > limits.stalled_after);
        let broken = workers.iter().filter(|worker| !worker.snapshot.healthy).count();
        let (word, is_ready, reason) = if lifecycle.is_ending() {
            ("draining", false, Some("the server is stopping".to_owned()))
        } else if models.is_paused() {
            let waiting = models.waiting();
            let reason =
                format!("the weights are being exchanged one after the other; {waiting} requests wait");
            // They are answered when the new weights are there, or the old ones again.
            ("loading", true, Some(reason))
        } else if workers.is_empty() && models.is_loading() {
            ("loading", false, Some("the first model is being loaded".to_owned()))
        } else if workers.is_empty() {
            let reason = models.failure().unwrap_or_else(|| "no model is loaded".to_owned());
            ("degraded", false, Some(reason))
        } else if is_stalled {
            let seconds = limits.stalled_after.as_secs();
            ("stalled", false, Some(format!("work is waiting and no step has finished for {seconds} s")))
        } else if broken > 0 {
            let reason =
                format!("{broken} of {} engines broke; they are rebuilt, or a swap is needed", workers.len());
            // The others take the requests.
            ("degraded", broken < workers.len(), Some(reason))
        } else {
            ("ok", true, None)
        };
        Self { word, is_ready, reason }
    }
}
