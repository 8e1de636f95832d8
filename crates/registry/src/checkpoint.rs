//! Which files of a directory make a model.
//!
//! nanochat writes `model_<step>.pt` and `meta_<step>.json`; exporters write safetensors (also sharded)
//! beside a `config.json`; some rename the pair to `model.pt` and `meta.json`. The tokenizer lies beside
//! them, in `tokenizer/`, or in the base directory one to three levels up.

use std::path::{Path, PathBuf};

use crate::{Error, Tag};

/// Entries of one directory that are looked at; more is no checkpoint directory.
const MAX_ENTRIES: usize = 10_000;
/// How far above the model's directory its base directory may be.
const LEVELS_UP: usize = 3;

/// The files of a model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointFiles {
    /// One file, or an index that names several in the same directory.
    pub weights: PathBuf,
    /// Sizes of the model.
    pub meta: PathBuf,
    /// A pickled or JSON tokenizer.
    pub tokenizer: PathBuf,
    /// The training step in the file's name.
    pub step: Option<u64>,
}

impl CheckpointFiles {
    /// Every file, those that an index of shards may name included.
    pub(crate) fn all(&self) -> Result<Vec<PathBuf>, Error> {
        let mut files = vec![self.weights.clone(), self.meta.clone(), self.tokenizer.clone()];
        let directory = self.weights.parent().unwrap_or(Path::new("."));
        if self.weights.extension().is_some_and(|extension| extension == "json") {
            let entries = std::fs::read_dir(directory).map_err(|source| Error::io(directory, source))?;
            let shards = entries.take(MAX_ENTRIES).filter_map(|entry| Some(entry.ok()?.path()));
            files.extend(
                shards.filter(|path| path.extension().is_some_and(|e| e == "safetensors") && path.is_file()),
            );
            files.sort();
        }
        Ok(files)
    }
}

/// Whether a directory looks like it holds a model: it has weights.
pub fn looks_like_model(directory: &Path) -> bool {
    weights(directory, None).is_ok_and(|found| found.is_some())
}

/// Finds the files of the model in `directory`, at `step` or the latest.
pub fn find(tag: &Tag, directory: &Path, step: Option<u64>) -> Result<CheckpointFiles, Error> {
    let incomplete = |missing: String| Error::Incomplete { tag: tag.clone(), missing };
    let (weights, step) = weights(directory, step)?.ok_or_else(|| {
        incomplete(match step {
            Some(step) => format!("no weights of step {step} (model_{step:06}.pt or .safetensors)"),
            None => "no weights (model_<step>.pt, model.pt or .safetensors)".to_owned(),
        })
    })?;
    let meta = meta(directory, step)
        .ok_or_else(|| incomplete("no metadata (meta_<step>.json, meta.json or config.json)".to_owned()))?;
    let tokenizer = tokenizer(tag, directory)
        .ok_or_else(|| incomplete("no tokenizer (tokenizer.pkl or tokenizer.json)".to_owned()))?;
    Ok(CheckpointFiles { weights, meta, tokenizer, step })
}

/// The weights: of the step asked for, else of the highest step, else under a name without a step.
fn weights(directory: &Path, step: Option<u64>) -> Result<Option<(PathBuf, Option<u64>)>, Error> {
    let mut best: Option<(u64, PathBuf)> = None;
    let entries = std::fs::read_dir(directory).map_err(|source| Error::io(directory, source))?;
    for entry in entries.take(MAX_ENTRIES) {
        let path = entry.map_err(|source| Error::io(directory, source))?.path();
        let Some(found) = step_of(&path) else { continue };
        // Opening a pipe or a device would wait for ever.
        let wanted = step.is_none_or(|step| step == found) && path.is_file();
        // Of two formats at one step, the .safetensors sorts after the .pt and needs less trust.
        if wanted && best.as_ref().is_none_or(|(s, p)| (found, &path) > (*s, p)) {
            best = Some((found, path));
        }
    }
    if let Some((step, path)) = best {
        return Ok(Some((path, Some(step))));
    }
    if step.is_some() {
        return Ok(None);
    }
    let names = ["model.safetensors", "model.safetensors.index.json", "model.pt", "pytorch_model.bin"];
    Ok(first_file(names.iter().map(|name| directory.join(name))).map(|path| (path, None)))
}

/// The step in `model_<step>.pt` or `model_<step>.safetensors`.
fn step_of(path: &Path) -> Option<u64> {
    let stem = path.file_name()?.to_str()?.strip_prefix("model_")?;
    let digits = stem.strip_suffix(".pt").or_else(|| stem.strip_suffix(".safetensors"))?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

fn meta(directory: &Path, step: Option<u64>) -> Option<PathBuf> {
    let of_step = step.map(|step| directory.join(format!("meta_{step:06}.json")));
    let others = ["meta.json", "config.json"].map(|name| directory.join(name));
    first_file(of_step.into_iter().chain(others))
}

fn tokenizer(tag: &Tag, directory: &Path) -> Option<PathBuf> {
    let mut places = vec![directory.to_owned(), directory.join("tokenizer")];
    for base in directory.ancestors().skip(1).take(LEVELS_UP) {
        places.push(base.join(format!("tokenizer_{tag}")));
        places.push(base.join("tokenizer"));
    }
    first_file(places.iter().flat_map(|place| [place.join("tokenizer.pkl"), place.join("tokenizer.json")]))
}

fn first_file(paths: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    paths.into_iter().find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
    }

    fn tag() -> Tag {
        Tag::new("d20").unwrap()
    }

    #[test]
    fn the_highest_step_wins_by_number_not_by_text() {
        let root = tempfile::tempdir().unwrap();
        let files = ["model_000900.pt", "model_001000.pt", "model_1000000.pt", "optim_2000000_rank0.pt"];
        touch(root.path(), &files);
        touch(root.path(), &["meta_1000000.json", "meta_000900.json", "tokenizer.pkl"]);
        let found = find(&tag(), root.path(), None).unwrap();
        assert_eq!((found.step, found.weights), (Some(1_000_000), root.path().join("model_1000000.pt")));
        let found = find(&tag(), root.path(), Some(900)).unwrap();
        assert_eq!(found.meta, root.path().join("meta_000900.json"));
        let error = find(&tag(), root.path(), Some(7)).unwrap_err().to_string();
        assert_eq!(error, "`d20` has no weights of step 7 (model_000007.pt or .safetensors)");
    }

    #[test]
    fn the_tokenizer_of_the_base_directory_serves_a_tag_inside_it() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["tokenizer/tokenizer.pkl", "chatsft_checkpoints/d20/model_000001.pt"]);
        touch(root.path(), &["chatsft_checkpoints/d20/meta_000001.json"]);
        let directory = root.path().join("chatsft_checkpoints/d20");
        let found = find(&tag(), &directory, None).unwrap();
        assert_eq!(found.tokenizer, root.path().join("tokenizer/tokenizer.pkl"));
        touch(root.path(), &["tokenizer_d20/tokenizer.pkl"]);
        let found = find(&tag(), &directory, None).unwrap();
        assert_eq!(found.tokenizer, root.path().join("tokenizer_d20/tokenizer.pkl"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = || find(&tag(), root.path(), None).unwrap_err().to_string();
        assert!(error().contains("no weights"), "{}", error());
        touch(root.path(), &["model.safetensors"]);
        assert!(error().contains("no metadata"), "{}", error());
        touch(root.path(), &["config.json"]);
        assert!(error().contains("no tokenizer"), "{}", error());
        touch(root.path(), &["tokenizer.json"]);
        assert_eq!(find(&tag(), root.path(), None).unwrap().step, None);
    }
}
