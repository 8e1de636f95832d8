//! Whether a start has a model to load. A storage without one is a mistake in the setting, which the small built-in model
//! in place of the operator's would hide.

use anyhow::Result;
use registry::{builtin, last_model};
use server::Options;

use crate::settings::Wrong;

/// Why a start has no model to load although a storage is set: a line without its full stop. `None` where
/// there is one, where the settings or the last run name one, and where no storage is set.
pub(crate) fn nothing_to_load(options: &Options) -> Option<String> {
    if options.default_tag.is_some() {
        return None;
    }
    let catalog = options.catalog();
    let last = catalog.directory().filter(|_| options.restore_last_model).and_then(last_model::recall);
    if last == Some(builtin::tag()) {
        return None;
    }
    match catalog.empty(|source| options.fetcher.is_off(source)) {
        Ok(empty) => empty.map(|empty| empty.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

/// Refuses to load at the start what is not there.
pub(crate) fn check(options: &Options) -> Result<()> {
    let Some(why) = nothing_to_load(options).filter(|_| options.load_at_start) else { return Ok(()) };
    let text = format!(
        "MODEL_STORAGE_PATH: {why}; put a model there, or set DEFAULT_MODEL_TAG=samosa-mini for the built-in one, or \
         STARTUP_LOAD_ENABLED=false to wait for a swap"
    );
    Err(Wrong { key: Some(SETTING), text }.into())
}

/// The setting that is at fault.
pub(crate) const SETTING: &str = "model_storage_path";
