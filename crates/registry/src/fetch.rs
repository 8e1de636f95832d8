//! STUB
use crate::models_file::Pins;
use crate::{Error, Source, Tag};
use std::path::Path;
#[derive(Clone, Debug, Default)]
pub struct FetchSettings;
#[derive(Clone, Debug)]
pub struct Fetcher;
#[derive(Clone, Debug)]
pub struct Wanted {
    pub tag: Tag,
    pub source: Source,
    pub revision: Option<String>,
    pub directory: Option<String>,
    pub step: Option<u64>,
    pub sha256: Option<Pins>,
}
#[derive(Clone, Default, Debug)]
pub struct Progress;
#[derive(Clone, Copy, Default, Debug)]
pub struct ProgressSnapshot {
    pub files_done: u64,
    pub files_total: u64,
    pub bytes_done: u64,
    pub bytes_total: u64,
    pub bytes_resumed: u64,
    pub retries: u64,
}
impl Progress {
    pub fn snapshot(&self) -> ProgressSnapshot {
        ProgressSnapshot::default()
    }
}
impl Fetcher {
    pub fn new(_: FetchSettings) -> Result<Self, Error> {
        Ok(Self)
    }
    pub async fn fetch(&self, _w: &Wanted, _r: &Path, _p: &Progress) -> Result<(), Error> {
        unreachable!()
    }
}
