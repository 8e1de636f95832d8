//! Virtual environments of the tools that are written in Python, below the target directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::shell;

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
        install_python()?;
        shell::run("python3", &make)?;
    }
    let python = programs.join("python");
    shell::run(text(&python)?, &["-m", "pip", "install", "--quiet", "--requirement", requirements])?;
    fs::write(&stamp, wanted)?;
    Ok(programs)
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

/// A path as an argument.
pub(crate) fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
