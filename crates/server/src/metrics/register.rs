//! Registration of series.

use prometheus_client::registry::{Metric, Registry};

/// Registers a series. Counters gain `_total` when they are written out.
pub(super) fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}
