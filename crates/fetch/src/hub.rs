//! The Hugging Face Hub, by its HTTP interface: the commit of a revision, the tree of that commit, and files
//! that redirect to where they are stored.

use std::ops::Range;
use std::time::Duration;

use http::header::{self, HeaderValue};
use reqwest::{Response, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::listing::{MAX_PAGE, MAX_PAGES, RemoteFile, RemoteFiles, sha256_of, too_many};
use crate::retry::{RequestFault, Retries};
use crate::settings::{FetchSettings, PUBLIC_ENDPOINT, hub_endpoint};
use crate::web::{OpenedFile, Version, Web, WebRequest, host_of, read_small, shown};

/// Where the public Hub keeps files.
const PUBLIC_STORES: &[&str] = &["*.huggingface.co", "*.hf.co"];
/// The branch that is meant when none is named.
const MAIN: &str = "main";

/// One repository at one revision.
pub(crate) struct Hub {
    endpoint: Url,
    repository: String,
    revision: String,
    ask: WebRequest,
    wait: Duration,
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

#[derive(Deserialize)]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    oid: Option<String>,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Hub {
    pub(crate) fn new(
        settings: &FetchSettings,
        repository: &str,
        revision: Option<String>,
    ) -> Result<Self, Error> {
        let endpoint = hub_endpoint(&settings.hf_endpoint)?;
        let mut ask = WebRequest::default();
        if let Some(token) = &settings.hf_token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                Error::Setting { name: "HF_TOKEN", reason: "has characters that no token has".to_owned() }
            })?;
            value.set_sensitive(true);
            ask.authorization = Some(value);
        }
        if endpoint.as_str().trim_end_matches('/') == PUBLIC_ENDPOINT {
            ask.redirect_hosts = PUBLIC_STORES;
        }
        Ok(Self {
            endpoint,
            repository: repository.to_owned(),
            revision: revision.unwrap_or_else(|| MAIN.to_owned()),
            ask,
            wait: settings.stall_window,
        })
    }

    pub(crate) fn host(&self) -> String {
        host_of(&self.endpoint)
    }

    /// Every file of the commit that the revision is now.
    pub(crate) async fn list(&self, web: &Web, retries: &Retries<'_>) -> Result<RemoteFiles, Error> {
        let source = &self.repository;
        let url = self.url(&["api", "models"], &["revision", &self.revision], "");
        let (revision, _): (Revision, _) = self.json(web, retries, &url).await?;
        let commit = revision.sha;
        if !(7..=64).contains(&commit.len()) || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(too_many(source, "the commit is no commit"));
        }
        let mut next = Some(self.url(&["api", "models"], &["tree", &commit], ""));
        if let Some(url) = &mut next {
            url.set_query(Some("recursive=true"));
        }
        let mut files = RemoteFiles::new(Some(commit));
        for _ in 0..MAX_PAGES {
            let Some(url) = next.take() else { return Ok(files) };
            let (entries, link): (Vec<TreeEntry>, _) = self.json(web, retries, &url).await?;
            for entry in entries {
                if entry.kind == "file" {
                    files.add(source, remote_file(entry))?;
                }
            }
            next = self.next_page(link)?;
        }
        Err(too_many(source, &format!("more than {MAX_PAGES} pages")))
    }

    pub(crate) async fn open(
        &self,
        web: &Web,
        commit: &str,
        file: &RemoteFile,
        range: Option<Range<u64>>,
    ) -> Result<OpenedFile<Response>, RequestFault> {
        let url = self.url(&[], &["resolve", commit], &file.path);
        // The commit fixes the content, and those who store it have names of their own for its versions.
        let expected = (file.size.unwrap_or_default(), &Version::default());
        web.open(&url, self.ask.clone(), range, expected)
            .await
            .map_err(|fault| self.explain(fault, &file.path))
    }

    /// A page of JSON, and the page that it says is next.
    async fn json<T: DeserializeOwned>(
        &self,
        web: &Web,
        retries: &Retries<'_>,
        url: &Url,
    ) -> Result<(T, Option<Url>), Error> {
        let host = self.host();
        let mut attempts = retries.attempts(&host, "");
        loop {
            attempts.ready().await;
            match self.page(web, url).await {
                Ok((body, link)) => {
                    let parsed = serde_json::from_slice(&body);
                    let parsed = parsed.map_err(|error| {
                        // It may quote what it did not expect, which may be long.
                        too_many(&self.repository, &shown(&format!("not the Hub's JSON: {error}")))
                    })?;
                    return Ok((parsed, link));
                }
                Err(fault) => attempts.again(fault).await?,
            }
        }
    }

    async fn page(&self, web: &Web, url: &Url) -> Result<(Vec<u8>, Option<Url>), RequestFault> {
        let response = web.get(url, &self.ask).await.map_err(|fault| self.explain(fault, ""))?;
        let mut links = response.headers().get_all(header::LINK).iter();
        let link = links.find_map(|value| next_link(value.to_str().ok()?));
        let link = link.and_then(|link| url.join(&link).ok());
        let body = read_small(response, MAX_PAGE, self.wait).await?;
        let body =
            body.ok_or_else(|| too_many(&self.repository, &format!("a page of more than {MAX_PAGE} bytes")))?;
        Ok((body, link))
    }

    fn next_page(&self, link: Option<Url>) -> Result<Option<Url>, Error> {
        match link {
            Some(url) if url.origin() != self.endpoint.origin() => {
                Err(too_many(&self.repository, &format!("the next page is on {}", host_of(&url))))
            }
            link => Ok(link),
        }
    }

    /// `ENDPOINT/before…/OWNER/NAME/after…/path`, every part escaped: a revision's slashes are part of its name.
    fn url(&self, before: &[&str], after: &[&str], path: &str) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(before).extend(self.repository.split('/')).extend(after);
            if !path.is_empty() {
                parts.extend(path.split('/'));
            }
        }
        url
    }

    /// What a refusal of the Hub means.
    fn explain(&self, fault: RequestFault, file: &str) -> RequestFault {
        let RequestFault::Status { host, status, code, message } = fault else { return fault };
        if host != self.host() {
            return RequestFault::Status { host, status, code, message };
        }
        let repository = self.repository.clone();
        let error = match (status, code.as_str()) {
            (401 | 403, "GatedRepo") => Error::Gated { repository },
            (401, _) if message.contains("credentials") => Error::Token { repository },
            (404, "EntryNotFound" | "") if !file.is_empty() => {
                Error::FileNotFound { source_name: repository, file: file.to_owned() }
            }
            // The Hub does not tell strangers a private repository from none, and a mirror may not say what is missing.
            (401 | 404, "RepoNotFound" | "") => Error::RepositoryNotFound { repository },
            (404, "RevisionNotFound") => {
                Error::RevisionNotFound { repository, revision: self.revision.clone() }
            }
            (403, "") if self.ask.authorization.is_some() => Error::Token { repository },
            _ => return RequestFault::Status { host, status, code, message },
        };
        RequestFault::Final(error)
    }
}

fn remote_file(entry: TreeEntry) -> RemoteFile {
    let size = entry.lfs.as_ref().map_or(entry.size, |lfs| lfs.size);
    let stored = entry.lfs.as_ref().map(|lfs| lfs.oid.strip_prefix("sha256:").unwrap_or(&lfs.oid));
    RemoteFile {
        path: entry.path,
        size: Some(size),
        sha256: stored.and_then(sha256_of),
        version: Version { etag: entry.oid, modified: None },
    }
}

/// The target of `rel="next"` in a Link header.
fn next_link(value: &str) -> Option<String> {
    value.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let parameter = parameter.trim();
            parameter == "rel=\"next\"" || parameter == "rel=next"
        });
        is_next.then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(endpoint: &str, revision: &str) -> Hub {
        let settings = FetchSettings { hf_endpoint: endpoint.to_owned(), ..FetchSettings::default() };
        Hub::new(&settings, "owner/name", Some(revision.to_owned())).unwrap()
    }

    #[test]
    fn addresses_are_escaped_part_by_part() {
        let hub = hub("https://mirror.example/api/hf/", "refs/pr/1");
        let url = hub.url(&["api", "models"], &["revision", &hub.revision], "");
        assert_eq!(
            url.as_str(),
            "https://mirror.example/api/hf/api/models/owner/name/revision/refs%2Fpr%2F1"
        );
        let url = hub.url(&[], &["resolve", "abc"], "a b/c?d#e.pt");
        assert_eq!(url.as_str(), "https://mirror.example/api/hf/owner/name/resolve/abc/a%20b/c%3Fd%23e.pt");
    }

    #[test]
    fn the_public_hub_may_redirect_to_its_stores_however_it_is_written() {
        for endpoint in ["https://huggingface.co", "HTTPS://HuggingFace.co:443/"] {
            assert_eq!(hub(endpoint, "main").ask.redirect_hosts, PUBLIC_STORES, "{endpoint}");
        }
        for endpoint in ["http://huggingface.co", "https://huggingface.co/mirror", "https://mirror.example"] {
            assert!(hub(endpoint, "main").ask.redirect_hosts.is_empty(), "{endpoint}");
        }
    }

    #[test]
    fn the_next_page_is_found_in_the_link_header() {
        let value = "<https://h/a?cursor=x>; rel=\"prev\", <https://h/b?cursor=y>; rel=\"next\"";
        assert_eq!(next_link(value).as_deref(), Some("https://h/b?cursor=y"));
        assert_eq!(next_link("<https://h/a>; rel=\"prev\""), None);
        assert_eq!(next_link("nonsense"), None);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let hub = hub("https://h", "v1");
        let say = |status, code: &str, message: &str| {
            let (code, message) = (code.to_owned(), message.to_owned());
            match hub.explain(RequestFault::Status { host: "h".to_owned(), status, code, message }, "f") {
                RequestFault::Final(error) => error.to_string(),
                other => other.to_string(),
            }
        };
        assert!(say(403, "GatedRepo", "").contains("accept its terms"));
        assert!(say(401, "RepoNotFound", "").contains("check the name, or set HF_TOKEN"));
        assert!(say(401, "", "Invalid credentials in Authorization header").contains("not valid"));
        assert_eq!(say(404, "RevisionNotFound", ""), "owner/name has no revision v1");
        assert_eq!(say(404, "EntryNotFound", ""), "owner/name has no file f");
        assert_eq!(say(418, "", ""), "h answered 418");
    }
}
