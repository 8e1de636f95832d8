//! The HTTP service: the contract's five operations, OpenAI's API, health and metrics, over the models in service.
//!
//! The only crate that knows HTTP and JSON bodies. Reading order: [`routes`]; [`app`] (what handlers share), [`options`]
//! and [`limits`] (what may be set, what is bounded); [`problem`] (every error a caller can see, and which of our errors
//! become one); then the path of a request: [`context`] (around every request), [`generate`] and [`openai`] (handlers) over
//! [`request_body`], [`fields`] and [`parse`] (to checked values), [`admission`] (to an engine), [`events`] (the life of an answer)
//! and [`respond`] (to the client); [`models`] (swaps), [`stats`] and [`status`], [`metrics`] and [`telemetry`],
//! [`page`] (for browsers), [`edge`] (the network is hostile), [`listen`] and [`connections`] (sockets, and stopping).
//! Whoever has the service in their own process asks it with [`answer`].

#![forbid(unsafe_code)]

pub mod edge;
pub mod limits;
pub mod listen;
pub mod options;
pub mod problem;
pub mod trace;

mod admission;
mod app;
mod auth;
mod body_drain;
mod clock;
mod connections;
mod context;
mod events;
mod fields;
mod generate;
mod keys;
mod lifecycle;
mod metrics;
mod models;
mod openai;
mod openapi;
mod page;
mod parse;
mod paths;
mod random;
mod request_body;
mod request_ids;
mod request_span;
mod respond;
mod routes;
mod sse;
mod statistics;
mod stats;
mod status;
mod swap_report;
mod telemetry;

pub use app::App;
pub use edge::Edge;
pub use keys::Keys;
pub use lifecycle::Ending;
pub use limits::Limits;
pub use listen::{Stop, serve, serve_metrics};
pub use openai::{Parameters, parameters as openai_parameters};
pub use openapi::{inference as inference_document, openai as openai_document};
pub use options::{ContextOverflow, Defaults, Options};
pub use paths::PUBLIC;
pub use routes::{answer, router};
