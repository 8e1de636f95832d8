//! One download of a tag at a time, whoever asks: tasks of this process or other processes.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use registry::Tag;
use registry::storage::STAGING;

use crate::Error;

/// How often a lock that somebody holds is tried again.
const POLL: Duration = Duration::from_millis(100);

/// Held until the last clone is gone, so that work which outlives a cancelled download keeps others out.
#[derive(Clone, Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] Arc<File>);

impl Lock {
    /// Waits for the lock of a tag.
    pub(crate) async fn take(root: &Path, tag: &Tag) -> Result<Self, Error> {
        let directory = root.join(STAGING);
        std::fs::create_dir_all(&directory).map_err(|error| Error::disk(&directory, error))?;
        let path = directory.join(format!(".{tag}.lock"));
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| Error::disk(&path, error))?;
        let mut waited = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(Arc::new(file))),
                Err(TryLockError::WouldBlock) if waited => {}
                Err(TryLockError::WouldBlock) => {
                    tracing::info!(model_tag = %tag, "somebody downloads this model already, waiting for it");
                    waited = true;
                }
                Err(TryLockError::Error(error)) => return Err(Error::io(&path, error)),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Runs work that waits for disks on a thread for such, with the lock held until it is done.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let held = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(held);
            result
        });
        match task.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down.
                Err(_) => Err(Error::io(Path::new(STAGING), std::io::ErrorKind::Interrupted.into())),
            },
        }
    }
}
