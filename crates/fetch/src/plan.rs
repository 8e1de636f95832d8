//! Which files of a source make the model that is wanted, and whether they are taken.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use registry::Tag;
use registry::catalog::depth;
use registry::checkpoint::{Chosen, FileOptions, Listing};
use registry::identity::hex;
use registry::layout::stage_of;
use registry::models_file::Pins;
use registry::provenance::{DownloadRequest, Selection};

use crate::FetchSettings;
use crate::error::Error;
use crate::listing::{RemoteFile, RemoteFiles, is_file_name};
use crate::retry::Retries;
use crate::store::Store;
use crate::web::{Version, shown};

/// Files of one model.
const MAX_FILES: usize = 200;
/// Largest file beside the weights, in bytes.
const MAX_SMALL_FILE: u64 = 64 << 20;

/// What is fetched. As JSON it is the manifest of the staging directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct DownloadPlan {
    pub(crate) source: String,
    pub(crate) revision: Option<String>,
    pub(crate) commit: Option<String>,
    pub(crate) directory: String,
    pub(crate) step: Option<u64>,
    pub(crate) asked: Selection,
    pub(crate) files: Vec<PlannedFile>,
}

/// One file to fetch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct PlannedFile {
    /// Its name here.
    pub(crate) name: String,
    /// Its name with its directories in the source.
    pub(crate) path: String,
    pub(crate) size: u64,
    /// Its hash, if the source tells it.
    pub(crate) sha256: Option<String>,
    etag: Option<String>,
    modified: Option<String>,
}

impl PlannedFile {
    /// The file as the source listed it.
    pub(crate) fn remote(&self) -> RemoteFile {
        RemoteFile {
            path: self.path.clone(),
            size: Some(self.size),
            sha256: self.sha256.clone(),
            version: Version { etag: self.etag.clone(), modified: self.modified.clone() },
        }
    }
}

impl DownloadPlan {
    /// Lists the source and chooses.
    pub(crate) async fn make(
        store: &mut Store,
        wanted: &DownloadRequest,
        settings: &FetchSettings,
        retries: &Retries<'_>,
    ) -> Result<Self, Error> {
        let (source, revision) = wanted.source_and_revision();
        let listed = store.list(retries).await?;
        let (directory, chosen) = choose(&listed, &source, wanted)?;
        let mut paths = vec![chosen.meta.clone()];
        paths.extend(chosen.companion.iter().chain(&chosen.tokenizer).cloned());
        paths.push(chosen.weights.clone());
        if chosen.weights.ends_with(".index.json") {
            paths.extend(shards(store, &listed, &chosen.weights, retries).await?);
        }
        check_names(&source, &paths)?;
        let mut files = Vec::new();
        for path in &paths {
            let missing = || Error::FileNotFound { source_name: source.clone(), file: path.clone() };
            let file = store.measured(listed.find(path).ok_or_else(missing)?, retries).await?;
            files.push(planned(file));
        }
        let asked = Selection { directory: wanted.directory().map(str::to_owned), step: wanted.step };
        let plan =
            Self { source, revision, commit: listed.commit, directory, step: chosen.step, asked, files };
        plan.check_sizes(settings)?;
        plan.check_pins(wanted)?;
        Ok(plan)
    }

    /// What tells this plan from others.
    pub(crate) fn id(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        hex(&Sha256::digest(json)[..8])
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    fn check_sizes(&self, settings: &FetchSettings) -> Result<(), Error> {
        let too_large = |file: &&PlannedFile| is_small(&file.name) && file.size > MAX_SMALL_FILE;
        if let Some(file) = self.files.iter().find(too_large) {
            let what = file.name.clone();
            return Err(Error::TooLarge { what, bytes: file.size, limit: MAX_SMALL_FILE, hint: "" });
        }
        if self.bytes() > settings.max_bytes {
            return Err(Error::TooLarge {
                what: format!("the model of {}", self.source),
                bytes: self.bytes(),
                limit: settings.max_bytes,
                hint: ", as DOWNLOAD_MAX_GB says",
            });
        }
        Ok(())
    }

    /// Pins of files that the source itself says otherwise of: known before anything is fetched.
    fn check_pins(&self, wanted: &DownloadRequest) -> Result<(), Error> {
        let Some(Pins::Files(pins)) = &wanted.sha256 else { return Ok(()) };
        for file in &self.files {
            if let (Some(pinned), Some(found)) = (pins.get(&file.name), &file.sha256)
                && !pinned.eq_ignore_ascii_case(found)
            {
                let (what, expected) = (file.name.clone(), pinned.clone());
                return Err(Error::PinMismatch { what, expected, found: found.clone() });
            }
        }
        Ok(())
    }
}

/// Whether a file is not one of weights.
fn is_small(name: &str) -> bool {
    [".json", ".pkl"].iter().any(|end| name.ends_with(end))
}

fn planned(file: RemoteFile) -> PlannedFile {
    PlannedFile {
        name: last_part(&file.path).to_owned(),
        size: file.size.unwrap_or_default(),
        path: file.path,
        sha256: file.sha256,
        etag: file.version.etag,
        modified: file.version.modified,
    }
}

/// The directory and the files of the model that is wanted.
fn choose(listed: &RemoteFiles, source: &str, wanted: &DownloadRequest) -> Result<(String, Chosen), Error> {
    let listing = Listing::new(listed.names());
    let no_model = |missing: String| Error::NoModel { source_name: source.to_owned(), missing };
    if let Some(directory) = wanted.directory() {
        let chosen = choose_in(&listing, directory, wanted);
        return Ok((directory.to_owned(), chosen.map_err(no_model)?));
    }
    let mut directories: Vec<&str> = listing.directories().into_iter().collect();
    directories.sort_by_key(|directory| rank(directory, &wanted.tag));
    let mut missing = None;
    for directory in directories {
        match choose_in(&listing, directory, wanted) {
            Ok(chosen) => return Ok((directory.to_owned(), chosen)),
            Err(what) => missing = missing.or(Some(what)),
        }
    }
    Err(no_model(
        missing.unwrap_or_else(|| "no weights (model_<step>.pt, model.pt or .safetensors)".to_owned()),
    ))
}

/// A tokenizer may be called after the directory it was made for, or after our tag.
fn choose_in(listing: &Listing, directory: &str, wanted: &DownloadRequest) -> Result<Chosen, String> {
    let own = Tag::new(last_part(directory)).unwrap_or_else(|| wanted.tag.clone());
    // Where it is does not matter to what is fetched.
    let tokenizer = wanted.has_tokenizer.then(PathBuf::new);
    let options = FileOptions { step: wanted.step, tokenizer, ..FileOptions::default() };
    let chosen = listing.choose(directory, &own, &options);
    chosen.or_else(|missing| listing.choose(directory, &wanted.tag, &options).map_err(|_| missing))
}

/// The order in which directories are tried, the best first: called like the tag, the most finished, the
/// deepest, by name.
fn rank(directory: &str, tag: &Tag) -> (bool, usize, Reverse<Option<u32>>, String) {
    let name = last_part(directory);
    let stage = stage_of(Path::new(directory));
    (name != tag.as_str(), stage, Reverse(depth(name)), directory.to_owned())
}

/// The files that an index of shards names, beside it.
async fn shards(
    store: &Store,
    listed: &RemoteFiles,
    index: &str,
    retries: &Retries<'_>,
) -> Result<Vec<String>, Error> {
    let source = store.name();
    let missing = || Error::FileNotFound { source_name: source.clone(), file: index.to_owned() };
    let file = store.measured(listed.find(index).ok_or_else(missing)?, retries).await?;
    let size = file.size.unwrap_or_default();
    if size > MAX_SMALL_FILE {
        let what = last_part(index).to_owned();
        return Err(Error::TooLarge { what, bytes: size, limit: MAX_SMALL_FILE, hint: "" });
    }
    let bytes = store.read(&file, retries).await?;
    let names = formats::read_shard_index(last_part(index), &bytes)
        .map_err(|error| Error::Listing { source_name: source.clone(), reason: shown(&error.to_string()) })?;
    let directory = index.rsplit_once('/').map(|(directory, _)| directory);
    Ok(names.into_iter().map(|name| directory.map_or(name.clone(), |d| format!("{d}/{name}"))).collect())
}

fn check_names(source: &str, paths: &[String]) -> Result<(), Error> {
    if paths.len() > MAX_FILES {
        let reason = format!("{} files, but a model has at most {MAX_FILES}", paths.len());
        return Err(Error::Listing { source_name: source.to_owned(), reason });
    }
    let mut seen = BTreeSet::new();
    for path in paths {
        let name = last_part(path);
        if !is_file_name(name) {
            return Err(Error::FileName { source_name: source.to_owned(), name: shown(name) });
        }
        if !seen.insert(name) {
            return Err(Error::Duplicate { source_name: source.to_owned(), name: name.to_owned() });
        }
    }
    Ok(())
}

fn last_part(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, last)| last)
}

#[cfg(test)]
mod tests {
    use registry::Source;

    use super::*;

    fn wanted(tag: &str) -> DownloadRequest {
        DownloadRequest {
            tag: Tag::new(tag).unwrap(),
            source: "huggingface:a/b".parse::<Source>().unwrap(),
            revision: None,
            directory: None,
            step: None,
            sha256: None,
            has_tokenizer: false,
        }
    }

    fn listed(paths: &[&str]) -> RemoteFiles {
        let mut files = RemoteFiles::new(None);
        for path in paths {
            let version = Version::default();
            let file = RemoteFile { path: (*path).to_owned(), size: Some(1), sha256: None, version };
            files.add("a/b", file).unwrap();
        }
        files
    }

    fn model(directory: &str) -> [String; 2] {
        [format!("{directory}/model_000001.pt"), format!("{directory}/meta_000001.json")]
    }

    fn chosen_directory(directories: &[&str], wanted: &DownloadRequest) -> String {
        let mut paths: Vec<String> = directories.iter().flat_map(|directory| model(directory)).collect();
        paths.push("tokenizer/tokenizer.pkl".to_owned());
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        choose(&listed(&paths), "a/b", wanted).unwrap().0
    }

    #[test]
    fn the_tag_then_the_stage_then_the_depth_decides() {
        let all = [
            "base_checkpoints/d34",
            "base_checkpoints/d20",
            "chatsft_checkpoints/d20",
            "chatsft_checkpoints/d24-sft",
        ];
        assert_eq!(chosen_directory(&all, &wanted("d34")), "base_checkpoints/d34");
        assert_eq!(chosen_directory(&all, &wanted("d20")), "chatsft_checkpoints/d20");
        assert_eq!(chosen_directory(&all, &wanted("other")), "chatsft_checkpoints/d24-sft");
        assert_eq!(chosen_directory(&["base_checkpoints/d8", "d4"], &wanted("x")), "d4", "its own directory");
        let mut directed = wanted("d34");
        directed.directory = Some("/base_checkpoints/d20/".to_owned());
        assert_eq!(chosen_directory(&all, &directed), "base_checkpoints/d20");
    }

    #[test]
    fn a_directory_that_is_not_complete_is_passed_over() {
        let paths = ["d20/model_000001.pt", "d8/model_000001.pt", "d8/meta_000001.json", "d8/tokenizer.json"];
        assert_eq!(choose(&listed(&paths), "a/b", &wanted("x")).unwrap().0, "d8");
        let error = choose(&listed(&paths[..2]), "a/b", &wanted("x")).unwrap_err().to_string();
        assert!(error.contains("a/b has no metadata"), "{error}");
        let error = choose(&listed(&["README.md"]), "a/b", &wanted("x")).unwrap_err().to_string();
        assert!(error.contains("no weights"), "{error}");
    }

    #[test]
    fn a_source_needs_no_tokenizer_where_there_is_one_here() {
        let paths = ["d20/model_000001.pt", "d20/meta_000001.json", "d20/config.json"];
        let error = choose(&listed(&paths), "a/b", &wanted("x")).unwrap_err().to_string();
        assert!(error.contains("a/b has no tokenizer"), "{error}");
        let with = DownloadRequest { has_tokenizer: true, ..wanted("x") };
        let (directory, chosen) = choose(&listed(&paths), "a/b", &with).unwrap();
        assert_eq!((directory.as_str(), chosen.tokenizer), ("d20", None));
        assert_eq!(
            chosen.companion.as_deref(),
            Some("d20/config.json"),
            "what is compared here is fetched too"
        );
    }

    #[test]
    fn names_must_differ_and_be_plain() {
        let paths = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(check_names("s", &paths(&["a/x.json", "b/y.json"])).is_ok());
        let duplicate = check_names("s", &paths(&["a/x.json", "b/x.json"])).unwrap_err();
        assert!(matches!(duplicate, Error::Duplicate { .. }));
        let hidden = check_names("s", &paths(&["a/.samosa.json"])).unwrap_err();
        assert!(matches!(hidden, Error::FileName { .. }));
        let many: Vec<String> = (0..=MAX_FILES).map(|i| format!("{i}.bin")).collect();
        assert!(matches!(check_names("s", &many), Err(Error::Listing { .. })));
    }
}
