//! A prefix of a bucket in an S3-compatible store. `object_store` signs, lists and addresses; its requests go
//! through our client, so that hosts, time limits and trying again are the same for every source.

use std::ops::Range;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use http_body_util::BodyExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, RetryConfig};
use reqwest::Url;

use crate::FetchSettings;
use crate::error::Error;
use crate::listing::{MAX_PAGE, MAX_PAGES, RemoteFile, RemoteFiles, too_many};
use crate::retry::{RequestFault, Retries};
use crate::store::FileBody;
use crate::sums;
use crate::web::{OpenedFile, Version, Web, failed, host_of, read_small, shown};

/// One prefix.
pub(crate) struct S3 {
    store: AmazonS3,
    prefix: String,
    name: String,
    host: String,
    wait: Duration,
}

impl S3 {
    pub(crate) fn new(
        settings: &FetchSettings,
        web: Arc<Web>,
        bucket: &str,
        prefix: &str,
    ) -> Result<Self, Error> {
        let mut builder = AmazonS3Builder::new();
        let mut has_credentials = false;
        for (name, value) in settings.s3.iter().filter(|(_, value)| !value.is_empty()) {
            // Names that only other tools know are no mistake.
            if let Ok(key) = AmazonS3ConfigKey::from_str(&name.to_ascii_lowercase()) {
                has_credentials |= brings_credentials(key);
                builder = builder.with_config(key, value);
            }
        }
        let connector = S3Connector { web, wait: settings.stall_window };
        let no_retries =
            RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() };
        builder = builder.with_bucket_name(bucket).with_http_connector(connector).with_retry(no_retries);
        if !has_credentials {
            // Without this, the metadata service of a cloud machine would be asked, wherever this one is.
            builder = builder.with_skip_signature(true);
        }
        let store =
            builder.build().map_err(|error| Error::Setting { name: "AWS_*", reason: told(&error) })?;
        let name =
            if prefix.is_empty() { format!("s3://{bucket}") } else { format!("s3://{bucket}/{prefix}") };
        let (host, wait) = (endpoint_host(&settings.s3), settings.stall_window);
        Ok(Self { store, prefix: prefix.to_owned(), name, host, wait })
    }

    pub(crate) fn host(&self) -> String {
        self.host.clone()
    }

    /// Every object below the prefix, with hashes if there is a list of them.
    pub(crate) async fn list(&self, retries: &Retries<'_>) -> Result<RemoteFiles, Error> {
        let mut attempts = retries.attempts(&self.host, "");
        let mut files = loop {
            attempts.ready().await;
            match self.list_once().await {
                Ok(files) => break files,
                Err(fault) => attempts.again(fault).await?,
            }
        };
        let Some(list) = files.find(sums::FILE_NAME).cloned() else { return Ok(files) };
        let mut attempts = retries.attempts(&self.host, sums::FILE_NAME);
        let body = loop {
            attempts.ready().await;
            match self.read(&list).await {
                Ok(body) => break body,
                Err(fault) => attempts.again(fault).await?,
            }
        };
        let reason = |reason: String| too_many(&self.name, &reason);
        let hashes: std::collections::BTreeMap<String, String> =
            sums::parse(&body).map_err(reason)?.into_iter().map(|(hash, path)| (path, hash)).collect();
        for file in files.iter_mut() {
            file.sha256 = hashes.get(&file.path).cloned();
        }
        Ok(files)
    }

    async fn list_once(&self) -> Result<RemoteFiles, RequestFault> {
        let prefix = Path::parse(&self.prefix).map_err(|error| too_many(&self.name, &error.to_string()))?;
        let mut objects = self.store.list((!self.prefix.is_empty()).then_some(&prefix));
        let mut files = RemoteFiles::new(None);
        while let Some(object) = objects.try_next().await.map_err(|error| fault_of(&error))? {
            let path = object.location.as_ref();
            let path = if self.prefix.is_empty() { Some(path) } else { path.strip_prefix(&self.prefix) };
            let Some(path) = path.map(|path| path.trim_start_matches('/').to_owned()) else { continue };
            let version = Version { etag: object.e_tag, modified: None };
            files.add(&self.name, RemoteFile { path, size: Some(object.size), sha256: None, version })?;
        }
        Ok(files)
    }

    /// A small object.
    async fn read(&self, file: &RemoteFile) -> Result<Vec<u8>, RequestFault> {
        let size = file.size.unwrap_or_default();
        if size > sums::MAX_BYTES as u64 {
            return Err(too_many(&self.name, &format!("{} has {size} bytes", file.path)).into());
        }
        let (OpenedFile::Part(body) | OpenedFile::Whole(body)) = self.open(file, None).await?;
        body.read(size as usize, self.wait).await
    }

    pub(crate) async fn open(
        &self,
        file: &RemoteFile,
        range: Option<Range<u64>>,
    ) -> Result<OpenedFile<FileBody>, RequestFault> {
        let key =
            if self.prefix.is_empty() { file.path.clone() } else { format!("{}/{}", self.prefix, file.path) };
        let key = Path::parse(&key).map_err(|error| too_many(&self.name, &error.to_string()))?;
        let options = GetOptions::new()
            .with_range(range)
            .with_if_match(file.version.etag.clone().filter(|etag| etag.starts_with('"')));
        let result = match self.store.get_opts(&key, options).await.map_err(|error| fault_of(&error)) {
            Err(RequestFault::Status { status: 412 | 416, .. }) => return Err(RequestFault::Changed),
            Err(RequestFault::Status { status: 404, .. }) => {
                let (source_name, file) = (self.name.clone(), file.path.clone());
                return Err(Error::FileNotFound { source_name, file }.into());
            }
            other => other?,
        };
        let version = Version { etag: result.meta.e_tag.clone(), modified: None };
        if Some(result.meta.size) != file.size || !version.agrees(&file.version) {
            return Err(RequestFault::Changed);
        }
        Ok(OpenedFile::Part(FileBody::Object(result.into_stream())))
    }
}

/// Whether a setting says how requests are signed, or that they are not.
fn brings_credentials(key: AmazonS3ConfigKey) -> bool {
    use AmazonS3ConfigKey as Key;
    matches!(
        key,
        Key::AccessKeyId
            | Key::SecretAccessKey
            | Key::WebIdentityTokenFile
            | Key::ContainerCredentialsRelativeUri
            | Key::ContainerCredentialsFullUri
            | Key::MetadataEndpoint
            | Key::SkipSignature
    )
}

fn endpoint_host(settings: &[(String, String)]) -> String {
    own_endpoint(settings).map_or_else(|| "S3".to_owned(), |url| host_of(&url))
}

/// The endpoint that is set.
fn own_endpoint(settings: &[(String, String)]) -> Option<Url> {
    let names = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    names.iter().find_map(|name| Url::parse(value(settings, name)?).ok())
}

fn value<'a>(settings: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    let found = settings.iter().find(|(name, value)| name.eq_ignore_ascii_case(wanted) && !value.is_empty());
    found.map(|(_, value)| value.as_str())
}

/// The endpoint that is set, or that of the region.
pub(crate) fn endpoint(settings: &[(String, String)]) -> String {
    let region = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| value(settings, name));
    let of_region = || format!("https://s3.{}.amazonaws.com", region.unwrap_or("us-east-1"));
    own_endpoint(settings).map_or_else(of_region, String::from)
}

/// Our own word on a request, which comes back inside the store's errors.
pub(crate) fn fault_of(error: &object_store::Error) -> RequestFault {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(fault) = error.downcast_ref::<RequestFault>() {
            return fault.clone();
        }
        next = error.source();
    }
    RequestFault::passing(told(error))
}

/// The innermost cause, which has no address in it.
fn told(error: &object_store::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    shown(&last.to_string())
}

struct S3Connector {
    web: Arc<Web>,
    wait: Duration,
}

struct S3Service {
    web: Arc<Web>,
    wait: Duration,
    pages: AtomicUsize,
}

impl std::fmt::Debug for S3Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("S3Connector")
    }
}

impl std::fmt::Debug for S3Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("S3Service")
    }
}

impl HttpConnector for S3Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let (web, wait) = (self.web.clone(), self.wait);
        Ok(HttpClient::new(S3Service { web, wait, pages: AtomicUsize::new(0) }))
    }
}

#[async_trait::async_trait]
impl HttpService for S3Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.answer(request).await.map_err(wrapped)
    }
}

impl S3Service {
    /// A signature belongs to one host, so redirects are refusals here.
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, RequestFault> {
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string())
            .map_err(|_| RequestFault::passing("an address that is none"))?;
        let is_list = url.query_pairs().any(|(name, _)| name == "list-type");
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        if let Some(bytes) = body.as_bytes().filter(|bytes| !bytes.is_empty()) {
            *request.body_mut() = Some(bytes.clone().into());
        }
        let response = self.web.judge(self.web.send(request).await?).await?;
        if !is_list {
            let (parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
            let body = HttpResponseBody::new(body.map_err(|error| wrapped(failed(&error))));
            return Ok(HttpResponse::from_parts(parts, body));
        }
        if self.pages.fetch_add(1, Ordering::Relaxed) >= MAX_PAGES {
            return Err(too_many("the bucket", &format!("more than {MAX_PAGES} pages")).into());
        }
        let headers = response.headers().clone();
        let page = read_small(response, MAX_PAGE, self.wait).await?;
        let page =
            page.ok_or_else(|| too_many("the bucket", &format!("a page of more than {MAX_PAGE} bytes")))?;
        let mut answer = HttpResponse::new(page.into());
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

/// The store takes this kind for nothing that it should try again by itself.
fn wrapped(fault: RequestFault) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, fault)
}
