//! `cargo xtask page`: the page is what its source makes, weighs what it may, and does what it should in a real Chromium.
//!
//! It is built below the target directory, where its packages lie, and compared with `web/dist`, which the server embeds.
//! The tests in `web/browser` drive the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::{isa, node, shell};

/// What Vite runs on.
const OLDEST_NODE: (u32, u32) = (20, 19);
/// What the page may weigh, packed.
const MOST_BYTES: usize = 150_000;
const DIST: &str = "web/dist";

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Write web/dist instead of comparing it, and stop there
    #[arg(long)]
    write: bool,
    /// Leave the browser out
    #[arg(long, conflicts_with = "pictures")]
    no_browser: bool,
    /// Take the pictures of the book instead of testing
    #[arg(long)]
    pictures: bool,
}

/// Readies what the page is made with and seen in.
pub(crate) fn ready() -> anyhow::Result<()> {
    node::ready(OLDEST_NODE)?;
    folder()?;
    chromium().map(drop)
}

/// Checks the page, in a browser before servers with this instruction set.
pub(crate) fn run(options: &Options, isa: &str) -> anyhow::Result<()> {
    isa::announce(isa);
    node::ready(OLDEST_NODE)?;
    let folder = folder()?;
    bin(&folder, "tsc", &["--noEmit"])?;
    bin(&folder, "vitest", &["run", "src"])?;
    bin(&folder, "vite", &["build", "--logLevel", "warn"])?;
    let built = files(&folder.join("dist"))?;
    weigh(&built)?;
    if options.write {
        return write(&built);
    }
    compare(&files(&shell::root().join(DIST))?, &built)?;
    if options.no_browser {
        return Ok(());
    }
    browse(&folder, options, isa)
}

/// A copy of the source with its packages.
fn folder() -> anyhow::Result<PathBuf> {
    let (source, folder) = (shell::root().join("web"), shell::target_dir().join("page"));
    node::packages(&source, &folder)?;
    let folder = folder.canonicalize()?;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("node_modules") {
            fs::remove_dir_all(path)?;
        }
    }
    for entry in fs::read_dir(&source)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != "node_modules" && name != "dist" {
            let from = entry.path();
            let words = [Path::new("-a"), &from, &folder];
            let copied = Command::new("cp").args(words).status()?;
            if !copied.success() {
                bail!("{} could not be copied", from.display());
            }
        }
    }
    Ok(folder)
}

/// Runs a program of the packages.
fn bin(folder: &Path, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
    println!("$ {name} {}", arguments.join(" "));
    let mut command = Command::new(folder.join("node_modules/.bin").join(name));
    let status = command.args(arguments).current_dir(folder).env("CI", "true").status();
    if !status.with_context(|| format!("{name} does not start"))?.success() {
        bail!("{name} failed");
    }
    Ok(())
}

type Files = BTreeMap<String, Vec<u8>>;

/// All files below a folder, by their paths in it.
fn files(folder: &Path) -> anyhow::Result<Files> {
    let mut found = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
                found.insert(name, fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

/// Shows what the page weighs as it is sent, and fails if that is too much.
fn weigh(built: &Files) -> anyhow::Result<()> {
    let mut all = 0;
    for (name, bytes) in built {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(bytes)?;
        let size = packed.finish()?.len().min(bytes.len());
        println!("{size:>9} of {:>7}  {name}", bytes.len());
        all += size;
    }
    println!("{all:>9} bytes packed, of {MOST_BYTES} at most");
    if all > MOST_BYTES {
        bail!("the page weighs {all} bytes packed, but may weigh {MOST_BYTES}");
    }
    Ok(())
}

fn write(built: &Files) -> anyhow::Result<()> {
    let dist = shell::root().join(DIST);
    if dist.exists() {
        fs::remove_dir_all(&dist)?;
    }
    for (name, bytes) in built {
        let path = dist.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&dist))?;
        fs::write(path, bytes)?;
    }
    println!("{DIST} was written");
    Ok(())
}

fn compare(committed: &Files, built: &Files) -> anyhow::Result<()> {
    let names: BTreeSet<&str> = committed.keys().chain(built.keys()).map(String::as_str).collect();
    let differing: Vec<&str> =
        names.into_iter().filter(|name| committed.get(*name) != built.get(*name)).collect();
    if !differing.is_empty() {
        let list = differing.join(", ");
        bail!("{DIST} is not what the source makes ({list}); `cargo xtask page --write` renews it");
    }
    println!("{DIST} is what the source makes");
    Ok(())
}

/// Runs the tests, or takes the pictures, in a real browser before the binary.
fn browse(folder: &Path, options: &Options, isa: &str) -> anyhow::Result<()> {
    let chromium = chromium()?;
    let out = shell::fresh_folder("page-browser")?;
    let mut command = Command::new("node");
    if options.pictures {
        command.arg("browser/pictures.mjs");
    } else {
        command.args(["--test", "--test-reporter=spec", "--test-concurrency=1"]).args(tests(folder)?);
    }
    command.current_dir(folder).env("CHROMIUM", chromium).env(isa::VARIABLE, isa);
    command.env("SAMOSA_BINARY", shell::samosa()?).env("SAMOSA_PAGE_OUT", &out);
    command.env("SAMOSA_GOLDENS", shell::root().join("goldens"));
    command.env("SAMOSA_PICTURES", shell::root().join("docs/src/pictures"));
    println!("$ node {}", if options.pictures { "browser/pictures.mjs" } else { "--test browser" });
    if !command.status()?.success() {
        bail!("the browser's tests failed; logs and pictures of what failed are in {}", out.display());
    }
    Ok(())
}

fn tests(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder.join("browser"))?.map(|entry| Ok(entry?.path()));
    let mut found = entries.collect::<anyhow::Result<Vec<_>>>()?;
    found.retain(|path| path.to_string_lossy().ends_with(".test.mjs"));
    found.sort();
    Ok(found)
}

/// The browser: the one that is named, the one that is there, or Debian's.
fn chromium() -> anyhow::Result<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a browser that is somewhere else is named as other tools name it"
    )]
    let named = env::var_os("CHROMIUM").map(PathBuf::from);
    let usual = || ["/usr/bin/chromium", "/usr/bin/chromium-browser"].map(PathBuf::from);
    let found = || usual().into_iter().find(|path| path.exists());
    if let Some(there) = named.or_else(found) {
        return Ok(there);
    }
    shell::install(&["chromium"], "Chromium (CHROMIUM may say where it is)")?;
    found().context("Debian's chromium was installed and is not where it should be")
}
