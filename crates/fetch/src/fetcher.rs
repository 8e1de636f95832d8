//! The order of a download: list, plan, transfer, check, install; and what is tried again when a file was spoiled.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use registry::Source;
use registry::provenance::{DownloadRequest, FileRecord, Provenance};

use crate::disk::remove_tree;
use crate::install::{self, Present};
use crate::listing::is_file_name;
use crate::lock::Lock;
use crate::plan::{DownloadPlan, PlannedFile};
use crate::retry::{Retries, RetryPolicy};
use crate::staging::Staging;
use crate::store::Store;
use crate::transfer::TransferJob;
use crate::web::Web;
use crate::{DownloadProgress, Error, FetchSettings};

/// Downloads models. Clones share one client.
#[derive(Clone)]
pub struct Fetcher {
    pub(crate) settings: Arc<FetchSettings>,
    /// Made when first needed: a server without remote models needs no certificates.
    web: Arc<OnceLock<Arc<Web>>>,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// A fetcher with these settings, which are checked here.
    pub fn new(settings: FetchSettings) -> Result<Self, Error> {
        settings.check()?;
        Ok(Self { settings: Arc::new(settings), web: Arc::default() })
    }

    /// Brings a model into `<root>/<tag>/`, unless it is there already. Cancelling it (by dropping the future)
    /// or failing leaves what was fetched for the next call to go on with.
    pub async fn fetch(
        &self,
        wanted: &DownloadRequest,
        root: &Path,
        progress: &DownloadProgress,
    ) -> Result<Provenance, Error> {
        if let Some(found) = installed(root, wanted)? {
            return Ok(found);
        }
        self.bring(wanted, root, progress, installed).await
    }

    /// The same, but what is there is compared with what the source has by now, and replaced if that is something
    /// else. If it is not, no download begins, and `progress` knows of no bytes.
    pub async fn refresh(
        &self,
        wanted: &DownloadRequest,
        root: &Path,
        progress: &DownloadProgress,
    ) -> Result<Provenance, Error> {
        self.bring(wanted, root, progress, |_, _| Ok(None)).await
    }

    /// Brings a model unless what is there is `enough`.
    async fn bring(
        &self,
        wanted: &DownloadRequest,
        root: &Path,
        progress: &DownloadProgress,
        enough: impl Fn(&Path, &DownloadRequest) -> Result<Option<Provenance>, Error>,
    ) -> Result<Provenance, Error> {
        let mut store = Store::new(self.web()?, &self.settings, wanted)?;
        let lock = Lock::take(root, &wanted.tag).await?;
        let staging = Staging::new(root, &wanted.tag);
        install::recover(root, &wanted.tag)?;
        if let Some(found) = enough(root, wanted)? {
            // What is left is of no use: the model is here.
            let _left = remove_tree(&staging.directory);
            return Ok(found);
        }
        let retries = Retries::new(self.settings.retry, progress);
        let download =
            ModelDownload { settings: &self.settings, wanted, root, staging, retries, progress, lock };
        match download.run(&mut store).await {
            Err(error) if error.spoiled_file().is_some() => {
                tracing::warn!(model_tag = %wanted.tag, "{error}; fetching it anew");
                download.discard_spoiled(&error)?;
                let again = download.run(&mut store).await;
                if let Err(error) = &again {
                    download.discard_spoiled(error)?;
                }
                again
            }
            other => other,
        }
    }

    pub(crate) fn web(&self) -> Result<Arc<Web>, Error> {
        if let Some(web) = self.web.get() {
            return Ok(web.clone());
        }
        let web = Arc::new(Web::new(&self.settings)?);
        Ok(self.web.get_or_init(|| web).clone())
    }

    /// Whether nothing may be fetched from a source: from the Hub with `HF_HUB_OFFLINE`.
    pub fn is_off(&self, source: &Source) -> bool {
        self.settings.offline && matches!(source, Source::HuggingFace { .. })
    }

    /// Lists what a source has, fetching nothing of it, and returns how many files that are. Asks once, without
    /// retries. Files that no model needs count too.
    pub async fn list(&self, wanted: &DownloadRequest) -> Result<usize, Error> {
        let progress = DownloadProgress::default();
        let retries = Retries::new(RetryPolicy { attempts: 1, ..self.settings.retry }, &progress);
        let mut store = Store::new(self.web()?, &self.settings, wanted)?;
        Ok(store.list(&retries).await?.len())
    }
}

/// One model on its way.
struct ModelDownload<'a> {
    settings: &'a FetchSettings,
    wanted: &'a DownloadRequest,
    root: &'a Path,
    staging: Staging,
    retries: Retries<'a>,
    progress: &'a DownloadProgress,
    lock: Lock,
}

impl ModelDownload<'_> {
    /// Lists, fetches, checks and installs.
    async fn run(&self, store: &mut Store) -> Result<Provenance, Error> {
        let Self { settings, wanted, root, staging, retries, progress, lock } = self;
        let plan = DownloadPlan::make(store, wanted, settings, retries).await?;
        let old = installed(root, wanted)?;
        if let Some(found) = old.as_ref().filter(|found| found.plan == plan.id()) {
            let _left = remove_tree(&staging.directory);
            return Ok(found.clone());
        }
        let reserve = settings.reserve_bytes;
        let (staged, planned, model) = (staging.clone(), plan.clone(), root.join(wanted.tag.as_str()));
        lock.blocking(move || {
            staged.prepare(&planned, reserve)?;
            old.map_or(Ok(()), |old| staged.reuse(&planned, &model, &old))
        })
        .await?;
        progress.start(plan.files.len() as u64, plan.bytes());
        tracing::info!(
            model_tag = %wanted.tag,
            source = plan.source,
            commit = plan.commit,
            files = plan.files.len(),
            bytes = plan.bytes(),
            "downloading a model"
        );
        let job = TransferJob { store, settings, retries, progress, lock };
        let hashes = job.run(staging, &plan.files).await?;
        let provenance = provenance(&plan, hashes);
        if let Some(pins) = &wanted.sha256
            && let Some((what, expected, found)) = provenance.broken_pin(pins)
        {
            return Err(Error::PinMismatch { what, expected, found });
        }
        let (root, tag, installed) = (root.to_path_buf(), wanted.tag.clone(), provenance.clone());
        let staging = staging.clone();
        lock.blocking(move || install::install(&root, &tag, &staging, &installed, &|_| Ok(()))).await?;
        let done = progress.snapshot();
        tracing::info!(
            model_tag = %wanted.tag,
            bytes = done.bytes_total,
            bytes_resumed = done.bytes_resumed,
            retries = done.retries,
            "the model is downloaded"
        );
        Ok(provenance)
    }

    /// Drops the file that an error is about, so that no later download builds on it.
    fn discard_spoiled(&self, error: &Error) -> Result<(), Error> {
        match error.spoiled_file() {
            Some(file) if is_file_name(file) => self.staging.discard(file),
            _ => Ok(()),
        }
    }
}

/// What is installed, if it is what is wanted.
fn installed(root: &Path, wanted: &DownloadRequest) -> Result<Option<Provenance>, Error> {
    let directory = root.join(wanted.tag.as_str());
    Ok(match install::present(root, &wanted.tag)? {
        Present::Ours(found) if found.matches(wanted) && found.is_complete(&directory) => Some(*found),
        _ => None,
    })
}

fn provenance(plan: &DownloadPlan, hashes: Vec<String>) -> Provenance {
    let record =
        |(file, sha256): (&PlannedFile, String)| (file.name.clone(), FileRecord { size: file.size, sha256 });
    let files: BTreeMap<String, FileRecord> = plan.files.iter().zip(hashes).map(record).collect();
    Provenance {
        source: plan.source.clone(),
        revision: plan.revision.clone(),
        commit: plan.commit.clone(),
        directory: Some(plan.directory.clone()).filter(|directory| !directory.is_empty()),
        step: plan.step,
        asked: plan.asked.clone(),
        plan: plan.id(),
        files,
    }
}
