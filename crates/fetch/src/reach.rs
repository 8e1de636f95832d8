//! Whether a source can be reached and listed, without fetching anything of it: for whoever looks for what is wrong.

use registry::Source;
use registry::provenance::DownloadRequest;
use reqwest::Url;

use crate::retry::{Retries, RetryPolicy};
use crate::s3;
use crate::store::Store;
use crate::{DownloadProgress, Error, Fetcher};

/// The server that a source is first asked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceServer {
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it speaks TLS.
    pub is_encrypted: bool,
}

impl Fetcher {
    /// Whether nothing may be fetched from a source: from the Hub with `HF_HUB_OFFLINE`.
    pub fn is_off(&self, source: &Source) -> bool {
        self.settings.offline && matches!(source, Source::HuggingFace { .. })
    }

    /// The server that a source is first asked at; `None` if it is on this machine.
    pub fn origin(&self, source: &Source) -> Option<SourceServer> {
        let url = match source {
            Source::Builtin | Source::Local | Source::Path(_) => return None,
            Source::HuggingFace { .. } => self.settings.hf_endpoint.clone(),
            Source::S3 { .. } => s3::endpoint(&self.settings.s3),
            Source::Https { url } => url.clone(),
        };
        let url = Url::parse(&url).ok()?;
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(SourceServer { host, port: url.port_or_known_default()?, is_encrypted: url.scheme() == "https" })
    }

    /// Lists what a source has, and returns how many files that are. Asks once: whoever waits can ask again. What no
    /// model needs counts too.
    pub async fn list(&self, wanted: &DownloadRequest) -> Result<usize, Error> {
        let progress = DownloadProgress::default();
        let retries = Retries::new(RetryPolicy { attempts: 1, ..self.settings.retry }, &progress);
        let mut store = Store::new(self.web()?, &self.settings, wanted)?;
        Ok(store.list(&retries).await?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FetchSettings;

    #[test]
    fn the_server_of_each_source_is_known() {
        let fetcher = |s3: &[(&str, &str)]| {
            let s3 = s3.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Fetcher::new(FetchSettings { s3, ..FetchSettings::default() }).unwrap()
        };
        let of = |s3: &[(&str, &str)], source: &str| {
            let origin = fetcher(s3).origin(&source.parse().unwrap());
            origin.map(|SourceServer { host, port, is_encrypted }| (host, port, is_encrypted))
        };
        let known = |host: &str, port, is_encrypted| Some((host.to_owned(), port, is_encrypted));
        assert_eq!(of(&[], "huggingface:owner/name"), known("huggingface.co", 443, true));
        assert_eq!(of(&[], "http://[::1]:8080/d20"), known("::1", 8080, false));
        assert_eq!(of(&[], "s3://models/d20"), known("s3.us-east-1.amazonaws.com", 443, true));
        let region = [("AWS_DEFAULT_REGION", "eu-west-1")];
        assert_eq!(of(&region, "s3://models"), known("s3.eu-west-1.amazonaws.com", 443, true));
        let own = [("AWS_ENDPOINT_URL", "http://127.0.0.1:9000"), ("AWS_REGION", "x")];
        assert_eq!(of(&own, "s3://models"), known("127.0.0.1", 9000, false));
        assert_eq!(of(&[], "local:/srv/d20"), None);
    }
}
