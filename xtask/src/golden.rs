//! `cargo xtask golden`: recorded logits and tokens of every model generation, in the profile that is shipped.

use crate::shell;

/// Runs every test with `golden` in its path, in the crates that hold them.
pub(crate) fn run() -> anyhow::Result<()> {
    shell::run("cargo", &["test", "--release", "-p", "model", "-p", "engine", "-p", "server", "golden"])
}
