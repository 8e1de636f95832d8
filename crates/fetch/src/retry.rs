//! When a request is made again, and how long that waits.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::DownloadProgress;
use crate::error::Error;

/// Bounds of trying again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Requests in a row that may fail without more than a trickle having come.
    pub attempts: u32,
    /// Requests of one download that may fail.
    pub total: u32,
    /// The longest wait after the first failure; it doubles with each that follows.
    pub base: Duration,
    /// No wait is longer, unless the server asks for it.
    pub cap: Duration,
    /// No wait that a server asks for is longer.
    pub retry_after_cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 8,
            total: 1000,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(30),
            retry_after_cap: Duration::from_mins(5),
        }
    }
}

impl RetryPolicy {
    /// The wait after the `failures`-th failure in a row: anything up to a bound that doubles each time, so
    /// that many who failed together do not come back together. `random` is between 0 and 1.
    pub(crate) fn backoff(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let bound = self.base.saturating_mul(1 << doublings).min(self.cap);
        bound.mul_f64(random.clamp(0.0, 1.0))
    }
}

/// What went wrong with one request.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RequestFault {
    /// Worth another request, after `wait` if the server said so.
    #[error("{reason}")]
    Passing { reason: String, wait: Option<Duration> },
    /// The server refuses. `code` is what it calls the reason, `message` how it explains it.
    #[error("{host} answered {status}")]
    Status { host: String, status: u16, code: String, message: String },
    /// The file is not the one that was listed.
    #[error("the file changed")]
    Changed,
    /// No request will help.
    #[error(transparent)]
    Final(#[from] Error),
}

impl RequestFault {
    pub(crate) fn passing(reason: impl Into<String>) -> Self {
        Self::Passing { reason: reason.into(), wait: None }
    }
}

/// The count of failures that all requests of one download share, and when the server wants the next one.
pub(crate) struct Retries<'a> {
    policy: RetryPolicy,
    progress: &'a DownloadProgress,
    total: AtomicU32,
    not_before: Mutex<Option<Instant>>,
}

/// Requests for one thing, made until it is had.
pub(crate) struct Attempts<'a> {
    shared: &'a Retries<'a>,
    host: &'a str,
    /// The file, for what is said when it changed.
    file: &'a str,
    failures: u32,
}

impl<'a> Retries<'a> {
    pub(crate) fn new(policy: RetryPolicy, progress: &'a DownloadProgress) -> Self {
        Self { policy, progress, total: AtomicU32::new(0), not_before: Mutex::default() }
    }

    pub(crate) fn attempts(&'a self, host: &'a str, file: &'a str) -> Attempts<'a> {
        Attempts { shared: self, host, file, failures: 0 }
    }

    /// Waits until the server takes requests again.
    async fn ready(&self) {
        loop {
            let until = self.not_before.lock().ok().and_then(|until| *until);
            match until {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                _ => return,
            }
        }
    }

    fn hold(&self, wait: Duration) {
        let until = Instant::now() + wait;
        if let Ok(mut not_before) = self.not_before.lock() {
            *not_before = Some(not_before.map_or(until, |before| before.max(until)));
        }
    }
}

impl Attempts<'_> {
    /// Waits for the server's leave to send a request.
    pub(crate) async fn ready(&self) {
        self.shared.ready().await;
    }

    /// Something came: the count of failures in a row begins anew.
    pub(crate) fn progress(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next request, or says that there is none.
    pub(crate) async fn again(&mut self, fault: RequestFault) -> Result<(), Error> {
        let (reason, wait) = match fault {
            RequestFault::Passing { reason, wait } => (reason, wait),
            RequestFault::Changed => return Err(Error::Changed { file: self.file.to_owned() }),
            RequestFault::Final(error) => return Err(error),
            RequestFault::Status { host, status, code, message } => {
                let said = if message.is_empty() { code } else { message };
                let detail = if said.is_empty() { String::new() } else { format!(": {said}") };
                return Err(Error::Status { host, status, detail });
            }
        };
        let policy = self.shared.policy;
        self.failures += 1;
        let total = self.shared.total.fetch_add(1, Ordering::Relaxed) + 1;
        if self.failures >= policy.attempts || total >= policy.total {
            let attempts = if total >= policy.total { total } else { self.failures };
            return Err(Error::Unreachable { host: self.host.to_owned(), attempts, reason });
        }
        self.shared.progress.count_retry();
        let backoff = policy.backoff(self.failures, random());
        tracing::warn!(
            host = self.host,
            file = self.file,
            attempt = self.failures,
            wait_ms = wait.unwrap_or(backoff).as_millis() as u64,
            "a request failed and is made again: {reason}"
        );
        if let Some(wait) = wait {
            self.shared.hold(wait.min(policy.retry_after_cap));
        }
        tokio::time::sleep(backoff).await;
        Ok(())
    }
}

/// Between 0 and 1. Without a source of randomness, one half: waiting is then less spread, and no less long.
fn random() -> f64 {
    getrandom::u32().map_or(0.5, |bits| f64::from(bits) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_have_full_jitter() {
        let policy = RetryPolicy {
            base: Duration::from_millis(100),
            cap: Duration::from_secs(1),
            ..RetryPolicy::default()
        };
        let longest: Vec<u128> = (1..=6).map(|n| policy.backoff(n, 1.0).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(policy.backoff(3, 0.5).as_millis(), 200);
        assert_eq!(policy.backoff(3, 0.0), Duration::ZERO);
        assert_eq!(policy.backoff(u32::MAX, 1.0), policy.cap, "no overflow");
        assert_eq!(policy.backoff(1, f64::NAN.max(2.0)), policy.base, "never beyond the bound");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_are_bounded_and_progress_begins_anew() {
        let progress = DownloadProgress::default();
        let policy = RetryPolicy { attempts: 3, total: 6, ..RetryPolicy::default() };
        let retries = Retries::new(policy, &progress);
        let mut attempts = retries.attempts("host", "file");
        let fault = || RequestFault::passing("reset");
        assert!(attempts.again(fault()).await.is_ok());
        assert!(attempts.again(fault()).await.is_ok());
        attempts.progress();
        assert!(attempts.again(fault()).await.is_ok());
        assert!(attempts.again(fault()).await.is_ok());
        let ended = attempts.again(fault()).await;
        assert!(matches!(ended, Err(Error::Unreachable { attempts: 3, .. })), "{ended:?}");
        attempts.progress();
        let ended = attempts.again(fault()).await;
        assert!(
            matches!(ended, Err(Error::Unreachable { attempts: 6, .. })),
            "the whole download is bounded: {ended:?}"
        );
        assert_eq!(progress.snapshot().retries, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_the_server_asks_for_holds_everybody_up_to_a_bound() {
        let progress = DownloadProgress::default();
        let policy = RetryPolicy { retry_after_cap: Duration::from_mins(1), ..RetryPolicy::default() };
        let retries = Retries::new(policy, &progress);
        let start = Instant::now();
        let wait = Some(Duration::from_secs(9999));
        let fault = RequestFault::Passing { reason: "429".to_owned(), wait };
        retries.attempts("host", "a").again(fault).await.unwrap();
        retries.attempts("host", "b").ready().await;
        let waited = start.elapsed();
        assert!(waited >= Duration::from_mins(1) && waited < Duration::from_secs(62), "{waited:?}");
    }
}
