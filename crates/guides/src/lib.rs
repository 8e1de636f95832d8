//! What steers an answer: structured output (JSON Schemas, grammars and regular expressions as sets of tokens that may come
//! next), and the calculator that nanochat's models call.
//!
//! The library llguidance reads and follows them. What a caller sends it may make it crash, run for minutes or take all
//! memory, so none of its code runs in the server: [`Grammars`] starts a worker process of the same program, and
//! for each request the worker forks a process that reads the grammar and follows its answer under limits of address
//! space and CPU time, at the lowest priority ([`worker`]). A crash there is a refusal for that request alone.
//!
//! Reading order: `calculator`; `form` (what an answer must look like); `grammars` (the server's side), `process` (the
//! worker as the server sees it), `remote` (an answer that is followed elsewhere), `protocol` and `frame` (the messages
//! between the processes); `worker` (the other side), `read` (a grammar), `schema`, `rewrite` and `pattern` (what of a JSON
//! Schema the library would get wrong), `follow` (an answer).

#![forbid(unsafe_code)]

mod calculator;
mod error;
mod follow;
mod form;
mod frame;
mod grammars;
mod pattern;
mod process;
mod protocol;
mod read;
mod remote;
mod rewrite;
mod schema;
pub mod worker;

pub use calculator::{Calculator, calculate};
pub use error::Error;
pub use form::Form;
pub use grammars::Grammars;
pub use process::Settings;
