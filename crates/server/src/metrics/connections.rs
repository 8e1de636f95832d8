//! Series about connections.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::series::series;
use crate::connections::{Closed, ConnectionPhase, Connections};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClosedLabels {
    reason: &'static str,
}

series! {
    /// How many there are, and why the server ended them.
    pub(crate) struct ConnectionMetrics {
        open: Family<StateLabels, Gauge>,
            "samosa_http_connections", "Open connections: sending a request's head, being answered, or idle";
        closed: Family<ClosedLabels, Counter>,
            "samosa_http_connections_closed", "Connections that the server ended or did not take";
    }
}

impl ConnectionMetrics {
    pub(super) fn new(r: &mut Registry) -> Self {
        let metrics = Self::register(r);
        for phase in ConnectionPhase::ALL {
            drop(metrics.open.get_or_create(&StateLabels { state: phase.as_str() }));
        }
        for reason in Closed::ALL {
            drop(metrics.closed.get_or_create(&ClosedLabels { reason: reason.as_str() }));
        }
        metrics
    }

    /// The server ended one.
    pub(crate) fn closed(&self, reason: Closed) {
        self.closed.get_or_create(&ClosedLabels { reason: reason.as_str() }).inc();
    }

    /// Looks at what is now.
    pub(crate) fn look(&self, connections: &Connections) {
        for (phase, open) in ConnectionPhase::ALL.into_iter().zip(connections.by_phase()) {
            self.open.get_or_create(&StateLabels { state: phase.as_str() }).set(open as i64);
        }
    }
}
