//! `cargo xtask contract`: the release binary, driven over HTTP and held to `contract/inference-api.yaml`.
//!
//! The driver is `contract/test.py`, in a virtual environment of its own under the target directory, since
//! the tool that knows how to attack an `OpenAPI` document is written in Python. `contract/settings.py` beside it asks a
//! real validator what the JSON Schema of the settings' file accepts.

use std::env;
use std::path::PathBuf;

use crate::python::text;
use crate::{isa, python, shell};

/// The environment of Python that the tests run in.
pub(crate) fn ready() -> anyhow::Result<PathBuf> {
    python::ready("contract-venv", "contract/requirements.txt")
}

/// Builds the binary, readies Python and runs the contract tests with this instruction set.
pub(crate) fn run(isa: &str) -> anyhow::Result<()> {
    isa::announce(isa);
    shell::run("cargo", &["build", "--release", "-p", "samosa"])?;
    let python = ready()?.join("python");
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
    ];
    let arguments = [&pytest[..], &["--durations=3", "--binary", text(&binary)?]].concat();
    shell::run_with(&[(isa::VARIABLE, isa)], text(&python)?, &arguments)
}
