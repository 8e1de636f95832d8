//! Node.js with npm, and packages as lock files have them, below the target directory.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::shell;

const PINS: &[&str] = &["package.json", "package-lock.json"];

/// Sees to it that there is a Node.js of at least this version; fetches Debian's where that is ours to do.
pub(crate) fn ready(oldest: (u32, u32)) -> anyhow::Result<()> {
    if is_there(oldest) {
        return Ok(());
    }
    let (major, minor) = oldest;
    shell::install(&["nodejs", "npm"], &format!("Node.js {major}.{minor} or newer, with npm"))?;
    if is_there(oldest) {
        Ok(())
    } else {
        bail!("Debian's nodejs was installed and is older than {major}.{minor}, or has no npm")
    }
}

fn is_there(oldest: (u32, u32)) -> bool {
    let version = shell::output("node", &["--version"]).unwrap_or_default();
    let mut parts = version.trim().trim_start_matches('v').split('.').map(|part| part.parse().unwrap_or(0));
    let found: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    found >= oldest && shell::succeeds("npm", &["--version"])
}

/// Puts the packages that `from` pins into `folder`, again only when the pins have changed.
pub(crate) fn packages(from: &Path, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let pins = PINS.iter().map(|name| fs::read_to_string(from.join(name)));
    let wanted = pins.collect::<Result<Vec<_>, _>>()?.concat();
    let stamp = folder.join("installed.txt");
    if fs::read_to_string(&stamp).ok().as_ref() == Some(&wanted) {
        return Ok(());
    }
    for name in PINS {
        fs::copy(from.join(name), folder.join(name))?;
    }
    println!("$ npm ci");
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
    if !npm.status().context("npm does not start")?.success() {
        bail!("npm ci failed");
    }
    Ok(fs::write(&stamp, wanted)?)
}
