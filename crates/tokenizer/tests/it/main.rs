//! The tokenizer against recorded ids, toy vocabularies and its own properties.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

mod chat;
mod recorded;
mod vocabulary;
