//! `cargo xtask ci`: everything that continuous integration runs, in its order.
//!
//! Cheap checks come first, and while they run and the program is built, what later ones need is fetched. A machine with more
//! than AVX2 runs the clients and the page with AVX2, and the contract with both: no check may depend on what one instruction
//! set happens to sample. The workspace's tests come last and nothing is printed after them, so that the
//! run closes on cargo's own summary.

use std::fs::File;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::{book, clients, contract, deploy, golden, isa, observe, page, shell, tidy};

const CARGO_DENY: &str = "0.20.2";

struct Step {
    name: &'static str,
    run: fn() -> anyhow::Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "fmt", run: || shell::run("cargo", &["fmt", "--all", "--check"]) },
    Step { name: "tidy", run: tidy::run },
    Step { name: "clippy", run: clippy },
    Step { name: "deny", run: deny },
    Step { name: "doc tests", run: || shell::run("cargo", &["test", "--workspace", "--doc"]) },
    Step { name: "golden", run: golden::run },
    Step { name: "contract", run: || contract::run(&isa::both()) },
    Step { name: "clients", run: || clients::run(&isa::lesser()) },
    Step { name: "page", run: || page::run(&page::Options::default(), &isa::lesser()) },
    Step { name: "book", run: || book::run(&book::Options::default()) },
    Step { name: "observe", run: observe::run },
    Step { name: "deploy", run: || deploy::run(&deploy::Options::default()) },
];

/// Runs every step and stops at the first that fails.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut times = Vec::new();
    let mut fetching = Some(prepare()?);
    for step in STEPS {
        println!("\n=== {}", step.name);
        if let Some(mut child) = fetching.take_if(|_| step.name == FIRST_PREPARED) {
            // What failed is tried again by the step that needs it, which then says why.
            child.wait()?;
        }
        let took = timed(step)?;
        println!("=== {} passed in {:.1} s", step.name, took.as_secs_f64());
        times.push((step.name, took));
    }
    println!("\n=== so far");
    for (name, took) in &times {
        println!("{:>9.1} s  {name}", took.as_secs_f64());
    }
    let total: Duration = times.iter().map(|(_, took)| *took).sum();
    println!("{:>9.1} s  all of these\n\n=== tests", total.as_secs_f64());
    isa::announce(&isa::chosen());
    shell::run("cargo", &["test", "--workspace", "--all-targets"])
}

/// The first step that needs what is fetched.
const FIRST_PREPARED: &str = "contract";

/// Starts `cargo xtask prepare` beside the steps. What it says is kept below the target directory.
fn prepare() -> anyhow::Result<Child> {
    let target = shell::target_dir();
    std::fs::create_dir_all(&target)?;
    let said = File::create(target.join("prepare.log"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("prepare").stdout(said.try_clone()?).stderr(said);
    command.spawn().context("the fetching of what the checks need could not be started")
}

fn timed(step: &Step) -> anyhow::Result<Duration> {
    #[expect(clippy::disallowed_methods, reason = "how long a step took is for a person to read")]
    let start = Instant::now();
    (step.run)().with_context(|| format!("step `{}` failed", step.name))?;
    Ok(start.elapsed())
}

fn clippy() -> anyhow::Result<()> {
    shell::run("cargo", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

/// Licences, sources and bans of every dependency; known vulnerabilities where their database can be had.
fn deny() -> anyhow::Result<()> {
    if !shell::succeeds("cargo", &["deny", "--version"]) {
        // It runs for two seconds, and takes three minutes to build if it is to run for one.
        shell::run("cargo", &["install", "cargo-deny", "--debug", "--locked", "--version", CARGO_DENY])?;
    }
    shell::run("cargo", &["deny", "check", "bans", "licenses", "sources"])?;
    if !shell::succeeds("cargo", &["deny", "fetch", "db"]) {
        println!("advisories not checked: their database cannot be reached from here");
        return Ok(());
    }
    shell::run("cargo", &["deny", "check", "advisories"])
}
