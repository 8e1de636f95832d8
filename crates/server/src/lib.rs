//! The HTTP service: the contract's five operations, OpenAI's API, health and metrics, over engines and a registry.
//!
//! The only crate that knows HTTP and JSON bodies. Reading order: [`app`] (the routes), [`options`] and
//! [`limits`] (what may be set, what is bounded), [`problem`] (every error a caller can see), [`parse`] (bodies
//! to checked values), [`generate`] and [`openai`] (a message to an answer) over [`start`] (to an engine), [`events`] (the
//! life of an answer) and [`sse`], [`models`] and [`swap`] (which weights
//! serve), [`page`] (for browsers), [`health`], [`metrics`], [`edge`] (the network is hostile), then [`listen`] (sockets, and stopping). Whoever has
//! the service in their own process asks it with [`answer`].

#![forbid(unsafe_code)]

pub mod edge;
pub mod limits;
pub mod listen;
pub mod options;
pub mod problem;
pub mod swap;
pub mod trace;

mod auth;
mod body_drain;
mod clock;
mod connections;
mod context;
mod deadline;
mod events;
mod frames;
mod gate;
mod generate;
mod generation;
mod health;
mod in_process;
mod keys;
mod memory;
mod metrics;
mod models;
mod openai;
mod openapi;
mod page;
mod parse;
mod refuse;
mod root;
mod sse;
mod start;
mod state;
mod statistics;
mod tally;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

pub use edge::Edge;
pub use in_process::answer;
pub use keys::Keys;
pub use limits::Limits;
pub use listen::{Stop, serve};
pub use metrics::listen::serve_metrics;
pub use openai::{Parameters, parameters as openai_parameters};
pub use openapi::{inference as inference_document, openai as openai_document};
pub use options::{ContextOverflow, Defaults, Options};
pub use state::{Ending, State};

/// Paths that ask for no key, whatever name they are asked by; those of the page ask for none either, but for a name of ours.
pub const PUBLIC: [&str; 4] = ["/health", "/livez", "/readyz", "/metrics"];

/// Whether a path asks for no key.
pub(crate) fn is_public(path: &str) -> bool {
    PUBLIC.contains(&path) || page::has(path)
}

/// The service, ready to be served or tested.
pub fn app(state: Arc<State>) -> Router {
    let router = Router::new();
    let router = match state.options.metrics_address {
        None => router.route("/metrics", get(metrics::metrics)),
        // They have a listener of their own.
        Some(_) => router,
    };
    let router = if state.options.page { router.merge(page::routes()) } else { router };
    let router = router
        .route("/health", get(health::health))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/generate", post(generate::generate))
        .route("/models", get(models::list))
        .route("/models/swap", post(models::swap).route_layer(from_fn(auth::require_admin)))
        .route("/stats", get(health::stats))
        .route("/stats/history", get(statistics::history::history))
        .route("/v1/chat/completions", post(openai::chat::create))
        .route("/v1/completions", post(openai::completions::create))
        .route("/v1/models", get(openai::models::list))
        .route("/v1/models/{*model}", get(openai::models::show))
        .route("/tokenize", post(openai::tokens::tokenize))
        .route("/detokenize", post(openai::tokens::detokenize))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&state), auth::require_key))
        .with_state(Arc::clone(&state));
    edge::cors::around(router, &state.options.edge.cors_origins)
        .layer(from_fn_with_state(Arc::clone(&state), edge::host::check))
        .layer(from_fn_with_state(state, context::follow))
}
