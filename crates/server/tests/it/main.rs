//! The server over real sockets, in one process.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod base_model;
mod connections;
mod download;
mod drop_in;
mod edge;
mod handover;
mod hardening;
mod identity;
mod in_process;
mod metrics;
mod openai;
mod openai_contract;
mod openai_refusals;
mod page;
mod refusals;
mod routes;
mod serial;
mod spared;
mod stats;
mod streams;
mod support;
mod swap;
mod tls;
mod wire;
