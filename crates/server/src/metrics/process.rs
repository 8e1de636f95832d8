//! Series of the program and its process: which it is, how it is, and what the system knows of it.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::series::series;
use crate::edge::Tls;
use crate::options::Options;
use crate::status::{STATUSES, Status};

type Decimal = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    isa: &'static str,
    architecture: &'static str,
    os: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

series! {
    /// Series of the process.
    pub(super) struct ProcessMetrics {
        build: Family<BuildLabels, Gauge>,
            "samosa_build_info", "This program";
        ready: Gauge,
            "samosa_ready", "Whether requests should come here, as /readyz";
        status: Family<StatusLabels, Gauge>,
            "samosa_status", "1 for the status that /health says";
        log_lines_dropped: Counter,
            "samosa_log_lines_dropped", "Lines of the log that its reader or its disk did not take";
        certificate_expires: Gauge,
            "samosa_tls_certificate_expires_timestamp_seconds",
            "Seconds from 1970 to the end of the certificate, 0 without TLS";
        /// Absent where the system does not tell.
        available: Option<AvailableMemory>;
        system: Option<SystemMetrics>;
    }
}

series! {
    /// Memory that is left, where the system tells.
    struct AvailableMemory {
        bytes: Gauge,
            "samosa_memory_available_bytes",
            "Bytes that this process may still take, by its control group and the machine";
    }
}

series! {
    /// Under the names that Prometheus' own clients give them.
    struct SystemMetrics {
        started: Decimal,
            "process_start_time_seconds", "Seconds from 1970 to the start of the process";
        cpu_seconds: Counter<f64, AtomicU64>,
            "process_cpu_seconds", "Seconds of processor time of the process";
        resident_bytes: Gauge,
            "process_resident_memory_bytes", "Bytes of the process in memory";
        virtual_bytes: Gauge,
            "process_virtual_memory_bytes", "Bytes of the process's address space";
        open_fds: Gauge,
            "process_open_fds", "Open files and sockets";
        max_fds: Decimal,
            "process_max_fds", "How many there may be";
        threads: Gauge,
            "process_threads", "Threads of the process";
    }
}

impl ProcessMetrics {
    pub(super) fn new(r: &mut Registry, options: &Options) -> Self {
        let mut process = Self::register(r);
        process.available = registry::memory::available().map(|_| AvailableMemory::register(r));
        process.system = registry::process::now().map(|now| SystemMetrics::new(r, &now));
        let build = BuildLabels {
            version: env!("CARGO_PKG_VERSION"),
            isa: options.models.isa.name(),
            architecture: std::env::consts::ARCH,
            os: std::env::consts::OS,
        };
        process.build.get_or_create(&build).set(1);
        for status in STATUSES {
            drop(process.status.get_or_create(&StatusLabels { status }));
        }
        process
    }

    /// Looks at what is now.
    pub(super) fn look(&self, now: &Status, options: &Options) {
        self.ready.set(i64::from(now.is_ready));
        for status in STATUSES {
            self.status.get_or_create(&StatusLabels { status }).set(i64::from(status == now.word));
        }
        let dropped = options.log_lines_dropped.load(Ordering::Relaxed);
        self.log_lines_dropped.inner().store(dropped, Ordering::Relaxed);
        let validity = options.edge.tls.as_ref().and_then(Tls::validity);
        self.certificate_expires.set(validity.map_or(0, |validity| validity.ends));
        if let Some((available, bytes)) = self.available.as_ref().zip(registry::memory::available()) {
            available.bytes.set(bytes as i64);
        }
        if let Some((system, now)) = self.system.as_ref().zip(registry::process::now()) {
            system.set(&now);
        }
    }
}

impl SystemMetrics {
    fn new(r: &mut Registry, now: &registry::process::ProcessStats) -> Self {
        let system = Self::register(r);
        // Once: the system's clock may be set, the start stays.
        system.started.set(now.start_time_seconds);
        system
    }

    fn set(&self, now: &registry::process::ProcessStats) {
        self.cpu_seconds.inner().store(now.cpu_seconds.to_bits(), Ordering::Relaxed);
        self.resident_bytes.set(now.resident_bytes as i64);
        self.virtual_bytes.set(now.virtual_bytes as i64);
        self.open_fds.set(now.open_fds as i64);
        self.max_fds.set(now.max_fds as f64);
        self.threads.set(now.threads as i64);
    }
}
