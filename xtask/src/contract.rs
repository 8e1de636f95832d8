//! `cargo xtask contract`: the binary, driven over HTTP and held to `contract/inference-api.yaml`.
//!
//! The driver is `contract/test.py`, in a virtual environment of its own under the target directory, since
//! the tool that knows how to attack an `OpenAPI` document is written in Python. `contract/settings.py` beside it asks a
//! real validator what the JSON Schema of the settings' file accepts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context as _, bail};

use crate::shell::{self, text};
use crate::{isa, python};

/// Nothing is left in the work tree: no bytecode, no cache.
const PYTEST: &[&str] = &[
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

/// The environment of Python that the tests run in.
pub(crate) fn ready() -> anyhow::Result<PathBuf> {
    python::ready("contract-venv", "contract/requirements.txt")
}

/// Builds the binary, readies Python and runs the contract tests with these instruction sets, at once.
pub(crate) fn run(isas: &[String]) -> anyhow::Result<()> {
    let binary = shell::samosa()?;
    let python = ready()?.join("python");
    let runs = isas
        .iter()
        .map(|isa| ContractRun::start(isa, &python, &binary))
        .collect::<anyhow::Result<Vec<_>>>()?;
    // All are waited for, so that none is left behind by one that fails.
    let outcomes: Vec<_> = runs.into_iter().map(ContractRun::end).collect();
    outcomes.into_iter().collect()
}

/// One run of the tests. What it says is shown at its end.
struct ContractRun {
    isa: String,
    said: PathBuf,
    process: Child,
}

impl ContractRun {
    fn start(isa: &str, python: &Path, binary: &Path) -> anyhow::Result<Self> {
        let said = shell::target_dir().join(format!("contract-{isa}.txt"));
        let file = File::create(&said)?;
        let arguments = [PYTEST, &["--durations=3", "--binary", text(binary)?]].concat();
        let mut command = shell::command(text(python)?, &arguments);
        command.env(isa::VARIABLE, isa).stdout(file.try_clone()?).stderr(file);
        let process = command.spawn().context("Python does not start")?;
        Ok(Self { isa: isa.to_owned(), said, process })
    }

    fn end(mut self) -> anyhow::Result<()> {
        let status = self.process.wait()?;
        isa::announce(&self.isa);
        print!("{}", fs::read_to_string(&self.said)?);
        if status.success() {
            Ok(())
        } else {
            bail!("the contract tests with ISA={} failed: {status}", self.isa)
        }
    }
}
