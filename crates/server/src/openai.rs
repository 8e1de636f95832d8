//! OpenAI's API: chat and text completions, the models that serve, and the tokenizer. `contract/openai-api.yaml` says
//! what is taken and given.
//!
//! Reading order: [`parameters`] (the fields of bodies, and what is refused by name), [`request`] (what both kinds of completion
//! take), [`conversation`] and [`prompts`] (what they go on with), [`response_format`], [`chat`] and [`completions`] (the
//! handlers), [`create`] (from there to an engine), [`chunks`] (streams) and [`response`] (complete responses) of [`types`]
//! and [`logprobs`]; [`models`], [`tokens`], [`error`].

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod error;
pub(crate) mod models;
pub(crate) mod tokens;

mod chunks;
mod conversation;
mod create;
mod logprobs;
mod parameters;
mod prompts;
mod request;
mod response;
mod response_format;
mod types;

pub use parameters::{Parameters, parameters};
