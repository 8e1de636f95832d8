//! Virtual environments of the tools that are written in Python, below the target directory.

use std::fs;
use std::path::PathBuf;

use crate::shell::{self, text};

/// The `bin` folder of an environment with the packages that `requirements` pins; made again when the pins have changed.
pub(crate) fn ready(name: &str, requirements: &str) -> anyhow::Result<PathBuf> {
    let venv = shell::target_dir().join(name);
    let programs = venv.join("bin");
    let stamp = venv.join("installed.txt");
    let wanted = fs::read_to_string(shell::root().join(requirements))?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(programs);
    }
    let make = ["-m", "venv", "--clear", text(&venv)?];
    if !shell::succeeds("python3", &make) {
        // Debian splits the `venv` module off its Python.
        shell::install(&["python3", "python3-venv"], "Python 3.10 or newer with its venv module")?;
        shell::run("python3", &make)?;
    }
    let python = programs.join("python");
    shell::run(text(&python)?, &["-m", "pip", "install", "--quiet", "--requirement", requirements])?;
    fs::write(&stamp, wanted)?;
    Ok(programs)
}
