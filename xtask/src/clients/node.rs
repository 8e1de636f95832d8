//! The packages of `clients/package.json`, as its lock file has them, and the script beside them that wants them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::shell;

/// The client; it finds its packages beside itself.
pub(super) const SCRIPT: &str = "openai_node.mjs";
const BESIDE: &str = "loopback.mjs";
const PINS: &[&str] = &["package.json", "package-lock.json"];
const OLDEST: u32 = 18;

/// A folder below the target directory with packages and script; packages are fetched again when the pins have changed.
pub(super) fn ready() -> anyhow::Result<PathBuf> {
    install()?;
    let (ours, folder) = (shell::root().join("clients"), shell::target_dir().join("clients-node"));
    fs::create_dir_all(&folder)?;
    let pins = PINS.iter().map(|name| fs::read_to_string(ours.join(name)));
    let wanted = pins.collect::<Result<Vec<_>, _>>()?.concat();
    let stamp = folder.join("installed.txt");
    if fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
        for name in PINS {
            fs::copy(ours.join(name), folder.join(name))?;
        }
        println!("$ npm ci");
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(&folder);
        if !npm.status().context("npm does not start")?.success() {
            bail!("npm ci failed");
        }
        fs::write(&stamp, wanted)?;
    }
    for name in [SCRIPT, BESIDE] {
        fs::copy(ours.join(name), folder.join(name))?;
    }
    Ok(folder.canonicalize()?)
}

/// Fetches Debian's packages where that is ours to do.
fn install() -> anyhow::Result<()> {
    if is_there() {
        return Ok(());
    }
    let root = shell::output("id", &["-u"]).is_ok_and(|id| id.trim() == "0");
    if !root || !shell::succeeds("apt-get", &["--version"]) {
        bail!("node and npm are not on the path: install Node.js {OLDEST} or newer");
    }
    shell::run("apt-get", &["update", "-qq"])?;
    shell::run("apt-get", &["install", "-y", "-qq", "--no-install-recommends", "nodejs", "npm"])?;
    if is_there() {
        Ok(())
    } else {
        bail!("Debian's nodejs was installed and is older than {OLDEST}, or has no npm")
    }
}

fn is_there() -> bool {
    let version = shell::output("node", &["--version"]).unwrap_or_default();
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    major.is_some_and(|major: u32| major >= OLDEST) && shell::succeeds("npm", &["--version"])
}
