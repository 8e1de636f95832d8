//! `cargo xtask contract`: the release binary, driven over HTTP and held to `contract/inference-api.yaml`.
//!
//! The driver is `contract/test.py`, in a virtual environment of its own under the target directory, since
//! the tool that knows how to attack an `OpenAPI` document is written in Python. `contract/settings.py` beside it asks a
//! real validator what the JSON Schema of the settings' file accepts.

use std::env;

use crate::python::text;
use crate::{python, shell};

/// Builds the binary, readies Python and runs the contract tests.
pub(crate) fn run() -> anyhow::Result<()> {
    shell::run("cargo", &["build", "--release", "-p", "samosa"])?;
    let python = python::ready("contract-venv", "contract/requirements.txt")?.join("python");
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
        "contract/forms.py",
        "contract/random_forms.py",
    ];
    shell::run(text(&python)?, &[&pytest[..], &["--durations=3", "--binary", text(&binary)?]].concat())
}
