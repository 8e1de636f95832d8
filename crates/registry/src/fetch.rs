//! The files of a model from where they are published to a directory under the storage root, all or nothing.
//!
//! A source is listed at one fixed revision ([`hub`], [`s3`], [`sums`], all through [`web`]), the files that a
//! model needs are chosen ([`plan`]), brought in pieces into a directory that survives everything ([`staging`],
//! [`transfer`], [`retry`]), checked, and renamed into place ([`install`]). Nothing here parses weights.

mod disk;
mod error;
mod hub;
mod install;
mod listing;
mod lock;
mod plan;
mod progress;
mod ranges;
mod reach;
mod retry;
mod s3;
mod settings;
mod staging;
mod store;
mod sums;
mod transfer;
mod web;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use self::install::Present;
use self::lock::Lock;
use self::plan::Plan;
use self::retry::Retries;
use self::staging::Staging;
use self::store::Store;
use self::transfer::Job;
use self::web::Web;
use crate::models_file::Pins;
use crate::provenance::{FileRecord, Provenance};
use crate::{Error as RegistryError, Source, Tag};

pub(crate) use self::disk::free_bytes;
pub use self::error::Error;
pub use self::hub::PUBLIC_ENDPOINT;
pub use self::progress::{Progress, ProgressSnapshot};
pub use self::reach::Origin;
pub use self::retry::RetryPolicy;
pub use self::settings::FetchSettings;
pub(crate) use self::staging::STAGING;

/// Downloads models. Clones share one client.
#[derive(Clone)]
pub struct Fetcher {
    settings: Arc<FetchSettings>,
    /// Made when first needed: a server without remote models needs no certificates.
    web: Arc<OnceLock<Arc<Web>>>,
}

/// What to download.
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted {
    /// The name it gets.
    pub tag: Tag,
    /// Where it is.
    pub source: Source,
    /// Branch, tag or commit, over the one in the source.
    pub revision: Option<String>,
    /// Directory of the source that holds the weights; otherwise the most finished model is chosen.
    pub directory: Option<String>,
    /// Training step, otherwise the latest.
    pub step: Option<u64>,
    /// What the files must hash to.
    pub sha256: Option<Pins>,
    /// Whether there is a tokenizer on this machine, so that the source need not have one.
    pub has_tokenizer: bool,
}

impl Wanted {
    /// The directory that was asked for, as listings write it.
    pub(crate) fn directory(&self) -> Option<&str> {
        self.directory.as_deref().map(|directory| directory.trim_matches('/'))
    }

    /// The source without a revision, and the revision.
    pub(crate) fn source_and_revision(&self) -> (String, Option<String>) {
        match &self.source {
            Source::HuggingFace { repository, revision } => {
                let bare = Source::HuggingFace { repository: repository.clone(), revision: None };
                (bare.to_string(), self.revision.clone().or_else(|| revision.clone()))
            }
            other => (other.to_string(), None),
        }
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// A fetcher with these settings, which are checked here.
    pub fn new(settings: FetchSettings) -> Result<Self, RegistryError> {
        settings.check()?;
        Ok(Self { settings: Arc::new(settings), web: Arc::default() })
    }

    /// Brings a model into `<root>/<tag>/`, unless it is there already. Cancelling it (by dropping the future)
    /// or failing leaves what was fetched for the next call to go on with.
    pub async fn fetch(
        &self,
        wanted: &Wanted,
        root: &Path,
        progress: &Progress,
    ) -> Result<Provenance, RegistryError> {
        if let Some(found) = installed(root, wanted)? {
            return Ok(found);
        }
        self.bring(wanted, root, progress, installed).await
    }

    /// The same, but what is there is compared with what the source has by now, and replaced if that is something
    /// else. If it is not, no download begins, and `progress` knows of no bytes.
    pub async fn refresh(
        &self,
        wanted: &Wanted,
        root: &Path,
        progress: &Progress,
    ) -> Result<Provenance, RegistryError> {
        self.bring(wanted, root, progress, |_, _| Ok(None)).await
    }

    /// Brings a model unless what is there is `enough`.
    async fn bring(
        &self,
        wanted: &Wanted,
        root: &Path,
        progress: &Progress,
        enough: impl Fn(&Path, &Wanted) -> Result<Option<Provenance>, RegistryError>,
    ) -> Result<Provenance, RegistryError> {
        let mut store = Store::new(self.web()?, &self.settings, wanted)?;
        let lock = Lock::take(root, &wanted.tag).await?;
        let staging = Staging::new(root, &wanted.tag);
        install::recover(root, &wanted.tag)?;
        if let Some(found) = enough(root, wanted)? {
            // What is left is of no use: the model is here.
            let _left = disk::remove_tree(&staging.directory);
            return Ok(found);
        }
        let retries = Retries::new(self.settings.retry, progress);
        let job = (&retries, progress, &lock);
        match self.download(wanted, root, &mut store, job).await {
            Err(RegistryError::Fetch(error)) if error.spoiled_file().is_some() => {
                tracing::warn!(model_tag = %wanted.tag, "{error}; fetching it anew");
                discard(&staging, &error)?;
                let again = self.download(wanted, root, &mut store, job).await;
                if let Err(RegistryError::Fetch(error)) = &again {
                    discard(&staging, error)?;
                }
                again
            }
            other => other,
        }
    }

    fn web(&self) -> Result<Arc<Web>, Error> {
        if let Some(web) = self.web.get() {
            return Ok(web.clone());
        }
        let web = Arc::new(Web::new(&self.settings)?);
        Ok(self.web.get_or_init(|| web).clone())
    }

    /// Lists, fetches, checks and installs.
    async fn download(
        &self,
        wanted: &Wanted,
        root: &Path,
        store: &mut Store,
        (retries, progress, lock): (&Retries<'_>, &Progress, &Lock),
    ) -> Result<Provenance, RegistryError> {
        let plan = Plan::make(store, wanted, &self.settings, retries).await?;
        let staging = Staging::new(root, &wanted.tag);
        let old = installed(root, wanted)?;
        if let Some(found) = old.as_ref().filter(|found| found.plan == plan.id()) {
            let _left = disk::remove_tree(&staging.directory);
            return Ok(found.clone());
        }
        let reserve = self.settings.reserve_bytes;
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
        let job = Job { store, settings: &self.settings, retries, progress, lock };
        let hashes = job.run(&staging, &plan.files).await?;
        let provenance = provenance(&plan, hashes);
        if let Some(pins) = &wanted.sha256
            && let Some((what, expected, found)) = provenance.broken_pin(pins)
        {
            return Err(Error::PinMismatch { what, expected, found }.into());
        }
        let (root, tag, installed) = (root.to_owned(), wanted.tag.clone(), provenance.clone());
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
}

/// What is installed, if it is what is wanted.
fn installed(root: &Path, wanted: &Wanted) -> Result<Option<Provenance>, RegistryError> {
    let directory = root.join(wanted.tag.as_str());
    Ok(match install::present(root, &wanted.tag)? {
        Present::Ours(found) if found.matches(wanted) && found.is_complete(&directory) => Some(*found),
        _ => None,
    })
}

/// Drops the file that an error is about, so that no later download builds on it.
fn discard(staging: &Staging, error: &Error) -> Result<(), RegistryError> {
    match error.spoiled_file() {
        Some(file) if listing::is_file_name(file) => staging.discard(file),
        _ => Ok(()),
    }
}

fn provenance(plan: &Plan, hashes: Vec<String>) -> Provenance {
    let record = |(file, sha256): (&plan::PlannedFile, String)| {
        (file.name.clone(), FileRecord { size: file.size, sha256 })
    };
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
