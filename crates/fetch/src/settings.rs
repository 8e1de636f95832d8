//! How models are downloaded.

use std::fmt;
use std::time::Duration;

use reqwest::Url;

use crate::error::Error;
use crate::retry::RetryPolicy;

/// The public Hub.
pub const PUBLIC_ENDPOINT: &str = "https://huggingface.co";

/// Settings of a [`crate::Fetcher`].
#[derive(Clone)]
pub struct FetchSettings {
    /// The Hub, or a mirror of it: `HF_ENDPOINT`.
    pub hf_endpoint: String,
    /// What the Hub knows its reader by: `HF_TOKEN`.
    pub hf_token: Option<String>,
    /// Ask the Hub for nothing: `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// Hosts that a source may redirect to: `host`, `host:port` or `*.suffix`. `DOWNLOAD_REDIRECT_HOSTS`.
    pub redirect_hosts: Vec<String>,
    /// `AWS_*` names and their values.
    pub s3: Vec<(String, String)>,
    /// Largest model, in bytes.
    pub max_bytes: u64,
    /// Bytes of the disk that stay free.
    pub reserve_bytes: u64,
    /// What one request asks for, in bytes.
    pub chunk_bytes: u64,
    /// Requests at a time.
    pub parallel: usize,
    /// A body that brings less than this in a window of [`Self::stall_window`] is cut.
    pub stall_bytes: usize,
    /// How long a body may be slow, and an answer be awaited.
    pub stall_window: Duration,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// When requests are made again.
    pub retry: RetryPolicy,
    /// Whether `HTTPS_PROXY` and `NO_PROXY` of the environment count.
    pub proxies: bool,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            hf_endpoint: PUBLIC_ENDPOINT.to_owned(),
            hf_token: None,
            offline: false,
            redirect_hosts: Vec::new(),
            s3: Vec::new(),
            max_bytes: 256 << 30,
            reserve_bytes: 64 << 20,
            chunk_bytes: 32 << 20,
            parallel: 4,
            stall_bytes: 128 << 10,
            stall_window: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            retry: RetryPolicy::default(),
            proxies: true,
        }
    }
}

impl FetchSettings {
    /// What is sent to a source and may be shown to nobody else.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let is_secret = |name: &str| name.contains("SECRET") || name.contains("TOKEN");
        let of_s3 = self.s3.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value);
        self.hf_token.iter().chain(of_s3).filter(|secret| !secret.is_empty()).cloned().collect()
    }
}

impl fmt::Debug for FetchSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.s3.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("FetchSettings")
            .field("hf_endpoint", &self.hf_endpoint)
            .field("hf_token", &self.hf_token.as_ref().map(|_| "set"))
            .field("offline", &self.offline)
            .field("redirect_hosts", &self.redirect_hosts)
            .field("s3", &names)
            .field("max_bytes", &self.max_bytes)
            .field("reserve_bytes", &self.reserve_bytes)
            .field("chunk_bytes", &self.chunk_bytes)
            .field("parallel", &self.parallel)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

impl FetchSettings {
    /// Says which setting cannot be used.
    pub(crate) fn check(&self) -> Result<(), Error> {
        hub_endpoint(&self.hf_endpoint)?;
        for host in &self.redirect_hosts {
            let name = host.strip_prefix("*.").unwrap_or(host);
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
            if name.is_empty() || !name.chars().all(plain) {
                let reason = format!("{host:?} is none of HOST, HOST:PORT and *.SUFFIX");
                return Err(Error::Setting { name: "DOWNLOAD_REDIRECT_HOSTS", reason });
            }
        }
        Ok(())
    }
}

/// Checks the address of a Hub.
pub(crate) fn hub_endpoint(text: &str) -> Result<Url, Error> {
    let wrong = |reason: &str| Error::Setting { name: "HF_ENDPOINT", reason: reason.to_owned() };
    let url = Url::parse(text).map_err(|_| wrong("is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("must be https://HOST"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(wrong("must have no user, password or query; the token goes to HF_TOKEN"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_printed_is_secret() {
        let settings = FetchSettings {
            hf_token: Some("hf_secret".to_owned()),
            s3: vec![("AWS_SECRET_ACCESS_KEY".to_owned(), "s3_secret".to_owned())],
            ..FetchSettings::default()
        };
        let printed = format!("{:?}", crate::Fetcher::new(settings).unwrap());
        assert!(!printed.contains("secret\"") && !printed.contains("_secret"), "{printed}");
        assert!(printed.contains("AWS_SECRET_ACCESS_KEY"));
    }

    #[test]
    fn hosts_that_are_none_are_refused() {
        for host in ["", "*.", "https://cdn.example", "cdn.example/path", "*", "a b"] {
            let settings =
                FetchSettings { redirect_hosts: vec![host.to_owned()], ..FetchSettings::default() };
            assert!(settings.check().is_err(), "{host:?}");
        }
        let hosts = ["cdn.example", "cdn.example:8443", "*.cdn.example", "[::1]:80"];
        let redirect_hosts = hosts.map(str::to_owned).to_vec();
        assert!(FetchSettings { redirect_hosts, ..FetchSettings::default() }.check().is_ok());
    }

    #[test]
    fn endpoints_that_cannot_be_meant_are_refused() {
        for text in ["huggingface.co", "ftp://x", "https://user:pw@host", "https://host?x=1"] {
            let error = hub_endpoint(text).unwrap_err().to_string();
            assert!(error.starts_with("HF_ENDPOINT") && !error.contains("pw"), "{error}");
        }
    }
}
