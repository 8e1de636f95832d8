//! What tests share: a server that runs, a Hub and other servers that tests play, and a terminal.

#[expect(dead_code, reason = "tests/kill uses the rest of it")]
pub(crate) mod hub;
pub(crate) mod mock;
pub(crate) mod running;
pub(crate) mod screen;
