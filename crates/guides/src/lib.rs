//! What steers an answer: structured output (JSON Schemas, grammars and regular expressions as sets of tokens that may come
//! next), and the calculator that nanochat's models call.
//!
//! The library llguidance reads and follows them. What a caller sends it may make it crash, run for minutes or take all
//! memory, so none of its code runs in the server: [`Grammars`] starts a worker process of the same program, and
//! for each request the worker forks a process that reads the grammar and follows its answer under limits of address
//! space and CPU time, at the lowest priority ([`worker`]). A crash there is a refusal for that request alone.
//!
//! Reading order: `calculator`; `grammars` (the server's side), `process` (the worker as the server sees it), `remote` (an answer that
//! is followed elsewhere), `frame` (what passes between them); `worker` (the other side), `read` (a grammar), `schema`,
//! `rewrite` and `pattern` (what of a JSON Schema the library would get wrong), `follow` (an answer).

#![forbid(unsafe_code)]

mod calculator;
mod error;
mod follow;
mod frame;
mod grammars;
mod pattern;
mod process;
mod read;
mod remote;
mod rewrite;
mod schema;
pub mod worker;

use std::ffi::OsString;
use std::time::Duration;

use serde_json::Value;

pub use calculator::{Calculator, calculate};
pub use error::Error;
pub use grammars::Grammars;

use error::Refusal;

/// What an answer must look like.
#[derive(Clone, PartialEq, Debug)]
pub enum Form {
    /// Some JSON object.
    JsonObject,
    /// JSON that fits a schema.
    JsonSchema(Value),
    /// Text that a grammar in Lark's syntax derives, from its rule `start`.
    Lark(String),
    /// Text that a regular expression matches from its beginning to its end.
    Regex(String),
}

/// How grammars are read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The program and arguments that call [`worker::run`].
    pub command: Vec<OsString>,
    /// How long reading one grammar may take.
    pub deadline: Duration,
    /// How many reads that take longer than a moment may go on at once.
    pub slow_reads: usize,
    /// Bytes of address space that one grammar and its answer may take.
    pub memory_bytes: u64,
}
