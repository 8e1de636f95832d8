//! What the names of a model's files and directories tell, here and in listings from elsewhere.

use std::path::Path;

/// Weights under names without a step, the best first.
pub(crate) const PLAIN_WEIGHTS: [&str; 5] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "model.pt",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
/// Directory of copies of stages.
pub(crate) const COPIES: &str = "native_checkpoints";
/// Names of directories that do not identify the model in them.
pub(crate) const PLAIN_NAMES: [&str; 14] = [
    "pt",
    "pth",
    "ckpt",
    "ckpts",
    "checkpoint",
    "checkpoints",
    "model",
    "models",
    "weights",
    "safetensors",
    "hf",
    "latest",
    "final",
    COPIES,
];

/// The last part of a path; nothing if it is no text.
pub(crate) fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The step in `model_<step>.pt` or `model_<step>.safetensors`.
pub(crate) fn step_of(name: &str) -> Option<u64> {
    let stem = name.strip_prefix("model_")?;
    number(stem.strip_suffix(".pt").or_else(|| stem.strip_suffix(".safetensors"))?)
}

/// The step in `hf_<step>`.
pub(crate) fn exported_step(name: &str) -> Option<u64> {
    number(name.strip_prefix("hf_")?)
}

/// Whether a name is one that weights have.
pub(crate) fn is_weights(name: &str) -> bool {
    step_of(name).is_some() || PLAIN_WEIGHTS.contains(&name)
}

/// Whether a directory's name is that of an export, `hf_<step>`.
pub(crate) fn is_export(name: &str) -> bool {
    exported_step(name).is_some()
}

pub(crate) fn number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

pub(crate) fn has_extension(name: &str, extension: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, found)| found == extension)
}

/// Whether a directory's name does not identify the model in it.
pub(crate) fn is_plain_name(name: &str) -> bool {
    PLAIN_NAMES.contains(&name)
}
