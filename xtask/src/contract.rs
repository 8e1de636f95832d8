//! `cargo xtask contract`: the release binary, driven over HTTP and held to `contract/inference-api.yaml`.
//!
//! The driver is `contract/test.py`, in a virtual environment of its own under the target directory, since
//! the tool that knows how to attack an `OpenAPI` document is written in Python. `contract/settings.py` beside it asks a
//! real validator what the JSON Schema of the settings' file accepts.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, bail};

use crate::shell;

const REQUIREMENTS: &str = "contract/requirements.txt";

/// Builds the binary, readies Python and runs the contract tests.
pub(crate) fn run() -> anyhow::Result<()> {
    shell::run("cargo", &["build", "--release", "-p", "samosa"])?;
    let python = ready_python()?;
    let binary = shell::target_dir().join("release/samosa").with_extension(env::consts::EXE_EXTENSION);
    // Nothing is left in the work tree: no bytecode, no cache.
    let pytest = [
        "-B",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "contract/test.py",
        "contract/settings.py",
        "contract/logs.py",
    ];
    shell::run(text(&python)?, &[&pytest[..], &["--durations=3", "--binary", text(&binary)?]].concat())
}

/// A Python with the pinned packages; made again when the pins have changed.
fn ready_python() -> anyhow::Result<PathBuf> {
    let venv = shell::target_dir().join("contract-venv");
    let python = venv.join("bin/python");
    let stamp = venv.join("installed.txt");
    let wanted = fs::read_to_string(shell::root().join(REQUIREMENTS))?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let make = ["-m", "venv", "--clear", text(&venv)?];
    if !shell::succeeds("python3", &make) {
        install_python()?;
        shell::run("python3", &make)?;
    }
    shell::run(text(&python)?, &["-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS])?;
    fs::write(&stamp, wanted)?;
    Ok(python)
}

/// Debian splits the `venv` module off its Python: fetch it where that is ours to do.
fn install_python() -> anyhow::Result<()> {
    let root = shell::output("id", &["-u"]).is_ok_and(|id| id.trim() == "0");
    if !root || !shell::succeeds("apt-get", &["--version"]) {
        bail!("`python3 -m venv` does not work: install Python 3.10 or newer with its venv module");
    }
    shell::run("apt-get", &["update", "-qq"])?;
    shell::run("apt-get", &["install", "-y", "-qq", "--no-install-recommends", "python3", "python3-venv"])
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
