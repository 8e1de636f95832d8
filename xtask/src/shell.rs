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

/// The program that the checks drive, as the workspace's tests build it: a test of its crate is built beside it, because
/// cargo then chooses the same features of the libraries as for all tests, and nothing is built twice.
pub(crate) fn samosa() -> anyhow::Result<PathBuf> {
    run("cargo", &["build", "--workspace", "--bin", "samosa", "--test", "soak"])?;
    let binary = target_dir().join("debug/samosa").with_extension(std::env::consts::EXE_EXTENSION);
    binary.canonicalize().with_context(|| binary.display().to_string())
}

/// A folder below the target directory, empty.
pub(crate) fn fresh_folder(name: &str) -> anyhow::Result<PathBuf> {
    let folder = target_dir().join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    // Others run in directories of their own, and look for it from there.
    Ok(folder.canonicalize()?)
}

/// Installs Debian's packages, or says what is missing where they cannot be had.
pub(crate) fn install(packages: &[&str], what: &str) -> anyhow::Result<()> {
    if !is_root() || !succeeds("apt-get", &["--version"]) {
        bail!("not on this machine: {what}");
    }
    run("apt-get", &["update", "-qq"])?;
    run("apt-get", &[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
}

pub(crate) fn is_root() -> bool {
    output("id", &["-u"]).is_ok_and(|id| id.trim() == "0")
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
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
