//! Running other programs: shown before they start, an error when they fail.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The repository's root: the parent of this package.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."))
}

/// Where cargo builds to, which `CARGO_TARGET_DIR` may have moved.
pub(crate) fn target_dir() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "a developer command finds the build where cargo put it")]
    let moved = std::env::var_os("CARGO_TARGET_DIR");
    root().join(moved.map_or_else(|| PathBuf::from("target"), PathBuf::from))
}

/// Runs a program with this terminal; its output is not caught.
pub(crate) fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    println!("$ {program} {}", args.join(" "));
    let status = command(program, args).status().with_context(|| format!("{program} does not start"))?;
    if !status.success() {
        bail!("`{program} {}` failed: {status}", args.join(" "));
    }
    Ok(())
}

/// Whether a program starts and succeeds; says nothing.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    command(program, args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What a program writes to its standard output.
pub(crate) fn output(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = command(program, args).output().with_context(|| format!("{program} does not start"))?;
    if !output.status.success() {
        bail!("`{program} {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// What cargo tells this program of itself. Build scripts look at it, so a cargo started with it would build anew what a
/// cargo started from a shell has built, and the other way round.
const OF_XTASK: [&str; 6] = [
    "CARGO_MANIFEST_DIR",
    "CARGO_PKG_NAME",
    "CARGO_PKG_VERSION_MAJOR",
    "CARGO_PKG_VERSION_MINOR",
    "CARGO_PKG_VERSION_PATCH",
    "CARGO_PKG_VERSION_PRE",
];

/// A program with arguments, in the repository's root, with nothing to read.
pub(crate) fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).stdin(Stdio::null());
    for name in OF_XTASK {
        command.env_remove(name);
    }
    command
}
