//! Whether a source can be reached and listed, without fetching anything of it: for whoever looks for what is wrong.

use reqwest::Url;

use super::retry::{Retries, RetryPolicy};
use super::s3;
use super::store::Store;
use super::{Error, Fetcher, Progress, Wanted};
use crate::Source;

/// The server that a source is first asked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it speaks TLS.
    pub is_encrypted: bool,
}

impl Fetcher {
    /// The server that a source is first asked at; `None` if it is on this machine.
    pub fn origin(&self, source: &Source) -> Option<Origin> {
        let url = match source {
            Source::Builtin | Source::Local | Source::Path(_) => return None,
            Source::HuggingFace { .. } => self.settings.hf_endpoint.clone(),
            Source::S3 { .. } => s3::endpoint(&self.settings.s3),
            Source::Https { url } => url.clone(),
        };
        let url = Url::parse(&url).ok()?;
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Origin { host, port: url.port_or_known_default()?, is_encrypted: url.scheme() == "https" })
    }

    /// Lists what a source has, and returns how many files that are. Asks once: whoever waits can ask again. What no
    /// model needs counts too.
    pub async fn list(&self, wanted: &Wanted) -> Result<usize, Error> {
        let progress = Progress::default();
        let retries = Retries::new(RetryPolicy { attempts: 1, ..self.settings.retry }, &progress);
        let mut store = Store::new(self.web()?, &self.settings, wanted)?;
        Ok(store.list(&retries).await?.len())
    }
}
