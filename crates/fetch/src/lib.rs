//! The files of a model from where they are published to a directory under the storage root, all or nothing.
//!
//! A source is listed at one fixed revision (`hub`, `s3`, `sums`, behind `store`, all through `web`), the files that a
//! model needs are chosen (`plan`), brought in pieces into a directory that survives everything (`staging`,
//! `transfer`, `retry`), checked, and renamed into place (`install`). `fetcher` has the order. Nothing here parses
//! weights. This is the one crate that asks other machines for models; it is asynchronous, and waits for disks on
//! threads for such.

#![forbid(unsafe_code)]

mod disk;
mod error;
mod fetcher;
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

pub use error::Error;
pub use fetcher::Fetcher;
pub use progress::{DownloadProgress, ProgressSnapshot};
pub use reach::SourceServer;
pub use retry::RetryPolicy;
pub use settings::{FetchSettings, PUBLIC_ENDPOINT};
