//! One source, whatever its kind: what it lists, and how its files are opened.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use registry::Source;
use registry::provenance::DownloadRequest;

use crate::FetchSettings;
use crate::error::Error;
use crate::hub::Hub;
use crate::listing::{RemoteFile, RemoteFiles};
use crate::retry::{RequestFault, Retries};
use crate::s3::S3;
use crate::sums::Directory;
use crate::web::{OpenedFile, Web, failed};

/// Where one model is fetched from.
pub(crate) struct Store {
    web: std::sync::Arc<Web>,
    kind: StoreKind,
    name: String,
    /// The commit that was listed.
    commit: Option<String>,
    wait: Duration,
}

enum StoreKind {
    Hub(Hub),
    S3(S3),
    Directory(Directory),
}

/// Bytes as they come.
pub(crate) enum FileBody {
    Web(reqwest::Response),
    Object(futures_util::stream::BoxStream<'static, object_store::Result<Bytes>>),
}

impl FileBody {
    /// All of a small file, which must have `size` bytes. It may pause for as long as `wait`.
    pub(crate) async fn read(mut self, size: usize, wait: Duration) -> Result<Vec<u8>, RequestFault> {
        let mut bytes = Vec::new();
        loop {
            let next = tokio::time::timeout(wait, self.next()).await;
            let next = next.map_err(|_| RequestFault::passing("the body stalled"))?;
            match next? {
                Some(more) if bytes.len() + more.len() <= size => bytes.extend_from_slice(&more),
                Some(_) => return Err(RequestFault::passing("more bytes than the file has")),
                None if bytes.len() < size => return Err(RequestFault::passing("the body ended early")),
                None => return Ok(bytes),
            }
        }
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RequestFault> {
        match self {
            Self::Web(response) => response.chunk().await.map_err(|error| failed(&error)),
            Self::Object(stream) => {
                use futures_util::TryStreamExt as _;
                stream.try_next().await.map_err(|error| crate::s3::fault_of(&error))
            }
        }
    }
}

impl Store {
    pub(crate) fn new(
        web: std::sync::Arc<Web>,
        settings: &FetchSettings,
        wanted: &DownloadRequest,
    ) -> Result<Self, Error> {
        let (name, revision) = wanted.source_and_revision();
        let kind = match &wanted.source {
            Source::HuggingFace { .. } if settings.offline => {
                return Err(Error::Offline { source_name: name });
            }
            Source::HuggingFace { repository, .. } => {
                StoreKind::Hub(Hub::new(settings, repository, revision)?)
            }
            Source::S3 { bucket, prefix } => StoreKind::S3(S3::new(settings, web.clone(), bucket, prefix)?),
            Source::Https { url } => StoreKind::Directory(Directory::new(url, settings)?),
            Source::Builtin | Source::Local | Source::Path(_) => {
                return Err(Error::NotRemote { source_name: name });
            }
        };
        Ok(Self { web, kind, name, commit: None, wait: settings.stall_window })
    }

    /// The source without a revision.
    pub(crate) fn name(&self) -> String {
        self.name.clone()
    }

    pub(crate) fn host(&self) -> String {
        match &self.kind {
            StoreKind::Hub(hub) => hub.host(),
            StoreKind::S3(s3) => s3.host(),
            StoreKind::Directory(directory) => directory.host(),
        }
    }

    pub(crate) async fn list(&mut self, retries: &Retries<'_>) -> Result<RemoteFiles, Error> {
        let listed = match &self.kind {
            StoreKind::Hub(hub) => hub.list(&self.web, retries).await?,
            StoreKind::S3(s3) => s3.list(retries).await?,
            StoreKind::Directory(directory) => directory.list(&self.web, retries).await?,
        };
        self.commit.clone_from(&listed.commit);
        Ok(listed)
    }

    /// The file with its size, asked for where the list does not tell it.
    pub(crate) async fn measured(
        &self,
        file: &RemoteFile,
        retries: &Retries<'_>,
    ) -> Result<RemoteFile, Error> {
        match &self.kind {
            StoreKind::Directory(directory) if file.size.is_none() => {
                directory.measure(&self.web, file, retries).await
            }
            _ => Ok(file.clone()),
        }
    }

    /// Asks for a part of a file, or for all of it.
    pub(crate) async fn open(
        &self,
        file: &RemoteFile,
        range: Option<Range<u64>>,
    ) -> Result<OpenedFile<FileBody>, RequestFault> {
        let opened = match &self.kind {
            StoreKind::Hub(hub) => {
                let commit = self.commit.as_deref().unwrap_or_default();
                hub.open(&self.web, commit, file, range).await?
            }
            StoreKind::Directory(directory) => directory.open(&self.web, file, range).await?,
            StoreKind::S3(s3) => return s3.open(file, range).await,
        };
        Ok(match opened {
            OpenedFile::Part(response) => OpenedFile::Part(FileBody::Web(response)),
            OpenedFile::Whole(response) => OpenedFile::Whole(FileBody::Web(response)),
        })
    }

    /// A whole small file. Its size was checked.
    pub(crate) async fn read(&self, file: &RemoteFile, retries: &Retries<'_>) -> Result<Vec<u8>, Error> {
        let host = self.host();
        let mut attempts = retries.attempts(&host, &file.path);
        loop {
            attempts.ready().await;
            match self.read_once(file).await {
                Ok(bytes) => return Ok(bytes),
                Err(fault) => attempts.again(fault).await?,
            }
        }
    }

    async fn read_once(&self, file: &RemoteFile) -> Result<Vec<u8>, RequestFault> {
        let size = file.size.unwrap_or_default() as usize;
        let (OpenedFile::Part(body) | OpenedFile::Whole(body)) = self.open(file, None).await?;
        body.read(size, self.wait).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream::{self, StreamExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_small_file_has_its_size_and_does_not_stall() {
        let read = |parts: &[&'static [u8]], goes_on: bool| {
            let parts: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part))).collect();
            let (parts, rest) = (stream::iter(parts), stream::pending().take(usize::from(goes_on)));
            FileBody::Object(parts.chain(rest).boxed()).read(4, Duration::from_secs(1))
        };
        assert_eq!(read(&[b"ab", b"cd"], false).await.unwrap(), b"abcd");
        for (parts, goes_on, expected) in [
            (&[&b"ab"[..]][..], false, "the body ended early"),
            (&[b"ab", b"cd", b"e"], true, "more bytes than the file has"),
            (&[b"ab"], true, "the body stalled"),
        ] {
            let found = read(parts, goes_on).await;
            assert!(
                matches!(&found, Err(RequestFault::Passing { reason, wait: None }) if reason == expected),
                "{found:?}"
            );
        }
    }
}
