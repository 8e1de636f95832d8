//! From requests to tokens: continuous batching over one model.
//!
//! The engine is deterministic and sans-IO: no clock, no thread, no randomness but what a request's seed and
//! a token's position give. Only [`driver`] knows time and threads. It knows neither HTTP nor disks.
//!
//! Reading order: [`request`] (what comes in and goes out), [`limits`], [`step`] (`Engine::step`: admit →
//! plan → forward → sample → emit → reclaim), then its parts: `scheduler`, `speculation`, `pages`, `prefix_cache`,
//! `sampler`, `stop`, `tool` (the calculator that models call) and the seams: [`backend`] to the transformer,
//! [`constraint`] to grammars.

#![forbid(unsafe_code)]

pub mod backend;
pub mod constraint;
pub mod driver;
pub mod limits;
pub mod pace;
pub mod request;
pub mod step;

mod backlog;
mod calculator;
mod pages;
mod prefix_cache;
mod sampler;
mod scheduler;
mod speculation;
mod stop;
mod tool;

pub use backend::{Backend, Transformer};
pub use backlog::Refusal;
pub use calculator::calculate;
pub use constraint::{Allowed, Constraint, TokenSet};
pub use driver::{Abort, Handle, Sink, StreamEvent, Timings};
pub use limits::Limits;
pub use model::{Compute, Isa};
pub use pace::Pace;
pub use request::{
    Event, Failure, FinishReason, InvalidRequest, Logprobs, Penalties, Request, RequestId, Sampling, Scope,
    Usage,
};
pub use step::{Counts, Engine, Stepped};
pub use tool::ToolState;
