//! `cargo xtask book`: the book in `docs` is built, its links lead somewhere, and its examples do what they say.
//!
//! Reading order: [`links`] over [`markdown`] and [`text`]; [`mdbook`]; then the examples: [`example`] (what is asked of a
//! block), [`page`] (one page's, in order), over [`console`], [`bash`], [`server`], [`layout`] and [`matching`]. How to
//! write an example is in CONTRIBUTING.md. Nothing is fetched but the tools, once; examples are let out to loopback only.

mod bash;
mod console;
mod example;
mod layout;
mod links;
mod markdown;
mod matching;
mod mdbook;
mod page;
mod server;
mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use self::links::Documents;
use self::page::{Report, Tools};
use crate::tidy::Tree;
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
    let tree = Tree::of_repository(shell::root())?;
    let documents = Documents::read(&tree)?;
    let mut faults = check_links(&documents);
    faults.extend(build(&scratch.join("html"))?);
    let tools = tools(options, scratch)?;
    let mut whole = Report::default();
    let pages = documents.of_the_book().into_iter().chain(OUTSIDE.iter().copied());
    for path in pages.filter(|path| options.page.as_deref().is_none_or(|part| path.contains(part))) {
        let fences = markdown::read(tree.text(path).unwrap_or_default()).fences;
        if !fences.is_empty() {
            let report = page::run(&tools, path, &fences)?;
            tell(path, &report);
            whole.add(report);
        }
    }
    summarise(&whole);
    faults.extend(whole.faults);
    match faults.len() {
        0 => Ok(()),
        count => {
            for fault in &faults {
                println!("\n{fault}");
            }
            bail!("{count} faults in the book")
        }
    }
}

/// Follows the links in the sources.
fn check_links(documents: &Documents<'_>) -> Vec<String> {
    let found = documents.check();
    println!("{} links within the repository; {} to other sites, not asked:", found.inner, found.outer.len());
    for address in &found.outer {
        println!("  {address}");
    }
    found.faults
}

/// Readies mdBook.
pub(crate) fn ready() -> anyhow::Result<()> {
    mdbook::ready().map(drop)
}

/// Builds the book and follows the links in what was built.
fn build(folder: &std::path::Path) -> anyhow::Result<Vec<String>> {
    mdbook::build(folder)?;
    let (count, faults) = mdbook::check(folder)?;
    println!("{count} links in the built book; read it at {}", folder.join("index.html").display());
    Ok(faults)
}

/// The binary under its name, Python, and an empty folder for the pages.
fn tools(options: &Options, scratch: PathBuf) -> anyhow::Result<Tools> {
    let binary = if let Some(binary) = &options.binary {
        binary.clone()
    } else {
        shell::run("cargo", &["build", "--release", "-p", "samosa"])?;
        shell::target_dir().join("release/samosa").with_extension(std::env::consts::EXE_EXTENSION)
    };
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

fn tell(path: &str, report: &Report) {
    let Report { commands, programs, files, not_run, faults, .. } = report;
    let (not_run, faults) = (not_run.len(), faults.len());
    println!(
        "{path}: {commands} commands, {programs} programs, {files} files; {not_run} not run; {faults} faults"
    );
}

/// The counts, and what was not run by reason.
fn summarise(report: &Report) {
    let Report { commands, programs, files, drawings, not_run, .. } = report;
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
