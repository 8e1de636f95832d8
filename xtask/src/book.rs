//! `cargo xtask book`: the book in `docs` is built, its links lead somewhere, and its examples do what they say.
//!
//! Reading order: [`mdbook`]; then the examples: [`example`] (what is asked of a
//! block), [`page`] (one page's, in order), over [`markdown`], [`console`], [`bash`], [`server`], [`layout`] and [`matching`]. How to
//! write an example is in CONTRIBUTING.md. Nothing is fetched but the tools, once; examples are let out to loopback only.

mod bash;
mod console;
mod example;
mod layout;
mod markdown;
mod matching;
mod mdbook;
mod page;
mod server;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use self::page::{PageReport, Tools};
use crate::tidy::FileTree;
use crate::{python, shell};

/// Pages outside the book whose examples are tried too.
const OUTSIDE: &[&str] = &["README.md", "deploy/README.md"];

/// What to do.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Run the examples with this binary, instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Run the examples of pages whose path holds this alone
    #[arg(long, value_name = "PART")]
    page: Option<String>,
}

/// Builds the book, checks it, and runs what it says.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let scratch = shell::target_dir().join("book");
    std::fs::create_dir_all(&scratch)?;
    let scratch = scratch.canonicalize()?;
    let tree = FileTree::of_repository(shell::root())?;
    mdbook::build(&tree, &scratch.join("html"))?;
    println!("read it at {}", scratch.join("html/index.html").display());
    let tools = tools(options, scratch)?;
    let mut whole = PageReport::default();
    let pages = mdbook::pages(&tree).into_iter().chain(OUTSIDE.iter().copied());
    for path in pages.filter(|path| options.page.as_deref().is_none_or(|part| path.contains(part))) {
        let fences = markdown::fences(tree.text(path).unwrap_or_default());
        if !fences.is_empty() {
            let report = page::run(&tools, path, &fences)?;
            tell(path, &report);
            whole.add(report);
        }
    }
    summarise(&whole);
    match whole.faults.len() {
        0 => Ok(()),
        count => {
            for fault in &whole.faults {
                println!("\n{fault}");
            }
            bail!("{count} faults in the book")
        }
    }
}

/// Readies mdBook.
pub(crate) fn ready() -> anyhow::Result<()> {
    mdbook::ready().map(drop)
}

/// The binary under its name, Python, and an empty folder for the pages.
fn tools(options: &Options, scratch: PathBuf) -> anyhow::Result<Tools> {
    let binary = options.binary.clone().map_or_else(shell::samosa, Ok)?;
    let binary = binary.canonicalize().with_context(|| binary.display().to_string())?;
    let python = python::ready("clients-venv", "clients/requirements.txt")?.join("python");
    for folder in ["bin", "pages"].map(|name| scratch.join(name)) {
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
    }
    std::os::unix::fs::symlink(&binary, scratch.join("bin/samosa"))?;
    Ok(Tools { binary, python, scratch })
}

fn tell(path: &str, report: &PageReport) {
    let PageReport { commands, programs, files, not_run, faults, .. } = report;
    let (not_run, faults) = (not_run.len(), faults.len());
    println!(
        "{path}: {commands} commands, {programs} programs, {files} files; {not_run} not run; {faults} faults"
    );
}

/// The counts, and what was not run by reason.
fn summarise(report: &PageReport) {
    let PageReport { commands, programs, files, drawings, not_run, .. } = report;
    println!("\n{commands} commands and {programs} programs run, {files} files checked, {drawings} drawings");
    println!("{} blocks not run:", not_run.len());
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (place, reason) in not_run {
        reasons.entry(reason).or_default().push(place);
    }
    for (reason, places) in reasons {
        println!("  {reason}: {}", places.join(", "));
    }
}
