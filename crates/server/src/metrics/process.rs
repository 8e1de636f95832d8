//! Series of the program and its process: which it is, how it is, and what the system knows of it.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::add;
use crate::edge::Tls;
use crate::health;
use crate::options::Options;
use crate::state::State;

type Decimal = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
    version: &'static str,
    isa: &'static str,
    architecture: &'static str,
    os: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Status {
    status: &'static str,
}

/// Series of the process.
pub(super) struct Process {
    ready: Gauge,
    status: Family<Status, Gauge>,
    log_lines_dropped: Counter,
    certificate_expires: Gauge,
    /// Absent where the system does not tell.
    system: Option<System>,
    available: Option<Gauge>,
}

/// Under the names that Prometheus' own clients give them.
struct System {
    cpu_seconds: Counter<f64, AtomicU64>,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    open_fds: Gauge,
    max_fds: Decimal,
    threads: Gauge,
}

impl Process {
    pub(super) fn new(r: &mut Registry, options: &Options) -> Self {
        let build: Family<Build, Gauge> = add(r, "samosa_build_info", "This program", Family::default());
        build
            .get_or_create(&Build {
                version: env!("CARGO_PKG_VERSION"),
                isa: options.isa.name(),
                architecture: std::env::consts::ARCH,
                os: std::env::consts::OS,
            })
            .set(1);
        let process = Self {
            ready: add(r, "samosa_ready", "Whether requests should come here, as /readyz", Gauge::default()),
            status: add(r, "samosa_status", "1 for the status that /health says", Family::default()),
            log_lines_dropped: add(
                r,
                "samosa_log_lines_dropped",
                "Lines of the log that its reader or its disk did not take",
                Counter::default(),
            ),
            certificate_expires: add(
                r,
                "samosa_tls_certificate_expires_timestamp_seconds",
                "Seconds from 1970 to the end of the certificate, 0 without TLS",
                Gauge::default(),
            ),
            available: registry::memory::available().map(|_| {
                let help = "Bytes that this process may still take, by its control group and the machine";
                add(r, "samosa_memory_available_bytes", help, Gauge::default())
            }),
            system: registry::process::now().map(|now| System::new(r, &now)),
        };
        for status in health::STATUSES {
            drop(process.status.get_or_create(&Status { status }));
        }
        process
    }

    /// Looks at what is now.
    pub(super) fn look(&self, state: &State) {
        let condition = health::condition(state, &state.workers());
        self.ready.set(i64::from(condition.ready));
        for status in health::STATUSES {
            self.status.get_or_create(&Status { status }).set(i64::from(status == condition.status));
        }
        let dropped = state.options.log_lines_dropped.load(Ordering::Relaxed);
        self.log_lines_dropped.inner().store(dropped, Ordering::Relaxed);
        let validity = state.options.edge.tls.as_ref().and_then(Tls::validity);
        self.certificate_expires.set(validity.map_or(0, |validity| validity.ends));
        if let Some((gauge, bytes)) = self.available.as_ref().zip(registry::memory::available()) {
            gauge.set(bytes as i64);
        }
        if let Some((system, now)) = self.system.as_ref().zip(registry::process::now()) {
            system.set(&now);
        }
    }
}

impl System {
    fn new(r: &mut Registry, now: &registry::process::ProcessStats) -> Self {
        let help = "Seconds from 1970 to the start of the process";
        let started: Decimal = add(r, "process_start_time_seconds", help, Gauge::default());
        // Once: the system's clock may be set, the start stays.
        started.set(now.start_time_seconds);
        Self {
            cpu_seconds: add(
                r,
                "process_cpu_seconds",
                "Seconds of processor time of the process",
                Counter::default(),
            ),
            resident_bytes: add(
                r,
                "process_resident_memory_bytes",
                "Bytes of the process in memory",
                Gauge::default(),
            ),
            virtual_bytes: add(
                r,
                "process_virtual_memory_bytes",
                "Bytes of the process's address space",
                Gauge::default(),
            ),
            open_fds: add(r, "process_open_fds", "Open files and sockets", Gauge::default()),
            max_fds: add(r, "process_max_fds", "How many there may be", Gauge::default()),
            threads: add(r, "process_threads", "Threads of the process", Gauge::default()),
        }
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
