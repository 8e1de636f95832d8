//! Where the repository is, and where cargo builds to.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    crates.and_then(Path::parent).unwrap_or_else(|| Path::new("."))
}

/// Where cargo builds to: this program lies in its `release`.
pub(crate) fn target_dir() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder =
        program.parent().and_then(Path::parent).context("this program lies in no target directory")?;
    Ok(folder.to_owned())
}
