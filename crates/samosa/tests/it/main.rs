//! The binary as people and machines run it.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod bench;
mod binary;
mod chat;
mod config;
mod doctor;
mod edge;
mod files;
mod generate;
mod golden;
mod handover;
mod https;
mod logs;
mod metrics;
mod models;
mod pull;
mod secrets;
mod shell;
mod signals;
mod storage;
mod support;
mod swap;
mod top;
mod traces;
