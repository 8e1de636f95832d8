//! OpenAI's API: chat and text completions, the models that serve, and the tokenizer. `contract/openai-api.yaml` says
//! what is taken and given.
//!
//! Reading order: [`fields`] (reading bodies, and what is refused by name), [`common`] (what both kinds of completion
//! take), [`chat`] and [`completions`] (bodies to requests), [`answer`] (from there to an engine, and to whole answers),
//! [`chunks`] (streams), [`wire`] (what goes over the wire), [`whole`] (answers at once), [`likely`] (log probabilities), [`form`] (what an answer
//! must look like), [`models`], [`tokens`], [`error`].

pub(crate) mod answer;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod error;
pub(crate) mod models;
pub(crate) mod tokens;

mod chunks;
mod common;
mod fields;
mod form;
mod likely;
mod whole;
mod wire;

pub use fields::{Parameters, parameters};
