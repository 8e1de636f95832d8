//! A Hub: revisions, trees in pages, files that redirect to a second server or to another path of the first.

use std::sync::{Arc, Mutex};

use fetch::FetchSettings;
use serde_json::json;

use super::server::{Reply, Request, Server};
use super::{Files, settings, sha256};

/// What the main branch is.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Files of this size and more are kept on the second server.
const LARGE: usize = 1000;

/// Answers instead of the Hub where it wants to.
type Intercept = dyn Fn(&Request) -> Option<Reply> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Hub {
    pub(crate) api: Server,
    pub(crate) cdn: Server,
    shared: Arc<Shared>,
}

struct Shared {
    files: Mutex<Files>,
    page: usize,
    api: Box<Intercept>,
    cdn: Box<Intercept>,
}

impl Hub {
    pub(crate) async fn start(files: Files) -> Self {
        Self::with(files, |_| None, |_| None).await
    }

    /// A Hub whose two servers may answer otherwise.
    pub(crate) async fn with(
        files: Files,
        api: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
        cdn: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let shared =
            Arc::new(Shared { files: Mutex::new(files), page: 2, api: Box::new(api), cdn: Box::new(cdn) });
        let stored = shared.clone();
        let cdn =
            Server::start(move |request| (stored.cdn)(request).unwrap_or_else(|| stored.stored(request)))
                .await;
        let (answers, store) = (shared.clone(), cdn.url());
        let api = Server::start(move |request| {
            (answers.api)(request).unwrap_or_else(|| answers.answer(request, &store))
        })
        .await;
        Self { api, cdn, shared }
    }

    pub(crate) fn settings(&self) -> FetchSettings {
        FetchSettings {
            hf_endpoint: self.api.url(),
            hf_token: Some("hf_token_of_a_test".to_owned()),
            redirect_hosts: vec![self.cdn.host.clone()],
            ..settings()
        }
    }

    /// Other bytes under a name that the Hub has.
    pub(crate) fn replace(&self, name: &str, bytes: Vec<u8>) {
        self.shared.files.lock().unwrap().insert(name.to_owned(), Arc::new(bytes));
    }

    /// Bytes of files that were sent.
    pub(crate) fn sent(&self) -> usize {
        let direct = self.api.log();
        let direct = direct.iter().filter(|l| l.request.target.starts_with("/api/resolve-cache/"));
        direct.map(|logged| logged.sent).sum::<usize>() + self.cdn.sent()
    }
}

impl Shared {
    fn answer(&self, request: &Request, store: &str) -> Reply {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts[..] {
            ["api", "models", "owner", "name", "revision", "main" | "refs%2Fpr%2F1" | COMMIT] => {
                Reply::body(200, json!({ "id": "owner/name", "sha": COMMIT }).to_string())
            }
            ["api", "models", "owner", "name", "revision", _] => {
                Reply::status(404).with("X-Error-Code", "RevisionNotFound")
            }
            ["api", "models", "owner", "name", "tree", COMMIT] => self.tree(query),
            ["owner", "name", "resolve", COMMIT, ..] => self.resolve(&parts[4..].join("/"), store),
            ["api", "resolve-cache", ..] => self.direct(request, &parts[2..].join("/")),
            _ => Reply::status(401).with("X-Error-Code", "RepoNotFound"),
        }
    }

    fn tree(&self, query: &str) -> Reply {
        let at: usize =
            query.split('&').find_map(|pair| pair.strip_prefix("cursor=")?.parse().ok()).unwrap_or(0);
        let files = self.files.lock().unwrap();
        let mut entries = vec![json!({ "type": "directory", "oid": "0", "size": 0, "path": "tokenizer" })];
        for (path, bytes) in files.iter().skip(at).take(self.page) {
            let mut entry =
                json!({ "type": "file", "oid": &sha256(bytes)[..40], "size": bytes.len(), "path": path });
            if bytes.len() >= LARGE {
                entry["lfs"] = json!({ "oid": sha256(bytes), "size": bytes.len(), "pointerSize": 134 });
            }
            entries.push(entry);
        }
        let reply = Reply::body(200, json!(entries).to_string());
        if at + self.page >= files.len() {
            return reply;
        }
        let next = format!("/api/models/owner/name/tree/{COMMIT}?recursive=true&cursor={}", at + self.page);
        reply.with("Link", format!("<{next}>; rel=\"next\""))
    }

    fn resolve(&self, path: &str, store: &str) -> Reply {
        match self.files.lock().unwrap().get(path) {
            None => Reply::status(404).with("X-Error-Code", "EntryNotFound"),
            Some(bytes) if bytes.len() >= LARGE => Reply::status(302)
                .with("Location", format!("{store}/blob/{path}?X-Signature=secret_of_the_store"))
                .with("X-Linked-Size", bytes.len().to_string())
                .with("X-Repo-Commit", COMMIT),
            Some(_) => Reply::status(307).with("Location", format!("/api/resolve-cache/{path}")),
        }
    }

    fn direct(&self, request: &Request, path: &str) -> Reply {
        match self.files.lock().unwrap().get(path) {
            Some(bytes) => Reply::file(request, bytes),
            None => Reply::status(404),
        }
    }

    fn stored(&self, request: &Request) -> Reply {
        let path = request.target.split('?').next().unwrap_or_default();
        self.direct(request, path.trim_start_matches("/blob/")).with("ETag", "\"of the store\"")
    }
}
