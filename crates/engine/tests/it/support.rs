//! What tests share: models without weights, requests drawn at random, and a loop that runs an engine.

pub(crate) mod alphabet;
pub(crate) mod run;
pub(crate) mod scripted;
pub(crate) mod toy;
pub(crate) mod vocabulary;
pub(crate) mod wishes;
