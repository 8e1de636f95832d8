//! From requests to tokens: continuous batching over one model.
//!
//! The engine is deterministic and sans-IO: no clock, no thread, no randomness but [`random`]. Only [`driver`] knows time
//! and threads. It knows neither models nor kernels, neither HTTP nor disks: what computes is a [`Backend`], what steers an
//! answer a [`Guide`].
//!
//! Reading order: [`request`] (what comes in and goes out), the seams [`backend`] and [`guide`], [`limits`], [`step`]
//! (`Engine::step`: admit → schedule → forward → sample → accept → reclaim), then its parts: `scheduler`, `speculation`,
//! `pages`, `prefix_cache`, `stop`.

#![forbid(unsafe_code)]

pub mod backend;
pub mod driver;
pub mod guide;
pub mod limits;
pub mod pace;
pub mod random;
pub mod request;
pub mod step;

mod backlog;
mod pages;
mod prefix_cache;
mod scheduler;
mod speculation;
mod stop;

pub use backend::{Backend, BatchItem, LogitRows};
pub use backlog::Refusal;
pub use driver::{Abort, Handle, Sink, Timeline};
pub use guide::{Allowed, Guide, TokenSet};
pub use limits::Limits;
pub use pace::Pace;
pub use pages::worst_case as worst_case_pages;
pub use request::{
    Failure, FinishReason, GeneratedToken, InvalidRequest, Logprobs, Output, Penalties, Request, RequestId,
    Sampling, Scope, Usage,
};
pub use step::{Counts, Engine, Stepped};
