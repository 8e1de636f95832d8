//! A directory on a web server. It cannot be listed, so it has to hold `SHA256SUMS`, which names its files and
//! their hashes.

use std::ops::Range;
use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderValue};
use reqwest::{Response, Url};

use crate::FetchSettings;
use crate::error::Error;
use crate::listing::{RemoteFile, RemoteFiles, sha256_of};
use crate::retry::{RequestFault, Retries};
use crate::web::{OpenedFile, Version, Web, WebRequest, content_range, host_of, read_small};

/// The list of files.
pub(crate) const FILE_NAME: &str = "SHA256SUMS";
/// Largest list, in bytes.
pub(crate) const MAX_BYTES: usize = 4 << 20;

/// One directory.
pub(crate) struct Directory {
    url: Url,
    wait: Duration,
}

impl Directory {
    pub(crate) fn new(url: &str, settings: &FetchSettings) -> Result<Self, Error> {
        let reason = || Error::Listing { source_name: url.to_owned(), reason: "no URL".to_owned() };
        Ok(Self { url: Url::parse(url).map_err(|_| reason())?, wait: settings.stall_window })
    }

    pub(crate) fn host(&self) -> String {
        host_of(&self.url)
    }

    /// The files that the list names. Their sizes are not known yet.
    pub(crate) async fn list(&self, web: &Web, retries: &Retries<'_>) -> Result<RemoteFiles, Error> {
        let (host, source) = (self.host(), self.url.to_string());
        let mut attempts = retries.attempts(&host, FILE_NAME);
        let body = loop {
            attempts.ready().await;
            match self.sums(web).await {
                Ok(body) => break body,
                Err(RequestFault::Status { status: 403 | 404 | 410, .. }) => {
                    return Err(Error::NoSums { url: source });
                }
                Err(fault) => attempts.again(fault).await?,
            }
        };
        let reason = |reason: String| Error::Listing { source_name: source.clone(), reason };
        let body = body.ok_or_else(|| reason(format!("{FILE_NAME} has more than {MAX_BYTES} bytes")))?;
        let mut files = RemoteFiles::new(None);
        for (sha256, path) in parse(&body).map_err(reason)? {
            let version = Version::default();
            files.add(&source, RemoteFile { path, size: None, sha256: Some(sha256), version })?;
        }
        Ok(files)
    }

    async fn sums(&self, web: &Web) -> Result<Option<Vec<u8>>, RequestFault> {
        let response = web.get(&self.address(FILE_NAME), &WebRequest::default()).await?;
        read_small(response, MAX_BYTES, self.wait).await
    }

    /// The file with its size and version, asked for with a request for its first byte: not every server knows HEAD.
    pub(crate) async fn measure(
        &self,
        web: &Web,
        file: &RemoteFile,
        retries: &Retries<'_>,
    ) -> Result<RemoteFile, Error> {
        let host = self.host();
        let mut attempts = retries.attempts(&host, &file.path);
        loop {
            attempts.ready().await;
            match self.size(web, &file.path).await {
                Ok((Some(size), version)) => {
                    return Ok(RemoteFile { size: Some(size), version, ..file.clone() });
                }
                Ok((None, _)) => {
                    let reason = format!("the server does not tell the size of {}", file.path);
                    return Err(Error::Listing { source_name: self.url.to_string(), reason });
                }
                Err(fault) => attempts.again(self.explain(fault, &file.path)).await?,
            }
        }
    }

    async fn size(&self, web: &Web, path: &str) -> Result<(Option<u64>, Version), RequestFault> {
        let mut ask = WebRequest::default();
        ask.headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-0"));
        let response = match web.get(&self.address(path), &ask).await {
            // There is no first byte.
            Err(RequestFault::Status { status: 416, .. }) => return Ok((Some(0), Version::default())),
            other => other?,
        };
        let version = Version::of(response.headers());
        let size = if response.status() == StatusCode::PARTIAL_CONTENT {
            let value = response.headers().get(header::CONTENT_RANGE);
            value.and_then(|value| content_range(value.to_str().ok()?)?.1)
        } else {
            response.content_length()
        };
        Ok((size, version))
    }

    pub(crate) async fn open(
        &self,
        web: &Web,
        file: &RemoteFile,
        range: Option<Range<u64>>,
    ) -> Result<OpenedFile<Response>, RequestFault> {
        let expected = (file.size.unwrap_or_default(), &file.version);
        let opened = web.open(&self.address(&file.path), WebRequest::default(), range, expected).await;
        opened.map_err(|fault| self.explain(fault, &file.path))
    }

    fn explain(&self, fault: RequestFault, file: &str) -> RequestFault {
        match fault {
            RequestFault::Status { status: 404 | 410, .. } => {
                Error::FileNotFound { source_name: self.url.to_string(), file: file.to_owned() }.into()
            }
            other => other,
        }
    }

    fn address(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(path.split('/'));
        }
        url
    }
}

/// Hashes and names as `sha256sum` prints them.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| format!("{FILE_NAME} is no text"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(i, line)| {
            let parsed = line.split_once(' ').and_then(|(hash, name)| {
                let name = name.strip_prefix([' ', '*']).unwrap_or(name);
                Some((sha256_of(hash)?, name.strip_prefix("./").unwrap_or(name).trim_end().to_owned()))
            });
            parsed.ok_or_else(|| format!("line {} of {FILE_NAME} is not one of sha256sum", i + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_sha256sum_in_both_modes() {
        let hash = "aB".repeat(32);
        let text = format!("{hash}  model.pt\n{hash} *./d20/meta.json\r\n\n");
        let lower = hash.to_lowercase();
        let expected = [(lower.clone(), "model.pt".to_owned()), (lower.clone(), "d20/meta.json".to_owned())];
        assert_eq!(parse(text.as_bytes()).unwrap(), expected);
        let error = parse(format!("{hash}  a\nwrong  b\n").as_bytes()).unwrap_err();
        assert_eq!(error, "line 2 of SHA256SUMS is not one of sha256sum");
        assert!(parse(b"\xff").is_err());
        assert!(parse(b"<html>not here</html>").is_err());
    }
}
